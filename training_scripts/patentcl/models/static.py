"""Static shapes: the texts of every step in tensors of one of a few sizes, as CUDA graphs need them.

Whole texts are packed into rows of equal width. What is left of the rows holds dummy texts, which no real token attends
to and no pooling reads.
"""

import math
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, flex_attention
from torch.nn.functional import max_pool2d, scaled_dot_product_attention

from .attention import Packed
from .device import to_device

BLOCK = 128  # tokens in a block of FlexAttention's masks
MOST_SHAPES = 8  # each is captured, and compiled if need be
RECOMPILES = 64  # of one function; the default of 8 is less than the shapes of two trainings
SPARE = 0.1  # share by which one more shape is larger, for batches that were not looked at
MOST_FILLING = 0.1  # share of dummy tokens that decides the width of rows
WIDTH_STEP, WIDEST = 64, 1024  # tokens in a row; attention computes width² scores


def first_fit(lengths: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
    """The row of each text (U,) and where it begins there, by first fit, longest first; rows hold `width` tokens."""
    rows, starts, used = (np.zeros(len(lengths), np.int64) for _ in range(3))
    for text in np.argsort(-lengths.astype(np.int64), kind="stable"):
        rows[text] = row = int(np.argmax(used + lengths[text] <= width))
        starts[text] = used[row]
        used[row] += lengths[text]
    return rows, starts


def rows_of(lengths: np.ndarray, width: int) -> int:
    """How many rows texts of `lengths` (U,) need."""
    return int(first_fit(lengths, width)[0].max(initial=-1)) + 1


def shapes_for(batches: list[np.ndarray], longest: int) -> tuple[int, list[int]]:
    """The width of rows, and the numbers of rows, smallest first, that hold `batches` of lengths (U,).

    Texts have at most `longest` tokens. Rows are as narrow as `MOST_FILLING` allows. The last shape is `SPARE` larger
    than any of the batches needs.
    """
    tried: list[tuple[float, int, list[int]]] = []
    narrowest, real = -(-longest // WIDTH_STEP) * WIDTH_STEP, sum(int(lengths.sum()) for lengths in batches)
    for width in range(narrowest, max(narrowest, WIDEST) + 1, WIDTH_STEP):
        counts = np.array([rows_of(lengths, width) for lengths in batches])
        sizes = np.unique(np.quantile(counts, np.arange(1, MOST_SHAPES + 1) / MOST_SHAPES, method="higher"))
        taken = sizes[np.searchsorted(sizes, counts)].sum() * width
        tried.append((1 - real / taken, width, sizes.tolist()))
        if tried[-1][0] < MOST_FILLING:
            break
    _, width, rows = min(tried)
    return width, [*rows, math.ceil(rows[-1] * (1 + SPARE))]


class Static(Packed):
    """The texts of a step in tensors of one shape."""

    dynamic = False  # whether FlexAttention is compiled for any shape

    def __init__(self, rows: int, width: int, count: int, longest: int, backend: str, device: torch.device) -> None:
        """Allocate `rows` of `width` tokens for `count` texts of at most `longest` tokens.

        `backend` is "rows", for `scaled_dot_product_attention` with a mask of each row, or "flex", for FlexAttention
        without dropout.
        """
        self.tokens = torch.zeros(3, rows, width, dtype=torch.long, device=device)
        self.ids, positions, texts = self.tokens
        super().__init__(texts, positions, torch.zeros(count, dtype=torch.long, device=device), longest)
        self.rows, self.width, self.flex = rows, width, backend == "flex"
        self.bias: Tensor | None = None  # of MPNet by distance, for FlexAttention: (heads, 2 longest - 1)
        self.mask: Any = None

    def fill(self, texts: list[np.ndarray]) -> None:
        """Take the ids of `texts`, which must fit; missing ones have no tokens."""
        lengths = np.zeros(len(self.lengths), np.int64)
        lengths[: len(texts)] = [len(text) for text in texts]
        cells = np.arange(self.rows * self.width).reshape(self.rows, self.width)
        tokens = np.stack([0 * cells, cells % self.longest, len(lengths) + cells // self.longest])  # dummies
        rows, starts = first_fit(lengths[: len(texts)], self.width)
        for number, text in enumerate(texts):
            here = tokens[:, rows[number], starts[number] : starts[number] + len(text)]
            here[0], here[1], here[2] = text, np.arange(len(text)), number
        self.tokens.copy_(to_device(tokens, self.tokens.device))
        self.lengths.copy_(to_device(lengths, self.lengths.device))

    def prepare(self, dtype: torch.dtype) -> None:
        """Make the mask of a forward pass in `dtype`, on the device."""
        self.bias, texts = None, self.texts
        together = texts[:, :, None] == texts[:, None, :]
        if not self.flex:
            self.mask = torch.zeros_like(together, dtype=dtype).masked_fill(~together, -torch.inf)[:, None]
            return
        blocks = max_pool2d(together[:, None].to(dtype), BLOCK, ceil_mode=True)  # 1 for two blocks that share a text
        steps = torch.arange(blocks.shape[-1], device=texts.device)
        indices = (blocks.argmax(-1, keepdim=True) + steps).clamp(max=len(steps) - 1).int()  # they are adjacent
        self.mask = BlockMask(  # a query's keys are a key's queries
            (self.width, self.width),
            *(blocks.sum(-1, dtype=torch.int32), indices, None, None) * 2,
            BLOCK_SIZE=(BLOCK, BLOCK),
            mask_mod=lambda row, _, query, key: texts[row, query] == texts[row, key],
        )

    def add_bias(self, bias: Tensor) -> None:
        """Add `bias` (heads, width, width) to the scores; for FlexAttention it is (heads, 2 longest - 1)."""
        if self.flex:
            self.bias = bias
        else:
            self.mask = self.mask + bias.to(self.mask.dtype)

    def attend(self, query: Tensor, key: Tensor, value: Tensor, scale: float, dropout: float) -> Tensor:
        """Attention (rows, heads, width, d) → (rows, width, heads, d).

        With FlexAttention, the gradient of the bias is added up atomically
        (https://github.com/pytorch/pytorch/pull/137452), so its last bits differ from run to run.
        """
        if not self.flex:
            return scaled_dot_product_attention(query, key, value, self.mask, dropout, scale=scale).transpose(1, 2)
        bias, places, shifted = self.bias, self.positions, self.positions + (self.longest - 1)

        def add_bias(score: Tensor, row: Tensor, head: Tensor, q: Tensor, k: Tensor) -> Tensor:
            return score if bias is None else score + bias[head, shifted[row, k] - places[row, q]]

        attend: Any = _compiled_flex(self.dynamic) if query.is_cuda else flex_attention
        score_mod = add_bias if bias is not None else None
        out: Tensor = attend(query, key, value, score_mod=score_mod, block_mask=self.mask, scale=scale)
        return out.transpose(1, 2)


@cache
def _compiled_flex(dynamic: bool) -> Any:
    """FlexAttention as one kernel for all shapes, or as one for each shape."""
    torch._dynamo.config.recompile_limit = RECOMPILES
    return torch.compile(flex_attention, dynamic=dynamic)


def smallest(statics: list[Static], lengths: np.ndarray) -> Static | None:
    """The smallest of `statics`, which differ in rows only, that holds texts of `lengths` (U,), if any does."""
    if not statics or len(lengths) > len(statics[0].lengths) or lengths.max(initial=0) > statics[0].longest:
        return None
    need = rows_of(lengths, statics[0].width)
    return next((static for static in statics if static.rows >= need), None)
