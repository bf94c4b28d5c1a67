"""May a drift start a training? Pure: windows, record and policy in, a decision with its reason out; time is an argument."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import StrEnum

from pydantic import AwareDatetime, BaseModel, Field

from monitoring.drift.examine import WindowDrift
from monitoring.drift.verdict import Drift, Quality


class RetrainingPolicy(BaseModel, frozen=True, extra="forbid", use_attribute_docstrings=True):
    """The budget. A training on a drift that does not end would otherwise follow the last one for ever."""

    most: int = Field(default=1, ge=1)
    """Trainings started in any `per_hours`."""
    per_hours: float = Field(default=24.0, gt=0)
    """A day: a window of live rows must fill with answers of the new bundle before it can be judged."""
    cool_down_hours: float = Field(default=3.0, ge=0)
    """Pause after a training ended, or could not be started, whatever it gave."""
    windows: int = Field(default=2, ge=1)
    """Looks in a row at the serving bundle that must say `drifted`: one may be an outage upstream or a holiday's first hour."""
    run_hours: float = Field(default=12.0, gt=0)
    """Longest time for which a training without a known end counts as under way: whoever started it may be gone."""


class Event(StrEnum):
    """What the record says."""

    STARTED = "started"  # a training was started; written before it is, so that a crash between spends the budget and no more
    NOT_STARTED = "not_started"  # starting it failed; the budget is given back, the cool-down holds
    ENDED = "ended"  # it came to its end: a new bundle, or the gate kept the champion
    FAILED = "failed"  # it ended with an error
    REFUSED = "refused"  # the drift was not answered by a training, for the reason given


class Retraining(BaseModel, frozen=True, extra="forbid", use_attribute_docstrings=True):
    """One line of the record."""

    at: AwareDatetime
    """When."""
    event: Event
    """What happened."""
    bundle: str
    """Digest of the bundle that drifted."""
    reason: str
    """Why, in words."""
    run: str | None = None
    """Of a started training: how it is found again (process, run of Kubeflow)."""
    cause: str | None = None
    """Of a refusal: its kind, so that the same one is not written twice."""


class RetrainingDecision(BaseModel, frozen=True, extra="forbid", use_attribute_docstrings=True):
    """What to do now."""

    start: bool
    """Whether to start a training."""
    reason: str
    """Why, or why not."""
    cause: str
    """Kind of the reason: drifted, same, unknown, broken, unconfirmed, under_way, cool_down, budget."""


def decide(
    windows: Sequence[WindowDrift], record: Sequence[Retraining], policy: RetrainingPolicy, now: datetime
) -> RetrainingDecision:
    """Whether the newest windows of the serving bundle, oldest first, justify a training, and the budget allows it."""

    def no(cause: str, reason: str) -> RetrainingDecision:
        return RetrainingDecision(start=False, cause=cause, reason=reason)

    if not windows or windows[-1].drift is Drift.UNKNOWN:
        return no(
            "unknown",
            "drift can't be told: " + ("; ".join(windows[-1].reasons) if windows else "no window yet"),
        )
    newest = windows[-1]
    if newest.drift is Drift.SAME:
        return no("same", "no drift")
    if newest.quality is Quality.BROKEN:
        return no("broken", f"the data must be mended first: {newest.reasons[-1]}")
    confirming = list(windows[-policy.windows :])
    if len(confirming) < policy.windows or any(w.drift is not Drift.DRIFTED for w in confirming):
        count = next(
            (i for i, w in enumerate(reversed(windows)) if w.drift is not Drift.DRIFTED), len(windows)
        )
        return no("unconfirmed", f"drifted in {count} of {policy.windows} windows in a row that are wanted")
    running = under_way(record, policy, now)
    if running is not None:
        return no("under_way", f"the training of {running.at:%Y-%m-%d %H:%M} has not ended")
    pauses = [r.at for r in record if r.event in (Event.ENDED, Event.FAILED, Event.NOT_STARTED)]
    ready = max(pauses) + timedelta(hours=policy.cool_down_hours) if pauses else now
    if ready > now:
        return no("cool_down", f"cooling down until {ready:%Y-%m-%d %H:%M} UTC")
    recent = [r for r in started(record) if r.at > now - timedelta(hours=policy.per_hours)]
    if len(recent) >= policy.most:
        free = recent[-policy.most].at + timedelta(hours=policy.per_hours)
        return no(
            "budget",
            f"{len(recent)} started in {policy.per_hours:g} h, {policy.most} allowed; the next from {free:%Y-%m-%d %H:%M} UTC",
        )
    return RetrainingDecision(start=True, cause="drifted", reason="; ".join(newest.reasons))


def started(record: Sequence[Retraining]) -> list[Retraining]:
    """Trainings that were started, oldest first, without those that could not be."""
    undone = {r.run for r in record if r.event is Event.NOT_STARTED}
    return [r for r in record if r.event is Event.STARTED and r.run not in undone]


def under_way(record: Sequence[Retraining], policy: RetrainingPolicy, now: datetime) -> Retraining | None:
    """The training that has not ended as far as we know, or None."""
    over = {r.run for r in record if r.event in (Event.ENDED, Event.FAILED)}
    return next(
        (r for r in started(record) if r.run not in over and r.at > now - timedelta(hours=policy.run_hours)),
        None,
    )


__all__ = ["Event", "Retraining", "RetrainingDecision", "RetrainingPolicy", "decide", "started", "under_way"]
