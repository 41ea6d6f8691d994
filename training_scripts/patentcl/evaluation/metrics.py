"""Metrics of an evaluation, one registered function each."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from sklearn.cluster import KMeans
from sklearn.metrics import f1_score, v_measure_score
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier

from ..models.embed import unit_rows
from ..triplets.options import KINDS
from .held_out import PARTS, HeldOut
from .rankers import Ranker
from .scoring import DEPTH, NEIGHBOURS, Outcome, score

# What a metric returns: a value per query or patent (n,), of which it is the mean; the two parts of a ratio per anchor
# or patent (n, 2), of whose sums it is the quotient; a single number; or None where it does not apply.
Measured = np.ndarray | float | None

LEAST_VOTES = 3  # of PatentSBERTa's 8: the sigmoid of 3 is above 0.9, that of 2 is not
MAJORITY = NEIGHBOURS // 2 + 1
VOTERS, FOLDS = 10, 5  # of the kNN accuracy
RETRIEVAL, PARTLY = "Retrieval", "Retrieval of a part of the relevant patents"
SOLVED = "Queries that BM25 solves (a relevant patent is among its first 10), and the others"
TRIPLETS, CPC, PICTURE = "Triplets and re-ranking", "CPC", "picture"


@dataclass(frozen=True)
class Metric:
    """A column of the table `group`. `measure` takes a ranker's `Outcome`.

    In the group `PICTURE`, the metrics beside a picture, it takes embeddings (N, d), their patents (N rows) and a seed.
    `higher_is_better`: None if neither is; `quick`: computed in a quick pass, too; `shown`: printed, not only in the
    CSV; `compared`: printed with the difference to the base; `digits`: after the point.
    """

    name: str
    group: str
    measure: Callable[..., Measured]
    higher_is_better: bool | None = True
    quick: bool = False
    shown: bool = True
    compared: bool = False
    digits: int = 3


METRICS: dict[str, Metric] = {}


def metric(name: str, group: str, **options: Any) -> Callable[[Callable[..., Measured]], Callable[..., Measured]]:
    """Register a function as the metric `name`; `options` are those of `Metric`."""

    def register(measure: Callable[..., Measured]) -> Callable[..., Measured]:
        METRICS[name] = Metric(name, group, measure, **options)
        return measure

    return register


def retrieval_metric(name: str, main: bool = False) -> Callable[..., Any]:
    """Register a function of the ranks, ascending from 1, at which a query finds its relevant patents.

    It becomes one metric for all relevant patents, one that averages over CPC sections, and one for each of `PARTS`;
    the latter are printed of the `main` one only.
    """

    def register(of_query: Callable[[np.ndarray], float]) -> Callable[[np.ndarray], float]:
        metric(name, RETRIEVAL, quick=True, compared=main)(partial(_each, of_query))
        metric(f"{name} macro", RETRIEVAL, shown=main, compared=main)(partial(_macro, of_query))
        for part in PARTS:
            metric(f"{name} {part}", PARTLY, shown=main)(partial(_each, of_query, part=part))
        return of_query

    return register


def _each(of_query: Callable[[np.ndarray], float], outcome: Outcome, part: str = "") -> np.ndarray:
    """A metric of each query with relevant patents of the part, (Q,)."""
    return np.array([of_query(ranks) for ranks in outcome.ranks[part]], dtype=float)


def _macro(of_query: Callable[[np.ndarray], float], outcome: Outcome) -> Measured:
    """The mean over CPC sections of a metric's mean over their queries; per query, its part and its weight, (Q, 2).

    A query without a section has the weight 0.
    """
    section = outcome.held_out.sections[outcome.held_out.queries]
    if not (section >= 0).any():
        return float("nan")
    weight = np.where(section < 0, 0, 1 / np.bincount(section + 1)[section + 1])
    return np.stack([weight * _each(of_query, outcome), weight], axis=1)


@retrieval_metric("nDCG@10", main=True)
def ndcg(ranks: np.ndarray) -> float:
    """Discounted gain of the relevant patents among the first 10, as a share of the best possible.

    Binary gains (Järvelin and Kekäläinen 2002, doi 10.1145/582415.582418).
    """
    best = np.arange(1, min(len(ranks), 10) + 1)
    return float((1 / np.log2(1 + ranks[ranks <= 10])).sum() / (1 / np.log2(1 + best)).sum())


def recall(ranks: np.ndarray, depth: int) -> float:
    """Share of the relevant patents among the first `depth`."""
    return float((ranks <= depth).mean())


for _depth in (10, 100):
    retrieval_metric(f"Recall@{_depth}")(partial(recall, depth=_depth))


@retrieval_metric("MRR")
def reciprocal_rank(ranks: np.ndarray) -> float:
    """Reciprocal rank of the first relevant patent, 0 beyond the first `DEPTH`."""
    return 1 / float(ranks[0]) if ranks[0] <= DEPTH else 0.0


def ndcg_where(outcome: Outcome, solved: bool) -> Measured:
    """nDCG@10 of the queries that BM25 solves, or of the others."""
    if outcome.words is None:
        return None
    return _each(ndcg, outcome)[(_each(ndcg, outcome.words) > 0) == solved]


for _solved in (True, False):
    metric(f"nDCG@10 {'' if _solved else 'un'}solved", SOLVED, compared=True)(partial(ndcg_where, solved=_solved))


@metric("gain on solved", SOLVED, higher_is_better=None)
def gain_on_solved(outcome: Outcome) -> Measured:
    """Share of the gain in nDCG@10 over the base that is on queries that BM25 solves; per query, the two parts of it.

    It is above 1 or below 0 where one kind of query gains and the other loses. Reports show it for significant gains.
    """
    if outcome.words is None or outcome.base is None:
        return None
    gain = _each(ndcg, outcome) - _each(ndcg, outcome.base)
    return np.stack([gain * (_each(ndcg, outcome.words) > 0), gain], axis=1)


@metric("triplet accuracy", TRIPLETS, quick=True, compared=True)
def triplet_accuracy(outcome: Outcome, kind: str = "") -> Measured:
    """Per anchor, its triplets (of `kind`) with the higher score for the positive, and all of them; a tie is wrong."""
    held_out = outcome.held_out
    chosen = (held_out.kind == kind) | (kind == "")
    if kind and not chosen.any():
        return None
    anchors = np.unique(held_out.triplets[chosen, 0], return_inverse=True)[1]
    positive, negative = outcome.triplets[chosen].T
    return np.stack([np.bincount(anchors, weights=positive > negative), np.bincount(anchors)], axis=1)


for _kind in KINDS:
    metric(f"triplet accuracy {_kind}", TRIPLETS, quick=True)(partial(triplet_accuracy, kind=_kind))


def rank_among(outcome: Outcome, kind: str) -> Measured:
    """Rank of each query's first of at most five cited patents among 25 others: random ones, or of its CPC section."""
    return np.array(outcome.first_hits[kind], dtype=float) if kind in outcome.first_hits else float("nan")


