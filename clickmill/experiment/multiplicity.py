"""Many questions asked at once: how to keep the share of false answers small."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from clickmill.errors import UsageError


def benjamini_hochberg(p: npt.ArrayLike) -> np.ndarray:
    """q-values (m,) of p-values (m,): calling all with q <= 0.1 a finding makes a tenth of the findings false, on average.

    Benjamini, Hochberg 1995; with always-valid p-values it holds at any time one stops (Johari et al., Operations Research 2022).
    Raises UsageError for a p outside 0 to 1.

    >>> benjamini_hochberg([0.01, 0.02, 0.03, 0.5]).tolist()
    [0.04, 0.04, 0.04, 0.5]
    """
    values = np.asarray(p, np.float64)
    if values.ndim != 1 or not ((values >= 0) & (values <= 1)).all():
        raise UsageError(f"p-values must be one list of numbers from 0 to 1; got {p!r:.80}")
    order = np.argsort(values, kind="stable")
    stepped = values[order] * len(values) / np.arange(1, len(values) + 1)
    q = np.empty_like(values)
    q[order] = np.minimum(np.minimum.accumulate(stepped[::-1])[::-1], 1.0)
    return q


__all__ = ["benjamini_hochberg"]
