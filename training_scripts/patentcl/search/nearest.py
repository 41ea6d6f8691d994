"""The nearest vectors by cosine: exact by blocks, or the best by short codes first, scored again by their vectors.

docs/search.md compares both with indexes of two libraries.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from sentence_transformers.util import quantize_embeddings
from torch import Tensor
from torch.nn.functional import normalize
from tqdm import tqdm

from ..common.files import beside, intact

BLOCK, QUERIES = 16_384, 1_024  # vectors scored at a time; of all with each other, for so many of them
EXACT = 1_000_000  # vectors up to which exact search takes about a second
CALIBRATION = 10_000  # vectors that give the ranges of int8
RESCORED = {"int8": 4, "binary": 40}  # candidates for each vector of the answer


class Nearest(NamedTuple):
    """The nearest of N vectors to each of q queries, best first: their `rows` (q, k), and `cosines` (q, k)."""

    rows: np.ndarray
    cosines: np.ndarray


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
    device: str = "cpu",
) -> Nearest:
    """Find the `count` of `vectors` (N, d) with the highest cosine to each of the `queries` (q, d).

    Only `rows` (n,) are searched, if they are given; of fewer than `count` all are returned. With `codes` (see
    `quantise`), some of the nearest may be missed; the cosines of those that are found are exact.
    """
    unit, rows = _unit(queries).to(device), np.arange(len(vectors)) if rows is None else rows
    if codes is None:
        return _scan(vectors, rows, _cosine, unit, count)
    count_codes = RESCORED[codes.kind] * count
    if codes.kind == "int8":  # a code counts steps; what else is in a dot product is the same for all vectors
        found = _scan(codes.values, rows, _dot, unit * (codes.ranges[1] - codes.ranges[0]), count_codes).rows
    else:
        bits = torch.from_numpy(np.asarray(quantize_embeddings(unit, "ubinary"))).split(1)
        found = np.concatenate([_scan(codes.values, rows, _equal_bits, code, count_codes).rows for code in bits])
    best = [_scan(vectors, some, _cosine, unit[[i]], count) for i, some in enumerate(np.sort(found))]
    return Nearest(*map(np.concatenate, zip(*best, strict=True)))


def neighbours(vectors: np.ndarray, count: int) -> Nearest:
    """Find the `count` nearest of the `vectors` (N, d) to each of them, itself excluded, on a GPU if there is one.

    Exact: the time grows with N².
    """
    parts, device = [], "cuda" if torch.cuda.is_available() else "cpu"
    for some in tqdm(np.split(np.arange(len(vectors)), range(QUERIES, len(vectors), QUERIES)), "neighbours", delay=2):
        found = nearest(vectors, vectors[some], count + 1, device=device)
        own = found.rows == some[:, None]
        own[:, -1] |= ~own.any(axis=1)  # more than `count` others are equal to it
        parts.append([part[~own].reshape(len(some), -1) for part in found])
    return Nearest(*map(np.concatenate, zip(*parts, strict=True)))


def _scan(values: np.ndarray, rows: np.ndarray, score: Callable[..., Tensor], queries: Tensor, count: int) -> Nearest:
    """The `rows` (n,) of `values` (N, …) with the highest `score(block, queries)` (q, b); of equal ones the first."""
    best, places = (queries.new_empty(len(queries), 0, dtype=kind) for kind in (torch.float32, torch.int64))
    for start in tqdm(range(0, len(rows), BLOCK), "nearest vectors", unit="block", delay=2, leave=False):
        block = rows[start : start + BLOCK]
        scores, order = score(values[block], queries).topk(min(count, len(block)), sorted=False)
        places = torch.cat([places, torch.tensor(block, device=places.device)[order]], dim=1)
        best, order = torch.cat([best, scores], dim=1).topk(min(count, places.shape[1]), sorted=False)
        places = places.gather(1, order)
    by_row = np.lexsort((places.cpu(), -best.cpu()))
    return Nearest(*(np.take_along_axis(part.cpu().numpy(), by_row, 1) for part in (places, best)))


def _cosine(block: np.ndarray, unit: Tensor) -> Tensor:
    vectors = torch.from_numpy(block).to(unit.device).float()
    return (unit @ vectors.T).div_(vectors.norm(dim=1).clamp_min(1e-12))


def _dot(block: np.ndarray, queries: Tensor) -> Tensor:
    return queries @ torch.from_numpy(block).float().T


def _equal_bits(block: np.ndarray, code: Tensor) -> Tensor:
    """Minus the Hamming distances (1, n) of codes (n, d/8) to one code (1, d/8)."""
    word = np.uint64 if block.shape[1] % 8 == 0 else np.uint8
    differ = np.bitwise_count(block.view(word) ^ code.numpy().view(word))
    return -torch.from_numpy(differ.sum(axis=1, dtype=np.float32))[None]


def _unit(vectors: np.ndarray) -> Tensor:
    return normalize(torch.from_numpy(np.array(vectors, np.float32)))


def quantise(vectors: np.ndarray, file: Path, kind: str) -> Codes:
    """The codes of `vectors` (N, d) by Sentence Transformers, from `file`, which is written if it is missing.

    `kind` is "int8", a place in the range of each dimension of a sample, or "binary", the signs.
    """
    some = _unit(vectors[:: max(1, len(vectors) // CALIBRATION)])
    ranges = torch.stack([some.amin(dim=0), some.amax(dim=0)])
    if not file.exists():
        width = vectors.shape[1]
        how: Any = {"int8": ("int8", np.int8, width), "binary": ("ubinary", np.uint8, -(-width // 8))}
        precision, dtype, width = how[kind]
        with beside(file) as scratch:
            codes = np.lib.format.open_memmap(scratch, "w+", dtype, (len(vectors), width))
            for start in tqdm(range(0, len(vectors), BLOCK), desc=f"{kind} codes", delay=2):
                block = _unit(vectors[start : start + BLOCK])
                codes[start : start + BLOCK] = quantize_embeddings(block, precision, ranges.numpy())
            codes.flush()
    with intact(file, file):
        return Codes(kind, np.load(file, mmap_mode="r"), ranges)
