"""From the sums of an experiment to all that can be said of it: split first, then effects, then whether that is an answer."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import timedelta
from statistics import NormalDist

from clickmill.errors import DataError
from clickmill.experiment import sample_ratio
from clickmill.experiment.difference import Estimated, absolute, estimate, pairs, relative
from clickmill.experiment.findings import (
    Analysis,
    ArmFigures,
    DayEffect,
    Effect,
    Look,
    SampleRatio,
    SliceEffect,
    Suspect,
    Trend,
)
from clickmill.experiment.moments import Moments, adjusted, ratio
from clickmill.experiment.multiplicity import benjamini_hochberg
from clickmill.experiment.spec import USERS, ExperimentSpec, MetricSpec
from clickmill.experiment.user_sums import UserSums
from clickmill.experiment.verdict import conclude

WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
FINDING = 0.1
"""Slices with q at or below this are called different: a tenth of those called so are not, on average."""
_LEAST_CLICKS_OF_A_DAY = 10
_Z95 = NormalDist().inv_cdf(0.975)


def analyse(sums: UserSums) -> Analysis:
    """Everything but the page. Raises DataError for a log without a click, and for a metric without variance."""
    spec = sums.spec
    arms = sums.until(sums.last_look)
    if not sum(round(arm.total("clicks")) for arm in arms.values()):
        shown = sum(int(arm.total("impressions")) for arm in arms.values())
        raise DataError(
            f"field `clicked`: no click in {shown:,} impressions of all arms; is the click log joined, and its attribution window over?"
        )
    figures = tuple(_figures(spec, name, arm) for name, arm in arms.items())
    users = sums.users()
    looks = tuple(_look(sums, look, users[: look + 1]) for look in range(sums.last_look + 1))
    split = _sample_ratio(sums, users)
    enough = _enough(spec, arms)
    effects = tuple(
        effect
        for name in spec.judged
        for treatment in enough
        for effect in [_effect(spec, arms, name, treatment, sums.covariates)]
    )
    slices, unjudged = _slices(sums)
    days = _days(sums)
    trends = tuple(
        filter(None, (_trend(t, [day for day in days if day.treatment == t]) for t in spec.treatments))
    )
    return Analysis(
        spec=spec,
        start=sums.start,
        until=sums.last,
        arms=figures,
        sample_ratio=split,
        effects=effects,
        looks=looks,
        slices=slices,
        unjudged=unjudged,
        days=days,
        weekdays=_weekdays(sums),
        trends=trends,
        conclusions=tuple(
            conclude(spec, treatment, split, figures, effects) for treatment in spec.treatments
        ),
        caveats=tuple(_caveats(sums, trends)),
    )


def comparisons(spec: ExperimentSpec) -> int:
    """Intervals that decide and so share alpha: the primary metric and the guardrails, for each treatment."""
    return len(spec.treatments) * (1 + len(spec.guardrails))


def _figures(spec: ExperimentSpec, name: str, arm: Moments) -> ArmFigures:
    values = {}
    for metric in spec.judged:
        below = spec.metric(metric).denominator
        if below == USERS or arm.total(below):
            values[metric] = ratio(arm, spec.metric(metric)).value
    return ArmFigures(
        arm=name,
        users=arm.n,
        impressions=round(arm.total("impressions")),
        clicks=round(arm.total("clicks")),
        values=values,
    )


def _enough(spec: ExperimentSpec, arms: Mapping[str, Moments]) -> list[str]:
    """Treatments that can be compared: they and the control have the clicks that it takes."""
    has = {name for name, arm in arms.items() if round(arm.total("clicks")) >= spec.min_clicks and arm.n > 1}
    return [name for name in spec.treatments if name in has and spec.control in has]


def _effect(
    spec: ExperimentSpec, arms: Mapping[str, Moments], name: str, treatment: str, covariates: tuple[str, ...]
) -> Effect:
    metric = spec.metric(name)
    # All arms take part in the adjustment, so that a control has one value beside all treatments.
    found = dict(zip(arms, adjusted(list(arms.values()), metric, covariates), strict=True))
    plain = dict(zip(arms, adjusted(list(arms.values()), metric, ()), strict=True))
    one, other = found[treatment], found[spec.control]
    n, planned = _pairs(spec, arms, metric, treatment)
    alpha = spec.alpha / comparisons(spec)
    try:
        gap = estimate(*absolute(one, other), n, alpha=alpha, planned=planned)
        lift = estimate(*relative(one, other), n, alpha=alpha, planned=planned)
    except DataError as error:
        raise DataError(f"metric `{name}` of arms {treatment} and {spec.control}: {error}") from error
    before = relative(plain[treatment], plain[spec.control])[1]
    return Effect(
        metric=name,
        treatment=treatment,
        control_value=other.value,
        treatment_value=one.value,
        difference=gap.value,
        difference_low=gap.low,
        difference_high=gap.high,
        lift=lift.value,
        low=lift.low,
        high=lift.high,
        once_low=lift.once_low,
        once_high=lift.once_high,
        p_any_time=lift.p_any_time,
        p_once=lift.p_once,
        variance_kept=relative(one, other)[1] / before,
    )


def _pairs(
    spec: ExperimentSpec, arms: Mapping[str, Moments], metric: MetricSpec, treatment: str
) -> tuple[float, float]:
    """Effective pairs of the metric's denominators so far, and as planned."""
    n = pairs(arms[treatment].total(metric.denominator), arms[spec.control].total(metric.denominator))
    so_far = sum(arm.total("impressions") for arm in arms.values())
    even = pairs(spec.weights[treatment], spec.weights[spec.control])
    per_impression = sum(arm.total(metric.denominator) for arm in arms.values()) / so_far
    return n, spec.planned_impressions * even * per_impression


