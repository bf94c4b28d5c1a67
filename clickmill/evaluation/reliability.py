"""Reliability curve: predicted against observed click rate, bin by bin, with Wilson intervals; and the spread of pCTR.

    Wilson (1927): (c + z^2/2m -+ z sqrt(c (1 - c)/m + z^2/4m^2)) / (1 + z^2/m),  c click rate, m rows of the bin

The Wilson interval stays inside [0, 1] and has a length even in a bin without clicks. Under weights m is the effective
number of rows (sum w)^2 / sum w^2 (Kish 1965).
"""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from clickmill.errors import UsageError
from clickmill.evaluation.bins import DEFAULT_BINS, Strategy
from clickmill.evaluation.rows import Floats, Ranked, check_rows

_FROZEN = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)


class ReliabilityBin(BaseModel):
    """One bin that holds at least one impression of positive weight."""

    model_config = _FROZEN

    lowest_pctr: float
    """Smallest prediction in the bin."""
    highest_pctr: float
    """Largest prediction in the bin."""
    n: int
    """Impressions."""
    clicks: int
    """Clicks, unweighted."""
    mean_pctr: float
    """Weighted mean prediction."""
    click_rate: float
    """Weighted click rate."""
    click_rate_low: float
    """Lower end of its Wilson interval."""
    click_rate_high: float
    """Upper end of its Wilson interval."""


class PctrHistogram(BaseModel):
    """How the predictions spread over a logarithmic axis (click probabilities span orders of magnitude)."""

    model_config = _FROZEN

    edges: tuple[float, ...]
    """k + 1 ascending edges, evenly spaced in log10; predictions below the first are counted in the first bin."""
    counts: tuple[int, ...]
    """k numbers of impressions."""


def reliability_curve(
    y: npt.ArrayLike,
    p: npt.ArrayLike,
    weight: npt.ArrayLike | None = None,
    *,
    strategy: Strategy = "equal_mass",
    bins: int = DEFAULT_BINS,
    level: float = 0.95,
) -> tuple[ReliabilityBin, ...]:
    """Bins in ascending order of pCTR; empty ones are left out. Arguments: (n,). Raises UsageError.

    >>> [(b.mean_pctr, b.click_rate) for b in reliability_curve([0, 0, 0, 1], [0.1, 0.1, 0.4, 0.4], bins=2)]
    [(0.1, 0.0), (0.4, 0.5)]
    """
    rows = Ranked.of(check_rows(y, p, weight))
    starts = rows.bin_starts(strategy, bins)
    last = np.r_[starts[1:], len(rows.p)] - 1
    mass = np.add.reduceat(rows.weight, starts)
    clicks = np.add.reduceat(rows.weight * rows.y, starts)
    effective = mass**2 / np.maximum(np.add.reduceat(rows.weight**2, starts), np.finfo(np.float64).tiny)
    kept = mass > 0
    rate = np.divide(clicks, mass, out=np.zeros_like(mass), where=kept)
    predicted = np.divide(
        np.add.reduceat(rows.weight * rows.p, starts), mass, out=np.zeros_like(mass), where=kept
    )
    low, high = wilson_interval(rate, np.where(kept, effective, 1.0), level)
    raw_clicks = np.add.reduceat(rows.y, starts)
    return tuple(
        ReliabilityBin(
            lowest_pctr=float(rows.p[starts[b]]),
            highest_pctr=float(rows.p[last[b]]),
            n=int(last[b] - starts[b] + 1),
            clicks=int(raw_clicks[b]),
            mean_pctr=float(predicted[b]),
            click_rate=float(rate[b]),
            click_rate_low=float(low[b]),
            click_rate_high=float(high[b]),
        )
        for b in np.flatnonzero(kept)
    )


def wilson_interval(rate: Floats, n: Floats, level: float = 0.95) -> tuple[Floats, Floats]:
    """Ends of the interval for observed rates (k,) of n (k,) trials, n > 0.

    >>> low, high = wilson_interval(np.array([0.0]), np.array([10.0]))
    >>> low.tolist(), high.round(4).tolist()
    ([0.0], [0.2775])
    """
    if not 0 < level < 1:
        raise UsageError(f"level must be between 0 and 1, got {level}")
    z2 = NormalDist().inv_cdf((1 + level) / 2) ** 2
    centre = rate + z2 / (2 * n)
    half = np.sqrt(z2 * (rate * (1 - rate) / n + z2 / (4 * n**2)))
    scale = 1 + z2 / n
    # At rates of exactly 0 and 1 the ends are exactly that; rounding would leave 1e-18.
    low = np.where(rate <= 0, 0.0, np.maximum((centre - half) / scale, 0.0))
    high = np.where(rate >= 1, 1.0, np.minimum((centre + half) / scale, 1.0))
    return np.minimum(low, rate), np.maximum(high, rate)


def pctr_histogram(p: npt.ArrayLike, *, bins: int = 40) -> PctrHistogram:
    """Counts of predictions (n,) in `bins` bins from the 0.1th percentile (at least 1e-6) to the largest.

    >>> pctr_histogram([0.01, 0.01, 0.1], bins=2).counts
    (2, 1)
    """
    values = np.asarray(p, dtype=np.float64)
    high = min(max(float(values.max()), 2e-6), 1.0)
    low = min(max(float(np.quantile(values, 0.001)), 1e-6), high / 2)
    edges = np.geomspace(low, high, bins + 1)
    # geomspace may miss its ends by rounding, and histogram drops what lies outside.
    counts, _ = np.histogram(np.clip(values, edges[0], edges[-1]), edges)
    return PctrHistogram(edges=tuple(edges.tolist()), counts=tuple(counts.tolist()))
