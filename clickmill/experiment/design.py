"""How much traffic an experiment asks for, before it begins.

    n = (z_{alpha/2} + z_power)^2 (v_c / s_c + v_t / s_t) / effect^2          impressions in all arms

v: variance per impression with the clustering of users in it, s: shares of the arms. `any_time` is what an experiment that may be looked
at every day needs for the same power: the n at which its interval is narrower than the effect by z_power standard errors.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

from clickmill.errors import UsageError
from clickmill.evaluation.confidence_sequences import mean_radius
from clickmill.experiment.difference import pairs
from clickmill.experiment.moments import Moments, ratio
from clickmill.experiment.spec import MetricSpec

_NORMAL = NormalDist()
_MOST = 10**15


@dataclass(frozen=True)
class Baseline:
    """A metric as it is, before the experiment."""

    value: float
    """Such as a click rate of 0.03; for a revenue per thousand impressions, per thousand."""
    variance: float
    """n Var(metric) when n impressions come: the variance per impression, with that users come back in it."""
    design_effect: float
    """That variance over what it would be if no user came twice; 1 when unknown."""
    binary: bool
    """Whether it is a share, whose variance moves with its value."""

    def at(self, lift: float) -> float:
        """Variance per impression of an arm whose metric is higher by this share."""
        if not self.binary:
            return self.variance
        moved = self.value * (1 + lift)
        if not 0 < moved < 1:
            raise UsageError(
                f"a rate of {self.value:g} lifted by {lift:+.1%} is {moved:g}, which no rate can be"
            )
        return self.variance * (moved * (1 - moved)) / (self.value * (1 - self.value))


@dataclass(frozen=True)
class Plan:
    """What is wanted of the comparison."""

    alpha: float = 0.05
    """Two-sided, over all comparisons."""
    power: float = 0.8
    """Chance of finding the effect where there is one."""
    comparisons: int = 1
    """Arms beside the control times metrics that decide: alpha is shared among them (Bonferroni)."""
    treatment_share: float = 0.5
    """Of one treatment's impressions in those of it and the control."""
    any_time: bool = False
    """Whether it will be looked at before its end."""
    planned: float | None = None
    """Impressions (of both arms) at which the always-valid interval is narrowest; None for where it decides."""

    def __post_init__(self) -> None:
        if not (
            0 < self.alpha < 1
            and 0 < self.power < 1
            and 0 < self.treatment_share < 1
            and self.comparisons >= 1
        ):
            raise UsageError(
                "alpha, power and the treatment's share must be between 0 and 1, comparisons at least 1; got "
                f"{self.alpha:g}, {self.power:g}, {self.treatment_share:g} and {self.comparisons}"
            )

    @property
    def each(self) -> float:
        """Alpha of one comparison."""
        return self.alpha / self.comparisons


def click_rate(
    ctr: float, *, impressions_per_user: float = 1.0, impressions_cv: float = 0.0, rate_cv: float = 0.0
) -> Baseline:
    """Of users who come back.

    With N impressions of a user whose own rate q has mean p and deviation tau = rate_cv p, independent of N,

        variance per impression = p (1 - p) + tau^2 (E[N] (1 + cv(N)^2) - 1)

    impressions_per_user: E[N] over the experiment; impressions_cv: deviation of N over its mean; rate_cv: of the users' own click rates.
    Raises UsageError for what can't be.

    >>> round(click_rate(0.03, impressions_per_user=50, impressions_cv=1.5, rate_cv=0.5).design_effect, 2)
    2.25
    """
    if not 0 < ctr < 1:
        raise UsageError(f"the click rate must be between 0 and 1; got {ctr}")
    if impressions_per_user < 1 or impressions_cv < 0 or rate_cv < 0:
        raise UsageError(
            "impressions per user must be at least 1, the deviations at least 0; got "
            f"{impressions_per_user:g}, {impressions_cv:g} and {rate_cv:g}"
        )
    single = ctr * (1 - ctr)
    tau = rate_cv * ctr
    if tau**2 >= single:
        raise UsageError(
            f"rate_cv {rate_cv:g}: no click rates between 0 and 1 with mean {ctr:g} spread so far; give less than {math.sqrt(single) / ctr:.3g}"
        )
    variance = single + tau**2 * (impressions_per_user * (1 + impressions_cv**2) - 1)
    return Baseline(ctr, variance, variance / single, binary=True)


