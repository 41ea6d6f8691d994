"""All patents of the graph as arrays by rank: what choosing and writing triplets needs."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from ..common.cli import InputError
from ..tables.cpc import Sections, sections
from ..tables.family import PLACES
from ..tables.import_csvs import PARQUET
from .options import MAX_HELD_OUT, Mining

KEPT = 60  # bytes of memory for each patent
_COLUMNS = ("patent_id", "date", "subclasses", "family", "bucket", "has_abstract")


@dataclass(frozen=True)
class Patents:
    """Arrays (N,) by rank. `split` holds indices of `SPLITS`, `day` indices of `dates` (in ascending order).

    `ids`: the patents' ids; `subclasses`: lists of symbols; `family`, `bucket`: numbers of the patent's family.
    """

    ids: pa.LargeStringArray
    subclasses: pa.ListArray
    family: np.ndarray
    bucket: np.ndarray
    split: np.ndarray
    has_abstract: np.ndarray
    day: np.ndarray
    dates: np.ndarray
    where: Sections


def held_out(patents: int, mining: Mining) -> tuple[int, int]:
    """Bounds of the places: test lies below the first, val below the second."""
    test, val = (min(share, MAX_HELD_OUT / patents) for share in (mining.test, mining.val))
    return round(test * PLACES), round((test + val) * PLACES)


def split_numbers(places: np.ndarray, test: int, held: int) -> np.ndarray:
    """Split of each place, (n,) → (n,): indices of `SPLITS`."""
    return (places < held).astype(np.int8) + (places < test)


def read_patents(graph: Path, mining: Mining) -> Patents:
    """Read the patents in the folder `graph`, and split them. Raises `InputError` for a split by time without dates."""
    place = "time_place" if mining.split == "time" else "place"
    table = pq.read_table(graph / PARQUET, columns=[*_COLUMNS, place])
    day, dates = pd.factorize(table["date"].to_pandas(), sort=True)
    if mining.split == "time" and len(dates) < 2:
        raise InputError(f"{graph} has no two dates to split by: pass --split random, or add dates to the tables")
    lists = table["subclasses"].combine_chunks()
    symbols = lists.flatten().dictionary_encode()
    return Patents(
        ids=table["patent_id"].cast(pa.large_string()).combine_chunks(),
        subclasses=pa.ListArray.from_arrays(lists.offsets, symbols),
        family=table["family"].to_numpy(),
        bucket=table["bucket"].to_numpy().astype(np.int32),
        split=split_numbers(table[place].to_numpy(), *held_out(len(table), mining)),
        has_abstract=table["has_abstract"].to_numpy(),
        day=day.astype(np.int32),
        dates=np.array(dates, str),
        where=sections(lists.offsets.to_numpy(), symbols.indices.to_numpy(), symbols.dictionary.to_pylist()),
    )
