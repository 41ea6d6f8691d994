"""Rankers: how similar patents are by words or by vectors, and the ranks that their scores give."""

import re
from collections.abc import Callable, Sequence
from itertools import pairwise
from unicodedata import normalize

import bm25s
import numpy as np
import pandas as pd
import Stemmer
from sklearn.feature_extraction.text import TfidfVectorizer

from ..common.cli import InputError
from ..models.embed import unit_rows

# Takes rows (q,) of the texts and returns their similarity to all texts, (q, N); higher is more similar.
Ranker = Callable[[np.ndarray], np.ndarray]

RRF_K = 60  # the constant of reciprocal rank fusion, as published
# Thai, Lao, Burmese, Khmer, Chinese and Japanese, written without spaces between words, and Korean, whose words have
# endings: texts in them are read by bigrams of characters, as by Lucene's CJKAnalyzer.
UNSPACED = (
    r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3041-\u30fa\u30fc-\u318f\u3400-\u9fff\uac00-\ud7af"
    r"\uf900-\ufaff\uff66-\uff9d\U00020000-\U0003ffff]"
)
TOKEN = rf"{UNSPACED}+|\b\w\w+\b"  # the second part is what both libraries take for a word
NO_WORDS = "The texts to search contain no words besides stop words. Check the title and abstract columns."


def dense_ranker(embeddings: np.ndarray) -> Ranker:
    """Cosine similarity of the embeddings (N, d)."""
    unit = unit_rows(embeddings)
    return lambda rows: unit[rows] @ unit.T


def bm25_ranker(texts: pd.DataFrame) -> Ranker:
    """BM25 (Robertson and Zaragoza 2009, doi 10.1561/1500000019) on the stems of title and abstract, by bm25s."""
    words = words_of(texts)
    index = bm25_index(words)
    return lambda rows: np.stack([bm25_scores(index, words[row]) for row in rows])


def words_of(texts: pd.DataFrame) -> list[list[str]]:
    """The stems of the words in title and abstract of each text, without stop words."""
    how = {"stopwords": "en", "stemmer": Stemmer.Stemmer("english"), "return_ids": False, "show_progress": False}
    words: list[list[str]] = bm25s.tokenize(_joined(texts), token_pattern=TOKEN, **how)
    return words


def bm25_index(words: list[list[str]]) -> bm25s.BM25:
    """Index the words of N texts. Raises `InputError` if there are none."""
    if not any(words):
        raise InputError(NO_WORDS)
    index = bm25s.BM25()
    index.index(words, show_progress=False)
    return index


def bm25_scores(index: bm25s.BM25, words: list[str]) -> np.ndarray:
    """Scores (N,) of indexed texts for the words of a query; 0 if all are unknown, at which bm25s fails."""
    known = [word for word in words if word in index.vocab_dict]
    scores: np.ndarray = index.get_scores(known) if known else np.zeros(index.scores["num_docs"], np.float32)
    return scores


def tfidf_ranker(texts: pd.DataFrame) -> Ranker:
    """Cosine of TF-IDF vectors with logarithmic term counts (Salton and Buckley 1988), by scikit-learn."""
    vectorizer = TfidfVectorizer(stop_words="english", token_pattern=TOKEN, sublinear_tf=True)
    try:
        matrix = vectorizer.fit_transform(_joined(texts))
    except ValueError:  # "empty vocabulary": it has more stop words than BM25
        raise InputError(NO_WORDS) from None
    return lambda rows: (matrix[rows] @ matrix.T).toarray()


def notes_of(texts: pd.DataFrame) -> list[str]:
    """Say how many texts BM25 and TF-IDF read by bigrams, if any: not those with single words of two letters."""
    count = sum(bool(re.search(UNSPACED + "{3}", text)) for text in texts["title"] + texts["abstract"])
    note = f"BM25 and TF-IDF read {count:,} of {len(texts):,} texts by pairs of characters (Chinese, Korean, Thai …)."
    return [note] if count else []


def _joined(texts: pd.DataFrame) -> list[str]:
    """Title and abstract of each text, with spaces between bigrams of `UNSPACED` characters."""
    joined = (texts["title"] + " " + texts["abstract"]).tolist()
    return [re.sub(UNSPACED + "+", _bigrams, normalize("NFKC", t)) if re.search(UNSPACED, t) else t for t in joined]


def _bigrams(run: re.Match[str]) -> str:
    return f" {' '.join(map(''.join, pairwise(run[0]))) or run[0]} "


def best_first(scores: np.ndarray, count: int) -> np.ndarray:
    """The rows of the `count` highest of `scores` (N,) above -inf; of equal ones the first text comes first."""
    floor = np.partition(scores, -count)[-count] if count < len(scores) else -np.inf
    rows = np.flatnonzero((scores >= floor) & (scores > -np.inf))
    return rows[np.argsort(-scores[rows], kind="stable")][:count]


def full_order(scores: np.ndarray) -> np.ndarray:
    """The rows of all texts by `scores` (N,), best first; of equal ones the first text comes first.

    What a stable argsort of `-scores` in single precision gives, in less than half the time: numpy sorts integers by
    vector instructions, so a score and its row become one.
    """
    bits = np.float32(0 - scores).view(np.int32)  # 0 - 0 has no sign, as -0 has
    rising = np.where(bits < 0, bits ^ 0x7FFFFFFF, bits).astype(np.int64)  # as the scores fall
    keys = (rising << 32) + np.arange(len(scores))
    keys.sort()
    return keys & 0xFFFFFFFF


def fuse(orders: Sequence[np.ndarray], mask: np.ndarray) -> np.ndarray:
    """Return the scores (N,) of a reciprocal rank fusion (Cormack et al. 2009, doi 10.1145/1571941.1572114).

    `orders` (N,) hold the rows of all texts, best first; those outside `mask` (N,) take no rank and score 0.
    """
    scores = np.zeros(len(mask))
    for order in orders:
        shown = order[mask[order]]
        scores[shown] += 1 / (RRF_K + np.arange(1.0, len(shown) + 1))
    return scores
