"""How much a metric differs between two arms, by an interval for one look and by one that may be looked at any time.

The second is the confidence sequence of `clickmill.evaluation.confidence_sequences`, run on the effective pairs of impressions

    m = d_t d_c / (d_t + d_c),        d: the denominator's sum of an arm

with the variance that the delta method gives at each look. Users come back, so that their sums at two looks share more than the
increments of a random walk would; a process that is more correlated with its past leaves a boundary less often (Slepian 1962), which is
why intervals made for independent steps keep their promise here. `tests/bench/experiment.py` measures it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

from clickmill.errors import DataError
from clickmill.evaluation.confidence_sequences import mean_radius
from clickmill.experiment.moments import Ratio

_NORMAL = NormalDist()


@dataclass(frozen=True)
class Estimated:
    """A figure with two intervals."""

    value: float
    low: float
    high: float
    """Always valid: holds the truth at all looks at once with probability 1 - alpha."""
    once_low: float
    once_high: float
    """For one look at a size fixed before; narrower, and wrong sooner or later when looked at again and again."""
    p_any_time: float
    """Always-valid p-value of 0: the least alpha at which the sequence would have excluded it at this look."""
    p_once: float
    """Two-sided p-value of 0 for one look."""


def pairs(treatment: float, control: float) -> float:
    """Effective pairs of two arms' denominators: what a difference of two means of unit variance has as 1 / variance.

    >>> pairs(100, 100)
    50.0
    """
    return treatment * control / (treatment + control)


def estimate(value: float, variance: float, n: float, *, alpha: float, planned: float) -> Estimated:
    """Both intervals around a value with this variance. n: effective pairs; planned: the same where the sequence is narrowest.

    Raises DataError when the variance is 0: nothing varies, so nothing can be said of chance.
    """
    if not variance > 0:
        raise DataError(
            "no variance: the metric is the same for every user, so that no interval can be given; is the column filled?"
        )
    spread = math.sqrt(variance)
    radius = mean_radius(variance * n, n, alpha=alpha, planned=planned)
    once = -_NORMAL.inv_cdf(alpha / 2) * spread
    z = abs(value) / spread
    return Estimated(
        value=value,
        low=value - radius,
        high=value + radius,
        once_low=value - once,
        once_high=value + once,
        p_any_time=_p_any_time(z, n, alpha, planned),
        p_once=2 * _NORMAL.cdf(-z),
    )


def absolute(treatment: Ratio, control: Ratio) -> tuple[float, float]:
    """Difference and its variance."""
    return treatment.value - control.value, treatment.variance + control.variance


def relative(treatment: Ratio, control: Ratio) -> tuple[float, float]:
    """Lift of the treatment over the control and its variance, by the delta method: 0.02 is 2 % more.

    Raises DataError when the control's value is 0.
    """
    if control.value == 0:
        raise DataError(
            "the control's metric is 0: no lift over it can be given; wait for its first clicks, or compare differences"
        )
    quotient = treatment.value / control.value
    variance = (treatment.variance + quotient**2 * control.variance) / control.value**2
    return quotient - 1, variance


def _p_any_time(z: float, n: float, alpha: float, planned: float) -> float:
    """The alpha' at which the mixture's boundary stands at z, for the mixture chosen by (alpha, planned)."""
    rho = planned / (-2 * math.log(alpha) + math.log(1 - 2 * math.log(alpha)))
    exponent = 0.5 * math.log((n + rho) / rho) - 0.5 * z**2 * n / (n + rho)
    return math.exp(min(exponent, 0.0))


__all__ = ["Estimated", "absolute", "estimate", "pairs", "relative"]
