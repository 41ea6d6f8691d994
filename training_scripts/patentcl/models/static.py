"""Static shapes: the texts of every step in tensors of one of a few sizes, as CUDA graphs need them.

Texts lie end to end in rows of tokens. What is left of the rows holds dummy texts, which no real token attends to and
no pooling reads. "rows" packs whole texts into rows of equal width, for `scaled_dot_product_attention` with a mask of
each row; "blocks" packs them into one row, for FlexAttention.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask

from .attention import BLOCK
from .device import to_device

MOST_SHAPES = 6  # each is captured, and compiled if need be
SPARE = 0.1  # share by which one more shape is larger, for batches that were not looked at
MOST_FILLING = 0.09  # share of dummy tokens that decides the width of rows
WIDTH_STEP, WIDEST = 64, 1024  # of rows; attention computes width² scores a row


@dataclass(frozen=True)
class Shape:
    """`rows` of `width` tokens for exactly `texts` texts of at most `longest` tokens."""

    rows: int
    width: int
    texts: int
    longest: int


def rows_of(lengths: np.ndarray, width: int) -> np.ndarray:
    """The row of each text (U,) by first fit, longest first; each row holds at most `width` tokens."""
    rows, free = np.empty(len(lengths), np.int64), np.full(len(lengths), width)
    for text in np.argsort(-lengths.astype(np.int64), kind="stable"):
        rows[text] = row = int(np.argmax(free >= lengths[text]))
        free[row] -= lengths[text]
    return rows


def needed(lengths: np.ndarray, shape: Shape, backend: str) -> int:
    """How many rows of `shape` (of `BLOCK` tokens, for "blocks") texts of `lengths` (U,) and the missing ones need."""
    lengths = np.concatenate([lengths, np.ones(shape.texts - len(lengths), lengths.dtype)])
    if backend == "blocks":
        return -(-int(lengths.sum()) // BLOCK)
    return int(rows_of(lengths, shape.width).max()) + 1


def shapes_for(batches: list[np.ndarray], texts: int, longest: int, backend: str) -> list[Shape]:
    """The shapes, smallest first, that hold `batches` of lengths (U,) with the least filling.

    All are for `texts` texts of at most `longest` tokens. Rows are as narrow as `MOST_FILLING` allows. The last shape
    is `SPARE` larger than any of the batches needs.
    """
    narrowest = -(-longest // WIDTH_STEP) * WIDTH_STEP
    widths = [BLOCK] if backend == "blocks" else [*range(narrowest, WIDEST + 1, WIDTH_STEP)] or [narrowest]
    real = sum(int(lengths.sum()) for lengths in batches)
    found: tuple[float, list[Shape]] = (np.inf, [])
    for width in widths:
        counts = [needed(lengths, Shape(0, width, texts, longest), backend) for lengths in batches]
        sizes, total = _few(np.array(counts), MOST_SHAPES)
        filling = 1 - real / (total * width)
        if filling < found[0]:
            sizes.append(math.ceil(sizes[-1] * (1 + SPARE)))
            kinds = [(1, size * BLOCK) if backend == "blocks" else (size, width) for size in sizes]
            found = filling, [Shape(*kind, texts, longest) for kind in kinds]
        if filling < MOST_FILLING:
            break
    return found[1]


def _few(counts: np.ndarray, most: int) -> tuple[list[int], int]:
    """At most `most` sizes to round `counts` up to with the least sum, and that sum; by dynamic programming."""
    values, weights = np.unique(counts, return_counts=True)
    seen = np.concatenate([[0], np.cumsum(weights)])
    cost = np.full(len(seen), np.inf)  # of the first values, with one size more each time
    chosen: list[list[int]] = [[] for _ in seen]
    cost[0] = 0
    for _ in range(min(most, len(values))):
        before, lists = cost.copy(), chosen.copy()
        for end in range(1, len(seen)):
            sums = before[:end] + (seen[end] - seen[:end]) * values[end - 1]
            start = int(np.argmin(sums))
            if sums[start] < cost[end]:
                cost[end], chosen[end] = sums[start], [*lists[start], int(values[end - 1])]
    return chosen[-1], int(cost[-1])


class Static:
    """The texts of a step in tensors of one `Shape`, for attention and pooling what `Layout` is."""

    dynamic = False

    def __init__(self, shape: Shape, backend: str, device: torch.device) -> None:
        """Allocate the tensors; `backend` is "rows" or "blocks"."""
        self.shape, self.backend, self.device = shape, backend, device
        self.width, self.longest = shape.width, shape.longest
        self.size = shape.width // BLOCK if backend == "blocks" else shape.rows  # in what `needed` counts
        cells = (shape.rows, shape.width)
        self.ids, self.positions, self.texts = (torch.zeros(cells, dtype=torch.long, device=device) for _ in range(3))
        self.lengths = torch.ones(shape.texts, dtype=torch.long, device=device)
        self.bounds = torch.zeros(2, -(-shape.rows * shape.width // BLOCK), dtype=torch.long, device=device)
        self.bias: Tensor | None = None  # of MPNet: for "rows" added to the mask, for "blocks" by distance
        self.mask: Tensor | None = None
        self.blocks: BlockMask | None = None

    def fill(self, texts: list[np.ndarray]) -> None:
        """Take the ids of `texts`, which must fit; missing ones are dummies of a token."""
        shape, size = self.shape, self.shape.rows * self.shape.width
        texts = [*texts, *[np.zeros(1, np.int64)] * (shape.texts - len(texts))]
        lengths = np.array([len(text) for text in texts])
        row = np.zeros(len(texts), np.int64) if self.backend == "blocks" else rows_of(lengths, shape.width)
        order = np.argsort(row, kind="stable")
        ends = np.cumsum(lengths[order])
        of_row = np.searchsorted(row[order], row[order])  # the first text of the same row
        before = np.concatenate([[0], ends])
        starts = row[order] * shape.width + before[:-1] - before[of_row]
        cells = np.repeat(starts - before[:-1], lengths[order]) + np.arange(ends[-1])
        ids, positions, text_of = np.zeros(size, np.int64), np.arange(size), np.arange(size) // shape.longest
        positions, text_of = positions % shape.longest, text_of + shape.texts  # dummy texts, unless real ones lie there
        ids[cells] = np.concatenate([texts[text] for text in order])
        positions[cells] = cells - np.repeat(starts, lengths[order])
        text_of[cells] = np.repeat(order, lengths[order])
        self._copy(self.ids, ids)
        self._copy(self.positions, positions)
        self._copy(self.texts, text_of)
        self._copy(self.lengths, lengths)
        if self.backend == "blocks":
            self._copy(self.bounds, _bounds(text_of))

    def _copy(self, tensor: Tensor, array: np.ndarray) -> None:
        tensor.copy_(to_device(array, self.device).view_as(tensor))

    def prepare(self, dtype: torch.dtype) -> None:
        """Compute what the attention of a forward pass follows, on the device."""
        self.bias, texts = None, self.texts
        if self.backend == "rows":
            apart = texts[:, None, :, None] != texts[:, None, None, :]
            self.mask = torch.zeros_like(apart, dtype=dtype).masked_fill(apart, -torch.inf)
            return
        first, last = self.bounds
        steps = torch.arange(len(first), device=self.device)
        indices = (first[:, None] + steps).clamp(max=len(first) - 1).int()[None, None]
        counts, texts = (last - first + 1).int()[None, None], texts.flatten()
        self.blocks = BlockMask(  # a query's keys are a key's queries
            (len(texts), len(texts)),
            *(counts, indices, None, None) * 2,
            BLOCK_SIZE=(BLOCK, BLOCK),
            mask_mod=lambda _, __, query, key: texts[query] == texts[key],
        )

    def pad(self, tokens: Tensor) -> Tensor:
        """(rows × width, d) → (texts, longest, d), without the dummies that fill the rows."""
        count, longest = self.shape.texts, self.shape.longest
        cells = (self.texts * longest + self.positions).clamp(max=count * longest).flatten()
        padded = tokens.new_zeros(count * longest + 1, *tokens.shape[1:]).index_copy(0, cells, tokens)
        return padded[:-1].unflatten(0, (count, longest))

    @property
    def is_token(self) -> Tensor:
        """(texts, longest): 1 for tokens, 0 for padding."""
        return (torch.arange(self.longest, device=self.device) < self.lengths[:, None]).long()


def smallest(statics: list[Static], lengths: np.ndarray) -> Static | None:
    """The smallest of `statics`, which differ in size only, that holds texts of `lengths` (U,), if any does."""
    if not statics or len(lengths) > statics[0].shape.texts or lengths.max(initial=0) > statics[0].longest:
        return None
    need = needed(lengths, statics[0].shape, statics[0].backend)
    return next((static for static in statics if static.size >= need), None)


def _bounds(text_of: np.ndarray) -> np.ndarray:
    """The first and last block that shares a text with each block, (2, blocks); texts are contiguous."""
    begins = np.arange(0, len(text_of), BLOCK)
    ends = np.minimum(begins + BLOCK, len(text_of)) - 1
    edges = np.flatnonzero(np.diff(text_of, prepend=-1, append=-1))  # where texts start, and the end
    first = edges[np.searchsorted(edges, begins, side="right") - 1] // BLOCK
    last = (edges[np.searchsorted(edges, ends, side="right")] - 1) // BLOCK
    return np.stack([first, last])
