"""The Cooperative Patent Classification: which symbols are CPC, and their section and class, in Python and in SQL.

A corpus may use another scheme: its symbols are then their own section and class. Scheme and titles:
https://www.cooperativepatentclassification.org/cpcSchemeAndDefinitions
"""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..common.cli import InputError
from ..common.duck import connect, readable_errors
from .import_csvs import rows_of

SUBCLASS = "[A-HY][0-9]{2}[A-Z]"  # like H01L
SECTIONS = {
    "A": "Human necessities",
    "B": "Performing operations; transporting",
    "C": "Chemistry; metallurgy",
    "D": "Textiles; paper",
    "E": "Fixed constructions",
    "F": "Mechanical engineering; lighting; heating; weapons",
    "G": "Physics",
    "H": "Electricity",
    "Y": "Emerging cross-sectional technologies",
}
# The functions below for DuckDB: run them once in a connection.
MACROS = f"""
CREATE MACRO is_cpc(symbol) AS regexp_full_match(symbol, '{SUBCLASS}');
CREATE MACRO section_of(symbol) AS CASE WHEN is_cpc(symbol) THEN left(symbol, 1) ELSE symbol END;
CREATE MACRO class_of(symbol) AS CASE WHEN is_cpc(symbol) THEN left(symbol, 3) ELSE symbol END;
"""


def is_cpc(symbol: str) -> bool:
    """Whether `symbol` is a CPC subclass."""
    return re.fullmatch(SUBCLASS, symbol) is not None


def section_of(symbol: str) -> str:
    """The CPC section of a subclass: H of H01L."""
    return symbol[:1] if is_cpc(symbol) else symbol


def class_of(symbol: str) -> str:
    """The CPC class of a subclass: H01 of H01L."""
    return symbol[:3] if is_cpc(symbol) else symbol


@dataclass(frozen=True)
class Sections:
    """The sections of a corpus by rank; arrays (S,): `first` rank, `share` of the classified patents, `names`.

    A corpus without classes is one section without a name.
    """

    first: np.ndarray
    share: np.ndarray
    names: np.ndarray

    @property
    def exist(self) -> bool:
        """Whether the corpus has classes."""
        return bool(self.names[0])

    def of(self, ranks: np.ndarray) -> np.ndarray:
        """Number of each rank's section, (n,) → (n,)."""
        return np.searchsorted(self.first, ranks, side="right") - 1


def sections(graph: Path, classified: int) -> Sections:
    """The sections of the corpus whose import CSVs are in `graph`, with this number of classified patents.

    Raises `InputError` if the CSV holds another number.
    """
    path = graph / "cpc_subclasses.csv"
    with readable_errors(f"{path} cannot be read", "Restructure again with --overwrite."), connect() as db:
        rows = db.execute(
            f"""SELECT section_first AS first, sum(count) AS count, section AS name
            FROM ({rows_of(graph, path.name)}) GROUP BY ALL HAVING sum(count) > 0 ORDER BY first"""  # noqa: S608
        ).df()
    if rows["count"].sum() != classified:
        difference = f"{rows['count'].sum():,.0f} classified patents instead of {classified:,}"
        raise InputError(f"{path} has {difference}. Restructure again with --overwrite")
    if rows.empty:
        return Sections(np.zeros(1, int), np.ones(1), np.array([""]))
    share = rows["count"] / rows["count"].sum()
    return Sections(rows["first"].to_numpy(), share.to_numpy(), rows["name"].to_numpy(str))
