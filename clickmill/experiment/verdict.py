"""From figures to an answer: yes, no, or that these data can't say. Reads no clock and no log; same figures, same answer."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from clickmill.experiment.findings import ArmFigures, Conclusion, Effect, SampleRatio
from clickmill.experiment.spec import HOLDOUT, ExperimentSpec, Goal
from clickmill.release import Check, Verdict
from clickmill.release.gate_decision import overall

_HOLDOUT_ADVICE = "What was shipped earns its keep. Let the holdout have it too, and hold out others from the next changes: nobody should wait forever."
_FAR = 1_000_000_000_000


def conclude(
    spec: ExperimentSpec,
    treatment: str,
    sample_ratio: SampleRatio,
    arms: Sequence[ArmFigures],
    effects: Sequence[Effect],
) -> Conclusion:
    """Is this treatment better than the control?

    Nothing is said when the split is broken or clicks are few. Else, with the always-valid interval of the primary metric's lift:

        yes       above 0, and every guardrail shown to lose less than it may
        no        below the least effect that matters, or a guardrail shown to lose more than it may
        unknown   everything else
    """
    if not sample_ratio.sound:
        return _broken(treatment, sample_ratio)
    by_arm = {arm.arm: arm for arm in arms}
    few = [by_arm[name] for name in (spec.control, treatment) if by_arm[name].clicks < spec.min_clicks]
    if few:
        return _too_few(spec, treatment, few[0])
    mine = {effect.metric: effect for effect in effects if effect.treatment == treatment}
    total = sum(arm.impressions for arm in arms)
    primary = _primary(spec, mine[spec.primary], total)
    guards = [_guardrail(spec, name, harm, mine[name], total) for name, harm in spec.guardrails.items()]
    checks = (primary, *guards)
    effect, title = mine[spec.primary], _title(spec, spec.primary)
    broken = next((check for check in guards if check.verdict is Verdict.FAIL), None)
    verdict = overall(checks)
    span = (
        f"{title} {_share(effect.lift)}; with {100 * (1 - spec.alpha):g} % confidence, whenever one looks, the truth is between "
        f"{_share(effect.low)} and {_share(effect.high)}"
    )
    if verdict is Verdict.PASS:
        return Conclusion(
            treatment=treatment,
            verdict=verdict,
            headline=f"Yes: {treatment} is better than {spec.control}.",
            reason=f"{span}.{' ' + ' '.join(check.reason for check in guards) if guards else ''}",
            advice=_HOLDOUT_ADVICE
            if spec.control == HOLDOUT
            else f"Give {treatment} to everybody, by a release that can still be taken back. Keep a small holdout if the gain is to be measured for longer.",
            checks=checks,
        )
    if verdict is Verdict.FAIL:
        if broken is not None:
            headline, reason = f"No: {treatment} costs too much.", f"{broken.reason} {span}."
        elif _signed(spec, effect)[1] < 0:
            headline, reason = f"No: {treatment} is worse than {spec.control}.", f"{span}."
        else:
            headline = f"No: {treatment} does not gain enough to matter."
            reason = f"{span}, less than the {_share(spec.minimal_effect)} that would be worth it."
        return Conclusion(
            treatment=treatment,
            verdict=verdict,
            headline=headline,
            reason=reason,
            advice="Find which of the changes was wrong after all: what each promised alone did not come true together."
            if spec.control == HOLDOUT
            else f"Keep {spec.control} and end the experiment; more traffic will not change this answer.",
            checks=checks,
        )
    waits = [check for check in checks if check.verdict is Verdict.UNKNOWN]
    needs = max((check.needs for check in waits if check.needs is not None), default=None)
    more = (
        f"about {_rounded(needs):,} more impressions"
        if needs is not None
        else "more traffic than can be foretold"
    )
    if primary.verdict is Verdict.UNKNOWN:
        span += f": no gain at all and one worth having ({100 * spec.minimal_effect:g} % and more) are both still possible"
    return Conclusion(
        treatment=treatment,
        verdict=verdict,
        headline=f"Not known yet: these data cannot tell {treatment} from {spec.control}."
        if primary.verdict is Verdict.UNKNOWN
        else f"Not known yet: {treatment} gains, but it is not shown to be safe.",
        reason=f"{span}. {' '.join(check.reason for check in waits if check is not primary)}".strip(),
        advice=f"Let it run: {more} would settle it if what comes is like what came. Decide nothing on today's figure, it may be chance.",
        needs=needs,
        checks=checks,
    )


def _broken(treatment: str, sample_ratio: SampleRatio) -> Conclusion:
    counted = ", ".join(
        f"{n:,} in {arm} (expected {sample_ratio.expected[arm]:,.0f})"
        for arm, n in sample_ratio.users.items()
    )
    where = ""
    if sample_ratio.suspects:
        first = sample_ratio.suspects[0]
        told = ", ".join(f"{n:,} in {arm}" for arm, n in first.users.items())
        where = f" It is most off where {first.column} is {first.value}: {told}."
    reason = (
        f"The split of users is broken: {counted}. By chance alone this happens with a probability of at most {_probability(sample_ratio.any_time_p)}. "
        f"Users are lost or doubled in one arm, and those are never like the others, so no figure of this experiment can be trusted.{where}"
    )
    return Conclusion(
        treatment=treatment,
        verdict=Verdict.UNKNOWN,
        headline="No answer: the experiment itself is broken.",
        reason=reason,
        advice="Find where users get lost between assignment and log (errors or timeouts of one arm, a redirect, a filter, a join), mend it, "
        "and start again under a new salt. The figures below are shown for the search, not for a decision.",
        checks=(
            Check(name="sample_ratio", verdict=Verdict.FAIL, value=sample_ratio.any_time_p, reason=reason),
        ),
    )


def _too_few(spec: ExperimentSpec, treatment: str, arm: ArmFigures) -> Conclusion:
    needs = (
        math.ceil(arm.impressions * (spec.min_clicks / arm.clicks - 1)) * len(spec.arms)
        if arm.clicks
        else None
    )
    reason = f"{arm.arm} has {arm.clicks:,} clicks in {arm.impressions:,} impressions; {spec.min_clicks:,} are the least from which anything can be said."
    return Conclusion(
        treatment=treatment,
        verdict=Verdict.UNKNOWN,
        headline="Not known yet: too few clicks to say anything.",
        reason=reason,
        advice="Let it run."
        if arm.clicks
        else "See whether clicks reach the log at all: an arm without any after this many impressions is seldom chance.",
        needs=needs,
        checks=(Check(name=spec.primary, verdict=Verdict.UNKNOWN, reason=reason, needs=needs),),
    )


def _primary(spec: ExperimentSpec, effect: Effect, total: int) -> Check:
    value, high, low = _signed(spec, effect)

    def settled(factor: float) -> bool:
        radius = (high - low) / 2 / math.sqrt(factor)
        return value - radius > 0 or value + radius < spec.minimal_effect

    verdict = Verdict.UNKNOWN
    if high < spec.minimal_effect:
        verdict = Verdict.FAIL
    elif low > 0:
        verdict = Verdict.PASS
    return Check(
        name=spec.primary,
        verdict=verdict,
        value=effect.lift,
        low=effect.low,
        high=effect.high,
        threshold=spec.minimal_effect,
        reason=f"{_title(spec, spec.primary)}: {_share(effect.lift)} ({_share(effect.low)} to {_share(effect.high)}).",
        needs=_more(total, settled) if verdict is Verdict.UNKNOWN else None,
    )


def _guardrail(spec: ExperimentSpec, name: str, harm: float, effect: Effect, total: int) -> Check:
    sign = 1 if spec.metric(name).goal is Goal.UP else -1
    low, high = sorted((sign * effect.low, sign * effect.high))

    def settled(factor: float) -> bool:
        radius = (high - low) / 2 / math.sqrt(factor)
        return sign * effect.lift - radius > -harm or sign * effect.lift + radius < -harm

    verdict, told = Verdict.UNKNOWN, f"is not yet shown to lose less than {100 * harm:g} %"
    if low > -harm:
        verdict, told = Verdict.PASS, f"is shown to lose less than {100 * harm:g} %"
    elif high < -harm:
        verdict, told = Verdict.FAIL, f"is shown to lose more than the {100 * harm:g} % it may"
    return Check(
        name=name,
        verdict=verdict,
        value=effect.lift,
        low=effect.low,
        high=effect.high,
        threshold=-sign * harm,
        reason=f"{_title(spec, name)} {told}: {_share(effect.lift)} ({_share(effect.low)} to {_share(effect.high)}).",
        needs=_more(total, settled) if verdict is Verdict.UNKNOWN else None,
    )


def _signed(spec: ExperimentSpec, effect: Effect) -> tuple[float, float, float]:
    """Value, upper and lower end of the primary metric's gain: positive is good."""
    if spec.metric(spec.primary).goal is Goal.UP:
        return effect.lift, effect.high, effect.low
    return -effect.lift, -effect.low, -effect.high


