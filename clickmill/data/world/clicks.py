"""When the click log hears of a click, and what is wrong in it."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from clickmill.data.world.config import ClickDelay, Dirt
from clickmill.data.world.population import Ints

# Ids of impressions that no log holds: far above any running number, still exact in a double (JSON).
_ORPHAN_ID = 2**52


@dataclass(frozen=True)
class ClickEvents:
    """Rows of a click log. All arrays (n,)."""

    impression_id: Ints
    time_us: Ints
    """Microseconds since the epoch, UTC: when the click is known."""
    user: Ints
    ad: Ints
    genuine: NDArray[np.bool_]
    """False for duplicates and orphans: those are in the log but nobody clicked."""

    def __len__(self) -> int:
        return len(self.impression_id)

    @classmethod
    def none(cls) -> ClickEvents:
        """An empty log."""
        empty = np.zeros(0, dtype=np.int64)
        return cls(empty, empty, empty, empty, empty.astype(bool))

    def take(self, where: NDArray[np.bool_] | Ints) -> ClickEvents:
        """Rows by mask or index."""
        return ClickEvents(**{field.name: getattr(self, field.name)[where] for field in fields(self)})

    def plus(self, *others: ClickEvents) -> ClickEvents:
        """All rows, one log after the other."""
        return ClickEvents(
            **{
                f.name: np.concatenate([getattr(log, f.name) for log in (self, *others)])
                for f in fields(self)
            }
        )


def delays_us(n: int, delay: ClickDelay, rng: np.random.Generator) -> Ints:
    """(n,) delays in microseconds, each at least one microsecond and at most `delay.max_s`."""
    shares = np.array([component.share for component in delay.components])
    kind = rng.choice(len(shares), n, p=shares / shares.sum())
    median = np.array([component.median_s for component in delay.components])[kind]
    sigma = np.array([component.sigma for component in delay.components])[kind]
    seconds = median * np.exp(sigma * rng.normal(size=n))
    return np.asarray(np.clip(seconds, 1e-6, delay.max_s) * 1e6, dtype=np.int64)


def with_dirt(events: ClickEvents, dirt: Dirt, first_orphan: int, rng: np.random.Generator) -> ClickEvents:
    """`events` plus duplicates (the same impression again, seconds later) and orphans (about as late as real clicks).

    `first_orphan` numbers the orphans, so that no two share an id.
    """
    again = events.take(np.flatnonzero(rng.random(len(events)) < dirt.duplicate_share))
    later = 1 + rng.exponential(2e6, len(again)).astype(np.int64)
    none = np.zeros(len(again), dtype=bool)
    duplicates = ClickEvents(again.impression_id, again.time_us + later, again.user, again.ad, none)
    orphans = events.take(np.flatnonzero(rng.random(len(events)) < dirt.orphan_share))
    unknown = _ORPHAN_ID + first_orphan + np.arange(len(orphans))
    orphans = ClickEvents(
        unknown, orphans.time_us, orphans.user, orphans.ad, np.zeros(len(orphans), dtype=bool)
    )
    return events.plus(duplicates, orphans)


def is_orphan(events: ClickEvents) -> NDArray[np.bool_]:
    """(n,): does the row name an impression that never was?"""
    return np.asarray(events.impression_id >= _ORPHAN_ID)


class ClickQueue:
    """Clicks that have happened but are not known yet."""

    def __init__(self) -> None:
        self._pending = ClickEvents.none()

    def __len__(self) -> int:
        return len(self._pending)

    def push(self, events: ClickEvents) -> None:
        """Add clicks in any order."""
        self._pending = self._pending.plus(events)

    def pop(self, before_us: int) -> ClickEvents:
        """Remove and return the clicks known before `before_us`, in the order of time, then impression."""
        due = self._pending.time_us < before_us
        events = self._pending.take(due)
        self._pending = self._pending.take(~due)
        return events.take(np.lexsort((events.impression_id, events.time_us)))
