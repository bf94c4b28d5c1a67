"""Distances between two distributions over the same cells, and how many rows keep chance out of them.

P is the reference, Q the window, n and m the rows behind them. All but the p-value are independent of n and m but for noise.
"""

from __future__ import annotations

import math
from enum import StrEnum

import numpy as np


class Measure(StrEnum):
    """What is shown of a field."""

    PSI = "psi"
    JENSEN_SHANNON = "jensen_shannon"
    WASSERSTEIN = "wasserstein"
    KS = "ks"
    KS_PVALUE = "ks_pvalue"
    MISSING = "missing"
    MISSING_REFERENCE = "missing_reference"
    NEW = "new"
    NEW_EXPECTED = "new_expected"
    ILLEGAL = "illegal"
    NOT_FINITE = "not_finite"


def psi(reference: np.ndarray, window: np.ndarray) -> float:
    """Population stability index of two arrays of counts (cells,).

        PSI = sum (q - p) ln(q / p),    p = (c + 1/2) / (n + cells/2)

    The half count (Jeffreys) stands in for cells that are empty on one side. 0 is equal; no upper bound.

    >>> round(psi(np.array([500, 500]), np.array([600, 400])), 3)
    0.041
    """
    p, q = (_smoothed(counts) for counts in (reference, window))
    return float(np.sum((q - p) * np.log(q / p)))


def jensen_shannon(reference: np.ndarray, window: np.ndarray) -> float:
    """Jensen-Shannon distance of two arrays of counts (cells,), natural logarithm: 0 is equal, sqrt(ln 2) = 0.833 has nothing in common.

        JS = sqrt( KL(P || M)/2 + KL(Q || M)/2 ),    M = (P + Q)/2

    >>> round(jensen_shannon(np.array([1, 0]), np.array([0, 1])), 3)
    0.833
    """
    p, q = reference / reference.sum(), window / window.sum()
    middle = (p + q) / 2
    divergence = (_kl(p, middle) + _kl(q, middle)) / 2
    return math.sqrt(max(divergence, 0.0))


def wasserstein(
    reference: np.ndarray,
    window: np.ndarray,
    reference_means: np.ndarray,
    window_means: np.ndarray,
    deviation: float,
) -> float:
    """First Wasserstein distance in standard deviations of the reference; each cell's mass stands at the mean of its values.

    counts and means: (cells,). A mean of an empty cell is not read. deviation: of the reference, on the same scale; like Evidently we
    divide by at least 0.001, so that a constant that moves is seen.
    """
    from scipy.stats import wasserstein_distance

    here, there = reference > 0, window > 0
    moved = wasserstein_distance(reference_means[here], window_means[there], reference[here], window[there])
    return float(moved) / max(deviation, 1e-3)


def kolmogorov_smirnov(reference: np.ndarray, window: np.ndarray) -> tuple[float, float]:
    """Greatest gap of the two distribution functions at the edges of the cells, and the two-sided p-value of Kolmogorov's limit.

    The gap between edges may be greater, by at most the mass of one cell. The p-value takes rows as independent draws and goes to zero
    with their number: it is shown, and judges nothing.
    """
    from scipy.stats import kstwobign

    n, m = reference.sum(), window.sum()
    gap = float(np.max(np.abs(np.cumsum(reference) / n - np.cumsum(window) / m)))
    return gap, float(kstwobign.sf(gap * math.sqrt(n * m / (n + m))))


def most_variance(measure: Measure, cells: int, allowed: float) -> float:
    """The variance 1/n + 1/m up to which two samples of one distribution are no farther apart than `allowed`, by rough expectation.

    2 n PSI and 8 n JS^2 are chi-squared with cells - 1 degrees of freedom to first order. Wasserstein: E|W| is the integral of
    sqrt(2/pi F (1-F) variance), 1.3 deviations for a normal distribution. Raises ValueError for a measure that judges nothing.
    """
    if measure is Measure.PSI:
        return allowed / max(cells - 1, 1)
    if measure is Measure.JENSEN_SHANNON:
        return 8 * allowed**2 / max(cells - 1, 1)
    if measure is Measure.WASSERSTEIN:
        return (allowed / 1.3) ** 2
    raise ValueError(f"{measure} judges nothing")


def _smoothed(counts: np.ndarray) -> np.ndarray:
    smoothed: np.ndarray = (counts + 0.5) / (counts.sum() + counts.size / 2)
    return smoothed


def _kl(p: np.ndarray, q: np.ndarray) -> float:
    has = p > 0
    return float(np.sum(p[has] * np.log(p[has] / q[has])))


__all__ = [
    "Measure",
    "jensen_shannon",
    "kolmogorov_smirnov",
    "most_variance",
    "psi",
    "wasserstein",
]
