"""The answers of a search, in a terminal and as a CSV file."""

from pathlib import Path

import pandas as pd

WIDTHS = {"title": 60, "cpc": 24}  # letters that are shown of a column; others have at most 100


def show(answers: pd.DataFrame, csv: Path | None) -> None:
    """Write the answers to `csv`, and print those to each query as a table."""
    if csv:
        answers.to_csv(csv, index=False)
    for _, rows in answers.groupby((answers["rank"] == 1).cumsum()):
        query, title = rows[["query", "query_title"]].iloc[0]
        print(f"\n{_text(query if query == title else f'{query}  {title}', 100)}")
        shown = rows.drop(columns=["query", "query_title"]).items()
        columns = [[_text(value, WIDTHS.get(str(name), 100)) for value in column] for name, column in shown]
        widths = [max(map(len, column)) for column in columns]
        for row in zip(*columns, strict=True):
            print("  ".join(map(str.ljust, row, widths)).rstrip())


def _text(value: object, most: int) -> str:
    """A value on one line of at most so many letters, without what would control the terminal."""
    text = f"{value:.3f}" if isinstance(value, float) else str(value)
    text = "".join(letter if letter.isprintable() else " " for letter in text)
    return text if len(text) <= most else text[: most - 1] + "…"
