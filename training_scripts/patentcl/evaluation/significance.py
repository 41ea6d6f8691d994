"""Confidence intervals and p-values by bootstrap (Efron and Tibshirani 1993); seeded, so repeatable."""

from collections.abc import Sequence

import numpy as np

RESAMPLES = 2_000
BATCH = 100  # resamples in memory at a time; the draws are the same for any number


def resampled(units: Sequence[np.ndarray], seed: int = 42) -> np.ndarray:
    """A metric of several rows on the same resamples of their common units, (RESAMPLES, rows); NaN below 2 units.

    The metric of a row is the mean of values (n,), or the ratio of the sums of parts (n, 2). How often a resample draws
    each unit is a row of a matrix, so all rows cost one product; SciPy's bootstrap would copy the units each time.
    """
    parts = [row if row.ndim == 2 else np.stack([row, np.ones(len(row))], axis=1) for row in units]
    columns, draw, sums = np.concatenate(parts, axis=1), np.random.default_rng(seed), []
    n = len(columns)
    for start in range(0, RESAMPLES if n > 1 else 0, BATCH):
        count = min(BATCH, RESAMPLES - start)
        drawn = draw.integers(0, n, (count, n)) + n * np.arange(count)[:, None]
        sums.append(np.bincount(drawn.ravel(), minlength=count * n).reshape(count, n) @ columns)
    top, bottom = np.concatenate(sums or [np.zeros((RESAMPLES, columns.shape[1]))]).reshape(RESAMPLES, -1, 2).T
    return np.divide(top, bottom, out=np.full_like(top, np.nan), where=bottom != 0).T


def interval(draws: np.ndarray) -> tuple[float, float]:
    """The 95 % interval of resampled values (RESAMPLES,), by percentiles; (nan, nan) if all are NaN."""
    known = draws[~np.isnan(draws)]
    low, high = np.percentile(known, [2.5, 97.5]) if len(known) else (np.nan, np.nan)
    return float(low), float(high)


def p_value(differences: np.ndarray) -> float:
    """The two-sided p-value of a difference from its resampled values (RESAMPLES,).

    That is twice the share on the far side of 0, at least 2 / (RESAMPLES + 1), at most 1; 1 if all are NaN.
    """
    known = np.round(differences[~np.isnan(differences)], 12)  # sums in another order leave a trace of equal rows
    far_side = min((known <= 0).sum(), (known >= 0).sum())
    return float(min(1.0, 2 * (far_side + 1) / (len(known) + 1)))
