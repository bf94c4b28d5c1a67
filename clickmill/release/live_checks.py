"""Evidence of a release held against its policy: each check PASS, FAIL or UNKNOWN, with the traffic that would settle it.

Looked at after every interval for as long as the release lasts, so every interval here is a confidence sequence, and they share
`alpha` (Bonferroni). Evidence adds up over all steps; nothing is forgotten when a step is passed. A check that the stable bundle
fails too is UNKNOWN: a stalled click log or a full network is nobody's model. After promotion the bundle before it, still warm, stands
in for the second arm.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from clickmill.evaluation.confidence_sequences import Interval, bernoulli, mean_radius
from clickmill.release.evidence import (
    Compared,
    Labelled,
    Paired,
    Period,
    Shadowed,
    Smoke,
    Traffic,
    Watched,
    total,
)
from clickmill.release.gate_decision import Check, Verdict
from clickmill.release.release_policy import ReleasePolicy

SHARES = 8
"""Checks among which `alpha` is shared: errors, p99, calibration and NE, in shadow and in canary."""
FAR = 1_000_000_000
"""More than this is said as if it could not be said."""


def smoke_check(smoke: Smoke | None) -> Check:
    """Golden predictions on the candidate's endpoint."""
    if smoke is None:
        return Check(
            name="smoke", verdict=Verdict.UNKNOWN, reason="the golden predictions have not come back yet"
        )
    return Check(name="smoke", verdict=Verdict.PASS if smoke.passed else Verdict.FAIL, reason=smoke.words)


def shadow_checks(periods: Sequence[Shadowed], policy: ReleasePolicy) -> list[Check]:
    """The candidate on requests it answered unseen, while the stable bundle answered them too."""
    traffic = total(Traffic, [period.traffic for period in periods])
    stable = total(Traffic, [period.stable.traffic for period in periods])
    beside = total(Labelled, [period.stable.labelled for period in periods])
    labelled = total(Labelled, [period.labelled for period in periods])
    mean, variance = _moments(
        sum(period.difference for period in periods),
        sum(period.difference_squares for period in periods),
        labelled.impressions,
    )
    difference = _Difference(mean, variance, labelled.impressions)
    return [
        *_traffic_checks("shadow", traffic, stable, policy),
        _calibration("shadow_calibration", labelled, beside, policy),
        _entropy("shadow_ne", difference, labelled, policy.ne_margin, policy),
    ]


def canary_checks(periods: Sequence[Period], percent: int, policy: ReleasePolicy) -> list[Check]:
    """The candidate beside the stable bundle over all steps so far; `percent` is its share now."""
    candidate = total(Traffic, [period.candidate.traffic for period in periods])
    stable = total(Traffic, [period.stable.traffic for period in periods])
    seen = total(Labelled, [period.candidate.labelled for period in periods])
    beside = total(Labelled, [period.stable.labelled for period in periods])
    here = sum(period.candidate.traffic.requests for period in periods if period.percent == percent)
    return [
        _enough(f"requests_at_{percent}", here, policy),
        *_traffic_checks("canary", candidate, stable, policy),
        _calibration("calibration", seen, beside, policy),
        _entropy("ne", _between(periods, seen, beside), seen, policy.ne_margin, policy),
    ]


def watch_checks(watched: Sequence[Watched], compared: Compared | None, policy: ReleasePolicy) -> list[Check]:
    """The promoted bundle beside the last good one, which gets copies of some requests. NaN speaks for itself; failing requests and
    clicks count against the bundle only where the other one is shown to do better on the same. Slowness is left to alerts: of two
    servers the one with all the traffic is always the slower."""
    traffic = total(Traffic, [period.traffic for period in watched])
    pairs = [period.paired for period in watched if period.paired is not None]
    errors = _errors("watch_errors", traffic, None, policy)
    if pairs:
        errors = _own_errors(errors, total(Paired, pairs), policy)
    found = [_finite("watch", traffic), errors]
    return found if compared is None else [*found, _watched_entropy(compared, policy)]


