"""Triplets read from disk: a folder that mining wrote, or a CSV file from whatever source."""

import csv
import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from pandas.api.types import infer_dtype, is_bool_dtype, is_integer_dtype, is_list_like

from ..common.cli import InputError, is_main_process
from ..common.files import check_header, fingerprint
from ..tables.cpc import class_of, section_of
from ..tables.family import letters
from .options import PLACES, SPLITS, Mining
from .select import held_out, split_names

ROLES = ("anchor_id", "positive_id", "negative_id")


@dataclass(frozen=True)
class Dataset:
    """Triplets read from disk: ids and splits, one text a patent, and what held-out patents cite.

    `triplets`: anchor_id, positive_id, negative_id, negative_kind, positive_kind, cpc_subclass, split.
    `texts`: patent_id, title, abstract, family, split, in_corpus, and date, section, class, subclass, subclasses.
    `retrieval`: query_id, relevant_id, split.
    """

    triplets: pd.DataFrame
    texts: pd.DataFrame
    retrieval: pd.DataFrame
    fingerprint: str

    def ids_in(self, split: str) -> set[str]:
        """The patents of all roles in the triplets of `split`."""
        rows = self.triplets[self.triplets["split"] == split]
        return set(rows[list(ROLES)].to_numpy().ravel())


READ = ("triplets.parquet", "texts.parquet", "retrieval.parquet")
TEXT_COLUMNS = ("patent_id", "title", "abstract", "section", "class", "subclass", "split")


def load_dataset(path: Path, seed: int = 42) -> Dataset:
    """Read a folder of mined triplets, or a CSV file in the columns of `triplet_training.csv`.

    A CSV has no splits: its families are split by a seeded hash, and triplets across splits are left out.
    Raises `InputError` when the path holds neither.
    """
    if path.suffix.lower() == ".csv":
        return load_csv(path, seed)
    missing = next((name for name in READ if not (path / name).is_file()), None)
    if missing:
        others = sorted(folder.parent.name for folder in path.parent.glob(f"[!.]*/{missing}"))
        there = f"name one of {', '.join(others)} with --triplets, or " if others else ""
        raise InputError(f"{path} holds no {missing}: {there}mine triplets first with patent_handler.py")
    try:
        triplets, texts, retrieval = (pd.read_parquet(path / name) for name in READ)
    except (OSError, ValueError) as problem:  # pyarrow's errors are of these kinds
        raise InputError(f"{path} holds a damaged file ({problem}): mine again with --overwrite") from None
    data = Dataset(triplets, texts, retrieval, fingerprint(path / name for name in READ))
    _check(data, path)
    return data


def _wrong_in(texts: pd.DataFrame) -> str:
    """What of the texts is not as we write it, or ""."""
    twice = texts["patent_id"].duplicated()
    if twice.any():
        return f"patent {texts.loc[twice, 'patent_id'].iloc[0]} stands there twice"
    kinds = {
        **{name: (infer_dtype(texts[name]) in ("string", "empty"), "texts") for name in TEXT_COLUMNS},
        "subclasses": (texts["subclasses"].map(is_list_like).all(), "lists"),
        "family": (is_integer_dtype(texts["family"]), "whole numbers"),
        "in_corpus": (is_bool_dtype(texts["in_corpus"]), "true or false"),
    }
    return next((f"the column {name} does not hold {kind}" for name, (right, kind) in kinds.items() if not right), "")


def _told(lost: pd.Series) -> str:
    try:
        return f"patent {lost.iloc[0]}"
    except UnicodeDecodeError:
        return "a patent whose id is no text"


def _check(data: Dataset, path: Path) -> None:
    """Raise `InputError` unless the tables have their columns, and every patent that they name its text."""
    wanted = {
        "triplets": [*ROLES, "negative_kind", "split"],
        "retrieval": ["query_id", "relevant_id", "split"],
        "texts": [*TEXT_COLUMNS, "subclasses", "family", "in_corpus"],
    }
    for table, columns in wanted.items():
        frame: pd.DataFrame = getattr(data, table)
        missing = [name for name in columns if name not in frame]
        unknown = missing or frame[columns].isna().any(axis=None) or not set(frame["split"]) <= set(SPLITS)
        if unknown:
            what = f"no column {missing[0]}" if missing else "values that are missing or unknown"
            raise InputError(f"{path / table}.parquet is none of ours ({what}): mine again with --overwrite")
    if wrong := _wrong_in(data.texts):
        raise InputError(f"{path / 'texts.parquet'} is none of ours ({wrong}): mine again with --overwrite")
    named = [data.triplets[role] for role in ROLES] + [data.retrieval[role] for role in ("query_id", "relevant_id")]
    for column in named:
        lost = column[~column.isin(data.texts["patent_id"])]
        if len(lost):
            file = path / "texts.parquet"
            raise InputError(f"{file} lacks the text of {_told(lost)}: mine again with --overwrite")
    if data.triplets.empty:
        raise InputError(f"{path} holds no triplet: mine again with --overwrite")


