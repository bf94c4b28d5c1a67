"""Judges from its timeline how a drill ended. Pure: the same timeline gives the same outcome."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from clickmill.release import Entry, Phase, Release
from monitoring.drills.drill import Drill, Expected
from monitoring.drills.timeline import Answer, Event, Kind, Timeline

ALERT_TO_STABLE_SECONDS = 5.0
"""Goal from an alert until all traffic is on the last good bundle."""
PAUSE_SECONDS = 2.0
"""From which on a pause of the machine is told: it is the router's patience with a server."""
FAULT_TO_RESTORED_SECONDS = 60.0
"""Goal from a fault of serving until then, at intervals of a second."""


@dataclass(frozen=True)
class Outcome:
    """What came of a drill. Times are Unix times; None for what did not happen."""

    drill: str
    """Its name."""
    problems: tuple[str, ...]
    """What was not as expected; empty when all was."""
    fault_at: float
    """When users first felt it."""
    alert_at: float | None
    """When the first rule that asks for the rollback began to fire; None where the machine saw by itself."""
    decided_at: float | None
    """When the rollback was decided."""
    restored_at: float | None
    """When the last answer of the bad bundle was over."""
    told_at: float | None
    """When people heard of it by one of the expected alerts."""
    reason: str
    """The machine's, of the rollback; or the words people were told."""
    requests: int
    """All from the fault on."""
    lost: int
    """Of them: not answered with a prediction."""
    asked_again: int
    """Of them: tried more than once, since no connection could be made or the endpoint had no room."""
    paused: float
    """Longest time, seconds, for which the machine let the drill itself stand still."""

    @property
    def as_expected(self) -> bool:
        """The verdict of the drill."""
        return not self.problems

    @property
    def alert_to_stable(self) -> float | None:
        """Seconds."""
        return _between(self.alert_at, self.restored_at)

    @property
    def fault_to_restored(self) -> float | None:
        """Seconds."""
        return _between(self.fault_at, self.restored_at)

    @property
    def fault_to_told(self) -> float | None:
        """Seconds."""
        return _between(self.fault_at, self.told_at)


def settled(drill: Drill, timeline: Timeline, entries: Sequence[Entry], fault: float) -> bool:
    """Whether what was expected has come (and has then to hold)."""
    if drill.expected is Expected.STAYS:
        return any(event.name in drill.because for event in timeline.of(Kind.TOLD, since=fault))
    back = any(entry.state.phase is Phase.ROLLED_BACK and entry.at.timestamp() >= fault for entry in entries)
    return back and timeline.answers[-1].bundle == entries[-1].state.stable


def judge(drill: Drill, timeline: Timeline, entries: Sequence[Entry], good: str, fault: float) -> Outcome:
    """entries: of the journal. good: digest of the bundle that served at first. fault: when it began to be put in; what was before does not count."""
    answers = sorted((a for a in timeline.answers if a.done >= fault), key=lambda answer: answer.done)
    later = [entry for entry in entries if entry.at.timestamp() >= fault]
    backs = [entry for entry in later if entry.state.phase is Phase.ROLLED_BACK]
    bad = [answer for answer in answers if answer.bundle not in ("", good)]
    told = timeline.of(Kind.TOLD, since=fault)
    lost = sum(answer.status != 200 for answer in answers)
    helpful = [event for event in told if event.name in drill.because]
    problems = [
        *_of_the_end(drill, entries[-1].state, later, backs, good, fault),
        *_of_the_reason(drill, backs, helpful),
        *_of_silence(drill, told, later),
    ]
    if lost:
        problems.append(f"{lost} of {len(answers)} requests were lost: {_statuses(answers)}")
    felt = min((answer.done for answer in bad), default=fault)
    decided = backs[0].at.timestamp() if backs else None
    restored = max([decided, *(answer.done for answer in bad)]) if decided else None
    if decided and drill.expected is Expected.ROLLED_BACK and answers[-1].bundle != good:
        problems.append("the last answer is not the good bundle's")
    alerts = [
        event
        for event in timeline.of(Kind.ALERT, since=fault)
        if event.action == "rollback" and not good.startswith(event.bundle or "-")
    ]
    by_alert = bool(backs) and "alert " in backs[0].reason
    reason = backs[0].reason if backs else helpful[0].words if helpful else ""
    return Outcome(
        drill=drill.name,
        problems=tuple(problems),
        fault_at=felt,
        alert_at=alerts[0].at if alerts and by_alert else None,
        decided_at=decided,
        restored_at=restored,
        told_at=helpful[0].at if helpful else None,
        reason=reason,
        requests=len(answers),
        lost=lost,
        asked_again=sum(answer.tries > 1 for answer in answers),
        paused=timeline.longest_pause,
    )


def _of_the_end(
    drill: Drill, last: Release, later: Sequence[Entry], backs: Sequence[Entry], good: str, fault: float
) -> list[str]:
    found = []
    if last.stable != good:
        found.append(f"bundle {last.stable[:12]} serves at the end, not the good one ({good[:12]})")
    if drill.expected is Expected.STAYS:
        if backs:
            found.append(f"rolled back, which helps nobody here: {backs[0].reason}")
        return found
    if len(backs) != 1:
        found.append(f"{len(backs)} rollbacks instead of one" if backs else "no rollback")
    if last.phase is not Phase.ROLLED_BACK:
        found.append(f"the release is in phase {last.phase} at the end, not rolled_back")
    if backs and last.banned(good) is not None:
        found.append("the good bundle is in quarantine")
    banned = sum(each.at.timestamp() >= fault for each in last.quarantine)
    if backs and banned != drill.quarantined:
        found.append(f"{banned} bundles went to quarantine instead of {drill.quarantined}")
    if drill.expected is Expected.REFUSED and any(entry.state.stable != good for entry in later):
        found.append("the candidate was promoted")
    return found


def _of_the_reason(drill: Drill, backs: Sequence[Entry], helpful: Sequence[Event]) -> list[str]:
    wanted = " or ".join(drill.because)
    if drill.expected is Expected.STAYS:
        return [] if helpful else [f"people did not hear of {wanted}"]
    if backs and not any(word in backs[0].reason for word in drill.because):
        return [f"rolled back, but not because of {wanted}: {backs[0].reason}"]
    return []


def _of_silence(drill: Drill, told: Sequence[Event], later: Sequence[Entry]) -> list[str]:
    heard = {event.name for event in told} | {
        name for name in drill.silent for entry in later if name in entry.reason
    }
    return [f"{name} was told, which should have been held back" for name in drill.silent if name in heard]


def _statuses(answers: Sequence[Answer]) -> str:
    counts: dict[int, int] = {}
    for answer in answers:
        counts[answer.status] = counts.get(answer.status, 0) + 1
    return ", ".join(f"{n} x {status or 'no answer'}" for status, n in sorted(counts.items()))


def _between(start: float | None, end: float | None) -> float | None:
    return None if start is None or end is None else max(end - start, 0.0)


__all__ = [
    "ALERT_TO_STABLE_SECONDS",
    "FAULT_TO_RESTORED_SECONDS",
    "PAUSE_SECONDS",
    "Outcome",
    "judge",
    "settled",
]
