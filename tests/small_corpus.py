"""A corpus of 60 patents to search in."""

from pathlib import Path

import numpy as np
import pandas as pd

from patentcl.tables.restructure import restructure

WORDS = ["pump", "valve", "lamp", "lens", "motor", "rotor", "filter", "membrane", "engine", "piston"]


def patents() -> pd.DataFrame:
    """60 patents: one a year, some undated or unclassified; 7000005 and 7000006 have the same abstract."""
    random, rows = np.random.default_rng(0), []
    for i in range(60):
        words = " ".join(random.choice(WORDS, 12))
        date = "" if i % 10 == 9 else f"{1950 + i}-06-15"
        rows.append((f"{7_000_000 + i}", f"Title {i}", f"It has a {words} of number {i}.", date))
    frame = pd.DataFrame(rows, columns=["patent_id", "title", "abstract", "date"])
    frame["abstract"] = frame["abstract"].where(frame.index != 6, frame["abstract"][5])
    frame["title"] = frame["title"].where(frame.index != 7, 'Zeppelin\x1b[31m with, "quotes"')
    return frame


def subclasses(i: int) -> list[str]:
    return [] if i % 7 == 6 else [["F04B"], ["F04B", "H05B"], ["H05B"], ["G06F", "F04B"]][i % 4]


def write_corpus(folder: Path, texts: pd.DataFrame) -> Path:
    """A data folder with the import CSVs of these patents."""
    tables = folder / "tables"
    tables.mkdir(parents=True)
    texts.to_csv(tables / "patents.csv", index=False)
    numbers = [int(patent) - 7_000_000 for patent in texts["patent_id"]]
    classes = [(f"{7_000_000 + i}", symbol) for i in numbers for symbol in subclasses(i)]
    pd.DataFrame(classes, columns=["patent_id", "subclass"]).to_csv(tables / "classes.csv", index=False)
    pairs = [(7_000_000 + i, 7_000_000 + i - 3) for i in numbers if i >= 3 and i - 3 in numbers]
    pd.DataFrame(pairs, columns=["citing", "cited"]).to_csv(tables / "citations.csv", index=False)
    restructure(tables, folder / "graph")
    return folder
