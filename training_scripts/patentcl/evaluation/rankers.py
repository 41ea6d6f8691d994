"""How alike patents are, by words or by vectors: one function of rows for every kind of row in an evaluation."""

from typing import Protocol

import bm25s
import numpy as np
import pandas as pd
import Stemmer
from sklearn.feature_extraction.text import TfidfVectorizer

from ..common.cli import InputError
from ..models.vectors import unit_rows


class Scores(Protocol):
    """Takes `rows` (q,) of the texts and returns their likeness to all texts, (q, N); higher is more alike.

    Only the texts `among` (q, N) are asked about (default: all); a fusion ranks these and no others.
    """

    def __call__(self, rows: np.ndarray, among: np.ndarray | None = None, /) -> np.ndarray: ...  # noqa: D102


NO_WORDS = (
    "the texts to search hold no words of at least two letters, or only ones like 'the' and 'about': are titles and "
    "abstracts there?"
)
RRF_K = 60  # the constant of reciprocal rank fusion, as published


def dense_scores(embeddings: np.ndarray) -> Scores:
    """Cosine of the rows' embeddings, (N, d), with all."""
    unit = unit_rows(embeddings)
    return lambda rows, among=None: unit[rows] @ unit.T


def bm25_scores(texts: pd.DataFrame, stemmed: bool = True) -> Scores:
    """BM25 (Robertson and Zaragoza 2009, doi 10.1561/1500000019) on the words of title and abstract, by bm25s."""
    stemmer = Stemmer.Stemmer("english") if stemmed else None
    words = bm25s.tokenize(_words(texts), stopwords="en", stemmer=stemmer, return_ids=False, show_progress=False)
    if not any(words):
        raise InputError(NO_WORDS)
    retriever = bm25s.BM25()
    retriever.index(words, show_progress=False)
    none = np.zeros(len(words), np.float32)  # of a query without a word that counts; bm25s fails there
    return lambda rows, among=None: np.stack([retriever.get_scores(words[row]) if words[row] else none for row in rows])


def tfidf_scores(texts: pd.DataFrame) -> Scores:
    """Cosine of TF-IDF vectors with logarithmic term counts (Salton and Buckley 1988), by scikit-learn."""
    try:
        matrix = TfidfVectorizer(stop_words="english", sublinear_tf=True).fit_transform(_words(texts))
    except ValueError:  # "empty vocabulary": its stop words are more than BM25's
        raise InputError(NO_WORDS) from None
    return lambda rows, among=None: (matrix[rows] @ matrix.T).toarray()


def _words(texts: pd.DataFrame) -> list[str]:
    return (texts["title"] + " " + texts["abstract"]).tolist()


def fused_scores(first: Scores, second: Scores, family: np.ndarray) -> Scores:
    """Reciprocal rank fusion (Cormack et al. 2009, doi 10.1145/1571941.1572114) of two rankings.

    A patent's own family, numbers (N,), and what is not asked about take no rank: they would push all others down.
    """

    def fused(rows: np.ndarray, among: np.ndarray | None = None) -> np.ndarray:
        ranked = family[rows][:, None] != family
        if among is not None:
            ranked &= among
        return sum(
            (1 / (RRF_K + _ranks(np.where(ranked, scores(rows), -np.inf))) for scores in (first, second)),
            np.zeros(ranked.shape),
        )

    return fused


def _ranks(scores: np.ndarray) -> np.ndarray:
    """Rank from 1 of every column in its row, (q, N); of equal ones the first column comes first."""
    ranks = np.empty(scores.shape)
    order = np.argsort(-scores, axis=1, kind="stable")
    np.put_along_axis(ranks, order, np.arange(1, scores.shape[1] + 1)[None, :], axis=1)
    return ranks
