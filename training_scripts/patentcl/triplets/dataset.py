"""Triplets read from disk: a folder written by mining, or a CSV file from any source."""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from tqdm import tqdm

from ..common.cli import InputError, is_main_process
from ..common.files import fingerprint, intact, unchanged
from ..tables.cpc import class_of, section_of, subclass_of
from ..tables.family import PLACES, number_of, text_keys
from ..tables.patentsview import Table
from ..tables.rows import read_table
from .options import SPLITS, Mining
from .patents import held_out, split_numbers

ROLES, ENDS = ("anchor", "positive", "negative"), ("query", "relevant")
TABLES = ("triplets.parquet", "texts.parquet", "retrieval.parquet")
CSV_COLUMNS = [f"{role}_{part}" for role in "apn" for part in ("id", "title", "abstract")] + ["cpc_id"]
TEXTS = 32_768  # rows of a row group of texts, some 25 MB: those of nine million patents fill the memory
BLOCK = 2_000  # texts that are handled at a time
THREADS = min(4, os.cpu_count() or 1)  # each reads a row group of texts
IN_MEMORY = ("patent_id", "family", "split", "in_corpus", "subclass")  # of every text


@dataclass(frozen=True)
class Dataset:
    """Triplets, one text per patent, and what held-out patents cite. Triplets and retrieval name texts by row.

    `triplets`: anchor, positive, negative (rows of `texts`), negative_kind, positive_kind, cpc_subclass, split.
    `retrieval`: query, relevant (rows of `texts`), split.
    `texts`: the columns `IN_MEMORY`. `read_texts` adds title, abstract, date, section, class and subclasses, which are
    read from `file`; a dataset without a file has them in `texts`. `about`: the record of its mining, and its name.
    """

    triplets: pd.DataFrame
    texts: pd.DataFrame
    retrieval: pd.DataFrame
    fingerprint: str
    file: Path | None = None
    about: dict[str, Any] = field(default_factory=dict)

    def triplets_of(self, split: str) -> np.ndarray:
        """Rows (T, 3) of anchor, positive and negative in the triplets of `split`, int32."""
        return self.triplets.loc[self.triplets["split"] == split, list(ROLES)].to_numpy()

    def used_in(self, split: str) -> np.ndarray:
        """Mask (N,) of the texts that have a role in a triplet of `split`."""
        used = np.zeros(len(self.texts), bool)
        used[self.triplets_of(split)] = True
        return used

    def read_texts(self, rows: np.ndarray, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """The texts of `rows` (n,), in this order, with all columns or those given."""
        if self.file is None:
            return self.texts[list(columns or self.texts)].iloc[rows].reset_index(drop=True)
        with intact(self.file):
            return read_rows(self.file, rows, columns)

    def blocks(self, start: int = 0) -> Iterator[pd.DataFrame]:
        """Title and abstract of all texts from row `start` on, a few thousand at a time."""
        for first in range(start, len(self.texts), TEXTS):
            part = self.read_texts(np.arange(first, min(first + TEXTS, len(self.texts))), ["title", "abstract"])
            for row in range(0, len(part), BLOCK):
                yield part.iloc[row : row + BLOCK]

    def head(self, train: int, held_out: int) -> "Dataset":
        """The first `train` triplets, and the first `held_out` triplets and retrieval pairs of val and of test.

        The corpus to search is reduced to the held-out ones: to try something in seconds.
        """
        splits = self.triplets.groupby("split", sort=False)
        few = pd.concat([rows.head(train if split == "train" else held_out) for split, rows in splits])
        retrieval = self.retrieval.groupby("split").head(held_out)
        corpus = np.union1d(few.loc[few["split"] != "train", list(ROLES)], retrieval[list(ENDS)])
        return self.part(few, retrieval, f"{self.fingerprint} {train} {held_out}", corpus)

    def part(
        self, triplets: pd.DataFrame, retrieval: pd.DataFrame, fingerprint: str, corpus: np.ndarray | None = None
    ) -> "Dataset":
        """Some of the triplets and of the pairs to retrieve, with their texts in memory.

        The rows `corpus` (n,) are kept, too, and are the texts to search; without them, these are as they were.
        """
        used = np.union1d(triplets[list(ROLES)], retrieval[list(ENDS)])
        kept = used if corpus is None else np.union1d(used, corpus)
        triplets, retrieval, texts = triplets.copy(), retrieval.copy(), self.read_texts(kept)
        for table, names in ((triplets, ROLES), (retrieval, ENDS)):
            table[list(names)] = np.searchsorted(kept, table[list(names)])
        if corpus is not None:
            texts["in_corpus"] = np.isin(kept, corpus)
        return Dataset(triplets, texts, retrieval, fingerprint, about=self.about)

    def examples(self, n: int = 6) -> pd.DataFrame:
        """Train triplets to read, of each kind of negative, with id and title of each role as anchor_id and so on."""
        train = self.triplets[self.triplets["split"] == "train"]
        order = np.argsort(train["positive_kind"] == "coupled", kind="stable")  # cited ones first
        some = train.iloc[order].groupby("negative_kind").head(max(1, n // 3)).head(n).reset_index(drop=True)
        for role in ROLES:
            some[[f"{role}_id", f"{role}_title"]] = self.read_texts(some[role].to_numpy(), ["patent_id", "title"])
        return some


def load_dataset(path: Path, seed: int = 42) -> Dataset:
    """Read a folder of mined triplets, or a CSV file in the columns of `triplet_training.csv`.

    A CSV has no splits: its families are split by a seeded hash, and triplets across splits are left out.
    Raises `InputError` when the path holds neither, or when files changed since they were mined.
    """
    if path.suffix.lower() == ".csv":
        return _load_csv(path, seed)
    missing = next((name for name in TABLES if not (path / name).is_file()), None)
    if missing:
        others = sorted(folder.parent.name for folder in path.parent.glob(f"[!.]*/{missing}"))
        there = f"pass --triplets {' or '.join(others)}, or " if others else ""
        raise InputError(f"{path} holds no {missing}: {there}mine triplets first with patent_handler.py")
    record = unchanged(path / "triplets.json") if (path / "triplets.json").is_file() else {}
    now = record.get("fingerprint") or fingerprint(path / name for name in TABLES)  # earlier versions wrote none
    texts = _read_columns(path / "texts.parquet", IN_MEMORY)
    triplets = _with_rows(path / "triplets.parquet", ROLES, texts)
    retrieval = _with_rows(path / "retrieval.parquet", ENDS, texts)
    pa.default_memory_pool().release_unused()  # the ids, and the table to look them up
    return Dataset(triplets, texts, retrieval, now, path / "texts.parquet", {**record, "name": path.name})


def _read_columns(file: Path, columns: Sequence[str]) -> pd.DataFrame:
    """Read columns of a Parquet file; texts that repeat, which all but ids do, become categories."""
    repeated = [name for name in columns if not name.endswith("_id")]
    with intact(file):
        table = pq.read_table(file, columns=list(columns), read_dictionary=repeated)
        return table.unify_dictionaries().to_pandas()[list(columns)]


def _with_rows(file: Path, names: Sequence[str], texts: pd.DataFrame) -> pd.DataFrame:
    """Read a Parquet file, with rows of `texts` in the columns `names` instead of the ids in <name>_id."""
    columns = tqdm(names, f"look up {file.stem}", delay=2, unit="column", leave=False, disable=not is_main_process())
    with intact(file):
        others = [name for name in pq.read_schema(file).names if not name.endswith("_id")]
        # One after the other, so that the ids of one are in memory.
        rows = {name: _find(pq.read_table(file, columns=[f"{name}_id"]).column(0), texts) for name in columns}
    return pd.concat([pd.DataFrame(rows), _read_columns(file, others)], axis=1)


def _find(ids: pa.Array | pa.ChunkedArray, texts: pd.DataFrame) -> np.ndarray:
    """The row in `texts` of each of `ids` (n,), int32. Raises `KeyError` for a patent that is not there."""
    ids = ids.cast(pa.large_string())
    rows = pc.index_in(ids, value_set=pa.array(texts["patent_id"], pa.large_string()))
    if rows.null_count:
        raise KeyError(f"patent {ids.filter(rows.is_null())[0]} of a triplet or query has no text")
    return np.asarray(rows)


def read_rows(file: Path, rows: np.ndarray, columns: Sequence[str] | None) -> pd.DataFrame:
    """Read `rows` (n,), in any order: all columns, or those given. Only row groups that hold some are read."""
    wanted, places = np.unique(rows, return_inverse=True)
    schema, metadata = pq.read_schema(file), pq.read_metadata(file)
    columns = list(columns or schema.names)
    ends = np.cumsum([metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)])
    group_of = np.searchsorted(ends, wanted, side="right")

    def read(group: int) -> pa.Table:
        with pq.ParquetFile(file) as parquet:  # of its own, as a file is not shared by threads
            texts = parquet.read_row_group(group, columns, use_threads=False)
        return texts.take(pa.array(wanted[group_of == group] - (ends[group] - len(texts))))

    groups = np.unique(group_of).tolist()
    with ThreadPoolExecutor(THREADS) as pool:
        parts = list(tqdm(pool.map(read, groups), "read texts", len(groups), delay=2, unit="part", leave=False))
    texts = pa.concat_tables(parts or [schema.empty_table()]).select(columns).to_pandas()
    pa.default_memory_pool().release_unused()  # decompressed row groups
    return texts.iloc[places].reset_index(drop=True)


def _load_csv(path: Path, seed: int) -> Dataset:
    """Read triplets with their texts. Families are split by a seeded hash, triplets across splits are left out."""
    rows = _read_csv(path)
    texts = _texts_of(rows, path, seed)
    split = split_numbers(texts["family"].to_numpy() % PLACES, *held_out(len(texts), Mining()))
    texts["split"] = np.array(SPLITS, object)[split]
    triplets = pd.DataFrame({role: _find(pa.array(rows[f"{role[0]}_id"]), texts) for role in ROLES})
    triplets = triplets.assign(negative_kind="given", positive_kind="given", cpc_subclass=rows["cpc_id"])
    triplets["split"] = texts["split"].to_numpy()[triplets["anchor"]]
    # A role takes patents of the anchor's split or of one before.
    triplets = triplets[split[triplets[list(ROLES)]].max(axis=1) == split[triplets["anchor"]]].reset_index(drop=True)
    if is_main_process():
        counts = ", ".join(f"{(triplets['split'] == split).sum():,} {split}" for split in SPLITS)
        print(f"{path}: triplets: {len(rows):,} ({counts}, {len(rows) - len(triplets):,} left out, across splits)")
    retrieval = triplets.loc[triplets["split"] != "train", ["anchor", "positive", "split"]].drop_duplicates()
    retrieval = retrieval.set_axis(["query", "relevant", "split"], axis=1).reset_index(drop=True)
    return Dataset(triplets, texts, retrieval, fingerprint([path]), about={"name": path.stem})


def _read_csv(path: Path) -> pd.DataFrame:
    """The rows of a CSV of triplets: as many fields as the header, three different ids each."""
    if not path.is_file():
        raise InputError(f"--triplets {path}: no such file")
    rows: pd.DataFrame = read_table(path, Table((), {name: (name,) for name in CSV_COLUMNS}, {})).to_pandas()
    rows["cpc_id"] = rows["cpc_id"].map(subclass_of)
    if rows.empty:
        raise InputError(f"{path} holds no triplet, only a header")
    for number, ids in enumerate(zip(rows["a_id"], rows["p_id"], rows["n_id"], strict=True), start=1):
        if len(set(ids)) < 3 or any(len(name.splitlines()) != 1 or not name.strip() for name in ids):
            where = f"{path}, triplet {number}"
            raise InputError(f"{where}: a_id, p_id, n_id are {ids}; expected three different ids without line breaks")
    return rows


def _texts_of(rows: pd.DataFrame, path: Path, seed: int) -> pd.DataFrame:
    """One row per patent, with its family and CPC subclass (that of the first triplet that names one)."""
    parts = ["patent_id", "title", "abstract"]
    roles = [rows[[f"{role}_id", f"{role}_title", f"{role}_abstract"]].set_axis(parts, axis=1) for role in "apn"]
    texts = pd.concat(roles).drop_duplicates(ignore_index=True)
    twice = texts["patent_id"].duplicated()
    if twice.any():
        patent, title = texts.loc[twice, ["patent_id", "title"]].iloc[0]
        raise InputError(f"{path}: patent {patent} has two different texts, one titled {title!r}. Keep one of them")
    keys = text_keys(texts)
    texts["family"] = np.array([number_of(f"{seed}:file:{key}") for key in keys], dtype=np.int64)
    symbol = pd.concat([rows.set_index(f"{r}_id")["cpc_id"] for r in "ap"])  # the class that anchor and positive share
    texts["subclass"] = texts["patent_id"].map(symbol[~symbol.index.duplicated()]).fillna("")
    texts["section"], texts["class"] = texts["subclass"].map(section_of), texts["subclass"].map(class_of)
    texts["subclasses"] = texts["subclass"].map(lambda symbol: [symbol] if symbol else [])
    return texts.assign(date="", in_corpus=True)
