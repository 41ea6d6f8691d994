"""Triplets read from disk: a folder written by mining, or a CSV file from any source."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from ..common.cli import InputError, is_main_process
from ..common.files import fingerprint, read_json
from ..tables.cpc import class_of, section_of
from ..tables.family import PLACES, number_of, text_keys
from .options import SPLITS, Mining
from .select import held_out, split_names

ROLES = ("anchor_id", "positive_id", "negative_id")
TABLES = ("triplets.parquet", "texts.parquet", "retrieval.parquet")
CSV_COLUMNS = [f"{role}_{part}" for role in "apn" for part in ("id", "title", "abstract")] + ["cpc_id"]
MAX_FIELD = 10_000_000  # characters of a field in a CSV


@dataclass(frozen=True)
class Dataset:
    """Triplets with ids and splits, one text per patent, and what held-out patents cite.

    `triplets`: anchor_id, positive_id, negative_id, negative_kind, positive_kind, cpc_subclass, split.
    `texts`: patent_id, title, abstract, family, split, in_corpus, and date, section, class, subclass, subclasses.
    `retrieval`: query_id, relevant_id, split.
    """

    triplets: pd.DataFrame
    texts: pd.DataFrame
    retrieval: pd.DataFrame
    fingerprint: str

    @cached_property
    def row(self) -> pd.Series:
        """Row in `texts` of each patent: a Series of row numbers indexed by patent id."""
        return pd.Series(np.arange(len(self.texts)), index=self.texts["patent_id"])

    def rows(self, ids: pd.DataFrame | pd.Series | Sequence[str]) -> np.ndarray:
        """Rows in `texts` of patents: ids of any shape → integers of that shape."""
        values = np.asarray(ids, dtype=object)
        return self.row.loc[values.ravel()].to_numpy().reshape(values.shape)

    def ids_in(self, split: str) -> set[str]:
        """The patents of all roles in the triplets of `split`."""
        rows = self.triplets[self.triplets["split"] == split]
        return set(rows[list(ROLES)].to_numpy().ravel())

    def head(self, train: int, held_out: int) -> "Dataset":
        """The first `train` triplets, and the first `held_out` triplets and retrieval pairs of val and of test.

        The corpus to search is reduced to the held-out ones: to try something in seconds.
        """
        splits = self.triplets.groupby("split", sort=False)
        few = pd.concat([rows.head(train if split == "train" else held_out) for split, rows in splits])
        retrieval = self.retrieval.groupby("split").head(held_out)
        held = few.loc[few["split"] != "train", list(ROLES)]
        searched = np.union1d(self.rows(held), self.rows(retrieval[["query_id", "relevant_id"]]))
        used = np.union1d(searched, self.rows(few[list(ROLES)]))
        texts = self.texts.iloc[used].assign(in_corpus=np.isin(used, searched)).reset_index(drop=True)
        return Dataset(few, texts, retrieval, f"{self.fingerprint} {train} {held_out}")

    def examples(self, n: int = 6) -> pd.DataFrame:
        """Train triplets to read, of each kind of negative, with the title of each role as anchor_title and so on."""
        train = self.triplets[self.triplets["split"] == "train"]
        train = train.sort_values(
            "positive_kind", key=lambda kind: kind == "coupled", kind="stable"
        )  # cited ones first
        some = train.groupby("negative_kind").head(max(1, n // 3)).head(n)
        titles = self.texts["title"].to_numpy()[self.rows(some[list(ROLES)])]
        names = [role.replace("_id", "_title") for role in ROLES]
        return some.join(pd.DataFrame(titles, some.index, names)).reset_index(drop=True)


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
    record, now = path / "triplets.json", fingerprint(path / name for name in TABLES)
    known = read_json(record).get("fingerprint", now) if record.is_file() else now  # earlier versions wrote none
    if known != now:
        was = read_json(record)["files"]
        changed = [name for name in TABLES if (path / name).stat().st_size != was[name]] or TABLES
        raise InputError(f"{path}: {', '.join(changed)} changed since mining. Mine again with --overwrite")
    try:
        triplets, texts, retrieval = (pd.read_parquet(path / name) for name in TABLES)
    except (OSError, ValueError) as problem:  # pyarrow's errors are of these kinds
        raise InputError(f"{path} holds a corrupt file ({problem}): mine again with --overwrite") from None
    return Dataset(triplets, texts, retrieval, now)


def _load_csv(path: Path, seed: int) -> Dataset:
    """Read triplets with their texts. Families are split by a seeded hash, triplets across splits are left out."""
    rows = _read_rows(path)
    texts = _texts_of(rows, path, seed)
    triplets = rows[["a_id", "p_id", "n_id", "cpc_id"]].set_axis([*ROLES, "cpc_subclass"], axis=1)
    split_of = texts.set_index("patent_id")["split"]
    triplets = triplets.assign(negative_kind="given", positive_kind="given", split=triplets["anchor_id"].map(split_of))
    level = {split: number for number, split in enumerate(SPLITS)}  # a role takes patents of its split or of one before
    levels = triplets[list(ROLES)].apply(lambda ids: ids.map(split_of).map(level))
    triplets = triplets[levels.max(axis=1) <= levels["anchor_id"]].reset_index(drop=True)
    if is_main_process():
        counts = ", ".join(f"{(triplets['split'] == split).sum():,} {split}" for split in SPLITS)
        print(f"{path}: {len(rows):,} triplets: {counts}, {len(rows) - len(triplets):,} left out (across splits)")
    retrieval = triplets.loc[triplets["split"] != "train", ["anchor_id", "positive_id", "split"]].drop_duplicates()
    retrieval = retrieval.set_axis(["query_id", "relevant_id", "split"], axis=1).reset_index(drop=True)
    return Dataset(triplets, texts, retrieval, fingerprint([path]))


def _read_rows(path: Path) -> pd.DataFrame:
    """The rows of a CSV of triplets: as many fields as the header, three different ids each."""
    csv.field_size_limit(MAX_FIELD)
    rows: list[list[str]] = []
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True)
            header = next(reader, [])
            for column in CSV_COLUMNS:
                if header.count(column) != 1:
                    found = f"expected one column {column}, found {header.count(column)}"
                    raise InputError(f"{path}, line 1: {found}. The header must be {','.join(CSV_COLUMNS)}")
            for row in reader:
                if len(row) != len(header):
                    where = f"{path}, line {reader.line_num}"
                    raise InputError(f"{where}: expected {len(header)} fields, found {len(row)}. Fix the line")
                rows.append(row)
    except UnicodeDecodeError as problem:
        raise InputError(f"{path}, byte {problem.start}: not UTF-8. Save the file as UTF-8") from None
    except csv.Error as problem:
        raise InputError(f"{path}, line {reader.line_num}: {problem}. Fix the line") from None
    except OSError as problem:
        raise InputError(f"{path} cannot be read ({problem.strerror}): pass another file") from None
    if not rows:
        raise InputError(f"{path} holds no triplet, only a header")
    frame = pd.DataFrame(rows, columns=header)[CSV_COLUMNS]
    for number, ids in enumerate(zip(frame["a_id"], frame["p_id"], frame["n_id"], strict=True), start=1):
        if len(set(ids)) < 3 or any(len(name.splitlines()) != 1 for name in ids):
            where = f"{path}, triplet {number}"
            raise InputError(f"{where}: a_id, p_id, n_id are {ids}; expected three different ids without line breaks")
    return frame


def _texts_of(rows: pd.DataFrame, path: Path, seed: int) -> pd.DataFrame:
    """One row per patent, with its family, split and CPC subclass (that of the first triplet that names one)."""
    parts = ["patent_id", "title", "abstract"]
    roles = [rows[[f"{role}_id", f"{role}_title", f"{role}_abstract"]].set_axis(parts, axis=1) for role in "apn"]
    texts = pd.concat(roles).drop_duplicates(ignore_index=True)
    twice = texts["patent_id"].duplicated()
    if twice.any():
        patent, title = texts.loc[twice, ["patent_id", "title"]].iloc[0]
        raise InputError(f"{path}: patent {patent} has two different texts, one titled {title!r}. Keep one of them")
    keys = text_keys(texts)
    texts["family"] = np.array([number_of(f"{seed}:file:{key}") for key in keys], dtype=np.int64)
    texts["split"] = split_names(texts["family"].to_numpy() % PLACES, *held_out(len(texts), Mining()))
    symbol = pd.concat([rows.set_index(f"{r}_id")["cpc_id"] for r in "ap"])  # the class that anchor and positive share
    texts["subclass"] = texts["patent_id"].map(symbol[~symbol.index.duplicated()]).fillna("")
    texts["section"], texts["class"] = texts["subclass"].map(section_of), texts["subclass"].map(class_of)
    texts["subclasses"] = texts["subclass"].map(lambda symbol: [symbol] if symbol else [])
    return texts.assign(date="", in_corpus=True)
