"""The Cooperative Patent Classification: which symbols are CPC, and their section and class, in Python and in SQL.

A corpus may use another scheme: its symbols are then their own section and class. Scheme and titles:
https://www.cooperativepatentclassification.org/cpcSchemeAndDefinitions
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

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
# A subclass as others write it: in lower case, with a space, or in front of its group: a01b, A01 B, A01B   1/00.
WRITTEN = r"([A-HY])\s*([0-9]{2})\s*([A-Z])(\s*[0-9][^;,\r\n]*)?"
# The functions below for DuckDB, and the subclass of a symbol: run them once in a connection.
MACROS = f"""
CREATE MACRO is_cpc(symbol) AS regexp_full_match(symbol, '{SUBCLASS}');
CREATE MACRO section_of(symbol) AS CASE WHEN is_cpc(symbol) THEN left(symbol, 1) ELSE symbol END;
CREATE MACRO class_of(symbol) AS CASE WHEN is_cpc(symbol) THEN left(symbol, 3) ELSE symbol END;
CREATE MACRO subclass_of(symbol) AS CASE WHEN NOT is_cpc(symbol) AND regexp_full_match(upper(symbol), '{WRITTEN}')
    THEN regexp_replace(upper(symbol), '{WRITTEN}', '\\1\\2\\3') ELSE symbol END;
CREATE MACRO is_several(symbol) AS regexp_matches(upper(symbol), '[;\\r\\n]|^\\s*{SUBCLASS}.*\\W{SUBCLASS}');
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


def subclass_of(symbol: str) -> str:
    """The CPC subclass of a symbol as others write it: A01B of A01B 1/00; another symbol itself."""
    written = re.fullmatch(WRITTEN, symbol.upper())
    return "".join(written.groups()[:3]) if written else symbol


def uses_cpc(subclasses: Iterable[str]) -> bool:
    """Whether patents of these subclasses are classified by the CPC: most different ones, but "", are its symbols.

    Another scheme may have symbols like the CPC's sections: A, B, C.
    """
    known = [is_cpc(symbol) for symbol in set(subclasses) if symbol]
    return 2 * sum(known) > len(known)


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


def sections(starts: np.ndarray, subclasses: np.ndarray, symbols: Sequence[str]) -> Sections:
    """The sections of a corpus by the first subclass of each of its N patents, which are in order of rank.

    `subclasses` (M,) are indices of `symbols`: those of rank r from `starts[r]` to `starts[r + 1]` (exclusive).
    """
    if not len(subclasses):
        return Sections(np.zeros(1, int), np.ones(1), np.array([""]))
    names, section = np.unique([section_of(symbol) for symbol in symbols], return_inverse=True)
    primary = section[subclasses[starts[:-1][np.diff(starts) > 0]]]  # of the classified patents, which come first
    used, first, count = np.unique(primary, return_index=True, return_counts=True)
    return Sections(first, count / len(primary), names[used])
