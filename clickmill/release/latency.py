"""The p99 of latency samples and the ratio of two, with intervals.

The p99 is the ceil(0.99 n)-th smallest sample. Its bootstrap distribution needs no resampling: the k-th smallest of n uniform
numbers is Beta(k, n - k + 1), so a drawn Beta value says which order statistic a resample would have shown (Efron 1979).
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from clickmill.errors import DataError
from clickmill.evaluation import Estimate

Floats = npt.NDArray[np.float64]


def check_latency(samples: npt.ArrayLike, name: str) -> Floats:
    """(n,) milliseconds, ascending. Raises DataError unless all are finite and above 0."""
    values = np.asarray(samples, dtype=np.float64)
    if values.ndim != 1 or not len(values):
        raise DataError(f"latency of {name} must be a list of milliseconds, got shape {values.shape}")
    good = np.isfinite(values) & (values > 0)
    if not good.all():
        row = int(np.argmin(good))
        raise DataError(f"latency of {name} must be finite and above 0 ms, got {values[row]} in sample {row}")
    return np.sort(values)


def p99(ascending: Floats) -> float:
    """The ceil(0.99 n)-th smallest.

    >>> p99(np.arange(1.0, 201.0))
    198.0
    """
    return float(ascending[_rank(len(ascending)) - 1])


def p99_estimate(ascending: Floats, *, level: float, resamples: int, seed: int) -> Estimate:
    """p99 in milliseconds with its interval."""
    draws = _p99_draws(ascending, np.random.default_rng(seed), resamples)
    return _estimate(p99(ascending), draws, level)


def p99_ratio(champion: Floats, challenger: Floats, *, level: float, resamples: int, seed: int) -> Estimate:
    """p99 of the challenger over p99 of the champion; the two are sampled independently."""
    rng = np.random.default_rng(seed)
    draws = _p99_draws(challenger, rng, resamples) / _p99_draws(champion, rng, resamples)
    return _estimate(p99(challenger) / p99(champion), draws, level)


def _rank(n: int) -> int:
    # 0.99 * 100 is 99.00000000000001 in floating point: count in whole hundredths.
    return math.ceil(99 * n / 100)


def _p99_draws(ascending: Floats, rng: np.random.Generator, resamples: int) -> Floats:
    n = len(ascending)
    k = _rank(n)
    at = np.ceil(n * rng.beta(k, n - k + 1, resamples)).astype(np.int64) - 1
    return ascending[np.clip(at, 0, n - 1)]


def _estimate(value: float, draws: Floats, level: float) -> Estimate:
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return Estimate(value=value, low=min(float(low), value), high=max(float(high), value))
