"""The release machine: what happens next to a release. Evidence and words of people in, the next state with its reason out.

    candidate -> smoke -> shadow -> canary 1 % -> ... -> canary 100 % -> promoted
        any of them -> rolled back        at a failed check, an alert about the candidate, or by hand
        promoted -> rolled back           at requests and clicks on which the last good bundle does better, NaN, an alert about the
                                          bundle that serves, or by hand

What others get wrong and this does not: too little traffic is UNKNOWN and neither promotes nor rolls back, it waits and says for how
much; every failed check counts in every phase; watching does not end at promotion; a rollback is one step, immediate, and is never
analysed like a release. Reads no clock, file or network: same arguments, same answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from pydantic import BaseModel, ConfigDict, model_validator

from clickmill.errors import UsageError
from clickmill.release.evidence import Alert, Evidence
from clickmill.release.gate_decision import Check, Verdict
from clickmill.release.live_checks import canary_checks, shadow_checks, smoke_check, watch_checks
from clickmill.release.release import UNDER_WAY, Freeze, Phase, Quarantined, Release
from clickmill.release.release_policy import ReleasePolicy

MACHINE = "clickmill"
"""Who decides where no person does."""


class Decision(BaseModel):
    """The next state and why. When `next` is the state it was, the reason says what is waited for."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    next: Release
    """The state from now on."""
    reason: str
    """In words, with numbers."""
    by: str = MACHINE
    """Who decided."""
    checks: tuple[Check, ...] = ()
    """What was held against the policy."""

    @model_validator(mode="after")
    def _has_a_reason(self) -> Decision:
        if not self.reason.strip() or not self.by.strip():
            raise ValueError("a decision has a reason and somebody who took it")
        return self


def decide(release: Release, evidence: Evidence, policy: ReleasePolicy, now: datetime) -> Decision:
    """What happens next by itself. Call it after every interval, with all evidence since the release began.

    Moves at most one phase or step forward, or all the way back.
    """
    checks = _checks(release, evidence, policy)
    blame = _blame(release, evidence.alerts, checks)
    worse = _blame_of_the_stable(release, evidence.alerts)
    if worse is not None:
        return _back_past_the_stable(release, worse, blame, policy, now, checks)
    if blame is not None:
        if release.phase not in UNDER_WAY and release.last_good is None:
            words = f"{blame}; there is no earlier bundle to go back to"
            return Decision(next=release, reason=words, checks=checks)
        return _back(release, blame, policy, now, MACHINE, checks)
    freeze = release.freeze
    if freeze is not None and (freeze.until is None or now < freeze.until):
        return Decision(next=release, reason=_frozen(freeze), checks=checks)
    if freeze is not None:
        thawed = release.model_copy(update={"freeze": None})
        return Decision(next=thawed, reason=f"the freeze is over: {freeze.reason}", checks=checks)
    if release.phase not in UNDER_WAY:
        return Decision(next=release, reason=_watching(release, checks), checks=checks)
    waits = _waits(release, checks, policy, now)
    if waits:
        return Decision(next=release, reason=f"waits: {waits}", checks=checks)
    return Decision(next=_forward(release, policy, now), reason=_passed(release, checks), checks=checks)


def propose(
    release: Release, bundle: str, *, now: datetime, by: str, reason: str, even_quarantined: bool = False
) -> Decision:
    """Name a candidate. Raises UsageError while another is under way, for the bundle that serves, and for one in quarantine unless
    `even_quarantined`."""
    if release.phase in UNDER_WAY:
        raise UsageError(
            f"{release.endpoint} has {_short(release.candidate)} under way ({release.phase}); wait for its end, or roll it back first"
        )
    if bundle == release.stable:
        raise UsageError(f"{_short(bundle)} serves {release.endpoint} already")
    banned = release.banned(bundle)
    if banned is not None and not even_quarantined:
        raise UsageError(
            f"{_short(bundle)} was taken back on {banned.at:%Y-%m-%d %H:%M}: {banned.reason}; "
            "to release it all the same, say that it may come out of quarantine (--even-quarantined; evenQuarantined in a ModelRelease)"
        )
    changes = {
        "phase": Phase.CANDIDATE,
        "since": now,
        "candidate": bundle,
        "quarantine": tuple(entry for entry in release.quarantine if entry.bundle != bundle),
        # One bundle cannot be the one that comes and the one to go back to.
        "last_good": None if release.last_good == bundle else release.last_good,
    }
    return Decision(next=_changed(release, changes), reason=reason, by=by)


