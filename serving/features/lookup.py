"""From ids to raw tensors: what the store knows and is fresh enough, and the contract's default for all else, counted by reason.

Whatever happens to the store, a request gets an answer within its deadline. The values go through the very code that fills
the missing in training (`clickmill.features.tensors`), so that a default here is a default there.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

import numpy as np

from clickmill.contract import FeatureContract
from clickmill.features.tensors import Raw
from serving.features.breaker import Breaker, BreakerPolicy
from serving.features.metrics import FeatureMetrics
from serving.features.publication import Publication, definition
from serving.features.rows import Column, Reason, columns_of, nothing
from serving.features.store import FeatureStore, Stored, StoreUnreachable

Id = str | bytes | int | None

Run = Callable[[Callable[[], Any]], Awaitable[Any]]
"""Runs work and gives what it returns."""


async def at_once(work: Callable[[], Any]) -> Any:
    """Where one is."""
    return work()


class Outcome(StrEnum):
    """What became of a read of the store."""

    OK = "ok"
    LATE = "late"  # not there when the request's deadline came
    FAILED = "failed"  # the store refused, broke off, or was not there
    SKIPPED = "skipped"  # not asked: it had failed several times in a row


_REASONS = {
    Outcome.LATE: Reason.LATE,
    Outcome.FAILED: Reason.UNREACHABLE,
    Outcome.SKIPPED: Reason.UNREACHABLE,
}


@dataclass(frozen=True)
class Found:
    """Values for the ids that were asked for."""

    raw: Raw
    """By field, n values (n, or n x L for a list) in the order of the field's ids, nothing missing: as `clickmill.features.tensors`."""
    reasons: Mapping[str, np.ndarray]
    """By field (n,) of `Reason`: why the default stands there; None where the store's value does."""
    outcome: Outcome
    """What became of the read."""
    version: str | None
    """Version of the publication; None when there is none."""
    as_of: datetime | None
    """When its aggregates were true."""


class Lookup:
    """Reads a contract's users and ads from a store. One per process and event loop."""

    def __init__(
        self,
        contract: FeatureContract,
        store: FeatureStore,
        metrics: FeatureMetrics,
        *,
        breaker: BreakerPolicy | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """clock: seconds since 1970, for the age of values."""
        self._entities = contract.entities
        self._definitions = {n: definition(f) for kept in self._entities.values() for n, f in kept.items()}
        self._store, self._metrics, self._clock = store, metrics, clock
        self._breaker = Breaker(breaker or BreakerPolicy())
        self._pending: set[asyncio.Task[Stored]] = set()
        self._seen: Publication | None = None

    async def find(
        self,
        ids: Mapping[str, Sequence[Id]],
        *,
        deadline_s: float,
        only: Container[str] | None = None,
        run: Run = at_once,
    ) -> Found:
        """Values for many ids of several kinds, {name of the id field: ids}; None for an id that the request lacks. Of all fields kept
        under them, or of those in `only`. `run` decodes what was read, on a thread where that is long for an event loop.

        Takes at most about `deadline_s` seconds and never raises for what the store does. Raises KeyError for an id field under
        which the contract keeps nothing.
        """
        texts = {entity: [_text(i) for i in wanted] for entity, wanted in ids.items()}
        stored, outcome = await self._read(
            {entity: [t for t in wanted if t is not None] for entity, wanted in texts.items()}, deadline_s
        )
        self._metrics.reads.labels(outcome).inc()
        publication = stored.publication if stored else None
        raw, reasons = await run(lambda: self._decoded(texts, stored, outcome, only))
        self._note(publication)
        return Found(
            raw,
            reasons,
            outcome,
            publication.version if publication else None,
            publication.as_of if publication else None,
        )

    def _decoded(
        self,
        texts: Mapping[str, Sequence[str | None]],
        stored: Stored | None,
        outcome: Outcome,
        only: Container[str] | None,
    ) -> tuple[Raw, dict[str, np.ndarray]]:
        now = self._clock()
        raw: Raw = {}
        reasons: dict[str, np.ndarray] = {}
        for entity, wanted in texts.items():
            fields = self._entities[entity]
            if only is not None:
                fields = {name: f for name, f in fields.items() if name in only}
            if stored is None:
                columns = nothing(fields, wanted, _REASONS[outcome])
            else:
                columns = columns_of(fields, self._definitions, entity, wanted, stored, now)
            for name, column in columns.items():
                raw[name], reasons[name] = column.values, column.reasons
                self._count(name, column)
        return raw, reasons

    async def close(self) -> None:
        """Drop what is still under way and close the store."""
        for task in self._pending:
            task.cancel()
        await asyncio.gather(*self._pending, return_exceptions=True)
        await self._store.close()

    async def _read(
        self, ids: Mapping[str, Sequence[str]], deadline_s: float
    ) -> tuple[Stored | None, Outcome]:
        start = time.monotonic()
        if not self._breaker.allows(start):
            return None, Outcome.SKIPPED
        # The deadline ends the request's wait, not the read: cancelled in the middle, a connection is lost, and one that takes
        # longer to open than any deadline would never open.
        task = asyncio.create_task(self._store.read(ids))
        self._pending.add(task)
        task.add_done_callback(self._forget)
        done, _ = await asyncio.wait({task}, timeout=deadline_s)
        end = time.monotonic()
        self._metrics.read_seconds.observe(end - start)
        if not done:
            self._breaker.failed(end)
            return None, Outcome.LATE
        try:
            stored = task.result()
        except (StoreUnreachable, asyncio.CancelledError):  # cancelled: the store is being closed
            self._breaker.failed(end)
            return None, Outcome.FAILED
        self._breaker.succeeded()
        return stored, Outcome.OK

    def _forget(self, task: asyncio.Task[Stored]) -> None:
        self._pending.discard(task)
        if not task.cancelled():
            task.exception()  # asked for, else asyncio reports a late failure as one that nobody looked at

    def _count(self, name: str, column: Column) -> None:
        for reason, count in column.counts.items():
            if count:
                self._metrics.defaulted.labels(name, reason).inc(count)
        if len(column.ages):
            self._metrics.age.observe(column.ages, name)

    def _note(self, publication: Publication | None) -> None:
        if publication is None or publication is self._seen:
            return
        self._seen = publication
        self._metrics.publication.clear()
        self._metrics.publication.labels(publication.version).set(1)
        self._metrics.as_of.set(publication.as_of.timestamp())


def _text(i: Id) -> str | None:
    if i is None:
        return None
    text = i.decode("utf-8", "replace") if isinstance(i, bytes) else str(i)
    # Half a surrogate pair is legal in a Python string and in no other place.
    return text if text.isascii() else text.encode("utf-8", "replace").decode()
