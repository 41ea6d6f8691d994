"""The texts of a Parquet file, read in blocks or by rows, because those of nine million patents fill the memory."""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

BLOCK = 2_000  # texts in memory at a time, about 2 MB
THREADS = min(4, os.cpu_count() or 1)  # each reads a row group
DELAY = 2  # seconds before a progress bar appears


def read_blocks(file: Path, columns: Sequence[str], start: int = 0) -> Iterator[pd.DataFrame]:
    """Yield `columns` of the rows from `start` on, at most `BLOCK` at a time, in the order of the file."""
    ends = _ends(file)
    group = int(np.searchsorted(ends, start, side="right"))
    skip = start - (int(ends[group - 1]) if group else 0)
    with pq.ParquetFile(file) as parquet:
        for batch in parquet.iter_batches(BLOCK, range(group, len(ends)), list(columns)):
            part, skip = batch.slice(skip), max(0, skip - len(batch))
            if len(part):
                yield part.to_pandas()


def read_rows(file: Path, rows: np.ndarray, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Read `rows` (n,), in any order: all columns, or those given. Only row groups that hold some are read."""
    wanted, places = np.unique(rows, return_inverse=True)
    ends = _ends(file)
    groups = np.unique(np.searchsorted(ends, wanted, side="right"))

    def read(group: int) -> list[pa.RecordBatch]:
        first = int(ends[group - 1]) if group else 0
        return _rows_of_group(file, group, wanted[np.searchsorted(wanted, first) :] - first, columns)

    with ThreadPoolExecutor(THREADS) as pool:
        parts = tqdm(pool.map(read, groups.tolist()), "read texts", len(groups), delay=DELAY, unit="part", leave=False)
        batches = list(chain.from_iterable(parts))
    schema = pq.read_schema(file)
    schema = schema if columns is None else pa.schema([schema.field(name) for name in columns])
    texts = pa.Table.from_batches(batches, schema).to_pandas()
    pa.default_memory_pool().release_unused()  # half a GB of decompressed row groups
    return texts.iloc[places].reset_index(drop=True)


def _ends(file: Path) -> np.ndarray:
    """The row after the last one of each row group."""
    with pq.ParquetFile(file) as parquet:
        metadata = parquet.metadata
        return np.cumsum([metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)])


def _rows_of_group(file: Path, group: int, rows: np.ndarray, columns: Sequence[str] | None) -> list[pa.RecordBatch]:
    """Those of the ascending `rows` that are in a row group, counted from its first one."""
    parts, first = [], 0
    with pq.ParquetFile(file) as parquet:  # of its own, as a file is not shared by threads
        for batch in parquet.iter_batches(BLOCK, [group], None if columns is None else list(columns), False):
            begin, end = np.searchsorted(rows, [first, first + len(batch)])
            if begin < end:
                parts.append(batch.take(pa.array(rows[begin:end] - first)))
            first += len(batch)
            if end == len(rows):
                break
    return parts
