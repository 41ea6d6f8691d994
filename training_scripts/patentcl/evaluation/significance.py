"""Confidence intervals and p-values by bootstrap (Efron and Tibshirani 1993), by SciPy; seeded, so repeatable."""

from typing import Any

import numpy as np
from scipy.stats import bootstrap

RESAMPLES = 2_000


def ratio_interval(parts: np.ndarray, seed: int = 42) -> tuple[float, float]:
    """Return the 95 % interval of sum(first) / sum(second) of `parts` (n, 2); (nan, nan) below 2 units."""
    if len(parts) < 2:
        return float("nan"), float("nan")
    interval = _bootstrap(list(parts.T), _ratio, seed).confidence_interval
    return float(interval.low), float(interval.high)


def paired_difference(one: np.ndarray, other: np.ndarray, seed: int = 42) -> tuple[float, float]:
    """Return a metric of `other` minus that of `one`, and its two-sided bootstrap p-value over their common units.

    The metric is the mean of values (n,), or the ratio of sums of parts (n, 2). The p-value is twice the share of
    resampled differences on the far side of 0, at least 2 / (resamples + 1), at most 1.
    """
    if not len(one):
        return float("nan"), 1.0
    pairs = [
        np.stack([values, np.ones(len(values))], axis=1) if values.ndim == 1 else values for values in (one, other)
    ]
    columns = [column for pair in pairs for column in pair.T]
    difference = float(_difference(*columns))
    if len(one) < 2 or np.array_equal(one, other):
        return difference, 1.0
    draws = _bootstrap(columns, _difference, seed).bootstrap_distribution
    below, above = (draws <= 0).sum(), (draws >= 0).sum()
    return difference, float(min(1.0, 2 * (min(below, above) + 1) / (len(draws) + 1)))


def _bootstrap(columns: list[np.ndarray], statistic: Any, seed: int) -> Any:
    """Resample the units of `columns` together."""
    return bootstrap(
        columns,
        statistic,
        paired=True,
        vectorized=True,
        n_resamples=RESAMPLES,
        method="percentile",
        rng=np.random.default_rng(seed),
    )


def _ratio(top: np.ndarray, bottom: np.ndarray, axis: int = -1) -> np.ndarray:
    return np.asarray(top.sum(axis=axis) / bottom.sum(axis=axis))


def _difference(*drawn: np.ndarray, axis: int = -1) -> np.ndarray:
    first_top, first_bottom, top, bottom = (part.sum(axis=axis) for part in drawn)
    return np.asarray(top / np.maximum(bottom, 1) - first_top / np.maximum(first_bottom, 1))
