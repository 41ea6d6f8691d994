"""How well embeddings separate the CPC: kNN accuracy and v-measure, beside a picture."""

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.metrics import v_measure_score
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier

Metric = Callable[[np.ndarray, pd.DataFrame], float]
NEIGHBOURS = 10  # k of the kNN accuracies
FOLDS = 5


def picture_metrics(
    embedding: np.ndarray, patents: pd.DataFrame, seed: int = 42, family: np.ndarray | None = None
) -> dict[str, float]:
    """Say how well one embedding (N, d), not its 2-D picture, separates CPC sections and classes; all 0 to 1.

    - "kNN accuracy (section)", "kNN accuracy (class)": the share of patents whose primary symbol is the vote of
      their 10 nearest neighbours by cosine, 5-fold cross-validated. Compare with the share of the most
      frequent symbol, which guessing reaches.
    - "v-measure (section)": agreement of k-means on the normalised rows, k the number of sections present, with
      the sections (Rosenberg & Hirschberg 2007); 0 is no agreement.

    Unclassified patents are left out. `family` (N group keys) keeps the members of one patent family in one
    fold, so that near-identical texts are never each other's neighbour. Where fewer than 2 symbols (or
    families) exist the figure is NaN.
    """
    rows = np.asarray(embedding, dtype=np.float32)
    families = np.arange(len(rows)) if family is None else np.asarray(family)
    rows = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    return {
        "kNN accuracy (section)": _knn_accuracy(rows, patents["section"], families, seed),
        "kNN accuracy (class)": _knn_accuracy(rows, patents["class"], families, seed),
        "v-measure (section)": v_measure(rows, patents["section"], seed),
    }


def _labelled(symbols: pd.Series) -> tuple[NDArray[np.bool_], np.ndarray]:
    labels = symbols.fillna("").to_numpy(dtype=str)
    return labels != "", labels[labels != ""]


def _knn_accuracy(rows: np.ndarray, symbols: pd.Series, families: np.ndarray, seed: int) -> float:
    keep, labels = _labelled(symbols)
    groups = np.unique(families[keep], return_inverse=True)[1]
    folds = min(FOLDS, len(set(groups.tolist())))
    if len(set(labels.tolist())) < 2 or folds < 2:
        return float("nan")
    splits = list(GroupKFold(folds, shuffle=True, random_state=seed).split(labels, groups=groups))
    smallest = min(len(train) for train, _ in splits)
    # Brute force on unit rows: euclidean distance orders them as cosine does, and scikit-learn is faster at it.
    voters = KNeighborsClassifier(min(NEIGHBOURS, smallest), algorithm="brute")
    return float(np.mean(cross_val_predict(voters, rows[keep], labels, cv=splits) == labels))


def v_measure(embedding: np.ndarray, symbols: pd.Series, seed: int = 42) -> float:
    """Agreement, 0 to 1, of k-means on the normalised rows (N, d) with `symbols`; NaN below 2 symbols."""
    keep, labels = _labelled(symbols)
    k = len(set(labels.tolist()))
    if k < 2:
        return float("nan")
    rows = np.asarray(embedding, dtype=np.float32)[keep]
    rows = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    found = KMeans(k, n_init=10, random_state=seed).fit_predict(rows)
    return float(v_measure_score(labels, found))


def metrics_table(
    embeddings: Mapping[str, np.ndarray],
    patents: pd.DataFrame,
    extra: Mapping[str, Metric] | None = None,
    seed: int = 42,
    family: np.ndarray | None = None,
) -> pd.DataFrame:
    """Return one row per model (index) and one column per metric: those of `picture_metrics`, then `extra`.

    A metric of your own is a function of the embedding (N, d) and the patents that returns one number:

    >>> from sklearn.metrics import silhouette_score
    >>> own = {"silhouette": lambda rows, patents: silhouette_score(rows, patents["section"], metric="cosine")}
    >>> metrics_table(embeddings, patents, extra=own)  # doctest: +SKIP
    """
    table = {
        name: picture_metrics(rows, patents, seed, family)
        | {metric: float(measure(rows, patents)) for metric, measure in (extra or {}).items()}
        for name, rows in embeddings.items()
    }
    return pd.DataFrame.from_dict(table, orient="index")
