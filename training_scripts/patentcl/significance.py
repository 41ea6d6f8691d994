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
    """Mean of other - one over the same units, (n,) each, and its two-sided bootstrap p-value.

    The p-value is twice the share of resampled means on the far side of 0, at least 2 / (resamples + 1), at most 1.
    """
    difference = other - one
    if len(difference) < 2 or not difference.any():
        return float(difference.mean()) if len(difference) else float("nan"), 1.0
    draws = bootstrap(
        (difference,), np.mean, n_resamples=RESAMPLES, method="percentile", rng=np.random.default_rng(seed)
    ).bootstrap_distribution
    below, above = (draws <= 0).sum(), (draws >= 0).sum()
    return float(difference.mean()), float(min(1.0, 2 * (min(below, above) + 1) / (len(draws) + 1)))
