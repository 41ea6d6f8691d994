"""When two patents are of one family: their abstracts are the same in letters and digits, but for case."""

import pandas as pd

# `letters` for DuckDB.
MACRO = r"CREATE MACRO letters(text) AS regexp_replace(lower(text), '[^\p{L}\p{N}]+', '', 'g');"


def letters(texts: pd.Series) -> pd.Series:
    """Letters and digits of each text in lower case, (N,) → (N,)."""
    return texts.str.lower().str.replace(r"[\W_]+", "", regex=True)
