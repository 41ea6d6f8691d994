"""Families: patents whose abstracts have the same letters and digits, or that are related; and the numbers of a family.

Related are continuations, divisions and reissues, which repeat a text or edit it. A family has a pseudo-random number.
Its `place`, family % PLACES, decides its split; its `bucket`, family % BUCKETS, when mining reads it as anchors.
"""

import hashlib

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

PLACES, BUCKETS = 1_000_000, 999_983  # numbers of places and of buckets; the two have no common divisor
# For DuckDB: run it once in a connection.
MACROS = r"CREATE MACRO letters(text) AS regexp_replace(lower(text), '[^\p{L}\p{N}]+', '', 'g');"


def times_of(families: np.ndarray, dates: np.ndarray) -> tuple[np.ndarray, int]:
    """The place in time of each patent's family, (N,), from 0 (new), and the number of families.

    `dates` are numbers, (N,), that rise with time. A family is as new as its newest patent, so that no patent is newer
    than its split says. Its place is the share of patents in newer families, in millionths.
    """
    names, family, patents = np.unique(families, return_inverse=True, return_counts=True)
    newest = np.full(len(names), -1, np.int64)
    np.maximum.at(newest, family, dates.astype(np.int64))  # of the same type, else it is slow
    of_days = np.bincount(newest, weights=patents).astype(np.int64)
    newer = of_days[::-1].cumsum()[::-1] - of_days
    return (newer * PLACES // max(len(families), 1))[newest[family]], len(names)


def united(families: np.ndarray, patents: np.ndarray, documents: np.ndarray) -> np.ndarray:
    """The families (N,) after those with a common document are joined; such a family has the smallest number of them.

    `documents` (n,) belong to the `patents` (n,), which are ranks; a document below N is the patent of that rank.
    """
    names, family = np.unique(families, return_inverse=True)
    others = documents + len(names) - len(families)
    inside = documents < len(families)
    others[inside] = family[documents[inside]]
    nodes = max(len(names), others.max(initial=0) + 1)  # families, then documents
    edges = coo_array((np.ones(len(others), bool), (family[patents], others)), shape=(nodes, nodes))
    group = connected_components(edges, directed=False)[1][: len(names)]
    _, first, joined = np.unique(group, return_index=True, return_inverse=True)
    return names[first[joined]][family]


def text_keys(texts: pd.DataFrame) -> pd.Series:
    """Letters and digits of each abstract (N,) in lower case; the id where there are none, so that no two are equal."""
    abstracts = texts["abstract"].str.lower().str.replace(r"[\W_]+", "", regex=True)
    return abstracts.where(abstracts != "", ":id:" + texts["patent_id"])


def number_of(text: str) -> int:
    """A pseudo-random number below 2**60."""
    return int(hashlib.md5(text.encode()).hexdigest()[:15], 16)  # noqa: S324
