"""What is noise: confidence intervals and p-values by bootstrap (Efron and Tibshirani 1993), by SciPy.

Seeded, so the same figures give the same intervals.
"""

import numpy as np
from scipy.stats import bootstrap

RESAMPLES = 2_000


def ratio_interval(right: np.ndarray, of: np.ndarray, seed: int = 42) -> tuple[float, float]:
    """95 % interval of sum(right) / sum(of), the units (n,) drawn with replacement; (nan, nan) below 2 units."""
    if len(right) < 2:
        return float("nan"), float("nan")
    found = bootstrap(
        (right, of),
        lambda r, o, axis: r.sum(axis=axis) / o.sum(axis=axis),
        paired=True, vectorized=True, n_resamples=RESAMPLES, method="percentile", rng=np.random.default_rng(seed),
    )  # fmt: skip
    return float(found.confidence_interval.low), float(found.confidence_interval.high)


def paired_difference(one: np.ndarray, other: np.ndarray, seed: int = 42) -> tuple[float, float]:
    """Figure of `other` minus figure of `one`, and its two-sided bootstrap p-value over the units that both share.

    The figure is the mean of values (n,), or of parts (n, 2) sum(first) / sum(second). The p-value is twice the share
    of resampled differences on the far side of 0, at least 2 / (resamples + 1), at most 1.
    """
    columns = [*np.atleast_2d(one.T), *np.atleast_2d(other.T)]

    def difference(*drawn: np.ndarray, axis: int = -1) -> np.ndarray:
        sums = [part.sum(axis=axis) for part in drawn]
        if len(sums) == 2:
            sums = [sums[0], drawn[0].shape[axis], sums[1], drawn[1].shape[axis]]
        result: np.ndarray = sums[2] / np.maximum(sums[3], 1) - sums[0] / np.maximum(sums[1], 1)
        return result

    if not len(one):
        return float("nan"), 1.0
    if len(one) < 2 or np.array_equal(one, other):
        return float(difference(*columns)), 1.0
    draws = bootstrap(
        columns, difference, paired=True, vectorized=True, n_resamples=RESAMPLES, method="percentile",
        rng=np.random.default_rng(seed),
    ).bootstrap_distribution  # fmt: skip
    below, above = (draws <= 0).sum(), (draws >= 0).sum()
    return float(difference(*columns)), float(min(1.0, 2 * (min(below, above) + 1) / (len(draws) + 1)))
