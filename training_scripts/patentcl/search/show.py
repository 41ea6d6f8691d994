"""The answers of a search, in a terminal and as a CSV file."""

from pathlib import Path

import pandas as pd

from ..common.files import beside

WIDTHS = {"title": 60, "cpc": 24}  # letters that are shown; a query has 100


def show(answers: pd.DataFrame, csv: Path | None) -> None:
    """Write the answers to `csv`, and print those to each query as a table."""
    if csv:
        with beside(csv) as scratch:
            answers.to_csv(scratch, index=False)
    for query, rows in answers.groupby("query", sort=False):
        columns = [_texts(rows[name], WIDTHS.get(name, 100)) for name in rows if name != "query"]
        print(f"\n{_text(query, 100)}", *map("  ".join, zip(*columns, strict=True)), sep="\n")
    if csv:
        print(f"\nanswers: {csv}")


def _texts(column: pd.Series, most: int) -> list[str]:
    texts = [_text(f"{value:.3f}" if isinstance(value, float) else value, most) for value in column]
    return [text.ljust(max(map(len, texts))) for text in texts]


def _text(value: object, most: int) -> str:
    """A value on one line of at most so many letters, without what would control the terminal."""
    text = "".join(letter if letter.isprintable() else " " for letter in str(value))
    return text if len(text) <= most else text[: most - 1] + "…"
