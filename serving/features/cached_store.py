"""A feature store with a memory: rows read a moment ago are not read again, and many who miss the same id at once wait for one read.

What is remembered are the store's bytes, so that age is still judged when a request asks; and all of one publication, so that a request
sees one publication with a memory as without. An id that the store does not know is remembered too.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cachetools import TTLCache

from serving.features.publication import Publication
from serving.features.store import FeatureStore, Stored

Key = tuple[str, str]
"""Name of the id field, and an id."""

Count = Callable[[str, int], None]
"""Gets how many ids were a `hit`, waited for a read under way (`shared`), or were a `miss`."""


_UNKNOWN: Any = object()
"""None is an id that the store does not know."""


@dataclass(frozen=True)
class _Landed:
    """What a read brought."""

    publication: Publication | None
    rows: Mapping[Key, bytes | None]


class CachedStore:
    """A FeatureStore over another. One per event loop."""

    def __init__(
        self,
        store: FeatureStore,
        *,
        rows: int,
        seconds: float,
        count: Count = lambda outcome, ids: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """At most `rows` rows (at least 1) of at most `seconds` age."""
        self.address = store.address
        self._store, self._count = store, count
        self._rows: TTLCache[Key, bytes | None] = TTLCache(rows, seconds, clock)
        self._publication: Publication | None = None
        self._flights: dict[Key, asyncio.Task[_Landed]] = {}

    async def read(self, ids: Mapping[str, Sequence[str]]) -> Stored:
        """As `FeatureStore.read` says; a failure is that of all who wait for the read, and is not remembered."""
        wanted = {(entity, i) for entity, given in ids.items() for i in given}
        if not wanted:
            return await self._store.read(ids)
        found = {key: self._rows.get(key, _UNKNOWN) for key in wanted}
        known = {key: row for key, row in found.items() if row is not _UNKNOWN}
        flying = {key: self._flights[key] for key in wanted if key not in known and key in self._flights}
        missing = [key for key in wanted if key not in known and key not in flying]
        for outcome, keys in (("hit", known), ("shared", flying), ("miss", missing)):
            self._count(outcome, len(keys))
        parts = [_Landed(self._publication, known)] if known else []
        flights = set(flying.values()) | ({self._take_off(missing)} if missing else set())
        for flight in flights:
            parts.append(await asyncio.shield(flight))
        if len({_version(part) for part in parts}) > 1:
            # a publication came in between, and no request shall see some of each
            parts = [await asyncio.shield(self._take_off(wanted))]
        rows = {key: row for part in parts for key, row in part.rows.items()}
        return Stored(
            parts[0].publication, {entity: [rows[entity, i] for i in given] for entity, given in ids.items()}
        )

    async def close(self) -> None:
        """Drop what is under way, and close the store."""
        flights = set(self._flights.values())
        for flight in flights:
            flight.cancel()
        await asyncio.gather(*flights, return_exceptions=True)
        await self._store.close()

    def _take_off(self, keys: Iterable[Key]) -> asyncio.Task[_Landed]:
        keys = tuple(keys)
        flight = asyncio.create_task(self._fetch(keys))
        self._flights |= dict.fromkeys(keys, flight)

        def land(done: asyncio.Task[_Landed]) -> None:
            for key in keys:
                if self._flights.get(key) is done:
                    del self._flights[key]
            if not done.cancelled():
                done.exception()  # asked for, else asyncio reports it when every waiter has gone

        flight.add_done_callback(land)
        return flight

    async def _fetch(self, keys: Sequence[Key]) -> _Landed:
        ids: dict[str, list[str]] = {}
        for entity, i in keys:
            ids.setdefault(entity, []).append(i)
        stored = await self._store.read(ids)
        rows = {
            (entity, i): row
            for entity, given in ids.items()
            for i, row in zip(given, stored.rows[entity], strict=True)
        }
        landed = _Landed(stored.publication, rows)
        if _version(landed) != (self._publication and self._publication.version):
            self._rows.clear()
            self._publication = stored.publication
        self._rows.update(rows)
        return landed


def _version(landed: _Landed) -> str | None:
    return landed.publication.version if landed.publication else None
