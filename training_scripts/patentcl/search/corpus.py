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
from ..models.load import Model, find_model
from ..tables.import_csvs import rows_of
from ..triplets.dataset import read_rows
from .options import Query

DATE = re.compile(r"\d{4}(-(0[1-9]|1[0-2])(-(0[1-9]|[12]\d|3[01]))?)?")


@dataclass(frozen=True)
class Corpus:
    """All patents of a data folder; the row of a patent is its place in patents.csv.

    `file`: patent_id, title, abstract, date, subclasses, family as Parquet; `vectors` (N, d): as `model` gives them, on
    disk in `folder`.
    """

    model: Model
    file: Path
    folder: Path
    vectors: np.ndarray

    def read(self, rows: np.ndarray, columns: Sequence[str]) -> pd.DataFrame:
        """Some columns of the patents in `rows` (n,), in this order."""
        return read_rows(self.file, rows, columns)

    def find(self, where: str, values: dict[str, Any]) -> pd.DataFrame:
        """row, patent_id and family of the patents that meet a condition in SQL; `values` are its $names."""
        source = f"read_parquet({literal(self.file)}, file_row_number = true)"
        sql = f"SELECT file_row_number AS row, patent_id, family FROM {source} WHERE {where} ORDER BY row"  # noqa: S608
        with connect() as db, readable_errors(f"{self.file} cannot be read", "Delete it."):
            return db.execute(sql, values).df()

    def filtered(self, before: str, cpc: Sequence[str], classified: bool = False) -> np.ndarray | None:
        """The rows of the patents dated before a day, month or year and in a class of `cpc`; None for all patents.

        A class is a subclass or its beginning; `classified` leaves out patents without one, `before` those without a
        date. Raises `InputError` if none is left.
        """
        if before and not DATE.fullmatch(before):
            raise InputError(f"--before {before}: write a date like 2001-07-31, 2001-07 or 2001")
        begins = "|".join(re.escape(symbol.strip().upper()) for symbol in cpc)
        conditions = ["len(subclasses) > 0"] * classified
        values = {}
        if before:
            conditions, values["before"] = [*conditions, "date <> '' AND date < $before"], before
        if cpc:
            conditions.append("regexp_matches(upper(array_to_string(subclasses, ';')), $cpc)")
            values["cpc"] = f"(^|;)({begins})"
        if not conditions:
            return None
        rows = self.find(" AND ".join(conditions), values)["row"].to_numpy()
        if not len(rows):
            known = "a class" if classified else "a date or class as --before and --cpc say"
            raise InputError(f"no patent has {known}; classes are written like C02F, C02 or C")
        return rows


def open_corpus(options: Query) -> Corpus:
    """Open the patents and their vectors; embed them if that was not done, or resume.

    Raises `InputError` if there is no patents.csv, and without --overwrite for vectors of other texts or models.
    """
    csv = files.plain(options.data / "graph" / "patents.csv")
    if not csv.is_file():
        raise InputError(f"{csv} is missing. Pass --data, or run patent_handler.py first (--graph none is enough)")
    model, fingerprint = find_model(options.model, options), files.fingerprint([csv])
    folder = options.vectors or options.data / "vectors" / model.label
    wanted = {"model": model.fingerprint, "texts": f"{csv.name}, {fingerprint}", "max length": options.max_length}
    record = folder / "vectors.json"
    known = files.read_json(record).get("params", {}) if record.exists() else {}  # computed in any precision
    if options.overwrite or not wanted.items() <= known.items() or not files.is_complete(record):
        embed_corpus(model, csv, folder, options.max_length, overwrite=options.overwrite)
    file = options.data / "search" / f"{fingerprint}.parquet"
    if not file.exists():
        sql = f"SELECT patent_id, title, abstract, date, subclasses, family FROM ({rows_of(csv.parent, csv.name)})"  # noqa: S608
        with (
            readable_errors(f"{csv} cannot be read", "Restructure again."),
            files.beside(file) as scratch,
            connect() as db,
        ):
            db.execute(f"COPY ({sql}) TO {literal(scratch)} (FORMAT parquet, ROW_GROUP_SIZE 32768)")
    return Corpus(model, file, folder, np.load(folder / "vectors.npy", mmap_mode="r"))
