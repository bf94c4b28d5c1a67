"""What is kept of an arm: how many users, and mean and covariance of what each of them summed up to. All statistics follow from that.

A ratio of two sums over users who were drawn one by one, such as clicks over impressions, has by the delta method the variance

    R = mean(y) / mean(d)        Var(R) ~ g' S g / n        g_y = 1 / mean(d),   g_d = -R / mean(d)

with S the covariance of (y, d) over users. Treating impressions as independent instead would promise too much whenever a user has more
than one (Deng, Knoblich, Lu, "Applying the Delta Method in Metric Analytics", KDD 2018).

Columns that say what a user was like before take out what they explain (CUPED: Deng, Xu, Kohavi, Walker, WSDM 2013): g gets -theta there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clickmill.errors import DataError
from clickmill.experiment.spec import USERS, MetricSpec

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Moments:
    """Of the users of one arm."""

    columns: tuple[str, ...]
    """k names of per-user sums."""
    n: int
    """Users."""
    mean: Floats
    """(k,)."""
    covariance: Floats
    """(k, k), unbiased; zeros for a single user."""

    @classmethod
    def of(cls, columns: Sequence[str], values: Floats) -> Moments:
        """From values (n, k), a row per user. Raises DataError without a row."""
        if not len(values):
            raise DataError("no user: an arm without users has no moments")
        covariance = (
            np.cov(values, rowvar=False, ddof=1) if len(values) > 1 else np.zeros((len(columns),) * 2)
        )
        return cls(
            tuple(columns), len(values), values.mean(axis=0), covariance.reshape(len(columns), len(columns))
        )

    def total(self, column: str) -> float:
        """Sum over all users; `users` counts them."""
        return float(self.n if column == USERS else self.n * self.mean[self.at(column)])

    def at(self, column: str) -> int:
        """Where a column stands. Raises DataError when it is not there."""
        if column not in self.columns:
            raise DataError(f"column {column!r}: not among the sums of this log ({', '.join(self.columns)})")
        return self.columns.index(column)

    def merged(self, other: Moments) -> Moments:
        """Of both groups of users, which share none (Chan, Golub, LeVeque 1983)."""
        n = self.n + other.n
        gap = other.mean - self.mean
        scatter = (
            self.covariance * (self.n - 1)
            + other.covariance * (other.n - 1)
            + np.outer(gap, gap) * (self.n * other.n / n)
        )
        return Moments(self.columns, n, self.mean + gap * (other.n / n), scatter / max(n - 1, 1))


@dataclass(frozen=True, eq=False)
class Ratio:
    """A metric of one arm, linearised: value + gradient . (mean - expectation)."""

    value: float
    gradient: Floats
    """(k,) beside the arm's columns."""
    variance: float
    """Of the value."""


def ratio(arm: Moments, metric: MetricSpec) -> Ratio:
    """The metric of one arm, in units of `metric.scale`. Raises DataError when the denominator is zero."""
    gradient = np.zeros(len(arm.columns))
    y = arm.at(metric.numerator)
    if metric.denominator == USERS:
        value = float(arm.mean[y])
        gradient[y] = 1.0
    else:
        d = arm.at(metric.denominator)
        below = float(arm.mean[d])
        if below == 0:
            raise DataError(
                f"column {metric.denominator!r}: sums to 0 over {arm.n:,} users, so that {metric.numerator} per {metric.denominator} "
                "has no value; is the log complete, is the column the right one?"
            )
        value = float(arm.mean[y]) / below
        gradient[y] += 1 / below
        gradient[d] -= value / below
    gradient *= metric.scale
    return Ratio(value * metric.scale, gradient, float(gradient @ arm.covariance @ gradient) / arm.n)


def adjusted(arms: Sequence[Moments], metric: MetricSpec, covariates: Sequence[str]) -> list[Ratio]:
    """The metric of each arm as if all arms had had the same users before (CUPED); without covariates what `ratio` says.

        R'_a = R_a - theta' (mean(z)_a - mean(z))      theta = pooled Cov(z)^-1 Cov(z, linearised R)

    covariates: columns of what was before the experiment. What the treatment could have changed must not be among them.
    """
    found = [ratio(arm, metric) for arm in arms]
    if not covariates:
        return found
    z = [arms[0].at(name) for name in covariates]
    freedom = sum(arm.n - 1 for arm in arms)
    within = (
        sum((arm.covariance[np.ix_(z, z)] * (arm.n - 1) for arm in arms), np.zeros((len(z), len(z))))
        / freedom
    )
    along = sum(
        ((arm.n - 1) * (arm.covariance[z] @ r.gradient) for arm, r in zip(arms, found, strict=True)),
        np.zeros(len(z)),
    )
    # Columns of very different units, and some that are sums of others: scaled first, then the shortest of all solutions.
    spread = np.sqrt(np.diag(within))
    spread[spread == 0] = 1.0
    theta = (
        np.linalg.pinv(within / np.outer(spread, spread), rcond=1e-10) @ (along / freedom / spread) / spread
    )
    everybody = sum((arm.mean[z] * arm.n for arm in arms), np.zeros(len(z))) / sum(arm.n for arm in arms)
    better = []
    for arm, before in zip(arms, found, strict=True):
        gradient = before.gradient.copy()
        gradient[z] -= theta
        better.append(
            Ratio(
                value=before.value - float(theta @ (arm.mean[z] - everybody)),
                gradient=gradient,
                variance=max(float(gradient @ arm.covariance @ gradient) / arm.n, 0.0),
            )
        )
    return better


__all__ = ["Moments", "Ratio", "adjusted", "ratio"]
