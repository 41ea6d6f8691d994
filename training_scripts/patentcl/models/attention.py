"""Attention over packed texts: where each text lies in a row of tokens, and attention that stays inside the texts."""

from collections.abc import Callable, Iterator
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

    def __init__(self, lengths: np.ndarray, device: torch.device) -> None:
        """Lay out texts of `lengths` (U,), in tokens."""
        self.lengths, self.device = lengths, device
        self.starts = np.concatenate([[0], np.cumsum(lengths)])
        self.bias: Tensor | None = None  # (heads, L, L), of the current forward pass
        slack = SLACK.get(device.type, SLACK["cpu"])
        self.groups = [Group(self, first, end) for first, end in _similar(lengths, slack)]

    @cached_property
    def positions(self) -> Tensor:
        """The position of each token in its text, (T,)."""
        return to_device(np.arange(self.starts[-1]) - np.repeat(self.starts[:-1], self.lengths), self.device)

    @cached_property
    def texts(self) -> Tensor:
        """The number of each token's text, (T,)."""
        return to_device(self._texts(), self.device)

    def _texts(self) -> np.ndarray:
        return np.repeat(np.arange(len(self.lengths)), self.lengths)

    @cached_property
    def blocks(self) -> BlockMask:
        """The blocks of tokens that attend to each other: those that share a text."""
        text_of = self._texts()
        begins = np.arange(0, len(text_of), BLOCK)
        first = self.starts[text_of[begins]] // BLOCK
        last = (self.starts[text_of[np.minimum(begins + BLOCK, len(text_of)) - 1] + 1] - 1) // BLOCK
        count = last - first + 1
        indices = np.minimum(first[:, None] + np.arange(len(begins)), len(begins) - 1)  # those after `count` are unused
        text = self.texts

        def same_text(_: Tensor, __: Tensor, q: Tensor, k: Tensor) -> Tensor:
            return text[q] == text[k]

        return BlockMask.from_kv_blocks(
            to_device(count.astype(np.int32)[None, None], self.device),
            to_device(indices.astype(np.int32)[None, None], self.device),
            BLOCK_SIZE=BLOCK,
            mask_mod=same_text,
            seq_lengths=(len(text_of), len(text_of)),
        )


class Group:
    """Consecutive texts of similar length, whose attention is computed in one call."""

    def __init__(self, layout: Layout, first: int, end: int) -> None:
        """Texts `first` to `end` of the layout."""
        self.layout = layout
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

    def mask(self, dtype: torch.dtype) -> Tensor | None:
        """What is added to the attention scores: the bias, and -inf on padding; the same for all layers."""
        if self._mask is None or self._mask.dtype != dtype:
            bias = self.layout.bias
            self._mask = None if bias is None else bias[None, :, : self.width, : self.width].to(dtype)
            if self.padded:
                closed = torch.zeros(self.is_key.shape, dtype=dtype, device=self.is_key.device)
                closed = closed.masked_fill(~self.is_key, -torch.inf)
                self._mask = closed if self._mask is None else self._mask + closed
        return self._mask


def _similar(lengths: np.ndarray, slack: float) -> Iterator[tuple[int, int]]:
    """Ranges of texts with at most a share of `slack` of padding."""
    first = 0
    for end in range(1, len(lengths) + 1):
        if end == len(lengths) or (end + 1 - first) * lengths[first] * (1 - slack) > lengths[first : end + 1].sum():
            yield first, end
            first = end


def attend_by_groups(query: Tensor, key: Tensor, value: Tensor, layout: Layout, scale: float, dropout: float) -> Tensor:
    """Attention (1, heads, T, d) → (1, T, heads, d), group by group."""
    attended = []
    for group in layout.groups:
        q, k, v = (group.spread(packed) for packed in (query, key, value))
        out = scaled_dot_product_attention(q, k, v, attn_mask=group.mask(q.dtype), dropout_p=dropout, scale=scale)
        attended.append(group.gather(out))
    return torch.cat(attended)[None]


def attend_flex(query: Tensor, key: Tensor, value: Tensor, layout: Layout, scale: float, dropout: float) -> Tensor:
    """The same over the complete row; tokens attend to their own text only."""
    positions, bias = layout.positions, layout.bias
    if dropout:
        raise ValueError("FlexAttention has no dropout")

    def add_bias(score: Tensor, _: Tensor, head: Tensor, q: Tensor, k: Tensor) -> Tensor:
        return score if bias is None else score + bias[head, positions[q], positions[k]]

    score_mod = add_bias if bias is not None else None
    attend: Any = _compiled_flex() if query.is_cuda else flex_attention
    out: Any = attend(query, key, value, score_mod=score_mod, block_mask=layout.blocks, scale=scale)
    return out.transpose(1, 2)


@cache
def _compiled_flex() -> Any:
    """FlexAttention as one kernel for all lengths."""
    return torch.compile(flex_attention, dynamic=True)


ATTENTION: dict[str, Callable[..., Tensor]] = {"sdpa": attend_by_groups, "flex": attend_flex}