def _own_errors(alone: Check, pairs: Paired, policy: ReleasePolicy) -> Check:
    """`alone` is the verdict on all requests, which does not tell a bad bundle from a bad machine. Pairs do: where both are in trouble
    for one reason, either is as likely as the other to be the one that fails, so the share of the promoted bundle among those that
    failed on one side is 1/2, and FAIL has a probability of at most `alpha` / SHARES over all looks. It must also fail more than may
    be: one failure in a million is not worth a rollback, however surely it is its own."""
    limit, alpha = policy.max_error_rate, policy.alpha / SHARES
    own = bernoulli(pairs.only_promoted, pairs.requests, alpha=alpha)
    blame = bernoulli(pairs.only_promoted, pairs.only_promoted + pairs.only_last_good, alpha=alpha)
    words = (
        f"{alone.reason}; of {pairs.requests:,} that the last good bundle got at the same moment, {pairs.only_promoted:,} failed "
        f"here only and {pairs.only_last_good:,} there only"
    )
    if own.low > limit and blame.low > 0.5:
        share = pairs.only_promoted / pairs.requests
        return _check(alone.name, Verdict.FAIL, share, own, limit, words)
    verdict = Verdict.UNKNOWN if alone.verdict is Verdict.FAIL else alone.verdict
    return alone.model_copy(update={"verdict": verdict, "reason": words})


def _watched_entropy(compared: Compared, policy: ReleasePolicy) -> Check:
    """NE of the promoted bundle - of the last good one, on the same impressions: what the world does to clicks it does to both. Where
    the last good bundle's calibration is off as well it may be the clicks, and the one that predicts less would win."""
    promoted, last_good = compared.promoted, compared.last_good
    n = promoted.impressions
    difference = _Difference(*_moments(compared.difference, compared.difference_squares, n), n)
    found = _entropy(
        "watch_ne", difference, promoted, policy.watch_ne_margin, policy, beside="the last good bundle"
    )
    ratio = _ratio(last_good, policy)
    if found.verdict is Verdict.FAIL and _outside(ratio, policy.max_calibration_bias):
        words = f"{found.reason}; that one predicts {_span(ratio)} times the clicks, so it may be the clicks"
        return found.model_copy(update={"verdict": Verdict.UNKNOWN, "reason": words})
    return found


def _enough(name: str, requests: int, policy: ReleasePolicy) -> Check:
    if requests >= policy.min_requests:
        return Check(
            name=name, verdict=Verdict.PASS, value=requests, reason=f"{requests:,} requests at this step"
        )
    missing = policy.min_requests - requests
    words = f"{requests:,} of {policy.min_requests:,} requests at this step"
    return Check(name=name, verdict=Verdict.UNKNOWN, value=requests, reason=words, needs=missing)


def _traffic_checks(where: str, traffic: Traffic, stable: Traffic, policy: ReleasePolicy) -> Iterator[Check]:
    yield _finite(where, traffic)
    yield _errors(f"{where}_errors", traffic, stable, policy)
    yield _slow(f"{where}_p99", traffic, stable, policy)


def _errors(name: str, traffic: Traffic, stable: Traffic | None, policy: ReleasePolicy) -> Check:
    beside = None if stable is None else (stable.errors, stable.requests)
    seen = (traffic.errors, traffic.requests)
    return _share(name, seen, beside, policy.max_error_rate, "failed", policy)


def _slow(name: str, traffic: Traffic, stable: Traffic, policy: ReleasePolicy) -> Check:
    """p99 within its promise: at most 1 % are slower."""
    seen = (traffic.slow, traffic.requests)
    return _share(
        name, seen, (stable.slow, stable.requests), 0.01, f"slower than {policy.p99_ms:g} ms", policy
    )


def _finite(where: str, traffic: Traffic) -> Check:
    name = f"{where}_finite"
    if traffic.not_finite:
        return Check(
            name=name,
            verdict=Verdict.FAIL,
            value=traffic.not_finite,
            reason=f"{traffic.not_finite:,} predictions were NaN or infinite",
        )
    if not traffic.requests:
        return Check(name=name, verdict=Verdict.UNKNOWN, reason="no request yet", needs=1)
    return Check(name=name, verdict=Verdict.PASS, value=0, reason="every prediction was a number")


