"""How good is a model: triplets told apart, and cited patents found among all, beside a lexical baseline.

One protocol for every row of the table. Retrieval: the query is a held-out patent, relevant are the patents it
cites; the query and its family, which repeats its text, are taken out of the search. nDCG@10 with binary gains
(Järvelin and Kekäläinen 2002, doi 10.1145/582415.582418), Recall@100, MRR of the first relevant one. "unseen" counts
only relevant patents that are held out as well, whose text no training saw. Triplet accuracy: share of triplets in
which the anchor is closer (cosine, or BM25's score) to the positive than to the negative.
"""

from collections.abc import Callable
from dataclasses import dataclass

import bm25s
import numpy as np
import pandas as pd
import Stemmer

from .files import InputError
from .triplets import Triplets, mix

Scores = Callable[[np.ndarray], np.ndarray]  # rows (q,) → similarity to every text (q, N)
BLOCK = 256  # queries scored at once


@dataclass(frozen=True)
class EvaluationSet:
    """The texts that one split's evaluation needs, and triplets and pairs as rows of them.

    `triplets` (T, 3) anchor, positive, negative; `pairs` (R, 2) query, relevant; `family` (N,) numbers; `corpus` (N,)
    and `unseen` (R,) are masks: the texts to search, and the pairs whose relevant patent is held out too.
    """

    texts: pd.DataFrame
    triplets: np.ndarray
    pairs: np.ndarray
    family: np.ndarray
    corpus: np.ndarray
    unseen: np.ndarray


def evaluation_set(data: Triplets, split: str, most_texts: int = 0, seed: int = 42) -> EvaluationSet:
    """What is needed to evaluate on `split`; the corpus is cut to about `most_texts` (0: not cut), seeded."""
    triplets = data.triplets[data.triplets["split"] == split]
    pairs = data.retrieval[data.retrieval["split"] == split]
    needed = pd.unique(
        np.concatenate([triplets[[f"{r}_id" for r in ("anchor", "positive", "negative")]].to_numpy().ravel(),
                        pairs[["query_id", "relevant_id"]].to_numpy().ravel()])
    )  # fmt: skip
    is_needed = data.texts["patent_id"].isin(needed).to_numpy()
    chosen = data.texts["in_corpus"].to_numpy().copy()
    if most_texts and chosen.sum() > most_texts:
        order = np.argsort(mix(np.arange(len(chosen)), seed), kind="stable")
        others = order[chosen[order] & ~is_needed[order]]
        chosen[others[max(0, most_texts - int(is_needed.sum())) :]] = False
    texts = data.texts[chosen | is_needed].reset_index(drop=True)
    row = pd.Series(np.arange(len(texts)), index=texts["patent_id"])
    return EvaluationSet(
        texts,
        np.stack([row[triplets[f"{r}_id"]].to_numpy() for r in ("anchor", "positive", "negative")], axis=1),
        np.stack([row[pairs["query_id"]].to_numpy(), row[pairs["relevant_id"]].to_numpy()], axis=1),
        texts["family"].to_numpy(),
        texts["in_corpus"].to_numpy() & chosen[chosen | is_needed],
        (texts["split"] != "train").to_numpy()[row[pairs["relevant_id"]].to_numpy()],
    )


def dense_scores(embeddings: np.ndarray) -> Scores:
    """Cosine of the rows' embeddings, (N, d), with all."""
    if not np.isfinite(embeddings).all():
        raise InputError("the model gives vectors that are no numbers: the training diverged, lower --lr")
    unit = embeddings / np.maximum(np.linalg.norm(embeddings, axis=1, keepdims=True), 1e-12)
    return lambda rows: unit[rows] @ unit.T


def bm25_scores(texts: pd.DataFrame) -> Scores:
    """BM25 (Robertson and Zaragoza 2009, doi 10.1561/1500000019) on stemmed words, by the library bm25s."""
    words = bm25s.tokenize(
        (texts["title"] + " " + texts["abstract"]).tolist(),
        stopwords="en", stemmer=Stemmer.Stemmer("english"), return_ids=False, show_progress=False,
    )  # fmt: skip
    retriever = bm25s.BM25()
    retriever.index(words, show_progress=False)
    return lambda rows: np.stack([retriever.get_scores(list(words[row])) for row in rows])


