"""Looks at the logs again and again, and shows what it saw."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

from prometheus_client import CollectorRegistry, start_http_server

from monitoring.live.exporter import LiveCollector, Look
from monitoring.live.joined import Joined, Slot, TakenIn
from monitoring.live.judged import JudgedCollector
from monitoring.live.reference import ReferenceCollector
from monitoring.live.settings import LiveSettings


def look(joined: Joined, predictions: Path, clicks: Path, now: datetime) -> tuple[Look, TakenIn]:
    """Take in what is new and measure every window up to `now`."""
    settings = joined.settings
    taken = joined.take_in(predictions, clicks, now)
    until = joined.ripe(now)
    slots: dict[float, list[Slot]] = {}
    for window in settings.windows_seconds:
        found = joined.labelled(until - timedelta(seconds=window), until)
        slots[window] = _most_frequent(found, settings)
    return Look(now, slots, joined.newest()), taken


def watch(
    settings: LiveSettings,
    predictions: Path,
    clicks: Path,
    state: Path,
    *,
    port: int,
    host: str,
    every: float,
    stop: threading.Event,
    store: Path | None = None,
) -> None:
    """Serve /metrics and look every `every` seconds until `stop` is set; of the bundles in `store` also what they were on their test data.

    Raises UsageError when another process has the state.
    """
    collector = LiveCollector()
    counted = JudgedCollector(settings)
    registry = CollectorRegistry()
    registry.register(collector)
    registry.register(counted)
    if store is not None:
        registry.register(ReferenceCollector(store))
    with Joined(state, settings) as joined:
        server, thread = start_http_server(port, addr=host, registry=registry)
        try:
            while True:
                now = datetime.now(UTC)
                collector.show(*look(joined, predictions, clicks, now))
                counted.count(joined, now)
                if stop.wait(every):
                    return
        finally:
            server.shutdown()
            server.server_close()
            thread.join()


def _most_frequent(slots: list[Slot], settings: LiveSettings) -> list[Slot]:
    """Everything, and the most frequent values of each field over all bundles."""
    counts: dict[tuple[str, str], int] = {}
    for slot in slots:
        counts[(slot.field, slot.value)] = counts.get((slot.field, slot.value), 0) + slot.labelled.impressions
    kept = set()
    for field in {slot.field for slot in slots}:
        values = sorted((key for key in counts if key[0] == field), key=lambda key: -counts[key])
        kept |= set(values[: settings.slice_top])
    return [slot for slot in slots if (slot.field, slot.value) in kept]


__all__ = ["look", "watch"]