def withdraw(release: Release, *, now: datetime, by: str, reason: str) -> Decision:
    """Let go of the candidate without blame, because another is wanted: no quarantine, no cool-down. Raises UsageError when there is none."""
    if release.candidate is None:
        raise UsageError(f"{release.endpoint} has no candidate that could be withdrawn")
    changes = {"phase": Phase.PROMOTED, "since": now, "candidate": None, "percent": None}
    return Decision(next=_changed(release, changes), reason=reason, by=by)


def roll_back(release: Release, policy: ReleasePolicy, *, now: datetime, by: str, reason: str) -> Decision:
    """Back to the last good bundle, by hand. Raises UsageError when there is none."""
    if release.phase not in UNDER_WAY and release.last_good is None:
        raise UsageError(
            f"{release.endpoint} has no candidate and no earlier bundle; there is nothing to go back to"
        )
    return _back(release, reason, policy, now, by, ())


def freeze(
    release: Release, *, now: datetime, by: str, reason: str, until: datetime | None = None
) -> Decision:
    """Nothing goes forward from now on. Raises UsageError for an end that is over."""
    if until is not None and until <= now:
        raise UsageError(
            f"a freeze must end after now ({now:%Y-%m-%d %H:%M %Z}); got {until:%Y-%m-%d %H:%M %Z}"
        )
    frozen = _changed(release, {"freeze": Freeze(by=by, reason=reason, until=until)})
    return Decision(next=frozen, reason=reason, by=by)


def resume(release: Release, *, by: str, reason: str) -> Decision:
    """End a freeze. Raises UsageError when there is none."""
    if release.freeze is None:
        raise UsageError(f"{release.endpoint} is not frozen")
    return Decision(next=_changed(release, {"freeze": None}), reason=reason, by=by)


def _checks(release: Release, evidence: Evidence, policy: ReleasePolicy) -> tuple[Check, ...]:
    """Every check that the phase knows of, and those of the phases before it: what failed late has failed."""
    if release.phase not in UNDER_WAY:
        return () if _at_its_last(release) else tuple(watch_checks(evidence.watch, evidence.compared, policy))
    if release.phase is Phase.CANDIDATE:
        return ()
    checks = [smoke_check(evidence.smoke)]
    if release.phase is Phase.SHADOW or (release.phase is Phase.CANARY and evidence.shadow):
        checks += shadow_checks(evidence.shadow, policy)
    if release.phase is Phase.CANARY and release.percent is not None:
        checks += canary_checks(evidence.canary, release.percent, policy)
    return tuple(checks)


def _blame(release: Release, alerts: Sequence[Alert], checks: Sequence[Check]) -> str | None:
    """Why the bundle in question has to go, if it has to. Alerts about any other bundle are about the past."""
    accused = release.candidate if release.phase in UNDER_WAY else release.stable
    if _at_its_last(release):
        return None
    words = [f"alert {alert.name}: {alert.summary}" for alert in alerts if alert.bundle == accused]
    words += [f"{check.name}: {check.reason}" for check in checks if check.verdict is Verdict.FAIL]
    return "; ".join(words) or None


def _blame_of_the_stable(release: Release, alerts: Sequence[Alert]) -> str | None:
    """An alert about the bundle that serves, while another is under way: clicks come hours later, and yesterday's promotion may be
    found bad in the middle of today's canary."""
    if release.phase not in UNDER_WAY or release.last_good is None:
        return None
    words = [f"alert {alert.name}: {alert.summary}" for alert in alerts if alert.bundle == release.stable]
    return "; ".join(words) or None


def _at_its_last(release: Release) -> bool:
    """Rolled back to the last good bundle: there is nothing further back, so it is not watched. Where only a candidate was refused, the
    bundle that serves is watched on."""
    return release.phase is Phase.ROLLED_BACK and release.last_good is None


def _back(
    release: Release, reason: str, policy: ReleasePolicy, now: datetime, by: str, checks: Sequence[Check]
) -> Decision:
    changes: dict[str, object] = {"candidate": None, "percent": None}
    if release.phase not in UNDER_WAY:
        changes = {"stable": release.last_good, "last_good": None}
    failed = release.candidate or release.stable
    return _taken_back(release, changes, {failed: reason}, reason, policy, now, by, checks)


