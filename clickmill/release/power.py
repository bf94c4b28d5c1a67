"""How much traffic a release policy asks for, before it is used: what an error of a size costs in impressions, and a fault-free
bundle in time.

`once` is the textbook's: n = (z_.95 + z_.80)^2 variance / effect^2, for one look at a size fixed before. `any_time` is what the
release machine needs with the same power of 80 %, since it may look after every impression: the n at which its interval is
narrower than the effect by z_.80 standard errors.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

from clickmill.errors import UsageError
from clickmill.evaluation.confidence_sequences import bernoulli, mean_radius
from clickmill.release.live_checks import SHARES
from clickmill.release.release_policy import ReleasePolicy

POWER = NormalDist().inv_cdf(0.8)
ONE_LOOK = NormalDist().inv_cdf(0.95)


@dataclass(frozen=True)
class Floor:
    """What it takes to see one fault."""

    fault: str
    """In words: predicts 20 % too many clicks."""
    effect: float
    """How far it is beyond what the policy allows: (1 + error) / (1 + allowed) - 1."""
    once: int
    """Labelled impressions of the candidate for one look at a fixed size."""
    any_time: int
    """Labelled impressions of the candidate for the machine."""


@dataclass(frozen=True)
class Step:
    """How long one step lasts for a bundle without fault."""

    percent: int
    seconds: float
    """From its begin, at least."""
    waits_for: str
    """What takes longest."""


def calibration_floors(policy: ReleasePolicy, ctr: float, errors: Sequence[float]) -> list[Floor]:
    """For each relative calibration error (0.2: 20 % too many clicks predicted) what it takes to refuse it.

    Errors that the policy allows are left out. ctr: click rate, between 0 and 1. Raises UsageError for another.

    >>> [found] = calibration_floors(ReleasePolicy(max_calibration_bias=0.1), 0.01, [0.21])
    >>> found.once  # a tenth beyond the tenth that is allowed: (1.645 + 0.842)^2 0.99 / (0.01 * 0.1^2)
    61208
    """
    _check_rate(ctr)
    found = []
    for error in errors:
        effect = (1 + error) / (1 + policy.max_calibration_bias) - 1
        if effect <= 0:
            continue
        found.append(
            Floor(
                fault=f"predicts {error:.0%} too many clicks",
                effect=effect,
                once=math.ceil((ONE_LOOK + POWER) ** 2 * (1 - ctr) / (ctr * effect**2)),
                any_time=_any_time(policy, ctr, effect),
            )
        )
    return found


def steps(
    policy: ReleasePolicy, ctr: float, impressions_per_second: float, label_delay_seconds: float = 0.0
) -> list[Step]:
    """How long each step lasts for a bundle without fault, with this traffic in all.

    Evidence adds up over the steps, so a later one needs only what is missing. Labels come `label_delay_seconds` after their
    impressions. Raises UsageError unless rate and traffic are above 0.
    """
    _check_rate(ctr)
    if impressions_per_second <= 0:
        raise UsageError(f"traffic must be above 0 impressions a second; got {impressions_per_second}")
    wanted = _any_time(policy, ctr, policy.max_calibration_bias)
    compared = 0 if policy.shadow else _comparison(policy, ctr)
    requests = _traffic_needed(policy)
    seen = paired = 0.0
    found = []
    for percent in policy.steps:
        rate = impressions_per_second * percent / 100
        missing = max(wanted - seen, 0.0)
        reasons = {
            "the policy's time": policy.step_seconds,
            f"{policy.min_requests:,} requests at this step": policy.min_requests / rate,
            f"{requests:,} requests for errors and p99": max(requests - seen, 0.0) / rate,
            f"{wanted:,} labelled impressions for calibration": missing / rate
            + label_delay_seconds * (missing > 0),
        }
        if compared:
            # Effective pairs of this step are as many as both arms' harmonic mean; at 100 percent there is nobody to compare with.
            pairs = rate * (1 - percent / 100)
            open_pairs = max(compared - paired, 0.0)
            reasons[f"{compared:,} pairs of impressions for NE"] = (
                open_pairs / pairs + label_delay_seconds * (open_pairs > 0) if pairs else 0.0
            )
        longest = max(reasons, key=lambda name: reasons[name])
        seen += rate * reasons[longest]
        paired += rate * (1 - percent / 100) * reasons[longest]
        found.append(Step(percent=percent, seconds=reasons[longest], waits_for=longest))
    return found


def _any_time(policy: ReleasePolicy, ctr: float, effect: float) -> int:
    """Impressions at which the calibration interval is narrower than `effect` by the power's standard errors."""
    variance = ctr * (1 - ctr)

    def narrow(n: int) -> bool:
        radius = mean_radius(variance, n, alpha=policy.alpha / SHARES, planned=policy.planned_impressions)
        return radius + POWER * math.sqrt(variance / n) < effect * ctr

    return _first(narrow, math.ceil(policy.min_clicks / ctr))


def _comparison(policy: ReleasePolicy, ctr: float) -> int:
    """Effective pairs until NE passes for equal bundles. Their log loss varies as that of the click rate alone would, about."""
    entropy = -(ctr * math.log(ctr) + (1 - ctr) * math.log1p(-ctr))
    variance = ctr * (1 - ctr) * math.log((1 - ctr) / ctr) ** 2 / entropy**2

    def narrow(n: int) -> bool:
        radius = mean_radius(variance, n, alpha=policy.alpha / SHARES, planned=policy.planned_impressions)
        return radius + POWER * math.sqrt(variance / n) < policy.ne_margin

    return _first(narrow, 1)


def _traffic_needed(policy: ReleasePolicy) -> int:
    """Requests until errors and p99 pass when nothing fails."""
    limit = min(policy.max_error_rate, 0.01)
    return _first(lambda n: bernoulli(0, n, alpha=policy.alpha / SHARES).high < limit, 1)


def _first(holds: Callable[[int], bool], low: int) -> int:
    if holds(low):
        return low
    high = 2 * low
    while not holds(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high


def _check_rate(ctr: float) -> None:
    if not 0 < ctr < 1:
        raise UsageError(f"the click rate must be between 0 and 1; got {ctr}")


__all__ = ["Floor", "Step", "calibration_floors", "steps"]
