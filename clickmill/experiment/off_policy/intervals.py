"""How far an off-policy estimate may be off: three intervals, all by cluster.

    normal      value +- z se, se by linearisation of the ratio over clusters (Owen, "Monte Carlo theory, methods and examples", 2013, ch. 9)
    bootstrap   percentiles under Poisson(1) counts of the clusters (Chamandy et al., Google 2012); follows the skew that heavy weights bring
    bernstein   empirical Bernstein (Maurer & Pontil, COLT 2009, theorem 4): holds at every n, given a bound on the weights; wide

The first two hold for many clusters and weights that are not too heavy; `diagnostics` says whether that is so.
"""

from __future__ import annotations

import math
from enum import StrEnum
from statistics import NormalDist

import numpy as np

from clickmill.errors import UndefinedMetric
from clickmill.evaluation import Estimate
from clickmill.evaluation.bootstrap import poisson_counts
from clickmill.evaluation.rows import dot
from clickmill.experiment.off_policy.log import Floats, LoggedRows


class Interval(StrEnum):
    """Which interval."""

    NORMAL = "normal"
    """By linearisation: quick, symmetric."""
    BOOTSTRAP = "bootstrap"
    """Percentiles of resampled clusters: follows skew."""
    BERNSTEIN = "bernstein"
    """A bound for every number of rows; IPS with clipped weights only."""


def quantile(level: float) -> float:
    """Standard normal deviations that hold `level` between them."""
    return NormalDist().inv_cdf((1 + level) / 2)


def influence(rows: LoggedRows, numerator: Floats, denominator: Floats) -> Floats:
    """(clusters,) what each cluster moves the ratio of sums by; they add up to 0."""
    value = numerator.sum() / denominator.sum()
    return rows.sums(numerator - value * denominator) / denominator.sum()


def spread(influences: Floats) -> float:
    """Standard error of a value from its influences (clusters,). Raises UndefinedMetric for fewer than two clusters."""
    n = len(influences)
    if n < 2:
        raise UndefinedMetric(f"an interval needs at least two independent clusters, got {n}")
    return math.sqrt(n / (n - 1) * dot(influences, influences))


def normal(rows: LoggedRows, numerator: Floats, denominator: Floats, level: float) -> Estimate:
    """numerator, denominator: (n,). Raises UndefinedMetric where no row has weight or there is one cluster only."""
    value = _value(numerator, denominator)
    reach = quantile(level) * spread(influence(rows, numerator, denominator))
    return Estimate(value=value, low=value - reach, high=value + reach)


def bootstrap(
    rows: LoggedRows, numerator: Floats, denominator: Floats, level: float, *, resamples: int, seed: int
) -> Estimate:
    """numerator, denominator: (n,). Widened to hold the value. Raises as `normal`."""
    value = _value(numerator, denominator)
    top, bottom = rows.sums(numerator), rows.sums(denominator)
    if len(top) < 2:
        raise UndefinedMetric(f"an interval needs at least two independent clusters, got {len(top)}")
    rng = np.random.default_rng(seed)
    draws = np.full(resamples, np.nan)
    for r in range(resamples):
        counts = poisson_counts(rng, len(top))
        total = dot(counts, bottom)
        if total > 0:
            draws[r] = dot(counts, top) / total
    low, high = np.nanquantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return Estimate(value=value, low=min(float(low), value), high=max(float(high), value))


def bernstein(rows: LoggedRows, numerator: Floats, most: float, level: float) -> Estimate:
    """Mean of `numerator` (n,), each in 0 to `most`, whose rows are independent between clusters.

    With S the clusters' sums, V their variance, b = largest cluster x most, C clusters and a = ln(4 / (1 - level)):
    |mean S - E S| <= sqrt(2 V a / C) + 7 b a / (3 (C - 1)), then divided by the mean size of a cluster.
    """
    sums = rows.sums(numerator)
    n = len(sums)
    if n < 2:
        raise UndefinedMetric(f"an interval needs at least two independent clusters, got {n}")
    size = np.bincount(rows.cluster)
    a = math.log(4 / (1 - level))
    reach = math.sqrt(2 * float(sums.var(ddof=1)) * a / n) + 7 * float(size.max()) * most * a / (3 * (n - 1))
    value = float(numerator.mean())
    reach /= float(size.mean())
    return Estimate(value=value, low=max(value - reach, 0.0), high=value + reach)


def _value(numerator: Floats, denominator: Floats) -> float:
    total = float(denominator.sum())
    if total <= 0:
        raise UndefinedMetric(
            "the target policy would have shown none of the ads in the log: every weight is 0, so nothing can be said about it"
        )
    return float(numerator.sum()) / total