COLUMNS = [f"{role}_{part}" for role in "apn" for part in ("id", "title", "abstract")] + ["cpc_id"]
LONGEST = 10_000_000  # characters of a field


def _what_became(path: Path, splits: pd.Series, rows: int) -> str:
    counts = ", ".join(f"{(splits == split).sum():,} {split}" for split in ("train", "val", "test"))
    left_out = f"{rows - len(splits):,} left out because their patents fall into different splits"
    return f"{path}: {rows:,} triplets: {counts}, {left_out}"


def _read_csv(path: Path) -> pd.DataFrame:
    """The rows of a CSV of triplets, each as long as the header, with ids, and one text an id."""
    csv.field_size_limit(LONGEST)
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True)
            header = next(reader, [])
            check_header(path, header, COLUMNS)
            rows = []
            for row in reader:
                if len(row) != len(header):
                    where = f"{path}, line {reader.line_num}"
                    raise InputError(f"{where}: {len(row)} fields, but the header has {len(header)}")
                rows.append(row)
    except UnicodeDecodeError as problem:
        raise InputError(f"{path} is not UTF-8 (byte {problem.start}): save it as UTF-8") from None
    except csv.Error as problem:
        raise InputError(f"{path}, line {reader.line_num}: {problem}: mend the file") from None
    except OSError as problem:
        raise InputError(f"{path} cannot be read ({problem.strerror}): name another file") from None
    if not rows:
        raise InputError(f"{path} holds no triplet, only a header")
    frame = pd.DataFrame(rows, columns=header)[COLUMNS]
    for place, ids in enumerate(zip(frame["a_id"], frame["p_id"], frame["n_id"], strict=True), start=1):
        if not all(ids) or len(set(ids)) < 3:
            raise InputError(f"{path}, triplet {place}: a_id, p_id and n_id are {', '.join(ids)}: they must be three")
        if any(len(name.splitlines()) > 1 for name in ids):
            raise InputError(f"{path}, triplet {place}: an id has a line break, {ids}: mend it")
    return frame


def load_csv(path: Path, seed: int) -> Dataset:
    """Read triplets with their texts. Families are split by a seeded hash, triplets across splits are left out."""
    rows = _read_csv(path)
    roles = [
        rows[[f"{role}_id", f"{role}_title", f"{role}_abstract"]].set_axis(["patent_id", "title", "abstract"], axis=1)
        for role in "apn"
    ]
    texts = pd.concat(roles).drop_duplicates(ignore_index=True)
    twice = texts["patent_id"].duplicated()
    if twice.any():
        patent, title = texts.loc[twice, ["patent_id", "title"]].iloc[0]
        raise InputError(f"{path}: patent {patent} has two different texts, one of the title {title!r}: mend the file")
    normal = letters(texts["abstract"])
    normal = normal.where(normal != "", ":id:" + texts["patent_id"])
    numbers = [int(hashlib.md5(f"{seed}:file:{text}".encode()).hexdigest()[:15], 16) for text in normal]  # noqa: S324
    texts["family"] = np.array(numbers, dtype=np.int64)
    texts["split"] = split_names(texts["family"].to_numpy() % PLACES, *held_out(len(texts), Mining()))
    symbol = pd.concat([rows.set_index(f"{r}_id")["cpc_id"] for r in "ap"])  # the class that anchor and positive share
    texts["subclass"] = texts["patent_id"].map(symbol[~symbol.index.duplicated()]).fillna("")
    texts = texts.assign(section=texts["subclass"].map(section_of), date="", in_corpus=True)
    texts["class"] = texts["subclass"].map(class_of)
    texts["subclasses"] = texts["subclass"].map(lambda symbol: [symbol] if symbol else [])
    split_of = texts.set_index("patent_id")["split"]
    triplets = rows[["a_id", "p_id", "n_id", "cpc_id"]].set_axis([*ROLES, "cpc_subclass"], axis=1)
    triplets["negative_kind"], triplets["positive_kind"] = "given", "given"
    triplets["split"] = triplets["anchor_id"].map(split_of)
    level = {"train": 0, "val": 1, "test": 2}  # a role is played by a patent of the same split or a more public one
    levels = triplets[list(ROLES)].apply(lambda ids: ids.map(split_of).map(level))
    allowed = levels.max(axis=1) <= levels["anchor_id"]
    triplets = triplets[allowed].reset_index(drop=True)
    if is_main_process():
        print(_what_became(path, triplets["split"], len(rows)))
    retrieval = triplets.loc[triplets["split"] != "train", ["anchor_id", "positive_id", "split"]].drop_duplicates()
    retrieval = retrieval.set_axis(["query_id", "relevant_id", "split"], axis=1).reset_index(drop=True)
    return Dataset(triplets, texts, retrieval, fingerprint([path]))