def _look(sums: UserSums, look: int, users: list[dict[str, int]]) -> Look:
    spec = sums.spec
    arms = sums.until(look)
    ready = _enough(spec, arms) if len(arms) == len(spec.arms) else []
    return Look(
        at=sums.looked_at(look),
        users=users[-1],
        sample_ratio_p=_any_time_p(spec, users),
        effects={name: _effect(spec, arms, spec.primary, name, sums.covariates) for name in ready},
    )


def _any_time_p(spec: ExperimentSpec, users: list[dict[str, int]]) -> float:
    return sample_ratio.always_valid_p(
        [list(counts.values()) for counts in users], list(spec.weights.values())
    )


def _sample_ratio(sums: UserSums, users: list[dict[str, int]]) -> SampleRatio:
    spec, counts = sums.spec, users[-1]
    p = _any_time_p(spec, users)
    sound = p >= spec.srm_alpha
    return SampleRatio(
        users=counts,
        expected={arm: weight * sum(counts.values()) for arm, weight in spec.weights.items()},
        chi_square_p=sample_ratio.chi_square_p(list(counts.values()), list(spec.weights.values())),
        any_time_p=p,
        sound=sound,
        suspects=() if sound else _suspects(sums),
    )


def _suspects(sums: UserSums) -> tuple[Suspect, ...]:
    """The slices where users are missing: what to look at first."""
    spec, found = sums.spec, []
    for column in spec.slices:
        for value, arms in sums.by_value(column).items():
            counts = {name: arms[name].n if name in arms else 0 for name in spec.arms}
            p = sample_ratio.chi_square_p(list(counts.values()), list(spec.weights.values()))
            found.append((p, column, value, counts))
    if not found:
        return ()
    q = benjamini_hochberg([p for p, *_ in found])
    those = sorted((float(v), *rest) for v, (_, *rest) in zip(q, found, strict=True) if v <= spec.srm_alpha)
    return tuple(Suspect(column=column, value=value, users=counts, q=v) for v, column, value, counts in those)


def _lift(spec: ExperimentSpec, arms: Mapping[str, Moments], treatment: str) -> tuple[float, float]:
    """Of the primary metric, unadjusted, and its variance."""
    metric = spec.metric(spec.primary)
    return relative(ratio(arms[treatment], metric), ratio(arms[spec.control], metric))


def _slices(sums: UserSums) -> tuple[tuple[SliceEffect, ...], tuple[str, ...]]:
    spec = sums.spec
    metric, alpha = spec.metric(spec.primary), spec.alpha / comparisons(spec)
    found: list[tuple[SliceEffect, float]] = []
    unjudged = []
    for column in spec.slices:
        values = sums.by_value(column)
        judged = {
            v: arms
            for v, arms in values.items()
            if len(arms) == len(spec.arms) and len(_enough(spec, arms)) == len(spec.treatments)
        }
        unjudged += [f"{column}={value}" for value in values if value not in judged]
        for value, arms in judged.items():
            rest = _rest(spec, [other for name, other in values.items() if name != value])
            for treatment in spec.treatments:
                n, planned = _pairs(spec, arms, metric, treatment)
                lift = estimate(*_lift(spec, arms, treatment), n, alpha=alpha, planned=planned)
                gap = _against(spec, arms, rest, treatment, n, alpha, planned)
                made = SliceEffect(
                    column=column,
                    value=value,
                    treatment=treatment,
                    impressions=round(sum(arm.total("impressions") for arm in arms.values())),
                    clicks=round(sum(arm.total("clicks") for arm in arms.values())),
                    lift=lift.value,
                    low=lift.low,
                    high=lift.high,
                    against_rest=gap.value if gap else 0.0,
                    q=1.0,
                )
                found.append((made, gap.p_any_time if gap else 1.0))
    if not found:
        return (), tuple(unjudged)
    q = benjamini_hochberg([p for _, p in found]).tolist()
    return tuple(
        made.model_copy(update={"q": value}) for (made, _), value in zip(found, q, strict=True)
    ), tuple(unjudged)


