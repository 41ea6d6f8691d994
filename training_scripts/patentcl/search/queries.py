"""A search: queries (a text, patents of the corpus, or the rows of a CSV file), and the corpus that is searched."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from sentence_transformers import SentenceTransformer

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

    def nearest(self, count: int) -> list[tuple[np.ndarray, np.ndarray]]:
        """Rows and cosines of the `count` patents nearest to each query, best first; of fewer patents all."""
        most = count + max(map(len, self.hidden))
        answers = []
        for rows, cosines, hidden in zip(
            *nearest(self.vectors, self.embeddings, most, self.rows, self.codes), self.hidden, strict=True
        ):
            shown = ~np.isin(rows, hidden)
            answers.append((rows[shown][:count], cosines[shown][:count]))
        return answers

    def answers(self, found: list[tuple[np.ndarray, np.ndarray]], columns: Sequence[str]) -> pd.DataFrame:
        """A row for each patent that was found: number and query, rank, score, and `columns` of the patent."""
        rows, scores = (np.concatenate(parts) for parts in zip(*found, strict=True))
        number = np.repeat(np.arange(len(found)), [len(some) for some, _ in found])
        table = pd.DataFrame({"number": number, "query": self.queries["query"].to_numpy()[number], "score": scores})
        table.insert(2, "rank", table.groupby("number").cumcount() + 1)
        return pd.concat([table, self.corpus.read(rows, columns)], axis=1)


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
    embeddings = vectors[own] if options.patent else _embed(model.load(options.max_length), queries)
    kind = options.quantise if options.quantise != "auto" else "binary" if len(vectors) > EXACT else "none"
    codes = None if kind == "none" else quantise(vectors, folder / f"{kind}.npy", kind)
    return Search(corpus, model, vectors, queries, embeddings, hidden, rows, codes)


def _embed(network: SentenceTransformer, queries: pd.DataFrame) -> np.ndarray:
    """The embeddings (Q, d); a title alone is read as a text, without a separator."""
    middle = np.where(queries["abstract"] == "", "", separator(network))
    return encode_tokens(network, token_ids(network, (queries["title"] + middle + queries["abstract"]).tolist()))


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
    plain = {patent: re.sub(r"^US|[\s,]|(?<=\d)[A-Z]\d?$", "", patent.upper()) for patent in ids}  # US10,000,000B2
    known = corpus.find("list_contains($ids, patent_id)", {"ids": [*plain, *plain.values()]}).set_index("patent_id")
    if unknown := [patent for patent in ids if not {patent, plain[patent]} & {*known.index}]:
        example = corpus.read(np.zeros(1, int), ["patent_id"])["patent_id"][0]
        raise InputError(f"--patent {unknown[0]}: not in the corpus, whose ids are like {example}")
    own = known.loc[[patent if patent in known.index else plain[patent] for patent in ids]]
    family = corpus.find("list_contains($families, family)", {"families": own["family"].tolist()})
    return own["row"].to_numpy(), [family["row"][family["family"] == one].to_numpy() for one in own["family"]]
