"""Confidence intervals and p-values by bootstrap (Efron and Tibshirani 1993), by SciPy; seeded, so repeatable."""

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.stats import bootstrap

RESAMPLES = 2_000
BATCH = 100  # resamples in memory at a time; the draws are the same for any number


def ratio_interval(parts: np.ndarray, seed: int = 42) -> tuple[float, float]:
    """Return the 95 % interval of sum(first) / sum(second) of `parts` (n, 2); (nan, nan) below 2 units."""
    if len(parts) < 2:
        return float("nan"), float("nan")
    interval = _bootstrap(parts, _ratio, seed).confidence_interval
    return float(interval.low), float(interval.high)


def paired_difference(one: np.ndarray, other: np.ndarray, seed: int = 42) -> tuple[float, float]:
    """Return a metric of `other` minus that of `one`, and its two-sided bootstrap p-value over their common units.

    The metric is the mean of values (n,), or the ratio of sums of parts (n, 2). The p-value is twice the share of
    resampled differences on the far side of 0, at least 2 / (resamples + 1), at most 1.
    """
    if not len(one):
        return float("nan"), 1.0
    if one.ndim == 1:  # a mean is the ratio to a sum of ones
        one, other = (np.stack([values, np.ones(len(values))], axis=1) for values in (one, other))
    parts = np.concatenate([one, other], axis=1)
    difference = float(_difference(*parts.T))
    if len(one) < 2 or np.array_equal(one, other):
        return difference, 1.0
    draws = _bootstrap(parts, _difference, seed).bootstrap_distribution
    far_side = min((draws <= 0).sum(), (draws >= 0).sum())
    return difference, float(min(1.0, 2 * (far_side + 1) / (len(draws) + 1)))


def _ratio(top: np.ndarray, bottom: np.ndarray, axis: int = -1) -> np.ndarray:
    return np.asarray(top.sum(axis=axis) / np.maximum(bottom.sum(axis=axis), 1))


def _difference(*parts: np.ndarray, axis: int = -1) -> np.ndarray:
    return _ratio(parts[2], parts[3], axis) - _ratio(parts[0], parts[1], axis)


def _bootstrap(parts: np.ndarray, statistic: Callable[..., np.ndarray], seed: int) -> Any:
    """Resample the units, the rows of `parts` (n, columns), for a statistic of its columns."""
    how = {"paired": True, "method": "percentile", "n_resamples": RESAMPLES, "batch": BATCH}
    return bootstrap(list(parts.T), statistic, rng=np.random.default_rng(seed), **how)
