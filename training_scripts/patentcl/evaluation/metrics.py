"""How good is a model, by one protocol for every row of the table, beside BM25, TF-IDF and the base model.

    python -m patentcl.evaluation --models minilm patentCL-10K        # the first is the base of the differences
    python -m patentcl.evaluation --check-leakage data/triplets/10K data/triplets/100K

Retrieval: a query is a held-out patent, relevant are the patents it cites; the query and its family, which repeats its
text, are taken out of the search, and on val all of test, which val queries cite as well. nDCG@10 with binary gains
(Järvelin and Kekäläinen 2002, doi 10.1145/582415.582418), Recall, and MRR within the first 1,000, by ir-measures. Parts
of the relevant patents are looked for apart, the others taken out: IN share a CPC class with the query, OUT share none;
"unseen" are held out as well, so that no training saw their text, that of "known" ones stands in a train triplet.

Triplet accuracy: share of triplets in which the anchor scores higher with the positive than with the negative, by kind.
Re-ranking: mean rank of the first of at most five cited patents among 25 others, drawn at random as for PaECTER (Ghosh
et al. 2024, https://arxiv.org/abs/2402.19411), or from the query's own CPC subclass, else class, section (hard).
CPC subclasses: those that more than half of the 8 nearest patents of other splits have, scored as for PatentSBERTa
(Bekamiri et al. 2021, https://arxiv.org/abs/2103.11933). v-measure: agreement of k-means of the held-out patents with
their CPC sections.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import ir_measures
import numpy as np
import pandas as pd
from sklearn.metrics import accuracy_score, f1_score
from sklearn.preprocessing import MultiLabelBinarizer

from ..common.hashing import mix
from .held_out import EvaluationSet
from .rankers import Scores
from .separation import v_measure
from .significance import ratio_interval

BLOCK = 256  # queries scored at once
DEPTH = 1_000  # of a ranking
MEASURES = {
    "nDCG@10": ir_measures.nDCG @ 10,
    "Recall@10": ir_measures.R @ 10,
    "Recall@100": ir_measures.R @ 100,
    "MRR": ir_measures.RR,
}
PARTS = ("IN", "OUT", "known", "unseen")
CANDIDATES, MOST_RELEVANT = 25, 5  # of the re-ranking
NEIGHBOURS = 8  # of the CPC prediction


@dataclass
class Row:
    """One row of the table: `values` by metric, `low` and `high` ends of 95 % intervals where there are any.

    `by_query`: metric → a value for each query or patent, (Q,), or the two parts of a ratio, (Q, 2); they are the same
    for every row, so that rows can be compared.
    """

    values: dict[str, float] = field(default_factory=dict)
    interval: dict[str, tuple[float, float]] = field(default_factory=dict)
    by_query: dict[str, np.ndarray] = field(default_factory=dict)


def evaluate(scores: Scores, on: EvaluationSet, embeddings: np.ndarray | None = None, seed: int = 42) -> Row:
    """All figures of one row; NaN where the split has nothing to count. `embeddings` (N, d) add the v-measure."""
    figures = quick(scores, on, seed)
    for part in PARTS:
        _add_retrieval(figures, scores, on, part)
    for name in ("random", "hard"):
        ranks = first_relevant_ranks(scores, on, name, seed)
        figures.by_query[f"rank among {name}"] = ranks
        figures.values[f"rank among {name}"] = _mean(ranks)
    values, by_patent = subclass_prediction(scores, on)
    figures.values |= values
    figures.by_query |= by_patent
    if embeddings is not None:
        held_out = on.corpus & (on.texts["split"] == on.split).to_numpy()
        figures.values["v-measure"] = v_measure(embeddings[held_out], on.texts["section"][held_out], seed)
    return figures


def quick(scores: Scores, on: EvaluationSet, seed: int = 42) -> Row:
    """Retrieval of all cited patents and triplet accuracy: what a training looks at on the way."""
    figures = Row()
    _add_retrieval(figures, scores, on, "")
    right = triplets_right(scores, on.triplets)
    for kind in ("", *pd.unique(on.kind)):
        of = np.ones(len(right), bool) if not kind else on.kind == kind
        anchors = np.unique(on.triplets[of, 0], return_inverse=True)[1]
        count, hits = np.bincount(anchors), np.bincount(anchors, weights=right[of])
        name = f"triplet accuracy {kind}".strip()
        figures.values[name] = float(hits.sum() / count.sum()) if len(count) else float("nan")
        figures.interval[name] = ratio_interval(hits, count, seed)
        figures.by_query[name] = np.stack([hits, count], axis=1)
    return figures


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else float("nan")


def _add_retrieval(figures: Row, scores: Scores, on: EvaluationSet, part: str) -> None:
    for measure, values in retrieval_measures(scores, on, part).items():
        name = f"{measure} {part}".strip()
        figures.by_query[name], figures.values[name] = values, _mean(values)


def _blocks(on: EvaluationSet) -> Iterator[np.ndarray]:
    queries = np.unique(on.pairs[:, 0])
    for start in range(0, len(queries), BLOCK):
        yield queries[start : start + BLOCK]


def retrieval_measures(scores: Scores, on: EvaluationSet, part: str = "") -> dict[str, np.ndarray]:
    """`MEASURES` of each query that has relevant patents in `part` ("": all), (Q,) in the order of the query rows.

    Of equal scores the text that stands first comes first, whatever is relevant.
    """
    wanted = on.parts[part] if part else np.ones(len(on.pairs), bool)
    qrels: dict[str, dict[str, int]] = {}
    for query, relevant in on.pairs[wanted]:
        qrels.setdefault(str(query), {})[str(relevant)] = 1
    run: dict[str, dict[str, float]] = {}
    for block in _blocks(on):
        visible, others = ~on.hidden(block), on.pairs[~wanted & np.isin(on.pairs[:, 0], block)]
        visible[np.searchsorted(block, others[:, 0]), others[:, 1]] = False
        matrix = np.where(visible, scores(block, visible), -np.inf)
        for query, row in zip(block, matrix, strict=True):
            if str(query) in qrels:
                top = np.argsort(-row, kind="stable")[:DEPTH]
                run[str(query)] = {str(d): float(DEPTH - i) for i, d in enumerate(top) if row[d] > -np.inf}
    queries = sorted(qrels, key=int)
    found = {(m.query_id, m.measure): m.value for m in ir_measures.iter_calc(list(MEASURES.values()), qrels, run)}
    return {name: np.array([found.get((q, m), 0.0) for q in queries]) for name, m in MEASURES.items()}


def triplets_right(scores: Scores, triplets: np.ndarray) -> np.ndarray:
    """Whether the positive scores above the negative, (T,); a tie is wrong. `triplets` (T, 3) rows of the texts."""
    right = np.zeros(len(triplets), bool)
    for start in range(0, len(triplets), BLOCK):
        anchor, positive, negative = triplets[start : start + BLOCK].T
        matrix, rows = scores(anchor), np.arange(len(anchor))
        right[start : start + BLOCK] = matrix[rows, positive] > matrix[rows, negative]
    return right


def first_relevant_ranks(scores: Scores, on: EvaluationSet, kind: str, seed: int = 42) -> np.ndarray:
    """Rank from 1 of the first cited patent among 25 "random" or "hard" others, (Q,); of equal ones it comes last."""
    ranks = []
    key = mix(np.arange(len(on.texts)), seed)
    for block in _blocks(on):
        hidden, among, chosen = on.hidden(block), np.zeros((len(block), len(on.texts)), bool), []
        for i, query in enumerate(block):
            relevant = on.pairs[on.pairs[:, 0] == query, 1]
            drawn = mix(np.arange(len(on.texts)) ^ int(key[query] >> np.uint64(20)), seed)
            order = np.lexsort((drawn, -_nearness(on.texts, query) if kind == "hard" else drawn))
            others = order[~hidden[i][order] & ~np.isin(order, relevant)][:CANDIDATES]
            chosen.append((relevant[np.argsort(drawn[relevant])][:MOST_RELEVANT], others))
            among[i, np.concatenate(chosen[-1])] = True
        matrix = scores(block, among)
        for row, (right, others) in zip(matrix, chosen, strict=True):
            ranks.append(1 + int((row[others] >= row[right].max()).sum()))
    return np.array(ranks, dtype=float)


def _nearness(texts: pd.DataFrame, row: int) -> np.ndarray:
    """3 for texts of the same primary subclass as `row`, 2 of the class, 1 of the section, else 0; (N,)."""
    levels = [(texts[level] == texts[level].iloc[row]) & (texts[level] != "") for level in ("section", "class")]
    return sum(levels, (texts["subclass"] == texts["subclass"].iloc[row]) & (texts["subclass"] != "")).to_numpy(int)


def subclass_prediction(scores: Scores, on: EvaluationSet) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """F1 micro and macro, and the share of patents all of whose subclasses are right; and what each patent adds.

    A held-out classified patent has the subclasses that more than half of its 8 nearest classified patents of the
    other splits have. Micro is over all subclasses, macro over those that occur among the held-out patents.
    """
    names = [f"CPC {what}" for what in ("F1 micro", "F1 macro", "accuracy")]
    classified = (on.texts["subclass"] != "").to_numpy() & on.corpus
    tested = (on.texts["split"] == on.split).to_numpy()
    asked, known = np.flatnonzero(classified & tested), np.flatnonzero(classified & ~tested)
    if not len(asked) or len(known) < NEIGHBOURS:
        return dict.fromkeys(names, float("nan")), {}
    labels = MultiLabelBinarizer().fit_transform(on.texts["subclasses"])
    predicted = np.empty((len(asked), labels.shape[1]), dtype=int)
    for start in range(0, len(asked), BLOCK):
        rows = asked[start : start + BLOCK]
        among = np.broadcast_to(classified & ~tested, (len(rows), len(on.texts)))
        matrix = scores(rows, among)[:, known]
        near = known[np.argsort(-matrix, axis=1, kind="stable")[:, :NEIGHBOURS]]
        predicted[start : start + BLOCK] = labels[near].mean(axis=1) > 0.5
    truth, occur = labels[asked], np.flatnonzero(labels[asked].any(axis=0))
    micro = f1_score(truth, predicted, average="micro", zero_division=0)
    macro = f1_score(truth[:, occur], predicted[:, occur], average="macro", zero_division=0)
    right, named = (truth & predicted).sum(axis=1), truth.sum(axis=1) + predicted.sum(axis=1)
    exact = (truth == predicted).all(axis=1).astype(float)
    by_patent = {names[0]: np.stack([2 * right, named], axis=1), names[2]: exact}
    found = (micro, macro, accuracy_score(truth, predicted))
    return dict(zip(names, map(float, found), strict=True)), by_patent