def _more(total: int, settled: Callable[[float], bool]) -> int | None:
    """Impressions beyond `total` until an interval that shrinks by the root settles it; None when that is too far to say.

    The always-valid interval shrinks a little slower than that, by a logarithm: the figure is a hint, not a promise.
    """
    low, high = 1.0, 2.0
    while not settled(high):
        low, high = high, 2 * high
        if total * high > _FAR:
            return None
    for _ in range(20):
        middle = (low + high) / 2
        low, high = (low, middle) if settled(middle) else (middle, high)
    return math.ceil(total * (high - 1))


def _title(spec: ExperimentSpec, name: str) -> str:
    return spec.metric(name).title or name


def _rounded(n: int) -> int:
    """To two digits, upwards: what is foretold is no better known than that.

    >>> _rounded(71_628), _rounded(9)
    (72000, 9)
    """
    unit = 10 ** max(len(str(n)) - 2, 0)
    return -(-n // unit) * unit


def _share(value: float) -> str:
    """0.0213 as +2.1 %."""
    return f"{100 * value:+.{1 if abs(value) >= 0.01 else 2}f}\N{NO-BREAK SPACE}%"


def _probability(p: float) -> str:
    return f"1 in {1 / p:,.0f}" if p > 1e-12 else "1 in 1,000,000,000,000"


__all__ = ["conclude"]