def _back_past_the_stable(
    release: Release,
    blame: str,
    of_the_candidate: str | None,
    policy: ReleasePolicy,
    now: datetime,
    checks: Sequence[Check],
) -> Decision:
    """The bundle that serves is accused while another is under way: both go, and the last good one serves. A candidate that is accused
    itself goes to quarantine too; one that is not has only lost the bundle it was compared with, and may be proposed again."""
    changes = {"stable": release.last_good, "last_good": None, "candidate": None, "percent": None}
    failed, reason = {release.stable: blame}, blame
    if of_the_candidate is not None:
        failed[str(release.candidate)] = of_the_candidate
        reason = f"{blame}; and of the candidate: {of_the_candidate}"
    return _taken_back(release, changes, failed, reason, policy, now, MACHINE, checks)


def _taken_back(
    release: Release,
    changes: Mapping[str, object],
    failed: Mapping[str, str],
    reason: str,
    policy: ReleasePolicy,
    now: datetime,
    by: str,
    checks: Sequence[Check],
) -> Decision:
    """failed: digest to why it goes to quarantine."""
    banned = tuple(Quarantined(bundle=bundle, at=now, reason=why) for bundle, why in failed.items())
    whole = {
        **changes,
        "phase": Phase.ROLLED_BACK,
        "since": now,
        "quarantine": (*release.quarantine, *banned),
        "freeze": _cooling(release.freeze, policy, now),
    }
    return Decision(next=_changed(release, whole), reason=reason, by=by, checks=tuple(checks))


def _cooling(freeze: Freeze | None, policy: ReleasePolicy, now: datetime) -> Freeze | None:
    """The freeze after a rollback; a longer one of somebody else stays."""
    until = now + timedelta(seconds=policy.cool_down_seconds)
    if freeze is not None and (freeze.until is None or freeze.until >= until):
        return freeze
    if until == now:
        return None
    return Freeze(by=MACHINE, reason="cool-down after a rollback", until=until)


def _waits(release: Release, checks: Sequence[Check], policy: ReleasePolicy, now: datetime) -> str:
    """What is missing before the next step; empty when nothing is."""
    if release.phase is Phase.CANDIDATE:
        return ""
    # In shadow both predicted the same impressions; what that has shown, a canary need not show again with fifty times as many.
    shown = any(check.name == "shadow_ne" and check.verdict is Verdict.PASS for check in checks)
    words = [
        f"{check.name}: {check.reason}" + (f", about {check.needs:,} more" if check.needs else "")
        for check in checks
        if check.verdict is Verdict.UNKNOWN and not (shown and check.name == "ne")
    ]
    if release.phase in (Phase.SHADOW, Phase.CANARY):
        left = policy.step_seconds - (now - release.since).total_seconds()
        if left > 0:
            words.append(f"{left:.0f} s of this step are left")
    return "; ".join(words)


def _forward(release: Release, policy: ReleasePolicy, now: datetime) -> Release:
    changes: dict[str, object] = {"since": now}
    if release.phase is Phase.CANDIDATE:
        changes["phase"] = Phase.SMOKE
    elif release.phase is Phase.SMOKE and policy.shadow:
        changes["phase"] = Phase.SHADOW
    elif release.percent is None:
        changes |= {"phase": Phase.CANARY, "percent": policy.steps[0]}
    elif release.percent < 100:
        changes["percent"] = next(step for step in policy.steps if step > release.percent)
    else:
        changes |= {
            "phase": Phase.PROMOTED,
            "stable": release.candidate,
            "last_good": release.stable,
            "candidate": None,
            "percent": None,
        }
    return _changed(release, changes)


def _passed(release: Release, checks: Sequence[Check]) -> str:
    if release.phase is Phase.CANDIDATE:
        return "no freeze holds it"
    where = f"{release.phase} at {release.percent} %" if release.percent else str(release.phase)
    return f"{where} passed: " + "; ".join(f"{check.name}: {check.reason}" for check in checks)


def _watching(release: Release, checks: Sequence[Check]) -> str:
    if _at_its_last(release):
        return f"{_short(release.stable)} serves again; no candidate"
    return f"{_short(release.stable)} serves and is watched" + "".join(
        f"; {check.name}: {check.reason}" for check in checks
    )


def _frozen(freeze: Freeze) -> str:
    end = "until somebody resumes" if freeze.until is None else f"until {freeze.until:%Y-%m-%d %H:%M:%S %Z}"
    return f"frozen by {freeze.by} {end}: {freeze.reason}"


def _changed(release: Release, changes: dict[str, object]) -> Release:
    """A copy that was checked against the law of `Release`; `model_copy` would not."""
    return Release.model_validate(release.model_dump() | changes)


def _short(bundle: str | None) -> str:
    return "nothing" if bundle is None else f"bundle {bundle[:12]}"


__all__ = ["MACHINE", "Decision", "decide", "freeze", "propose", "resume", "roll_back", "withdraw"]
