"""Where a release stands: one endpoint, the bundle that serves, the one that wants to, and how the traffic is split."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from pydantic import AwareDatetime, BaseModel, ConfigDict, model_validator

_FROZEN = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Phase(StrEnum):
    """What is being done. One sentence each."""

    CANDIDATE = (
        "candidate"  # a bundle is named and waits: for the end of a freeze, or its turn to be looked at
    )
    SMOKE = "smoke"  # golden predictions are replayed on the candidate, no live traffic
    SHADOW = "shadow"  # the candidate answers beside the stable bundle, unseen
    CANARY = "canary"  # the candidate has a share of live traffic, raised step by step
    PROMOTED = "promoted"  # the stable bundle has all traffic and is watched; the one before it stays warm
    ROLLED_BACK = "rolled_back"  # the last good bundle has all traffic again


UNDER_WAY = frozenset({Phase.CANDIDATE, Phase.SMOKE, Phase.SHADOW, Phase.CANARY})
"""Phases with a candidate."""


class Freeze(BaseModel):
    """Nothing goes forward; back is always open."""

    model_config = _FROZEN

    by: str
    """Who asked for it."""
    reason: str
    """Why."""
    until: AwareDatetime | None = None
    """When it ends by itself; None: when somebody resumes."""


class Quarantined(BaseModel):
    """A bundle that was taken back. It is not released again unless somebody names it and says so."""

    model_config = _FROZEN

    bundle: str
    """Digest."""
    at: AwareDatetime
    """When it was taken back."""
    reason: str
    """Why."""


class Split(BaseModel):
    """What a target has to carry out: who answers, who listens in, who stays warm."""

    model_config = _FROZEN

    percent: dict[str, int]
    """Digest to its share of live traffic; adds up to 100."""
    shadow: str | None = None
    """Digest of the bundle that gets a copy of each request."""
    warm: tuple[str, ...] = ()
    """Digests that must be ready though they get nothing."""
    spare: str | None = None
    """Digest of a trusted bundle that answers where the chosen one can't; it has a share or is warm."""
    settled: bool = False
    """Nothing is under way: a target may move the bundle that serves to where it belongs."""

    @model_validator(mode="after")
    def _adds_up(self) -> Split:
        if sum(self.percent.values()) != 100 or min(self.percent.values()) < 1:
            raise ValueError(f"shares must be above 0 and add up to 100; got {self.percent}")
        if self.spare is not None and self.spare not in (*self.percent, *self.warm):
            raise ValueError(f"the spare bundle {self.spare} must have a share or be warm")
        return self


class Release(BaseModel):
    """State of one endpoint's releases. Frozen: `machine` makes the next one. `model_dump_json` is its form in storage."""

    model_config = _FROZEN

    endpoint: str
    """Name of the endpoint."""
    phase: Phase
    """What is being done."""
    since: AwareDatetime
    """When phase or step began."""
    stable: str
    """Digest of the bundle that is trusted."""
    last_good: str | None = None
    """Digest of the one before it, kept warm; None until a second bundle was promoted, and after it had to be used."""
    candidate: str | None = None
    """Digest of the bundle under way."""
    percent: int | None = None
    """The candidate's share of live traffic, in canary only."""
    freeze: Freeze | None = None
    """Set while nothing may go forward."""
    quarantine: tuple[Quarantined, ...] = ()
    """Bundles that were taken back, in that order."""

    @model_validator(mode="after")
    def _keeps_the_law(self) -> Release:
        if (self.candidate is not None) is not (self.phase in UNDER_WAY):
            raise ValueError(f"phase {self.phase} does not go with candidate {self.candidate}")
        if (self.percent is not None) is not (self.phase is Phase.CANARY):
            raise ValueError(f"phase {self.phase} does not go with a share of {self.percent}")
        if self.percent is not None and not 1 <= self.percent <= 100:
            raise ValueError(f"percent must be from 1 to 100; got {self.percent}")
        if self.stable in (self.candidate, self.last_good):
            raise ValueError(f"{self.stable} cannot be stable and something else")
        banned = {entry.bundle for entry in self.quarantine}
        for role in ("stable", "candidate", "last_good"):
            if getattr(self, role) in banned:
                raise ValueError(f"the {role} bundle {getattr(self, role)} is in quarantine")
        return self

    @classmethod
    def first(cls, endpoint: str, bundle: str, now: datetime) -> Release:
        """The first bundle of an endpoint serves at once: there is nothing to compare it with, the gate's floors have to do."""
        return cls(endpoint=endpoint, phase=Phase.PROMOTED, since=now, stable=bundle)

    @property
    def split(self) -> Split:
        """Who gets what now. The stable bundle is always in it: at 100 percent canary it stays warm."""
        warm = {self.stable, self.last_good, self.candidate} - {None}
        if self.phase is Phase.CANARY and self.candidate is not None and self.percent is not None:
            shares = {self.candidate: self.percent, self.stable: 100 - self.percent}
            percent = {bundle: share for bundle, share in shares.items() if share}
        else:
            percent = {self.stable: 100}
        shadow = self.candidate if self.phase is Phase.SHADOW else None
        idle = sorted(bundle for bundle in warm if bundle is not None and bundle not in percent)
        spare = self.stable if self.phase is Phase.CANARY else self.last_good
        settled = self.phase not in UNDER_WAY
        return Split(percent=percent, shadow=shadow, warm=tuple(idle), spare=spare, settled=settled)

    def banned(self, bundle: str) -> Quarantined | None:
        """Its entry in quarantine."""
        return next((entry for entry in self.quarantine if entry.bundle == bundle), None)


__all__ = ["UNDER_WAY", "Freeze", "Phase", "Quarantined", "Release", "Split"]
