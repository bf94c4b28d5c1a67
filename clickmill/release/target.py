"""Where a release is carried out: a router on this machine, KServe on a cluster."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from clickmill.errors import ClickmillError
from clickmill.release.evidence import Paired, Smoke, Traffic
from clickmill.release.release import Split


class TargetFailed(ClickmillError):
    """The target could not carry out a split; nothing changed for the callers, and it will be asked again. bundle: whose server it was,
    where it was one; a port that is taken is nobody's fault."""

    def __init__(self, message: str, *, bundle: str | None = None) -> None:
        super().__init__(message)
        self.bundle = bundle


@dataclass(frozen=True)
class Seen:
    """What a bundle answered since the target began to count."""

    live: Traffic = field(default_factory=Traffic)
    """On its share of the traffic."""
    shadow: Traffic = field(default_factory=Traffic)
    """On copies, unseen."""
    paired: Paired | None = None
    """While it served and the last good bundle was warm; None: this target makes no pairs, and `live` has errors of the server's own
    making only while nothing is under way."""


class Target(Protocol):
    """Carries out and counts. Level-triggered: the same split again changes nothing."""

    def carry_out(self, split: Split) -> None:
        """Give each bundle its share. A rollback must not wait for anything. Raises TargetFailed."""

    def seen(self) -> tuple[str, Mapping[str, Seen]]:
        """Name of this run of the target (counts begin at 0 with a new one), and counts by bundle."""

    def smoke(self, bundle: str) -> Smoke | None:
        """Golden predictions replayed on the bundle's own server; None while it is not up yet."""


__all__ = ["Seen", "Target", "TargetFailed"]