for _kind in ("random", "hard"):
    metric(f"rank among {_kind}", TRIPLETS, higher_is_better=False, digits=2)(partial(rank_among, kind=_kind))


@metric("CPC F1", CPC, compared=True)
def subclass_f1(outcome: Outcome) -> Measured:
    """F1 of each patent's subclasses, 2 |true and predicted| / (|true| + |predicted|), by PatentSBERTa's protocol.

    A patent gets every subclass that at least 3 of its 8 nearest patents have (Bekamiri et al. 2021,
    https://arxiv.org/abs/2103.11933): their code, AugSBERT_KNN_Classification.py, sums the labels of the neighbours and
    keeps those whose sigmoid is above 0.9, and averages the F1 over patents. Their texts are first claims.
    """
    truth, predicted = outcome.subclasses(LEAST_VOTES)
    return 2 * (truth & predicted).sum(axis=1) / (truth.sum(axis=1) + predicted.sum(axis=1))


@metric("CPC F1 micro", CPC, compared=True)
def subclass_f1_micro(outcome: Outcome) -> Measured:
    """F1 over all pairs of patent and subclass; per patent, the two parts of the ratio.

    For this and the following, a patent gets the subclasses that more than half of its 8 nearest patents have.
    """
    truth, predicted = outcome.subclasses(MAJORITY)
    return np.stack([2.0 * (truth & predicted).sum(axis=1), truth.sum(axis=1) + predicted.sum(axis=1)], axis=1)


@metric("CPC F1 macro", CPC)
def subclass_f1_macro(outcome: Outcome) -> Measured:
    """Mean F1 of the subclasses that occur among the tested patents."""
    truth, predicted = outcome.subclasses(MAJORITY)
    occur = truth.any(axis=0)
    if not occur.any():
        return float("nan")
    return float(f1_score(truth[:, occur], predicted[:, occur], average="macro", zero_division=0))


