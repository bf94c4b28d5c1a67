"""What the last look found, and what the record of trainings says, as Prometheus metrics.

They are scraped where the monitor goes on; a job that looks and ends writes them to a file for node_exporter, or pushes them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from prometheus_client import CollectorRegistry, push_to_gateway, write_to_textfile
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from clickmill import metric_names as names
from clickmill.errors import ClickmillError, UsageError
from monitoring.drift.examine import WindowDrift
from monitoring.drift.retraining import Event, Retraining
from monitoring.drift.verdict import Drift, Quality

ALL = ""
"""Field that stands for the window as a whole."""


class DriftCollector(Collector):
    """Shows the last look. One assignment per look, so that a scrape sees one whole."""

    def __init__(self) -> None:
        self._shown: tuple[datetime, tuple[WindowDrift, ...], tuple[Retraining, ...]] | None = None
        self._failed = 0

    def show(self, at: datetime, found: Sequence[WindowDrift], record: Sequence[Retraining]) -> None:
        """Replace what is shown."""
        self._shown = (at, tuple(found), tuple(record))

    def failed(self) -> None:
        """A look could not be made; what is shown stays that of the last that could."""
        self._failed += 1

    def collect(self) -> Iterator[Metric]:
        """Snapshot for a scrape; a figure that can't be given has no series."""
        yield CounterMetricFamily(
            names.DRIFT_FAILED_LOOKS,
            "Looks that could not be made since this process began.",
            value=self._failed,
        )
        looked = GaugeMetricFamily(names.DRIFT_LOOKED, "When drift was last looked at.")
        at, found, record = self._shown or (None, (), ())
        if at is not None:
            looked.add_metric([], at.timestamp())
        yield looked
        yield from _verdicts(found)
        yield from _figures(found)
        yield from _trainings(record)

    def describe(self) -> Iterator[Metric]:
        """Nothing, so that registering reads nothing."""
        return iter(())


def write_textfile(path: Path, collector: DriftCollector) -> None:
    """The same as a file, whole or not at all: for the textfile collector of node_exporter, where a job looks and ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_to_textfile(str(path), _alone(collector))


class NotPushed(ClickmillError):
    """A Pushgateway did not take the figures."""


@dataclass(frozen=True)
class PushGroup:
    """Where in a Pushgateway the figures of one endpoint stand. A push replaces the group: series of a bundle that is gone go with it."""

    gateway: str
    """URL."""
    job: str
    """Value of the label `job`."""

    @classmethod
    def at(cls, address: str) -> PushGroup:
        """From the group's address in the gateway. Raises UsageError for another URL."""
        found = re.fullmatch(r"(https?://\S+?)/metrics/job/([^/\s]+)/?", address)
        if found is None:
            raise UsageError(
                f"{address}: no group of a Pushgateway; give URL/metrics/job/NAME, such as http://pushgateway:9091/metrics/job/ctr-drift, "
                "a NAME for each endpoint"
            )
        return cls(*found.groups())

    def push(self, collector: DriftCollector) -> None:
        """Replace what the gateway shows of the group. Raises NotPushed."""
        try:
            push_to_gateway(self.gateway, self.job, _alone(collector))
        except OSError as error:
            raise NotPushed(
                f"{self.gateway}: the figures could not be pushed ({error}); Prometheus goes on seeing those of the last look. "
                "Is a Pushgateway there, and may this pod reach it? What was found is kept."
            ) from error


def _alone(collector: DriftCollector) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(collector)
    return registry


def _verdicts(found: Sequence[WindowDrift]) -> Iterator[Metric]:
    where = [names.BUNDLE, names.FIELD, names.VERDICT]
    drift = GaugeMetricFamily(
        names.DRIFT_VERDICT,
        '1 for the verdict on a field\'s drift, 0 for the others; field "" is the window.',
        labels=where,
    )
    quality = GaugeMetricFamily(
        names.DRIFT_QUALITY,
        '1 for the verdict on a field\'s values, 0 for the others; field "" is the window.',
        labels=where,
    )
    for window in found:
        for field, of_drift, of_quality in [
            (ALL, window.drift, window.quality),
            *((one.field, one.drift, one.quality) for one in window.fields),
        ]:
            for drifted in Drift:
                drift.add_metric([window.bundle[:12], field, drifted], float(drifted is of_drift))
            for sound in Quality:
                quality.add_metric([window.bundle[:12], field, sound], float(sound is of_quality))
    yield from (drift, quality)


def _figures(found: Sequence[WindowDrift]) -> Iterator[Metric]:
    measure = GaugeMetricFamily(
        names.DRIFT_MEASURE,
        "Distances of a field from the reference, and shares of its values.",
        labels=[names.BUNDLE, names.FIELD, names.MEASURE],
    )
    rows = GaugeMetricFamily(names.DRIFT_ROWS, "Rows of the window.", labels=[names.BUNDLE])
    end = GaugeMetricFamily(names.DRIFT_WINDOW_END, "End of the window.", labels=[names.BUNDLE])
    for window in found:
        bundle = window.bundle[:12]
        rows.add_metric([bundle], window.rows)
        end.add_metric([bundle], window.end.timestamp())
        for field in window.fields:
            for name, value in field.measures.items():
                measure.add_metric([bundle, field.field, name], value)
    yield from (measure, rows, end)


def _trainings(record: Sequence[Retraining]) -> Iterator[Metric]:
    counts = CounterMetricFamily(
        names.DRIFT_RETRAININGS,
        "Lines of the record of trainings that drift asked for.",
        labels=[names.OUTCOME],
    )
    for event in Event:
        counts.add_metric([event], sum(line.event is event for line in record))
    yield counts
    last = GaugeMetricFamily(names.DRIFT_RETRAINED, "When drift last started a training.")
    begun = [line.at for line in record if line.event is Event.STARTED]
    if begun:
        last.add_metric([], max(begun).timestamp())
    yield last


__all__ = ["ALL", "DriftCollector", "NotPushed", "PushGroup", "write_textfile"]
