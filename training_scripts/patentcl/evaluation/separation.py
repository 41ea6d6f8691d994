"""How well embeddings separate the CPC: kNN accuracy and v-measure."""

import numpy as np
import pandas as pd
from sklearn.cluster import KMeans
from sklearn.metrics import v_measure_score
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier

NEIGHBOURS, FOLDS = 10, 5


def knn_accuracy(embeddings: np.ndarray, symbols: pd.Series, families: np.ndarray, seed: int = 42) -> float:
    """Return the share of patents whose symbol is the vote of their 10 nearest neighbours by cosine, cross-validated.

    Compare it with the share of the most frequent symbol, which guessing reaches. The members of a family (N numbers)
    share a fold, so that near-identical texts are never each other's neighbour. Unclassified patents are left out; NaN
    below 2 symbols or families.
    """
    rows, labels, families = _classified(embeddings, symbols, families)
    groups = np.unique(families, return_inverse=True)[1]
    folds = min(FOLDS, len(set(groups.tolist())))
    if len(set(labels.tolist())) < 2 or folds < 2:
        return float("nan")
    splits = list(GroupKFold(folds, shuffle=True, random_state=seed).split(labels, groups=groups))
    smallest = min(len(train) for train, _ in splits)
    # Brute force on unit rows: Euclidean distance orders them as cosine does, and scikit-learn is faster at it.
    voters = KNeighborsClassifier(min(NEIGHBOURS, smallest), algorithm="brute")
    return float(np.mean(cross_val_predict(voters, rows, labels, cv=splits) == labels))


def v_measure(embeddings: np.ndarray, symbols: pd.Series, seed: int = 42) -> float:
    """Return the agreement, 0 to 1, of k-means on the normalised rows (N, d) with `symbols`; NaN below 2 symbols.

    k is the number of symbols present (Rosenberg and Hirschberg 2007). Unclassified patents are left out.
    """
    rows, labels, _ = _classified(embeddings, symbols, np.zeros(len(symbols)))
    k = len(set(labels.tolist()))
    if k < 2:
        return float("nan")
    return float(v_measure_score(labels, KMeans(k, n_init=10, random_state=seed).fit_predict(rows)))


def _classified(
    embeddings: np.ndarray, symbols: pd.Series, families: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Unit rows, symbols and families of the patents that have a symbol."""
    labels = symbols.fillna("").to_numpy(dtype=str)
    rows = np.asarray(embeddings, dtype=np.float32)[labels != ""]
    rows = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    return rows, labels[labels != ""], families[labels != ""]
