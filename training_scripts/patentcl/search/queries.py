"""A search: queries (a text, patents of the corpus, or the rows of a CSV file), and the corpus that is searched."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from ..common.cli import InputError
from ..models.embed import encode_tokens
from ..models.load import Model, find_model
from ..models.tokens import separator, token_ids
from ..tables.patentsview import Table
from ..tables.rows import read_table
from .corpus import Corpus, open_corpus
from .nearest import EXACT, Codes, nearest, quantise
from .options import Query

FILE = Table((), {"title": ("text", "title")}, {"abstract": ("abstract",), "query": ("id", "query", "patent_id")})


@dataclass(frozen=True)
class Search:
    """Q queries to a corpus, and the `vectors` (N, d) of its patents by `model`.

    `queries`: query (its name), title, abstract; `embeddings` (Q, d); `hidden`: the rows that each answer leaves out, a
    patent of the corpus and its family; `rows`: those to search, None for all; `codes`: as `quantise` returns them.
    """

    corpus: Corpus
    model: Model
    vectors: np.ndarray
    queries: pd.DataFrame
    embeddings: np.ndarray
    hidden: list[np.ndarray]
    rows: np.ndarray | None
    codes: Codes | None

    def nearest(self, count: int) -> list[pd.Series]:
        """The cosines of the `count` patents nearest to each query by their rows, best first; of fewer patents all."""
        most = count + max(map(len, self.hidden))
        found = zip(*nearest(self.vectors, self.embeddings, most, self.rows, self.codes), self.hidden, strict=True)
        return [pd.Series(cosines, rows).drop(hidden, errors="ignore").head(count) for rows, cosines, hidden in found]

    def answers(self, found: list[pd.Series], columns: Sequence[str]) -> pd.DataFrame:
        """A row for each patent found: number, query and its title, rank, score, and `columns` of the patent."""
        table = pd.concat(found, keys=range(len(found)), names=["number", "row"]).rename("score").reset_index()
        asked = self.queries.loc[table["number"], ["query", "title"]].reset_index(drop=True)
        table[["query", "query_title"]] = asked
        table["rank"] = table.groupby("number").cumcount() + 1
        for name in self.queries["query"].drop(table["number"].unique()):
            print(f"{name}: the filters leave no patent but itself and those with its abstract")
        return pd.concat([table, self.corpus.read(table["row"].to_numpy(), columns)], axis=1)


def open_search(options: Query, classified: bool = False) -> Search:
    """Read the queries, and open the corpus, of which only patents with a class are searched if `classified`.

    Raises `InputError` for a query that is empty or unknown, for filters that leave no patent, and as `open_corpus`.
    """
    queries = _read(options.file) if options.file else pd.DataFrame({"query": [options.text], "title": [options.text]})
    queries = queries.reindex(columns=["query", "title", "abstract"], fill_value="")
    hidden, model = [np.empty(0, int)] * len(queries), find_model(options.model, options)
    corpus = open_corpus(options.data)
    rows = corpus.filtered(options.before, options.cpc or (), classified)
    if options.patent:
        own, hidden = _find(options.patent, corpus)
        queries = corpus.read(own, ["patent_id", "title", "abstract"]).rename(columns={"patent_id": "query"})
    folder = options.vectors or options.data / "vectors" / model.label
    vectors = corpus.vectors(model, folder, options.max_length, options.overwrite)
    if options.patent:
        embeddings = vectors[own]
    else:
        network = model.load(options.max_length)
        middle = np.where(queries["abstract"] == "", "", separator(network))  # a title alone is read as a text
        texts = queries["title"] + middle + queries["abstract"]
        embeddings = encode_tokens(network, token_ids(network, texts.tolist()))
    kind = options.quantise if options.quantise != "auto" else "binary" if len(vectors) > EXACT else "none"
    codes = None if kind == "none" else quantise(vectors, folder / f"{kind}.npy", kind)
    return Search(corpus, model, vectors, queries, embeddings, hidden, rows, codes)


def _read(file: Path) -> pd.DataFrame:
    """The queries in a CSV file; those without an id are called by their number."""
    if not file.is_file():
        raise InputError(f"--file {file}: no such file")
    rows = read_table(file, FILE).to_pandas().fillna("")
    empty = np.flatnonzero(rows["title"].str.strip() == "")
    if rows.empty or len(empty):
        raise InputError(f"{file}: {f'query {empty[0] + 1}' if len(empty) else 'it'} has no text. Add one or remove it")
    return rows.assign(query=rows["query"].where(rows["query"] != "", (rows.index + 1).astype(str)))


def _find(ids: Sequence[str], corpus: Corpus) -> tuple[np.ndarray, list[np.ndarray]]:
    """The row of each patent (Q,), and the rows of its family, itself included."""
    spelled = {patent: _spellings(patent) for patent in ids}
    names = [name for spellings in spelled.values() for name in spellings]
    known = corpus.find("list_contains($ids, patent_id)", {"ids": names}).set_index("patent_id")
    found = [next((name for name in spelled[patent] if name in known.index), "") for patent in ids]
    if unknown := [patent for patent, name in zip(ids, found, strict=True) if not name]:
        example = corpus.read(np.zeros(1, int), ["patent_id"])["patent_id"][0]
        raise InputError(f"--patent {unknown[0]}: not in the corpus, whose ids are like {example}")
    family = corpus.find("list_contains($families, family)", {"families": known["family"].tolist()})
    rows = family.groupby("family")["row"].apply(np.array)
    return known.loc[found, "row"].to_numpy(), rows[known.loc[found, "family"]].tolist()


def _spellings(patent: str) -> list[str]:
    """How a corpus may write an id: as it is, without signs, or as PatentsView (US 7,000,000 B2: 7000000)."""
    plain = re.sub(r"\.0+$|[^0-9A-Z]", "", patent.strip().upper())
    return [patent, plain, re.sub(r"^(US)?([A-Z]*)0*(\d+)([A-Z]\d?)?$", r"\2\3", plain)]
