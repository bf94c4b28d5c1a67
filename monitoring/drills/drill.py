"""What a drill is: one fault, the verdict that must follow, and why. Declared in `catalogue`, carried out by `run`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from monitoring.drills.faulty_bundles import Wrong
from monitoring.drills.site import Site


class Expected(StrEnum):
    """How a drill must end. One sentence each."""

    ROLLED_BACK = "rolled_back"  # the last good bundle has all traffic again, by itself, and the bad one is in quarantine
    REFUSED = (
        "refused"  # a candidate was taken back before it had all traffic; the good bundle served all along
    )
    STAYS = "stays"  # the bundle that serves goes on, and people are told what helps instead


@dataclass(frozen=True)
class Scene:
    """What a fault can use."""

    site: Site
    """The running system; its first bundle is seen to be good."""
    good: Path
    """Folder of that bundle."""
    faulty: Callable[[Wrong], Path]
    """Folder of a bundle that is wrong in one way."""


@dataclass(frozen=True)
class Drill:
    """One entry of the catalogue."""

    name: str
    """On the command line."""
    injects: str
    """What is done, in a sentence."""
    must: str
    """What must happen, in a sentence."""
    why: str
    """Why that is right."""
    inject: Callable[[Scene], None]
    """Does it, and returns when it is done. Notes it in the timeline."""
    expected: Expected
    """How it must end."""
    bundles: tuple[Wrong, ...] = ()
    """Faulty bundles it needs, made before anything starts."""
    because: tuple[str, ...] = ()
    """For a rollback: words of which one must stand in the machine's reason. Else: alerts of which one must reach people."""
    needs_alerts: bool = False
    """Whether it is about alerts, or only they can find the fault: it can't run without Prometheus and Alertmanager."""
    silent: tuple[str, ...] = ()
    """Alerts that must not reach people or the machine: held back, or nobody's fault."""
    quarantined: int = 1
    """Bundles that a rollback must leave in quarantine."""
    serving: bool = False
    """Whether the fault is in answering itself: then all must be restored within a minute."""
    seconds: float = 150.0
    """After the fault, until which the verdict must have come; generous, since a busy machine stalls."""
    watch_seconds: float = 12.0
    """After the verdict, for which it must hold."""


__all__ = ["Drill", "Expected", "Scene"]
