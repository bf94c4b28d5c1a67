"""Analyses the logs of a running experiment at a regular interval and exports the result."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from prometheus_client import CollectorRegistry, start_http_server

from clickmill.disk import replace_text
from clickmill.errors import DataError
from clickmill.experiment.findings import Analysis
from clickmill.experiment.reading import analyse_joined
from clickmill.experiment.report import page
from clickmill.experiment.spec import ExperimentSpec
from monitoring.experiments.exporter import ExperimentCollector

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Watched:
    """What is analysed."""

    spec: ExperimentSpec
    predictions: Path
    """Folder of the prediction log."""
    clicks: Path
    """Folder of the click log."""
    attribution: timedelta
    """How long after its prediction a click counts."""
    look: timedelta = timedelta(days=1)
    """Between the points of the timeline in the report."""


def look(watched: Watched) -> Analysis:
    """One analysis of what there is now. Raises what `analyse_joined` does: DataError and its kinds while there is nothing to analyse yet."""
    clicks = [watched.clicks] if any(watched.clicks.iterdir()) else []
    return analyse_joined(
        watched.spec, [watched.predictions], clicks, attribution=watched.attribution, look=watched.look
    )


def watch(
    watched: Watched, *, port: int, host: str, every: float, stop: threading.Event, report: Path | None = None
) -> None:
    """Serve /metrics and analyse every `every` seconds until `stop` is set; write the page to `report` each time, where one is asked for."""
    collector = ExperimentCollector(watched.spec.name)
    registry = CollectorRegistry()
    registry.register(collector)
    server, thread = start_http_server(port, addr=host, registry=registry)
    try:
        while True:
            try:
                analysis = look(watched)
            except DataError as error:
                collector.failed()
                log.warning("experiment %s: %s", watched.spec.name, error)
            else:
                collector.show(analysis, datetime.now(UTC))
                if report is not None:
                    replace_text(report, page(analysis))
            if stop.wait(every):
                return
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


__all__ = ["Watched", "look", "watch"]