@metric("CPC accuracy", CPC)
def subclass_accuracy(outcome: Outcome) -> Measured:
    """Share of patents all of whose subclasses are predicted, and no others."""
    truth, predicted = outcome.subclasses(MAJORITY)
    return (truth == predicted).all(axis=1).astype(float)


@metric("v-measure", CPC)
def held_out_v_measure(outcome: Outcome) -> Measured:
    """Agreement of k-means of the tested patents with their sections; for rankers with embeddings."""
    if outcome.embeddings is None:
        return None
    return v_measure(outcome.embeddings[outcome.tested], outcome.held_out.texts.iloc[outcome.tested], outcome.seed)


def knn_accuracy(embeddings: np.ndarray, patents: pd.DataFrame, seed: int, level: str) -> float:
    """Share of patents whose section or class is the vote of their 10 nearest neighbours by cosine, cross-validated.

    Compare it with the share of the most frequent symbol, which guessing reaches. The members of a family share a fold,
    so that near-identical texts are never each other's neighbour. NaN below 2 symbols or families.
    """
    rows, patents = _classified(embeddings, patents, level)
    folds = min(FOLDS, patents["family"].nunique())
    if patents[level].nunique() < 2 or folds < 2:
        return float("nan")
    splits = list(GroupKFold(folds, shuffle=True, random_state=seed).split(rows, groups=patents["family"]))
    smallest = min(len(train) for train, _ in splits)
    # Brute force on unit rows: Euclidean distance orders them as cosine does, and scikit-learn is faster at it.
    voters = KNeighborsClassifier(min(VOTERS, smallest), algorithm="brute")
    labels = patents[level].to_numpy(str)
    return float(np.mean(cross_val_predict(voters, rows, labels, cv=splits) == labels))


for _level in ("section", "class"):
    metric(f"kNN accuracy ({_level})", PICTURE)(partial(knn_accuracy, level=_level))


@metric("v-measure (section)", PICTURE)
def v_measure(embeddings: np.ndarray, patents: pd.DataFrame, seed: int) -> float:
    """Agreement, 0 to 1, of k-means on the unit rows with the sections; NaN below 2 sections.

    k is the number of sections present (Rosenberg and Hirschberg 2007).
    """
    rows, patents = _classified(embeddings, patents, "section")
    k = patents["section"].nunique()
    if k < 2:
        return float("nan")
    clusters = KMeans(k, n_init=10, random_state=seed).fit_predict(rows)
    return float(v_measure_score(patents["section"], clusters))


def _classified(embeddings: np.ndarray, patents: pd.DataFrame, level: str) -> tuple[np.ndarray, pd.DataFrame]:
    """Unit rows of the patents that have a symbol of this `level`, and those patents."""
    known = (patents[level] != "").to_numpy()
    return unit_rows(np.asarray(embeddings, dtype=np.float32)[known]), patents[known]


class Row(NamedTuple):
    """One row of the tables: `values` by metric; `units`: what a metric is the mean (n,) or ratio (n, 2) of.

    The units (queries, anchors or patents) are the same for every row, so that rows can be compared.
    """

    values: dict[str, float]
    units: dict[str, np.ndarray]


def measure(outcome: Outcome) -> Row:
    """Compute all metrics that apply; NaN where the split has nothing to count."""
    row = Row({}, {})
    for name, known in METRICS.items():
        if known.group == PICTURE or (outcome.quick and not known.quick):
            continue
        measured = known.measure(outcome)
        if isinstance(measured, np.ndarray):
            row.units[name] = measured
            top, bottom = measured.sum(axis=0) if measured.ndim == 2 else (measured.sum(), len(measured))
            row.values[name] = float(top / bottom) if bottom else float("nan")
        elif measured is not None:
            row.values[name] = float(measured)
    return row


def quick(ranker: Ranker, held_out: HeldOut) -> Row:
    """Compute the retrieval of all cited patents and the triplet accuracy: what a training validates with."""
    return measure(score({"": ranker}, held_out, quick=True)[""])


def picture_metrics(embeddings: Mapping[str, np.ndarray], patents: pd.DataFrame, seed: int = 42) -> pd.DataFrame:
    """Compute the group `PICTURE`, a row for each model; its metrics see the embeddings, not their 2-D picture."""
    known = [metric for metric in METRICS.values() if metric.group == PICTURE]
    table = {name: {m.name: m.measure(rows, patents, seed) for m in known} for name, rows in embeddings.items()}
    return pd.DataFrame.from_dict(table, orient="index").astype(float)
