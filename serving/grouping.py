"""Which waiting requests are scored together: the oldest, and those behind it that ask the same bundle, up to a number of rows.

    group = the head of the queue and, in order of arrival, every request of its key until the next one would not fit
    it goes when it is full, or when its head has waited `wait_seconds`

Rows beyond `most_rows` are only ever those of a single request. Time is an argument; there is no thread, clock or request in here.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

Item = TypeVar("Item")


@dataclass(frozen=True)
class Waiting(Generic[Item]):
    """A request in the queue: `key` is what it must share with those it is scored with, `since` when it came, in seconds."""

    item: Item
    key: Hashable
    rows: int
    since: float


class Grouping(Generic[Item]):
    """A queue that gives groups. Not thread-safe."""

    def __init__(self, most_rows: int, wait_seconds: float) -> None:
        self._most, self._wait = most_rows, wait_seconds
        self._queue: list[Waiting[Item]] = []

    def __len__(self) -> int:
        return len(self._queue)

    def add(self, item: Item, key: Hashable, rows: int, now: float) -> None:
        """Put a request of `rows` rows at the end."""
        self._queue.append(Waiting(item, key, rows, now))

    def take(self, now: float) -> list[Item]:
        """The group to score now, taken out of the queue; empty when there is none or more company is worth waiting for."""
        if not self._queue:
            return []
        head = self._queue[0]
        chosen: list[int] = []
        rows, full = 0, False
        for place, waiting in enumerate(self._queue):
            if waiting.key != head.key:
                continue
            if chosen and rows + waiting.rows > self._most:
                full = True
                break
            chosen.append(place)
            rows += waiting.rows
        if not full and rows < self._most and now < head.since + self._wait:
            return []
        group = [self._queue[place].item for place in chosen]
        taken = set(chosen)
        self._queue = [waiting for place, waiting in enumerate(self._queue) if place not in taken]
        return group

    def due(self) -> float | None:
        """When the head will have waited long enough, in seconds of the same clock; None when nobody waits."""
        return self._queue[0].since + self._wait if self._queue else None
