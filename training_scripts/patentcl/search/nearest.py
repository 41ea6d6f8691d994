"""The nearest vectors by cosine: exact by blocks, or the best by short codes first, scored again by their vectors.

docs/search.md compares both with indexes of two libraries.
"""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from sentence_transformers.util import quantize_embeddings
from torch import Tensor
from torch.nn.functional import normalize
from tqdm import tqdm

from ..common.files import beside, intact

BLOCK = 16_384  # vectors scored at a time
EXACT = 1_000_000  # vectors up to which exact search takes about a second
CALIBRATION = 10_000  # vectors that give the ranges of int8
RESCORED = {"int8": 4, "binary": 40}  # candidates for each vector of the answer


class Codes(NamedTuple):
    """Short `values` of N vectors: "int8" (N, d), of each dimension's `ranges` (2, d), or "binary" (N, d/8)."""

    kind: str
    values: np.ndarray
    ranges: Tensor


def nearest(
    vectors: np.ndarray,
    queries: np.ndarray,
    count: int,
    rows: np.ndarray | None = None,
    codes: Codes | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Rows and cosines (q, count) of the `vectors` (N, d) nearest to each of the `queries` (q, d), best first.

    Only `rows` (n,) are searched, if they are given; of fewer than `count` all are returned. With `codes` (see
    `quantise`), some of the nearest may be missed; the cosines of those that are found are exact.
    """
    unit = _unit(queries)
    if codes is None:
        return _scan(vectors, _cosine, unit, count, rows)
    count_codes = RESCORED[codes.kind] * count
    if codes.kind == "int8":  # a code counts steps; what else is in a dot product is the same for all vectors
        found = [_scan(codes.values, _dot, unit * (codes.ranges[1] - codes.ranges[0]), count_codes, rows)[0]]
    else:
        bits = np.asarray(quantize_embeddings(unit, "ubinary"))
        found = [_scan(codes.values, _equal_bits, code, count_codes, rows)[0] for code in np.split(bits, len(bits))]
    candidates = np.sort(np.concatenate(found))
    best = [_scan(vectors, _cosine, unit[[i]], count, some) for i, some in enumerate(candidates)]
    return np.concatenate([rows for rows, _ in best]), np.concatenate([cosines for _, cosines in best])


def _scan(
    values: np.ndarray, score: Callable, queries: Tensor | np.ndarray, count: int, rows: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Rows and scores (q, count) of the highest `score(block, queries)` (q, n) of blocks (n, …) of `values`."""
    total = len(values) if rows is None else len(rows)
    best, places = torch.empty(len(queries), 0), torch.empty(len(queries), 0, dtype=torch.int64)
    with tqdm(total=total, desc="search", unit="vector", unit_scale=True, delay=2, leave=False) as bar:
        for start in range(0, total, BLOCK):
            block = slice(start, start + BLOCK) if rows is None else rows[start : start + BLOCK]
            scores, order = _top(score(np.array(values[block]), queries), count)
            where = order + start if rows is None else torch.from_numpy(np.array(block))[order]
            best, order = _top(torch.cat([best, scores], dim=1), count)
            places = torch.cat([places, where], dim=1).gather(1, order)
            bar.update(min(BLOCK, total - start))
    by_row = np.lexsort((places, -best))  # of equal scores the first row comes first
    return np.take_along_axis(places.numpy(), by_row, 1), np.take_along_axis(best.numpy(), by_row, 1)


def _top(scores: Tensor, count: int) -> tuple[Tensor, Tensor]:
    return scores.topk(min(count, scores.shape[1]), sorted=False)


def _cosine(block: np.ndarray, unit: Tensor) -> Tensor:
    vectors = torch.from_numpy(block).float()
    return (unit @ vectors.T) / vectors.norm(dim=1).clamp_min(1e-12)


def _dot(block: np.ndarray, queries: Tensor) -> Tensor:
    return queries @ torch.from_numpy(block).float().T


def _equal_bits(block: np.ndarray, code: np.ndarray) -> Tensor:
    """Minus the Hamming distances (1, n) of codes (n, d/8) to one code (1, d/8)."""
    word = np.uint64 if code.shape[1] % 8 == 0 else np.uint8
    return -torch.from_numpy(np.bitwise_count(block.view(word) ^ code.view(word)).sum(axis=1, dtype=np.float32))[None]


def _unit(vectors: np.ndarray) -> Tensor:
    return normalize(torch.from_numpy(np.array(vectors, np.float32)))


def quantise(vectors: np.ndarray, file: Path, kind: str) -> Codes:
    """The codes of `vectors` (N, d) by Sentence Transformers, from `file`, which is written if it is missing.

    `kind` is "int8", a place in the range of each dimension of a sample, or "binary", the signs.
    """
    some = _unit(vectors[:: max(1, len(vectors) // CALIBRATION)])
    ranges = torch.stack([some.amin(dim=0), some.amax(dim=0)])

    def coded(unit: Tensor) -> np.ndarray:
        return np.asarray(quantize_embeddings(unit, "int8" if kind == "int8" else "ubinary", ranges.numpy()))

    if not file.exists():
        first = coded(some[:1])
        with beside(file) as scratch:
            codes = np.lib.format.open_memmap(scratch, "w+", first.dtype, (len(vectors), first.shape[1]))
            for start in tqdm(range(0, len(vectors), BLOCK), desc=f"{kind} codes", delay=2):
                codes[start : start + BLOCK] = coded(_unit(vectors[start : start + BLOCK]))
            codes.flush()
    with intact(file, file):
        return Codes(kind, np.load(file, mmap_mode="r"), ranges)
