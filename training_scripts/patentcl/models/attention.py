"""Attention over packed texts: to which text each token belongs, and attention that stays inside the texts."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from .device import to_device

SLACK = {"cpu": 0.15, "cuda": 0.7}  # maximum share of padding in a group of texts; a GPU wants few groups


class Packed:
    """The texts of a step, whose tokens lie end to end in one or more rows."""

    def __init__(self, texts: Tensor, positions: Tensor, lengths: Tensor, longest: int) -> None:
        """Take the text of each token and its place in it, and the `lengths` (U,) of the texts, at most `longest`."""
        self.texts, self.positions, self.lengths, self.longest = texts, positions, lengths, longest

    def pad(self, tokens: Tensor) -> Tensor:
        """(tokens, d) → (U, longest, d): one text a row, without tokens of none of the texts."""
        last = len(self.lengths) * self.longest
        cells = (self.texts * self.longest + self.positions).clamp(max=last).flatten()
        padded = tokens.new_zeros(last + 1, *tokens.shape[1:]).index_copy_(0, cells, tokens)
        return padded[:-1].unflatten(0, (-1, self.longest))

    @property
    def is_token(self) -> Tensor:
        """(U, longest): 1 for tokens, 0 for padding."""
        return (torch.arange(self.longest, device=self.lengths.device) < self.lengths[:, None]).long()


class Layout(Packed):
    """Texts in one row, longest first, with attention over groups of texts of similar length."""

    def __init__(self, lengths: np.ndarray, device: torch.device) -> None:
        """Lay out texts of `lengths` (U,), in tokens."""
        text = np.repeat(np.arange(len(lengths)), lengths)
        position = np.arange(len(text)) - (np.cumsum(lengths) - lengths)[text]
        texts, positions, sizes = (to_device(array, device) for array in (text, position, lengths))
        super().__init__(texts, positions, sizes, int(lengths[0]))
        self.width = self.longest
        self.groups = [*_groups(lengths, device)]

    def prepare(self, dtype: torch.dtype) -> None:
        """Bring the masks to the `dtype` of attention in a forward pass in `dtype`."""
        if self.texts.device.type == "cpu" and torch.is_grad_enabled():
            dtype = torch.float32  # in bf16 a CPU's backward pass of 128 tokens takes 5 times as long (measured)
        for group in self.groups:
            group.mask = group.mask.to(dtype)

    def add_bias(self, bias: Tensor) -> None:
        """Add `bias` (heads, width, width) to the scores."""
        for group in self.groups:
            group.mask = group.mask + bias[:, : group.width, : group.width].to(group.mask.dtype)

    def attend(self, query: Tensor, key: Tensor, value: Tensor, scale: float, dropout: float) -> Tensor:
        """Attention (1, heads, T, d) → (1, T, heads, d), group by group."""
        attended, sizes = [], [len(group.real) for group in self.groups]
        dtype = self.groups[0].mask.dtype
        parts = (tensor[0].transpose(0, 1).to(dtype).split(sizes) for tensor in (query, key, value))
        with torch.autocast(query.device.type, enabled=False):  # which would choose the dtype
            for group, *tensors in zip(self.groups, *parts, strict=True):
                q, k, v = map(group.spread, tensors)
                out = scaled_dot_product_attention(q, k, v, group.mask, dropout, scale=scale)
                attended.append(out.transpose(1, 2).flatten(0, 1).index_select(0, group.real))
        return torch.cat(attended)[None].to(query.dtype)


class Group:
    """Consecutive texts of similar length, whose attention is computed in one call."""

    def __init__(self, lengths: np.ndarray, device: torch.device) -> None:
        """Take the `lengths` (n,) of the texts, longest first."""
        self.width = int(lengths[0])
        real = np.arange(self.width) < lengths[:, None]
        self.real = to_device(np.flatnonzero(real), device)  # cells that hold tokens
        mask = np.where(real, np.float32(0), np.float32(-np.inf))
        self.mask = to_device(mask[:, None, None, :], device)  # what is added to the scores; the same for all layers

    def spread(self, tokens: Tensor) -> Tensor:
        """(tokens, heads, d) → (n, heads, width, d), padded with zeros."""
        cells = tokens.new_zeros(len(self.mask) * self.width, *tokens.shape[1:]).index_copy_(0, self.real, tokens)
        return cells.unflatten(0, (-1, self.width)).transpose(1, 2)


def _groups(lengths: np.ndarray, device: torch.device) -> Iterator[Group]:
    """Texts of similar length, with at most a share of `SLACK` of padding."""
    slack, first = SLACK.get(device.type, SLACK["cpu"]), 0
    for end in range(1, len(lengths) + 1):
        if end == len(lengths) or (end + 1 - first) * lengths[first] * (1 - slack) > lengths[first : end + 1].sum():
            yield Group(lengths[first:end], device)
            first = end