def _rest(spec: ExperimentSpec, others: list[dict[str, Moments]]) -> dict[str, Moments]:
    """All other values of a slice as one group. A user with several values counts as several."""
    rest: dict[str, Moments] = {}
    for arms in others:
        for name, arm in arms.items():
            rest[name] = rest[name].merged(arm) if name in rest else arm
    return rest


def _against(
    spec: ExperimentSpec,
    arms: Mapping[str, Moments],
    rest: Mapping[str, Moments],
    treatment: str,
    n: float,
    alpha: float,
    planned: float,
) -> Estimated | None:
    if treatment not in _enough(spec, rest):
        return None
    here, there = _lift(spec, arms, treatment), _lift(spec, rest, treatment)
    return estimate(here[0] - there[0], here[1] + there[1], n, alpha=alpha, planned=planned)


def _days(sums: UserSums) -> tuple[DayEffect, ...]:
    per_day = max(round(timedelta(days=1) / sums.look), 1)
    found = []
    for first in range(0, sums.last_look + 1, per_day):
        label = f"{sums.origin + first * sums.look:%d %b}"
        found += _of_period(sums.spec, label, sums.between(first, first + per_day - 1))
    return tuple(found)


def _weekdays(sums: UserSums) -> tuple[DayEffect, ...]:
    if sums.last - sums.start < timedelta(days=2):
        return ()
    found = []
    for number, label in enumerate(WEEKDAYS, 1):
        found += _of_period(sums.spec, label, sums.on_weekday(number))
    return tuple(found)


def _of_period(spec: ExperimentSpec, label: str, arms: Mapping[str, Moments]) -> list[DayEffect]:
    """Those treatments that can be compared in a part of the time; a day with a handful of clicks is left out."""
    if len(arms) < len(spec.arms):
        return []
    found = []
    for treatment in spec.treatments:
        if (
            round(min(arms[spec.control].total("clicks"), arms[treatment].total("clicks")))
            < _LEAST_CLICKS_OF_A_DAY
        ):
            continue
        lift, variance = _lift(spec, arms, treatment)
        radius = _Z95 * math.sqrt(variance)
        shown = round(arms[spec.control].total("impressions") + arms[treatment].total("impressions"))
        found.append(
            DayEffect(
                label=label,
                treatment=treatment,
                impressions=shown,
                lift=lift,
                low=lift - radius,
                high=lift + radius,
            )
        )
    return found


def _trend(treatment: str, days: list[DayEffect]) -> Trend | None:
    """Weighted least squares of the daily lifts; None for fewer than four days."""
    if len(days) < 4:
        return None
    weight = [(_Z95 / (day.high - day.lift)) ** 2 for day in days]
    total = sum(weight)
    mean = sum(w * x for x, w in enumerate(weight)) / total
    spread = sum(w * (x - mean) ** 2 for x, w in enumerate(weight))
    slope = (
        sum(w * (x - mean) * day.lift for x, (w, day) in enumerate(zip(weight, days, strict=True))) / spread
    )
    return Trend(treatment=treatment, per_day=slope, p=2 * NormalDist().cdf(-abs(slope) * math.sqrt(spread)))


def _caveats(sums: UserSums, trends: tuple[Trend, ...]) -> list[str]:
    found = []
    length = sums.last - sums.start
    if length < timedelta(days=6, hours=12):
        found.append("It has not run for a whole week: people of a weekend and of a Monday are not the same.")
    for trend in trends:
        if trend.p < 0.01:
            way = "shrinks" if trend.per_day < 0 else "grows"
            found.append(
                f"The effect of {trend.treatment} {way} from day to day ({100 * trend.per_day:+.1f} points a day): novelty wears off, or habits form. Believe the last days more than the mean."
            )
    found.append(
        "Arms share the advertisers' budgets: an arm that spends them faster looks better than it will be once it is alone (docs/experiments.md)."
    )
    return found


__all__ = ["FINDING", "analyse", "comparisons"]
