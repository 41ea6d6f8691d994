"""Attention over packed texts: where each text lies in a row of tokens, and attention that stays inside the texts."""

from collections.abc import Callable
from functools import cache, cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, flex_attention
from torch.nn.functional import scaled_dot_product_attention

from .device import to_device

SLACK = {"cpu": 0.15, "cuda": 0.7}  # maximum share of padding in a group of texts; a GPU wants few groups
BLOCK = 128  # tokens in a block of FlexAttention's masks


class Layout:
    """The position of each text in a row of tokens; texts are sorted by length, longest first."""

    dynamic = True  # the sizes differ from step to step

    def __init__(self, lengths: np.ndarray, device: torch.device) -> None:
        """Lay out texts of `lengths` (U,), in tokens."""
        self.lengths, self.device = lengths, device
        self.longest = self.width = int(lengths[0])
        self.starts = np.concatenate([[0], np.cumsum(lengths)])
        text_of = np.repeat(np.arange(len(lengths)), lengths)
        self.texts = to_device(text_of, device)  # the number of each token's text, (T,)
        self.positions = to_device(np.arange(len(text_of)) - self.starts[text_of], device)  # in its text, (T,)
        self.bias: Tensor | None = None  # of MPNet: (heads, L, L), for FlexAttention (heads, 2 L - 1), by distance

    def pad(self, tokens: Tensor, filling: int = 0) -> Tensor:
        """(T, …) → (U, L, …): one text a row, as long as the longest one."""
        count, width = len(self.lengths), int(self.lengths[0])
        cells = tokens.new_full((count * width, *tokens.shape[1:]), filling)
        return cells.index_copy_(0, self.texts * width + self.positions, tokens).unflatten(0, (count, width))

    @cached_property
    def groups(self) -> list["Group"]:
        """Ranges of texts of similar length, with at most a share of `SLACK` of padding."""
        slack, lengths = SLACK.get(self.device.type, SLACK["cpu"]), self.lengths
        groups, first = [], 0
        for end in range(1, len(lengths) + 1):
            if end == len(lengths) or (end + 1 - first) * lengths[first] * (1 - slack) > lengths[first : end + 1].sum():
                groups.append(Group(self, first, end))
                first = end
        return groups

    @cached_property
    def blocks(self) -> BlockMask:
        """The blocks of tokens that attend to each other: those that share a text."""
        total, texts = int(self.starts[-1]), self.texts
        begins = np.arange(0, total, BLOCK)
        ends = np.minimum(begins + BLOCK, total)
        first = self.starts[np.searchsorted(self.starts, begins, side="right") - 1] // BLOCK
        last = (self.starts[np.searchsorted(self.starts, ends)] - 1) // BLOCK
        indices = np.minimum(first[:, None] + np.arange(len(begins)), len(begins) - 1)
        return BlockMask.from_kv_blocks(
            to_device((last - first + 1).astype(np.int32)[None, None], self.device),  # how many of the indices count
            to_device(indices.astype(np.int32)[None, None], self.device),
            BLOCK_SIZE=BLOCK,
            mask_mod=lambda _, __, query, key: texts[query] == texts[key],
            seq_lengths=(total, total),
        )


class Group:
    """Consecutive texts of similar length, whose attention is computed in one call."""

    def __init__(self, layout: Layout, first: int, end: int) -> None:
        """Texts `first` to `end` of the layout, which is not kept: in a cycle its tensors would outlive the step."""
        lengths = layout.lengths[first:end]
        self.count, self.width = end - first, int(lengths[0])
        self.begin, self.tokens = int(layout.starts[first]), int(lengths.sum())
        self.padded = self.tokens < self.count * self.width
        self._mask: Tensor | None = None
        if self.padded:
            real = np.arange(self.width) < lengths[:, None]
            self.real = to_device(np.flatnonzero(real), layout.device)
            self.is_key = to_device(real[:, None, None, :], layout.device)

    def spread(self, packed: Tensor) -> Tensor:
        """(1, heads, T, d) → (count, heads, width, d), padded with zeros."""
        tokens = packed[0, :, self.begin : self.begin + self.tokens].transpose(0, 1)
        if self.padded:
            cells = tokens.new_zeros(self.count * self.width, *tokens.shape[1:])
            tokens = cells.index_copy_(0, self.real, tokens)
        return tokens.unflatten(0, (self.count, self.width)).transpose(1, 2)

    def gather(self, spread: Tensor) -> Tensor:
        """(count, heads, width, d) → (tokens, heads, d)."""
        rows = spread.transpose(1, 2).flatten(0, 1)
        return rows.index_select(0, self.real) if self.padded else rows

    def mask(self, dtype: torch.dtype, bias: Tensor | None) -> Tensor | None:
        """What is added to the attention scores: the bias, and -inf on padding; the same for all layers."""
        if self._mask is None:
            if bias is not None:
                self._mask = bias[None, :, : self.width, : self.width].to(dtype)
            if self.padded:
                closed = torch.zeros_like(self.is_key, dtype=dtype).masked_fill(~self.is_key, -torch.inf)
                self._mask = closed if self._mask is None else self._mask + closed
        return self._mask


def attend_by_groups(query: Tensor, key: Tensor, value: Tensor, layout: Layout, scale: float, dropout: float) -> Tensor:
    """Attention (1, heads, T, d) → (1, T, heads, d), group by group."""
    attended = []
    for group in layout.groups:
        q, k, v = (group.spread(packed) for packed in (query, key, value))
        out = scaled_dot_product_attention(q, k, v, group.mask(q.dtype, layout.bias), dropout, scale=scale)
        attended.append(group.gather(out))
    return torch.cat(attended)[None]


def attend_rows(query: Tensor, key: Tensor, value: Tensor, layout: Any, scale: float, dropout: float) -> Tensor:
    """Attention (rows, heads, width, d) → (rows, width, heads, d), with the mask of a `Static`."""
    return scaled_dot_product_attention(query, key, value, layout.mask, dropout, scale=scale).transpose(1, 2)


def attend_flex(query: Tensor, key: Tensor, value: Tensor, layout: Any, scale: float, dropout: float) -> Tensor:
    """FlexAttention over the row of a `Layout` or `Static`; tokens attend to their own text only, without dropout.

    The bias is a table of distances, which is much smaller than the scores. Its gradient is added up atomically
    (https://github.com/pytorch/pytorch/pull/137452), so its last bits differ from run to run.
    """
    bias, places = layout.bias, layout.positions.flatten()
    shifted = places + (layout.longest - 1)

    def add_bias(score: Tensor, _: Tensor, head: Tensor, q: Tensor, k: Tensor) -> Tensor:
        return score if bias is None else score + bias[head, shifted[k] - places[q]]

    score_mod = add_bias if bias is not None else None
    attend: Any = _compiled_flex(layout.dynamic) if query.is_cuda else flex_attention
    out: Tensor = attend(query, key, value, score_mod=score_mod, block_mask=layout.blocks, scale=scale)
    return out.transpose(1, 2)


@cache
def _compiled_flex(dynamic: bool) -> Any:
    """FlexAttention as one kernel for all lengths, or as one for each shape."""
    return torch.compile(flex_attention, dynamic=dynamic)


ATTENTION: dict[str, Callable[..., Tensor]] = {"sdpa": attend_by_groups, "flex": attend_flex}
ATTENTION |= {"rows": attend_rows, "blocks": attend_flex}  # in static shapes
