"""Families: patents whose abstracts are the same in letters and digits, but for case; and the numbers of a family.

`place_of` decides its split, `bucket_of` when mining reads it as anchors; `place_at` is a place in time.
"""

import hashlib

import pandas as pd

PLACES, BUCKETS = 1_000_000, 999_983  # numbers of places and of buckets; the two have no common divisor
# For DuckDB: run them once in a connection.
MACROS = rf"""
CREATE MACRO letters(text) AS regexp_replace(lower(text), '[^\p{{L}}\p{{N}}]+', '', 'g');
CREATE MACRO number_of(text) AS ('0x' || left(md5(text), 15))::BIGINT;
CREATE MACRO place_of(family) AS family % {PLACES};
CREATE MACRO bucket_of(family) AS family % {BUCKETS};
CREATE MACRO place_at(newer, patents) AS (newer * {PLACES} // patents)::BIGINT;
"""


def text_keys(texts: pd.DataFrame) -> pd.Series:
    """Letters and digits of each abstract (N,) in lower case; the id where there are none, so that no two are equal."""
    abstracts = texts["abstract"].str.lower().str.replace(r"[\W_]+", "", regex=True)
    return abstracts.where(abstracts != "", ":id:" + texts["patent_id"])


def number_of(text: str) -> int:
    """A pseudo-random number below 2**60, the same as in SQL."""
    return int(hashlib.md5(text.encode()).hexdigest()[:15], 16)  # noqa: S324
