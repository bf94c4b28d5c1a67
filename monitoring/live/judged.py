"""Sums over judged impressions as counters, by bundle: what a release on a cluster is judged by, through Prometheus.

Each impression is counted once, at the first look after its attribution window and the lateness of the log are over. Counters begin
at 0 with the process; what can be judged for the first time while it is down is left out, on all bundles alike.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from clickmill import metric_names as names
from monitoring.live.label_join import LabelJoin
from monitoring.live.settings import LiveSettings

_SHORT = 12
"""Digits of a bundle's digest in metrics."""


class JudgedCollector(Collector):
    """Adds up what each look can judge for the first time."""

    def __init__(self, settings: LiveSettings) -> None:
        self._delay = settings.attribution_seconds + settings.lateness_seconds
        self._until: datetime | None = None
        self._sums: dict[tuple[str, str], float] = {}
        self._pairs: dict[tuple[str, str, str], float] = {}

    def count(self, joined: LabelJoin, now: datetime) -> None:
        """Add the impressions that ripened since the last call; the first one only says from where on."""
        until = joined.ripe(now)
        since, self._until = self._until, until
        if since is None or until <= since:
            return
        sums, pairs = dict(self._sums), dict(self._pairs)
        for bundle, labelled in joined.by_bundle(since, until).items():
            for field, _ in names.JUDGED:
                key = (field, bundle[:_SHORT])
                sums[key] = sums.get(key, 0.0) + getattr(labelled, field)
        for (one, other), figures in joined.pairs(since, until).items():
            for (field, _), figure in zip(names.PAIRED, figures, strict=True):
                pair = (field, one[:_SHORT], other[:_SHORT])
                pairs[pair] = pairs.get(pair, 0.0) + figure
        self._sums, self._pairs = sums, pairs

    def collect(self) -> Iterator[Metric]:
        """Snapshot for a scrape."""
        yield GaugeMetricFamily(
            names.LIVE_RIPENING,
            "Seconds from a prediction until it can be judged: attribution window and lateness.",
            value=self._delay,
        )
        sums, pairs = self._sums, self._pairs
        for field, series in names.JUDGED:
            family = CounterMetricFamily(
                series, f"Sum of {field} over judged impressions.", labels=[names.BUNDLE]
            )
            for (name, bundle), value in sums.items():
                if name == field:
                    family.add_metric([bundle], value)
            yield family
        for field, series in names.PAIRED:
            family = CounterMetricFamily(
                series,
                f"Log loss of bundle against that of beside, on impressions that both predicted: {field}.",
                labels=[names.BUNDLE, names.BESIDE],
            )
            for (name, one, other), value in pairs.items():
                if name == field:
                    family.add_metric([one, other], value)
            yield family

    def describe(self) -> Iterator[Metric]:
        """Nothing, so that registering reads nothing."""
        return iter(())


__all__ = ["JudgedCollector"]
