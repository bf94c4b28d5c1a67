"""Conditions of a ModelRelease: what `kubectl describe` says of it, and what `kubectl wait` waits for. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Literal

from clickmill.release.release import UNDER_WAY
from monitoring.operator import rollout
from monitoring.operator.resource import ModelReleaseSpec
from monitoring.operator.standard import Observed
from monitoring.operator.status import Condition, ConditionType, Status

Truth = Literal["True", "False", "Unknown"]


def conditions(
    status: Status,
    spec: ModelReleaseSpec,
    observed: Observed | None,
    trouble: tuple[str, str] | None,
    evidence_error: str,
    now: datetime,
    generation: int,
) -> tuple[Condition, ...]:
    """All that can be said. trouble: (reason, words) why the spec can't be carried out."""

    def say(kind: ConditionType, truth: bool | None, reason: str, words: str = "") -> Condition:
        status: Truth = "Unknown" if truth is None else "True" if truth else "False"
        return Condition(
            type=kind,
            status=status,
            reason=reason,
            message=words,
            last_transition_time=now,
            observed_generation=generation,
        )

    def all_of_them() -> Iterator[Condition]:
        yield (
            say(ConditionType.ACCEPTED, False, *trouble)
            if trouble
            else say(ConditionType.ACCEPTED, True, "Fits")
        )
        if evidence_error:
            yield say(ConditionType.EVIDENCE, False, "PrometheusSilent", evidence_error)
        else:
            yield say(ConditionType.EVIDENCE, True, "Answers")
        release = status.release
        if release is None:
            return
        yield say(ConditionType.PROMOTED, *_promoted(status, spec))
        frozen = release.freeze
        yield (
            say(ConditionType.FROZEN, False, "No")
            if frozen is None
            else say(ConditionType.FROZEN, True, "Frozen", f"by {frozen.by}: {frozen.reason}")
        )
        firing = status.alerts.firing.values()
        words = "; ".join(f"{each.name} about {each.bundle}: {each.summary}" for each in firing)
        yield say(ConditionType.ALERTED, bool(firing), "Firing" if firing else "Quiet", words)
        if observed is None:
            return
        edited = rollout.edits(observed)
        yield say(ConditionType.EDITED, bool(edited), "ByHand" if edited else "No", edited)
        undone = rollout.undone(release, observed, spec.target.mode)
        yield say(ConditionType.CARRIED_OUT, not undone, "AsDecided" if not undone else "Waits", undone)

    return tuple(all_of_them())


def _promoted(status: Status, spec: ModelReleaseSpec) -> tuple[bool | None, str, str]:
    """The verdict on the bundle of the spec."""
    release, wanted = status.state, spec.bundle.digest
    banned = release.banned(wanted)
    if banned is not None:
        return False, "RolledBack", banned.reason
    if wanted == release.stable:
        return True, "Serves", f"bundle {wanted[:12]} has all traffic"
    if release.phase in UNDER_WAY and wanted == release.candidate:
        where = f" at {release.percent} %" if release.percent else ""
        return None, "UnderWay", f"{release.phase}{where}"
    return None, "Waits", "it has not had its turn"


__all__ = ["conditions"]
