"""Options of a search; the command lines of `similar` and `classify` come from them."""

import re
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import Literal

from ..common.cli import InputError, check_ranges, option
from ..common.files import DATA
from ..evaluation.scoring import NEIGHBOURS
from ..models.bases import Readout

DATE = re.compile(r"\d{4}(-(0[1-9]|1[0-2])(-(0[1-9]|[12]\d|3[01]))?)?", re.ASCII)


@dataclass(frozen=True)
class Query(Readout):
    """What to search for, in which patents, with which model."""

    model: str = option(MISSING, "hub name, folder, folder in models/, or minilm", metavar="NAME|DIR")
    text: str = option("", "search with this text", metavar="TEXT")
    patent: list[str] | None = option(None, "search with these patents of the corpus", metavar="ID")
    file: Path | None = option(None, "search with the rows of a CSV: text, or title and abstract; id", metavar="CSV")
    before: str = option("", "only patents dated before this day, month or year", metavar="DATE")
    cpc: list[str] | None = option(None, "only patents of these CPC subclasses, classes or sections", metavar="CPC")
    data: Path = option(DATA, "folder that patent_handler.py wrote to", metavar="DIR")
    vectors: Path | None = option(None, "embeddings of the corpus (default: <data>/vectors/<model>)", metavar="DIR")
    quantise: Literal["auto", "none", "int8", "binary"] = option(
        "auto", "none: exact; int8, binary: find candidates by codes; auto: binary above a million patents"
    )
    max_length: int = option(0, "truncate texts to N tokens (0: the model's limit)", metavar="N")
    overwrite: bool = option(False, "replace embeddings of other texts or another model")
    csv: Path | None = option(None, "also write the answers to this file", metavar="FILE")
    top: int = option(10, "answers to each query", metavar="N")

    def __post_init__(self) -> None:
        """Raise `InputError` unless there is one kind of query, and for values that cannot be used."""
        if self.before and not DATE.fullmatch(self.before):
            raise InputError(f"--before {self.before}: write a date like 2001-07-31, 2001-07 or 2001")
        is_file = self.csv and self.file and self.csv.resolve() == self.file.resolve()
        if self.csv and (self.csv.is_dir() or not self.csv.parent.is_dir() or is_file):
            raise InputError(f"--csv {self.csv}: must be a file in a folder that exists, and another than --file")
        check_ranges(self, {"top": "[1, 10000]", "neighbours": "[1, 10000]", "max_length": "[0, inf)"})
        given = [value for value in (self.text, self.patent, self.file) if value]
        if len(given) != 1 or not (self.text or "x").strip():
            raise InputError("pass one of --text, --patent and --file, with something to search for")


@dataclass(frozen=True)
class Similar(Query):
    """How patents are ranked, and where else their vectors go."""

    hybrid: bool = option(False, "fuse the ranking with that of BM25")
    write_to_neo4j: bool = option(False, "also store the vectors in the Neo4j server that has the graph")


@dataclass(frozen=True)
class Classify(Query):
    """How subclasses are predicted."""

    neighbours: int = option(NEIGHBOURS, "nearest patents that vote", metavar="N")