def _share(
    name: str,
    seen: tuple[int, int],
    beside: tuple[int, int] | None,
    limit: float,
    what: str,
    policy: ReleasePolicy,
) -> Check:
    """A share of requests against the most it may be. seen, beside: how many, of how many requests, of the candidate and of the
    stable bundle."""
    count, requests = seen
    alpha = policy.alpha / SHARES
    found = bernoulli(count, requests, alpha=alpha)
    share = count / requests if requests else None
    words = f"{count:,} of {requests:,} requests {what}; {_percent(limit)} may"
    if requests and found.low > limit:
        if beside is not None and bernoulli(*beside, alpha=alpha).high >= found.low:
            words += "; the stable bundle is not shown to be better"
            return _check(name, Verdict.UNKNOWN, share, found, limit, words)
        return _check(name, Verdict.FAIL, share, found, limit, words)
    if found.high < limit:
        return _check(name, Verdict.PASS, share, found, limit, words)
    needs = _more(requests, lambda n: bernoulli(round((share or 0.0) * n), n, alpha=alpha).high < limit)
    return _check(name, Verdict.UNKNOWN, share, found, limit, words, needs)


def _calibration(name: str, seen: Labelled, beside: Labelled, policy: ReleasePolicy) -> Check:
    limit = policy.max_calibration_bias
    few = _too_few(name, seen, policy)
    if few is not None:
        return few
    ratio = seen.pctr / seen.clicks
    found = _ratio(seen, policy)
    words = (
        f"{seen.pctr:,.0f} clicks predicted, {seen.clicks:,} came: ratio {ratio:.3f} ({_span(found)}), "
        f"within {1 - limit:g} to {1 + limit:g} wanted"
    )
    if _outside(found, limit):
        if beside.clicks < policy.min_clicks or _outside(_ratio(beside, policy), limit):
            words += "; the stable bundle is no better on the same days, so it may be the clicks"
            return _check(name, Verdict.UNKNOWN, ratio, found, limit, words)
        return _check(name, Verdict.FAIL, ratio, found, limit, words)
    if _within(found, limit):
        return _check(name, Verdict.PASS, ratio, found, limit, words)
    needs = _more(
        seen.impressions, lambda n: _within(_ratio(_scaled(seen, n / seen.impressions), policy), limit)
    )
    return _check(name, Verdict.UNKNOWN, ratio, found, limit, words, needs)


def _ratio(seen: Labelled, policy: ReleasePolicy) -> Interval:
    """Interval of the calibration ratio, from that of the mean of pCTR - click."""
    n = seen.impressions
    if not n:
        return Interval(0.0, math.inf)
    mean = (seen.pctr - seen.clicks) / n
    variance = max(seen.residual_squares / n - mean**2, 0.0)
    radius = mean_radius(variance, n, alpha=policy.alpha / SHARES, planned=policy.planned_impressions)
    predicted = seen.pctr / n
    return Interval(_over(predicted, predicted - mean + radius), _over(predicted, predicted - mean - radius))


def _over(predicted: float, clicks: float) -> float:
    return predicted / clicks if clicks > 0 else math.inf


@dataclass(frozen=True)
class _Difference:
    """Log loss of the candidate - of the stable bundle, nats: mean, variance of one observation, and how many there are."""

    mean: float
    variance: float
    n: float


def _between(periods: Sequence[Period], seen: Labelled, beside: Labelled) -> _Difference:
    """Mean difference within periods. A period with n1 and n2 impressions counts n1 n2 / (n1 + n2), as in a stratified comparison of
    two means with equal variances; the weights know only counts, never losses, so they cannot lean to either side."""
    _, spread = _moments(seen.log_loss, seen.log_loss_squares, seen.impressions)
    _, spread_beside = _moments(beside.log_loss, beside.log_loss_squares, beside.impressions)
    pairs = moved = variance = 0.0
    for period in periods:
        one, two = period.candidate.labelled, period.stable.labelled
        if not one.impressions or not two.impressions:
            continue
        weight = one.impressions * two.impressions / (one.impressions + two.impressions)
        pairs += weight
        moved += weight * (one.log_loss / one.impressions - two.log_loss / two.impressions)
        variance += weight**2 * (spread / one.impressions + spread_beside / two.impressions)
    if not pairs:
        return _Difference(0.0, 0.0, 0.0)
    return _Difference(moved / pairs, variance / pairs, pairs)