def evaluate(scores: Scores, on: EvaluationSet) -> dict[str, float]:
    """All figures of one row of the table; NaN where the split has no triplet or no query."""
    query, ranks = _relevant_ranks(scores, on)
    known = retrieval_metrics(query, ranks)
    unseen = retrieval_metrics(query[on.unseen], ranks[on.unseen])
    return {**known, "nDCG@10 unseen": unseen["nDCG@10"], "triplet accuracy": triplet_accuracy(scores, on.triplets)}


def _relevant_ranks(scores: Scores, on: EvaluationSet) -> tuple[np.ndarray, np.ndarray]:
    """Query row and rank (from 1) of every relevant patent among the corpus without the query's family, (R,) each."""
    ranks = np.zeros(len(on.pairs), dtype=np.int64)
    queries = np.unique(on.pairs[:, 0])
    for start in range(0, len(queries), BLOCK):
        block = queries[start : start + BLOCK]
        matrix = np.where(on.corpus, scores(block), -np.inf)
        matrix[on.family[block][:, None] == on.family] = -np.inf
        for i in np.flatnonzero(np.isin(on.pairs[:, 0], block)):
            row = matrix[np.searchsorted(block, on.pairs[i, 0])]
            relevant = on.pairs[i, 1]
            ties_before = int((row[:relevant] == row[relevant]).sum())
            ranks[i] = 1 + int((row > row[relevant]).sum()) + ties_before
    return on.pairs[:, 0], ranks


def retrieval_metrics(query: np.ndarray, ranks: np.ndarray) -> dict[str, float]:
    """Mean over queries of nDCG@10, Recall@10, Recall@100 and MRR, from the rank of each relevant document, (R,)."""
    frame = pd.DataFrame({"query": query, "rank": ranks})
    frame["gain"] = np.where(ranks <= 10, 1 / np.log2(ranks + 1), 0.0)
    frame["in 10"], frame["in 100"] = ranks <= 10, ranks <= 100
    by_query = frame.groupby("query").agg(
        gain=("gain", "sum"),
        count=("rank", "size"),
        first=("rank", "min"),
        r10=("in 10", "mean"),
        r100=("in 100", "mean"),
    )
    ideal = np.concatenate([[0.0], np.cumsum(1 / np.log2(np.arange(10) + 2))])
    ndcg = by_query["gain"] / ideal[np.minimum(by_query["count"], 10)]
    return {
        "nDCG@10": float(ndcg.mean()),
        "Recall@10": float(by_query["r10"].mean()),
        "Recall@100": float(by_query["r100"].mean()),
        "MRR": float((1 / by_query["first"]).mean()),
    }


def triplet_accuracy(scores: Scores, triplets: np.ndarray) -> float:
    """Share of the triplets, rows (T, 3) of the scored texts, in which the positive scores above the negative."""
    right = 0
    for start in range(0, len(triplets), BLOCK):
        anchor, positive, negative = triplets[start : start + BLOCK].T
        matrix, rows = scores(anchor), np.arange(len(anchor))
        right += int((matrix[rows, positive] > matrix[rows, negative]).sum())
    return right / len(triplets) if len(triplets) else float("nan")


def metrics_table(rows: dict[str, dict[str, float]]) -> str:
    """Rows of figures as a table for the terminal."""
    return pd.DataFrame(rows).T.to_string(float_format=lambda value: f"{value:.3f}")


def verdict(name: str, base: dict[str, float], tuned: dict[str, float], bm25: dict[str, float], queries: int) -> str:
    """One line: base → fine-tuned on the test split, and whether that is better."""
    before, after = base["nDCG@10"], tuned["nDCG@10"]
    if np.isnan(before):
        word, before, after = "triplet accuracy only", base["triplet accuracy"], tuned["triplet accuracy"]
        return f"{name}: triplet accuracy {before:.3f} → {after:.3f} on test (no test patent cites another)"
    noise = 0.4 / max(queries, 1) ** 0.5  # two standard errors, where the queries' differences spread by about 0.2
    if abs(after - before) < noise:
        word = f"not clearly different from its base, with {queries} queries"
    else:
        word = f"{'better' if after > before else 'worse'} than its base"
    return (
        f"{name}: nDCG@10 {before:.3f} → {after:.3f}, triplet accuracy {base['triplet accuracy']:.3f} → "
        f"{tuned['triplet accuracy']:.3f} on test: {word} (BM25: {bm25['nDCG@10']:.3f})"
    )