def revenue(rpm: float, *, ctr: float, price_cv: float, design_effect: float = 1.0) -> Baseline:
    """Revenue per thousand impressions: clicks of which each pays a price with deviation price_cv over its mean.

    variance per impression of 1000 r = (1000 E[price])^2 (p (1 - p) + p price_cv^2) design_effect
    """
    if not (0 < ctr < 1 and rpm > 0 and price_cv >= 0 and design_effect >= 1):
        raise UsageError(
            "the click rate must be between 0 and 1, revenue above 0, price_cv at least 0, the design effect at least 1; got "
            f"{ctr:g}, {rpm:g}, {price_cv:g} and {design_effect:g}"
        )
    price = rpm / ctr
    return Baseline(
        rpm, price**2 * (ctr * (1 - ctr) + ctr * price_cv**2) * design_effect, design_effect, binary=False
    )


def measured(users: Moments, metric: MetricSpec) -> Baseline:
    """From a log: what the delta method says of the users that there were. Their number of impressions should be that of an experiment.

    The design effect is told for click rates only. Raises DataError when the metric has no value there.
    """
    found = ratio(users, metric)
    below = users.total(metric.denominator)
    variance = found.variance * below
    binary = metric.numerator == "clicks" and metric.denominator == "impressions" and metric.scale == 1.0
    single = found.value * (1 - found.value)
    return Baseline(
        found.value,
        variance,
        variance / single if binary and single > 0 else 1.0,
        binary=binary and single > 0,
    )


def impressions(baseline: Baseline, lift: float, plan: Plan) -> int:
    """Impressions of the treatment and the control together that find a relative lift (0.001: 0.1 % more).

    Raises UsageError for a lift of 0, or one that cannot be.
    """
    if lift == 0:
        raise UsageError("an effect of 0 is never found; give the least one that matters")
    effect = abs(lift) * abs(baseline.value)
    if not plan.any_time:
        z = -_NORMAL.inv_cdf(plan.each / 2) + _NORMAL.inv_cdf(plan.power)
        return math.ceil(z**2 * _variance(baseline, lift, plan) / effect**2)

    def found(n: int) -> bool:
        return _reach(baseline, lift, plan, n) < effect

    return _first(found)


def power(baseline: Baseline, lift: float, plan: Plan, n: int) -> float:
    """Chance of finding the lift in n impressions of both arms, at the last of the looks when there are several."""
    spread = math.sqrt(_variance(baseline, lift, plan) / n)
    z = (
        _radius(baseline, lift, plan, n) if plan.any_time else -_NORMAL.inv_cdf(plan.each / 2) * spread
    ) / spread
    effect = abs(lift * baseline.value) / spread
    return _NORMAL.cdf(effect - z) + _NORMAL.cdf(-effect - z)


def minimal_effect(baseline: Baseline, plan: Plan, n: int) -> float:
    """The relative lift that n impressions of both arms find with the plan's power, with the variance at the baseline.

    Raises UsageError for less than one impression.
    """
    if n < 1:
        raise UsageError(f"impressions must be at least 1; got {n}")
    return _reach(baseline, 0.0, plan, n) / abs(baseline.value)


def days(n: int, per_day: float) -> int:
    """Whole days that n impressions take. Raises UsageError unless traffic is above 0."""
    if not per_day > 0:
        raise UsageError(f"traffic must be above 0 impressions a day; got {per_day:g}")
    return math.ceil(n / per_day)


def _variance(baseline: Baseline, lift: float, plan: Plan) -> float:
    """n Var(difference) for n impressions in both arms."""
    share = plan.treatment_share
    return baseline.at(lift) / share + baseline.at(0.0) / (1 - share)


def _radius(baseline: Baseline, lift: float, plan: Plan, n: int) -> float:
    """Of the always-valid interval after n impressions."""
    even = pairs(plan.treatment_share, 1 - plan.treatment_share)
    variance = _variance(baseline, lift, plan) * even
    return mean_radius(variance, n * even, alpha=plan.each, planned=(plan.planned or n) * even)


def _reach(baseline: Baseline, lift: float, plan: Plan, n: int) -> float:
    """The least difference found with the plan's power."""
    spread = math.sqrt(_variance(baseline, lift, plan) / n)
    width = _radius(baseline, lift, plan, n) if plan.any_time else -_NORMAL.inv_cdf(plan.each / 2) * spread
    return width + _NORMAL.inv_cdf(plan.power) * spread


def _first(holds: Callable[[int], bool]) -> int:
    low, high = 1, 1_024
    while not holds(high):
        low, high = high, 2 * high
        if high > _MOST:
            raise UsageError("no traffic on earth finds this effect; give a larger one")
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high


__all__ = [
    "Baseline",
    "Plan",
    "click_rate",
    "days",
    "impressions",
    "measured",
    "minimal_effect",
    "power",
    "revenue",
]