def _entropy(
    name: str,
    difference: _Difference,
    seen: Labelled,
    limit: float,
    policy: ReleasePolicy,
    beside: str = "the stable bundle",
) -> Check:
    """NE of the one - of the bundle it is held against, both over the entropy of the click rate that the one saw. limit: by how much it
    may exceed."""
    few = _too_few(name, seen, policy)
    if few is not None:
        return few
    if difference.n <= 0:
        return Check(name=name, verdict=Verdict.UNKNOWN, reason=f"no clicks of {beside} to compare with")
    rate = seen.clicks / seen.impressions
    entropy = -(rate * math.log(rate) + (1 - rate) * math.log1p(-rate))
    alpha = policy.alpha / SHARES
    value = difference.mean / entropy

    def radius(n: float) -> float:
        return mean_radius(difference.variance, n, alpha=alpha, planned=policy.planned_impressions) / entropy

    found = Interval(value - radius(difference.n), value + radius(difference.n))
    words = f"NE {value:+.4f} ({found.low:+.4f} to {found.high:+.4f}) beside {beside}; {limit:+g} may be"
    if found.low > limit:
        return _check(name, Verdict.FAIL, value, found, limit, words)
    if found.high < limit:
        return _check(name, Verdict.PASS, value, found, limit, words)
    scale = seen.impressions / difference.n
    needs = _more(seen.impressions, lambda n: value + radius(n / scale) < limit)
    return _check(name, Verdict.UNKNOWN, value, found, limit, words, needs)


def _too_few(name: str, seen: Labelled, policy: ReleasePolicy) -> Check | None:
    """UNKNOWN below the clicks (and non-clicks) that the intervals need."""
    least = min(seen.clicks, seen.impressions - seen.clicks)
    if least >= policy.min_clicks:
        return None
    kind = "clicks" if least == seen.clicks else "impressions without a click"
    words = f"{least:,} of {policy.min_clicks:,} {kind} in {seen.impressions:,} labelled impressions"
    needs = math.ceil(seen.impressions * (policy.min_clicks / least - 1)) if least else None
    return Check(name=name, verdict=Verdict.UNKNOWN, reason=words, needs=needs)


def _moments(total: float, squares: float, n: int) -> tuple[float, float]:
    if not n:
        return 0.0, 0.0
    mean = total / n
    return mean, max(squares / n - mean**2, 0.0)


def _scaled(seen: Labelled, by: float) -> Labelled:
    return Labelled(
        impressions=round(seen.impressions * by),
        clicks=round(seen.clicks * by),
        pctr=seen.pctr * by,
        residual_squares=seen.residual_squares * by,
    )


def _outside(found: Interval, limit: float) -> bool:
    return found.low > 1 + limit or found.high < 1 - limit


def _within(found: Interval, limit: float) -> bool:
    return found.low > 1 - limit and found.high < 1 + limit


def _more(seen: int, settled: Callable[[int], bool]) -> int | None:
    """How many more than `seen` until `settled`, to a hundredth; None beyond `FAR`."""
    low, high = seen, max(2 * seen, 1_000)
    while not settled(high):
        low, high = high, 2 * high
        if high > FAR:
            return None
    while high - low > max(high // 100, 1):
        middle = (low + high) // 2
        low, high = (low, middle) if settled(middle) else (middle, high)
    return high - seen


def _check(
    name: str,
    verdict: Verdict,
    value: float | None,
    found: Interval,
    threshold: float,
    reason: str,
    needs: int | None = None,
) -> Check:
    return Check(
        name=name,
        verdict=verdict,
        value=value,
        low=found.low,
        high=None if math.isinf(found.high) else found.high,
        threshold=threshold,
        reason=reason,
        needs=needs,
    )


def _span(found: Interval) -> str:
    return f"{found.low:.3f} to {'any' if math.isinf(found.high) else f'{found.high:.3f}'}"


def _percent(share: float) -> str:
    return f"{100 * share:g} %"


__all__ = ["canary_checks", "shadow_checks", "smoke_check", "watch_checks"]
