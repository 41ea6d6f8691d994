"""When two patents are of one family: their abstracts are the same in letters and digits, but for case."""

import pandas as pd

# `letters` for DuckDB.
MACRO = r"CREATE MACRO letters(text) AS regexp_replace(lower(text), '[^\p{L}\p{N}]+', '', 'g');"


def text_keys(texts: pd.DataFrame) -> pd.Series:
    """Letters and digits of each abstract (N,) in lower case; the id where there are none, so that no two are equal."""
    abstracts = texts["abstract"].str.lower().str.replace(r"[\W_]+", "", regex=True)
    return abstracts.where(abstracts != "", ":id:" + texts["patent_id"])
