"""When requests are due: fixed before the first is sent, so that a slow endpoint cannot make its own load lighter."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from clickmill.errors import UsageError

Floats = npt.NDArray[np.float64]


def constant(rate: float, count: int) -> Floats:
    """(count,) seconds from the start, one every 1 / rate. Raises UsageError for a rate that is not positive.

    >>> constant(4.0, 3).tolist()
    [0.0, 0.25, 0.5]
    """
    _check(rate)
    return np.arange(count) / rate


def poisson(rate: float, count: int, *, seed: int) -> Floats:
    """(count,) seconds from the start with independent exponential gaps of mean 1 / rate: what many callers who do not know each
    other add up to. Raises UsageError for a rate that is not positive."""
    _check(rate)
    return np.cumsum(np.random.default_rng(seed).exponential(1 / rate, count))


def _check(rate: float) -> None:
    if not rate > 0:
        raise UsageError(f"rate, concurrency and rows per request must be positive; got a rate of {rate:g}")
