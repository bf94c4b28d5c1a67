"""Ingests new log files at a regular interval and exports the quality measured from them."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

from prometheus_client import CollectorRegistry, start_http_server

from monitoring.live.exporter import LiveCollector, Look
from monitoring.live.judged import JudgedCollector
from monitoring.live.label_join import Ingested, LabelJoin, SliceSums
from monitoring.live.reference import ReferenceCollector
from monitoring.live.settings import LiveSettings


def look(joined: LabelJoin, predictions: Path, clicks: Path, now: datetime) -> tuple[Look, Ingested]:
    """Take in what is new and measure every window up to `now`."""
    settings = joined.settings
    taken = joined.ingest(predictions, clicks, now)
    until = joined.ripe(now)
    slices: dict[float, list[SliceSums]] = {}
    for window in settings.windows_seconds:
        slices[window] = joined.labelled(until - timedelta(seconds=window), until)
    return Look(now, slices, joined.newest(now)), taken


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
    with LabelJoin(state, settings) as joined:
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


__all__ = ["look", "watch"]
