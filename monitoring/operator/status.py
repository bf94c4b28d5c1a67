"""The status of a ModelRelease. It is all the memory the operator has, so the operator may be killed at any time."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from clickmill.release import Decision, Phase, Release, Smoke
from monitoring.operator.resource import SPOKEN
from monitoring.release.alerts import Alerts

HISTORY = 20
"""Lines that are kept; all of them were events as well."""
TELL_SECONDS = 60.0
"""What is waited for is told anew no more often: its numbers change at every look, and each telling is a write."""

WIDTH = 100
"""Characters of the reason that `kubectl get` shows."""


class State(Release):
    """`clickmill.release.Release` in camelCase."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)


class Spell(BaseModel):
    """A time in which the split did not change. It ends where the next one begins."""

    model_config = SPOKEN

    phase: Phase
    """Of the release, all the while."""
    percent: int | None = None
    """The candidate's share, in canary."""
    since: AwareDatetime
    """Its begin."""


class Line(BaseModel):
    """One decision that changed the state."""

    model_config = SPOKEN

    at: AwareDatetime
    """When."""
    phase: Phase
    """From then on."""
    percent: int | None = None
    """The candidate's share from then on."""
    bundle: str
    """First 12 digits of the bundle it is about."""
    by: str
    """Who decided."""
    reason: str
    """Why."""


class ConditionType(StrEnum):
    """What can be said."""

    ACCEPTED = "Accepted"  # the spec can be carried out
    PROMOTED = (
        "Promoted"  # the bundle of the spec serves (True), was taken back (False), or is under way (Unknown)
    )
    CARRIED_OUT = "CarriedOut"  # traffic is split as decided
    FROZEN = "Frozen"  # nothing goes forward
    EDITED = "Edited"  # somebody changed by hand what the operator writes; it is left as it is
    ALERTED = "Alerted"  # an alert that asks for a rollback fires
    EVIDENCE = "EvidenceAvailable"  # Prometheus answers


class Condition(BaseModel):
    """As the API conventions have it."""

    model_config = SPOKEN

    type: str
    """What is said."""
    status: Literal["True", "False", "Unknown"]
    """Whether it is so."""
    reason: Annotated[str, Field(pattern=r"^[A-Za-z]\w*$", max_length=64)]
    """In one word."""
    message: str = ""
    """In words."""
    last_transition_time: AwareDatetime
    """When `status` last changed."""
    observed_generation: int = 0
    """The spec that was seen."""


class Short(BaseModel):
    """For `kubectl get`."""

    model_config = SPOKEN

    stable: str = ""
    """First 12 digits of the bundle that serves."""
    candidate: str = ""
    """First 12 digits of the bundle under way."""
    share: str = ""
    """Of the candidate: `5%`, `mirrored`, or nothing."""
    why: str = ""
    """The first words of `message`."""


class Status(BaseModel):
    """Where the releases of an endpoint stand."""

    model_config = SPOKEN

    observed_generation: int = 0
    """The spec that was seen."""
    release: State | None = None
    """State of the release machine; none until the InferenceService was found."""
    uris: dict[str, str] = {}
    """Digest to address, of each bundle that may have to serve."""
    home: str | None = None
    """Digest of the bundle that all pods of the InferenceService were last seen to have."""
    proposed_generation: int = 0
    """The spec that named the last candidate."""
    smoke: Smoke | None = None
    """What became of the candidate's golden predictions."""
    about: str | None = None
    """Digest of the bundle that `spells` and `smoke` are about."""
    spells: tuple[Spell, ...] = ()
    """Oldest first; evidence is looked up for each of them."""
    alerts: Alerts = Alerts()
    """Told by Alertmanager, written before it was answered."""
    message: str = ""
    """Why it stands where it stands."""
    told_at: AwareDatetime | None = None
    """When `message` was written."""
    short: Short = Short()
    """The same in a few digits."""
    history: tuple[Line, ...] = ()
    """The last decisions, oldest first."""
    conditions: tuple[Condition, ...] = ()
    """One of each type."""

    @classmethod
    def from_storage(cls, stored: dict[str, Any] | None) -> Status:
        """From the object's `status`. Raises pydantic's ValidationError for one that was altered."""
        return cls.model_validate(stored or {})

    def for_storage(self) -> dict[str, Any]:
        """As the object's `status`."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)

    @property
    def state(self) -> Release:
        """What the release machine takes; there must be one."""
        assert self.release is not None
        return Release.model_validate(self.release.model_dump())

    def with_decision(self, decision: Decision, now: datetime) -> Status:
        """After a decision that changed the state: written down, with a new spell and what follows from it."""
        release = decision.next
        before = self.release
        accused = release.candidate or (before and before.candidate) or release.stable
        line = Line(
            at=now,
            phase=release.phase,
            percent=release.percent,
            bundle=accused[:12],
            by=decision.by,
            reason=decision.reason,
        )
        about = release.candidate or release.stable
        fresh = about != self.about
        spells = () if fresh else self.spells
        if not spells or (spells[-1].phase, spells[-1].percent) != (release.phase, release.percent):
            spells = (*spells, Spell(phase=release.phase, percent=release.percent, since=now))
        return self.model_copy(
            update={
                "release": State.model_validate(release.model_dump()),
                "about": about,
                "spells": spells,
                "smoke": None if fresh else self.smoke,
                "history": (*self.history, line)[-HISTORY:],
                "message": decision.reason,
                "told_at": now,
                "short": _short(release, decision.reason),
            }
        )

    def with_conditions(self, said: Iterable[Condition]) -> Status:
        """With these in place of those of their type; the time of one whose status did not change stays."""
        kept = {each.type: each for each in self.conditions}
        for new in said:
            old = kept.get(new.type)
            if old is not None and old.status == new.status:
                new = new.model_copy(update={"last_transition_time": old.last_transition_time})
            kept[new.type] = new
        return self.model_copy(update={"conditions": tuple(kept[name] for name in sorted(kept))})

    def told(self, words: str, now: datetime) -> Status:
        """With what is waited for now, unless it was told a moment ago."""
        if words == self.message:
            return self
        if self.told_at is not None and (now - self.told_at).total_seconds() < TELL_SECONDS:
            return self
        short = self.short.model_copy(update={"why": _first(words)})
        return self.model_copy(update={"message": words, "told_at": now, "short": short})


def _first(words: str) -> str:
    return words if len(words) <= WIDTH else f"{words[: WIDTH - 1]}…"


def _short(release: Release, reason: str) -> Short:
    share = f"{release.percent}%" if release.percent else "mirrored" * (release.phase is Phase.SHADOW)
    return Short(
        stable=release.stable[:12],
        candidate=(release.candidate or "")[:12],
        share=share,
        why=_first(reason),
    )


__all__ = [
    "HISTORY",
    "TELL_SECONDS",
    "Condition",
    "ConditionType",
    "Line",
    "Short",
    "Spell",
    "State",
    "Status",
]
