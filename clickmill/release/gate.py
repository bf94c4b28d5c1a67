"""The gate: may the challenger replace the champion? Evidence in, decision with reasons out.

Both models are scored on the same rows, which neither has seen, so every comparison is paired. Floors ask whether the
challenger is fit to serve at all; without a champion they are all that is asked. Comparisons ask whether it is shown not to be
worse than a margin allows (non-inferiority); guards ask whether any slice is shown to be worse by more than a margin.

Every check must pass. As an intersection-union test this needs no correction for the number of checks: more checks make a wrong
promotion rarer, not likelier (Berger 1982). Guards work the other way round, each may refuse on its own, so they share one
error rate by Bonferroni. Reads no clock, file or network; same arguments, same answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from clickmill.errors import UndefinedMetric
from clickmill.evaluation import Estimate, bootstrap, check_rows, paired_bootstrap, rows_by_value
from clickmill.evaluation.paired_entropy import normalized_entropy_difference
from clickmill.release.gate_decision import Basis, Check, GateDecision, Verdict, overall
from clickmill.release.gate_policy import GatePolicy
from clickmill.release.latency import Floats, check_latency, p99, p99_estimate, p99_ratio


@dataclass(frozen=True)
class Scores:
    """What one model says on the rows of the gate."""

    pctr: npt.ArrayLike
    """(n,) calibrated click probabilities, in the order of the labels."""
    latency_ms: npt.ArrayLike | None = None
    """(m,) milliseconds per request; any m, champion and challenger measured on one machine."""


@dataclass(frozen=True)
class _Evidence:
    """Checked rows, the challenger on them, and whether the clicks suffice."""

    y: Floats
    weight: Floats
    challenger: Floats
    cluster: npt.NDArray | None
    too_few: str


def judge(
    champion: Scores | None,
    challenger: Scores,
    y: npt.ArrayLike,
    *,
    slices: Mapping[str, npt.ArrayLike] | None = None,
    weight: npt.ArrayLike | None = None,
    cluster: npt.ArrayLike | None = None,
    policy: GatePolicy | None = None,
    seed: int = 0,
) -> GateDecision:
    """Decide on rows that neither model has seen.

    y, weight, cluster and each slice column: (n,). `champion` is None when nothing serves yet. Give user or request ids as
    `cluster` when rows of one are not independent. Raises DataError for arrays that cannot be judged; rows that say too little give
    UNKNOWN, not an error.

    >>> rng = np.random.default_rng(0)
    >>> truth = rng.uniform(0.01, 0.3, 20_000)
    >>> clicks = rng.random(20_000) < truth
    >>> decision = judge(None, Scores(truth), clicks)
    >>> decision.promote, decision.basis.value
    (True, 'floors')
    """
    policy = policy or GatePolicy()
    rows = check_rows(y, challenger.pctr, weight)
    clicks = int(rows.y.sum())
    evidence = _Evidence(
        y=rows.y,
        weight=rows.weight,
        challenger=rows.p,
        cluster=None if cluster is None else np.asarray(cluster),
        too_few=_too_few(len(rows.y), clicks, policy.min_clicks),
    )
    checks = [*_floors(evidence, challenger, policy, seed)]
    unjudged: list[str] = []
    if champion is not None:
        before = check_rows(y, champion.pctr, weight).p
        checks += _comparisons(before, evidence, policy, seed)
        checks += _latency_comparison(champion, challenger, policy, seed)
        guards, unjudged = _guards(before, evidence, slices or {}, policy)
        checks += guards
    verdict = overall(checks)
    basis = _basis(checks, verdict, has_champion=champion is not None)
    return GateDecision(
        promote=verdict is Verdict.PASS,
        verdict=verdict,
        basis=basis,
        summary=_summary(checks, basis, evidence.too_few, has_champion=champion is not None),
        checks=tuple(checks),
        slices_unjudged=tuple(unjudged),
        rows=len(rows.y),
        clicks=clicks,
    )


def _floors(evidence: _Evidence, challenger: Scores, policy: GatePolicy, seed: int) -> Iterator[Check]:
    wanted = {"normalized_entropy": ("ne_floor", policy.max_ne)}
    if policy.max_ece is not None:
        wanted["ece_equal_mass"] = ("ece_floor", policy.max_ece)
    if policy.max_calibration_bias is not None:
        wanted["calibration_ratio"] = ("calibration_floor", policy.max_calibration_bias)
    try:
        _refuse_too_few(evidence)
        estimates = bootstrap(
            evidence.y,
            evidence.challenger,
            evidence.weight,
            metrics=tuple(wanted),
            cluster=evidence.cluster,
            resamples=policy.resamples,
            level=policy.level,
            seed=seed,
        )
    except UndefinedMetric as error:
        yield from (_unknown(name, limit, str(error)) for name, limit in wanted.values())
    else:
        for metric, (name, limit) in wanted.items():
            yield (
                _calibration_floor(estimates[metric], limit)
                if name == "calibration_floor"
                else _check(
                    name,
                    estimates[metric],
                    limit,
                    _below(estimates[metric], limit),
                    f"{_LABEL[metric]} {estimates[metric]}, must be below {limit:g}",
                )
            )
    if policy.max_p99_ms is not None:
        yield _latency_floor(challenger, policy.max_p99_ms, policy, seed)


def _calibration_floor(ratio: Estimate, bias: float) -> Check:
    low, high = 1 - bias, 1 + bias
    if ratio.low >= low and ratio.high <= high:
        verdict = Verdict.PASS
    elif ratio.high < low or ratio.low > high:
        verdict = Verdict.FAIL
    else:
        verdict = Verdict.UNKNOWN
    words = f"calibration ratio {ratio}, must be within {low:g} and {high:g}"
    return _check("calibration_floor", ratio, bias, verdict, words)


def _comparisons(champion: Floats, evidence: _Evidence, policy: GatePolicy, seed: int) -> Iterator[Check]:
    """NE, AUC and ECE against the champion, paired."""
    # (metric, check, allowed worsening, sign of worse)
    wanted = [("normalized_entropy", "ne", policy.ne_margin, 1.0)]
    if policy.auc_margin is not None:
        wanted.append(("auc", "auc", policy.auc_margin, -1.0))
    if policy.ece_margin is not None:
        wanted.append(("ece_equal_mass", "ece", policy.ece_margin, 1.0))
    try:
        _refuse_too_few(evidence)
        differences = paired_bootstrap(
            evidence.y,
            champion,
            evidence.challenger,
            evidence.weight,
            metrics=tuple(metric for metric, *_ in wanted),
            cluster=evidence.cluster,
            resamples=policy.resamples,
            level=policy.level,
            seed=seed,
        )
    except UndefinedMetric as error:
        yield from (_unknown(name, sign * margin, str(error)) for _, name, margin, sign in wanted)
        if policy.require_improvement:
            yield _unknown("improvement", 0.0, str(error))
        return
    for metric, name, margin, sign in wanted:
        change = differences[metric]
        worse = change if sign > 0 else Estimate(value=-change.value, low=-change.high, high=-change.low)
        yield _check(
            name,
            change,
            sign * margin,
            _at_most(worse, margin),
            f"{_LABEL[metric]} changes by {_signed(change)}, may {'rise' if sign > 0 else 'fall'} by {margin:g}",
        )
    if policy.require_improvement:
        change = differences["normalized_entropy"]
        words = f"{_LABEL['normalized_entropy']} changes by {_signed(change)}, must fall"
        yield _check("improvement", change, 0.0, _below(change, 0.0), words)


def _latency_comparison(
    champion: Scores, challenger: Scores, policy: GatePolicy, seed: int
) -> Iterator[Check]:
    limit = policy.max_p99_ratio
    if limit is None:
        return
    before, after = _latency("champion", champion, policy), _latency("challenger", challenger, policy)
    if isinstance(before, str) or isinstance(after, str):
        missing = "; ".join(reason for reason in (before, after) if isinstance(reason, str))
        yield _unknown("latency", limit, missing)
        return
    ratio = p99_ratio(before, after, level=policy.level, resamples=policy.resamples, seed=seed)
    words = (
        f"p99 {p99(after):.2f} ms against {p99(before):.2f} ms: ratio {ratio.value:.2f} [{ratio.low:.2f}, {ratio.high:.2f}], "
        f"may be at most {limit:g}"
    )
    yield _check("latency", ratio, limit, _at_most(ratio, limit), words)


def _latency_floor(challenger: Scores, limit: float, policy: GatePolicy, seed: int) -> Check:
    samples = _latency("challenger", challenger, policy)
    if isinstance(samples, str):
        return _unknown("latency_floor", limit, samples)
    found = p99_estimate(samples, level=policy.level, resamples=policy.resamples, seed=seed)
    words = f"p99 {found.value:.2f} ms [{found.low:.2f}, {found.high:.2f}], must be below {limit:g} ms"
    return _check("latency_floor", found, limit, _below(found, limit), words)


def _latency(name: str, scores: Scores, policy: GatePolicy) -> Floats | str:
    """Ascending milliseconds, or why a p99 cannot be told from them."""
    if scores.latency_ms is None:
        return (
            f"no latency of the {name} was measured; measure it, or set max_p99_ratio and max_p99_ms to None"
        )
    samples = check_latency(scores.latency_ms, name)
    needed = policy.min_latency_samples
    return (
        samples
        if len(samples) >= needed
        else f"{len(samples)} latency samples of the {name}, {needed} needed for a p99"
    )


def _guards(
    champion: Floats, evidence: _Evidence, slices: Mapping[str, npt.ArrayLike], policy: GatePolicy
) -> tuple[list[Check], list[str]]:
    """Guards of the slices with enough clicks, and the names of the others.

    A guard fails only on proof of harm: most slices are too small to be shown harmless, and demanding that would let
    none through. What it cannot see is covered by the comparison over all rows.
    """
    if policy.slice_ne_margin is None or evidence.too_few:
        return [], []
    judged: list[tuple[str, npt.NDArray[np.int64]]] = []
    unjudged: list[str] = []
    for column, values in slices.items():
        for value, at in rows_by_value(column, values, len(evidence.y), top=policy.slice_top):
            y = evidence.y[at][evidence.weight[at] > 0]
            name = f"{column}={value}"
            if _too_few(len(y), int(y.sum()), policy.slice_min_clicks):
                unjudged.append(f"{name} ({int(y.sum())} clicks)")
            else:
                judged.append((name, at))
    level = 1 - (1 - policy.level) / max(len(judged), 1)
    return [
        _guard(name, at, champion, evidence, policy.slice_ne_margin, level) for name, at in judged
    ], unjudged


def _guard(
    name: str, at: npt.NDArray[np.int64], champion: Floats, evidence: _Evidence, margin: float, level: float
) -> Check:
    change = normalized_entropy_difference(
        evidence.y[at],
        champion[at],
        evidence.challenger[at],
        evidence.weight[at],
        cluster=None if evidence.cluster is None else evidence.cluster[at],
        level=level,
    )
    harmed = change.low > margin
    words = f"normalized entropy changes by {_signed(change)}; " + (
        f"worse by more than {margin:g}" if harmed else f"not shown to be worse by more than {margin:g}"
    )
    return _check(f"slice:{name}", change, margin, Verdict.FAIL if harmed else Verdict.PASS, words)


def _basis(checks: list[Check], verdict: Verdict, *, has_champion: bool) -> Basis:
    if verdict is not Verdict.PASS:
        return Basis.REFUSED
    if not has_champion:
        return Basis.FLOORS
    ne = next(check for check in checks if check.name == "ne")
    return Basis.IMPROVEMENT if ne.high is not None and ne.high < 0 else Basis.NON_INFERIORITY


def _summary(checks: list[Check], basis: Basis, too_few: str, *, has_champion: bool) -> str:
    if basis is Basis.IMPROVEMENT:
        ne = next(check for check in checks if check.name == "ne")
        return f"Promote: better than the champion. {_sentence(ne.reason)} All {len(checks)} checks passed."
    if basis is Basis.NON_INFERIORITY:
        ne = next(check for check in checks if check.name == "ne")
        return (
            f"Promote as non-inferior: no improvement is shown, but it is shown not to be worse than the margins allow. "
            f"{_sentence(ne.reason)} All {len(checks)} checks passed."
        )
    if basis is Basis.FLOORS:
        return (
            f"Promote: there is no champion yet, and the challenger passes all {len(checks)} absolute floors."
        )
    stopped = [check for check in checks if check.verdict is not Verdict.PASS]
    failed = [check for check in stopped if check.verdict is Verdict.FAIL] or stopped
    stays = "the champion stays" if has_champion else "nothing is deployed"
    kind = "failed" if failed[0].verdict is Verdict.FAIL else "could not be judged"
    if too_few and failed[0].verdict is Verdict.UNKNOWN:
        return (
            f"Refuse, {stays}: {len(failed)} of {len(checks)} checks {kind}. The test rows hold {too_few}. "
            "Judge on more days of logs, or ask for less evidence (`gate.min_clicks`)."
        )
    words = " ".join(f"{check.name}: {_sentence(check.reason)}" for check in failed[:3])
    more = f" And {len(stopped) - len(failed[:3])} more." if len(stopped) > len(failed[:3]) else ""
    return f"Refuse, {stays}: {len(failed)} of {len(checks)} checks {kind}. {words}{more}"


_LABEL = {"normalized_entropy": "normalized entropy", "auc": "AUC", "ece_equal_mass": "ECE"}


def _below(found: Estimate, limit: float) -> Verdict:
    """Is it surely below the limit? At the limit is not below."""
    return Verdict.PASS if found.high < limit else Verdict.FAIL if found.low >= limit else Verdict.UNKNOWN


def _at_most(found: Estimate, limit: float) -> Verdict:
    """Is it surely no more than the limit?"""
    return Verdict.PASS if found.high <= limit else Verdict.FAIL if found.low > limit else Verdict.UNKNOWN


def _check(name: str, found: Estimate, threshold: float, verdict: Verdict, reason: str) -> Check:
    return Check(
        name=name,
        verdict=verdict,
        value=found.value,
        low=found.low,
        high=found.high,
        threshold=threshold,
        reason=reason
        if verdict is not Verdict.UNKNOWN
        else f"{reason}; the interval holds both answers, more data decide",
    )


def _unknown(name: str, threshold: float, reason: str) -> Check:
    return Check(name=name, verdict=Verdict.UNKNOWN, threshold=threshold, reason=reason)


def _too_few(n: int, clicks: int, needed: int) -> str:
    if clicks < needed:
        return f"{clicks} clicks, {needed} needed to judge"
    return f"{n - clicks} non-clicks, {needed} needed to judge" if n - clicks < needed else ""


def _refuse_too_few(evidence: _Evidence) -> None:
    if evidence.too_few:
        raise UndefinedMetric(evidence.too_few)


def _signed(change: Estimate) -> str:
    return f"{change.value:+.4f} [{change.low:+.4f}, {change.high:+.4f}]"


def _sentence(words: str) -> str:
    return words[:1].upper() + words[1:] + "."
