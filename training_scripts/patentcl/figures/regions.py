"""Regions of a picture: groups of patents that lie together, and the words that tell them from the others."""

import numpy as np
import pandas as pd
from scipy.spatial.distance import cdist
from sklearn.cluster import KMeans
from sklearn.feature_extraction.text import CountVectorizer

REGIONS, LEAST = 12, 0.015  # at most so many; share of the patents that a region has at least
WORDS = r"\b[^\W\d_]{3,}\b"  # of titles
SOME = 1_000  # patents of a region that choose its place


def regions(patents: pd.DataFrame, points: np.ndarray, seed: int = 42) -> dict[str, np.ndarray]:
    """Return name → rows (n,) of `patents` of each region: those of a frequent subclass.

    Without classes, k-means finds the regions of the `points` (N, 2) of one model. The name is the subclass and two
    words of titles that are frequent in the region and rare elsewhere (class-based TF-IDF; Grootendorst 2022,
    arXiv:2203.05794).
    """
    symbols, has_classes = patents["subclass"].to_numpy(str), (patents["subclass"] != "").any()
    if not has_classes:
        symbols = KMeans(min(REGIONS, len(points)), n_init=3, random_state=seed).fit_predict(points).astype(str)
    keys, group, counts = np.unique(symbols, return_inverse=True, return_counts=True)
    kept = [key for key in np.argsort(-counts, kind="stable") if keys[key] and counts[key] >= LEAST * len(patents)]
    words = _words(patents["title"], group)
    names = {key: f"{keys[key] if has_classes else ''} {words[key]}".strip() for key in kept[:REGIONS]}
    return {name: np.flatnonzero(group == key) for key, name in names.items() if name}


def _words(titles: pd.Series, group: np.ndarray) -> list[str]:
    """Two words of the titles of each group, those with the highest weight."""
    vectorizer = CountVectorizer(stop_words="english", token_pattern=WORDS, binary=True)
    try:
        counts = vectorizer.fit_transform(titles)
    except ValueError:  # "empty vocabulary"
        return [""] * (group.max() + 1)
    of_group = np.stack([np.asarray(counts[group == key].sum(axis=0)).ravel() for key in range(group.max() + 1)])
    weights = of_group * np.log1p(of_group.sum() / len(of_group) / of_group.sum(axis=0))
    best, words = np.argsort(-weights, axis=1, kind="stable")[:, :2], vectorizer.get_feature_names_out()
    return [", ".join(words[column] for column in row if weights[key, column]) for key, row in enumerate(best)]


def densest(points: np.ndarray) -> np.ndarray:
    """The one of `points` (n, 2) that has a quarter of the others within the smallest distance; (2,)."""
    some = points[:: -(-len(points) // SOME)]
    return some[np.partition(cdist(some, some), len(some) // 4, axis=1)[:, len(some) // 4].argmin()]
