"""What happened in a drill, and when: events with words, and figures by the second. Frozen; made while the drill runs, read afterwards."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum


class Kind(StrEnum):
    """Of an event. One sentence each."""

    PROCESS = "process"  # a part of the system was started, stopped or killed
    FAULT = "fault"  # the fault was put in, or taken out
    ALERT = "alert"  # a rule began to fire
    TOLD = "told"  # people were called
    SILENCE = "silence"  # the dead man's switch heard nothing
    DECISION = "decision"  # the release machine wrote into its journal
    TRAFFIC = "traffic"  # callers saw another bundle answer
    VERDICT = "verdict"  # how the drill ended


@dataclass(frozen=True)
class Event:
    """One line of the timeline."""

    at: float
    """Unix time."""
    kind: Kind
    """What it is."""
    words: str
    """For people."""
    name: str = ""
    """Of the alert, or the phase after a decision."""
    action: str = ""
    """Of the alert: rollback, retrain, page-data or none."""
    bundle: str = ""
    """First 12 digits of the bundle it is about."""


@dataclass(frozen=True)
class Answer:
    """One request, when it was over."""

    due: float
    """Unix time at which it was to be sent."""
    done: float
    """Unix time of its answer, or of giving up."""
    status: int
    """HTTP; 0 for none."""
    bundle: str
    """Digest of the bundle that answered; empty for none."""
    tries: int
    """1, or more where no connection could be made, or the endpoint had no room, and it was tried again."""
    impressions: int
    """Rows asked for."""
    predicted: float = 0.0
    """Sum of the answered probabilities: the clicks that are bid for."""
    truth: float = 0.0
    """Sum of the true ones."""


@dataclass(frozen=True)
class Figure:
    """What live quality said of a bundle."""

    at: float
    """Unix time of the look."""
    bundle: str
    """First 12 digits."""
    calibration: float
    """Predicted over real clicks."""
    low: float
    """Lower end of its 95 % interval."""
    high: float
    """Upper end of it."""
    entropy: float | None
    """NE; None below 20 clicks."""


@dataclass
class Timeline:
    """Filled by several threads while the drill runs."""

    events: list[Event] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)
    longest_pause: float = 0.0
    """Seconds for which this very process got no processor (or was stopped): above a few, the machine and not the fault was tried."""
    seen: Callable[[Event], None] = field(default=lambda event: None)
    """Hears of each event as it comes, on the thread that notes it."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def note(
        self,
        kind: Kind,
        words: str,
        *,
        at: float | None = None,
        name: str = "",
        action: str = "",
        bundle: str = "",
    ) -> Event:
        """Add an event, now or at a time."""
        event = Event(time.time() if at is None else at, kind, words, name, action, bundle)
        with self._lock:
            self.events.append(event)
        self.seen(event)
        return event

    def of(self, *kinds: Kind, since: float = 0.0) -> list[Event]:
        """Events of these kinds from `since` on, in order of time."""
        with self._lock:
            found = [event for event in self.events if event.kind in kinds and event.at >= since]
        return sorted(found, key=lambda event: event.at)


__all__ = ["Answer", "Event", "Figure", "Kind", "Timeline"]
