"""Abstracts: read twice in the order of their table, once for the families and once to be written; never kept.

So no abstract is sorted or joined: what is known of a patent comes to its abstract by its number.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .import_csvs import COLUMNS, csv_writer
from .numbers import Numbers, Reader

BLOCK = 10_000  # texts at a time: DuckDB reads the next ones meanwhile
# Letters and digits in lower case: of ASCII in Python, which is faster, of others by the macro.
_ABSTRACTS = """SELECT plain(patent_id), other(patent_id),
       CASE WHEN strlen(abstract) = length(abstract) THEN abstract ELSE letters(coalesce(abstract, '')) END
FROM abstract_rows"""
_NO_LETTERS = bytes(code for code in range(128) if not chr(code).isalnum())
LETTERS = 250  # at most, of a text that may stand for an abstract


class Abstracts(NamedTuple):
    """What is known of the abstracts of N patents."""

    counted: np.ndarray  # the rank of each row of their table, or -1 if it does not count
    family: np.ndarray  # (N,) by rank, below 2**60; not that of a patent without an abstract
    letters: np.ndarray  # (N,) by rank, bytes of letters and digits, at most 65,535; 0 for no abstract


def read_abstracts(read: Reader, numbers: Numbers, seed: int) -> Abstracts:
    """Read the abstracts of N patents. Of several of one patent the last one with letters counts."""
    blocks, prefix = [], f"{seed}:text:".encode()
    for batch in read(_ABSTRACTS, BLOCK):
        given = batch.column(2).cast(pa.binary()).to_pylist()
        texts = [text.lower().translate(None, _NO_LETTERS) for text in given]
        digests = b"".join([hashlib.md5(prefix + text).digest() for text in texts])  # noqa: S324
        family = (np.frombuffer(digests, ">u8")[::2] >> np.uint64(4)).astype(np.int64)
        letters = np.minimum([len(text) for text in texts], 65_535).astype(np.uint16)
        blocks.append((numbers.of(*batch.columns[:2]), family, letters))
    blocks.append((np.full(1, numbers.patents), np.zeros(1, np.int64), np.zeros(1, np.uint16)))  # for no abstract
    rank, family, letters = map(np.concatenate, zip(*blocks, strict=True))
    row_of = np.full(numbers.patents, -1, np.int32)
    for some in (letters == 0, letters > 0):
        rows = np.flatnonzero(some & (rank < numbers.patents))
        row_of[rank[rows]] = rows  # of several, the last one stays
    counted = np.full(len(rank), -1, np.int32)
    counted[row_of] = np.arange(numbers.patents)
    return Abstracts(counted[:-1], family[row_of], letters[row_of])


def write_patents(read: Reader, patents: pa.Table, titles: pa.ChunkedArray, counted: np.ndarray, folder: Path) -> None:
    """Write patents.csv in the order of the table of abstracts, then the patents without one.

    `titles` are in the order of the column `row`; `counted` are the ranks of the rows of that table, or -1.
    """
    titles = titles.cast(pa.large_string()).combine_chunks()
    with csv_writer(folder, "patents.csv") as write:
        for ranks, abstracts in _abstracts(read, len(patents), counted):
            rows = patents.take(pa.array(ranks))
            classes = pc.binary_join(rows["subclasses"].cast(pa.list_(pa.string())), ";")
            texts = {
                "title": titles.take(rows["row"].combine_chunks()),
                "abstract": abstracts,
                "subclasses": pc.if_else(pc.equal(classes, ""), pa.scalar(None, pa.string()), classes),
            }
            write(*[texts[name] if name in texts else rows[name] for name in COLUMNS["patents.csv"]])


def _abstracts(read: Reader, patents: int, counted: np.ndarray) -> Iterator[tuple[np.ndarray, pa.Array]]:
    """Blocks of ranks (n,) and their abstracts (n,): those of the table, then empty ones."""
    others, done = np.ones(patents, bool), 0
    others[counted[counted >= 0]] = False
    for batch in read("SELECT coalesce(abstract, '') FROM abstract_rows", BLOCK):
        ranks = counted[done : done + len(batch)]
        yield ranks[ranks >= 0], batch.column(0).filter(pa.array(ranks >= 0))
        done += len(batch)
    for ranks in np.split(np.flatnonzero(others), range(BLOCK, others.sum(), BLOCK)):
        yield ranks, pa.array([""] * len(ranks))
