"""The patents to search: their texts, dates and classes in one file, and the vectors of a model in the same order."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..common import files
from ..common.cli import InputError
from ..common.duck import connect, literal, readable_errors
from ..models.embed_corpus import embed_corpus
from ..models.load import Model
from ..tables.import_csvs import rows_of
from ..triplets.dataset import read_rows

COLUMNS = "patent_id, title, abstract, date, subclasses, family"


@dataclass(frozen=True)
class Corpus:
    """All patents of a data folder, from `csv`; the row of a patent is its place there.

    `file`: their `COLUMNS`, as Parquet; its name is the fingerprint of `csv`.
    """

    csv: Path
    file: Path

    def read(self, rows: np.ndarray, columns: Sequence[str]) -> pd.DataFrame:
        """Some columns of the patents in `rows` (n,), in this order."""
        with files.intact(self.file, self.file):
            return read_rows(self.file, rows, columns)

    def find(self, where: str, values: dict[str, Any]) -> pd.DataFrame:
        """row, patent_id and family of the patents that meet a condition in SQL; `values` are its $names."""
        source = f"read_parquet({literal(self.file)}, file_row_number = true)"
        sql = f"SELECT file_row_number AS row, patent_id, family FROM {source} WHERE {where} ORDER BY row"  # noqa: S608
        with connect() as db, readable_errors(f"{self.file} cannot be read", "Delete it."):
            return db.execute(sql, values).df()

    def filtered(self, before: str, cpc: Sequence[str], classified: bool) -> np.ndarray | None:
        """The rows of the patents dated before a day, month or year and in a class of `cpc`; None for all patents.

        A class is a subclass or its beginning; `classified` leaves out patents without one, `before` those without a
        date. Raises `InputError` if none is left.
        """
        if not (before or cpc or classified):
            return None
        classes = "|".join(re.escape(symbol.strip().upper()) for symbol in cpc if symbol.strip())
        where = """($before = '' OR (date <> '' AND date < $before)) AND (NOT $classified OR len(subclasses) > 0)
            AND regexp_matches(';' || upper(array_to_string(subclasses, ';')), $classes)"""
        values = {"before": before, "classified": classified, "classes": f";({classes})"}
        rows = self.find(where, values)["row"].to_numpy()
        if not len(rows):
            wanted = "matches --cpc and --before; write a class like C02F, C02 or C" if before or cpc else "has a class"
            raise InputError(f"no patent of {self.csv} {wanted}")
        return rows

    def vectors(self, model: Model, folder: Path, max_length: int, overwrite: bool) -> np.ndarray:
        """The vectors (N, d) of the patents in `folder`, in any precision; `embed_corpus` writes or resumes them.

        Raises `InputError` unless `overwrite` if there are vectors of other texts or another model.
        """
        record, texts = folder / "vectors.json", f"{self.csv.name}, {self.file.stem}"
        wanted = {"model": model.fingerprint, "texts": texts, "max length": max_length}
        known = files.read_json(record).get("params", {}) if record.exists() else {}
        if overwrite or not wanted.items() <= known.items() or not files.is_complete(record):
            embed_corpus(model, self.csv, folder, max_length, overwrite=overwrite)
        with files.intact(folder / "vectors.npy"):
            return np.load(folder / "vectors.npy", mmap_mode="r")


def open_corpus(data: Path) -> Corpus:
    """Open the patents of a data folder, and copy them to a file in which rows are found quickly."""
    csv = files.plain(data / "graph" / "patents.csv")
    if not csv.is_file():
        raise InputError(f"{csv} is missing. Pass --data, or run patent_handler.py first (--graph none is enough)")
    file = data / "search" / f"{files.fingerprint([csv])}.parquet"
    if not file.exists():
        rows = f"SELECT {COLUMNS} FROM ({rows_of(csv.parent, csv.name)})"  # noqa: S608
        advice = "Restructure again with --overwrite."
        with readable_errors(f"{csv} cannot be read", advice), files.beside(file) as scratch, connect() as db:
            db.execute(f"COPY ({rows}) TO {literal(scratch)} (FORMAT parquet, ROW_GROUP_SIZE 32768)")
    return Corpus(csv, file)
