"""The endpoint's Prometheus metrics, in the process-wide registry that KServe's /metrics exposes."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping
from functools import cache

import numpy as np
from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from clickmill import metric_names as names

_BUNDLES_KEPT = 3
"""Bundles whose pCTR series stay exposed: the one in service, the one before, and one to compare. More is cardinality."""


class ArrayHistogram(Collector):
    """A histogram fed by whole arrays: one bincount per request where the stock one takes a Python call per value."""

    def __init__(
        self,
        name: str,
        documentation: str,
        edges: Iterable[float],
        labels: tuple[str, ...],
        *,
        series_kept: int = _BUNDLES_KEPT,
    ) -> None:
        self._name, self._documentation, self._labels = name, documentation, labels
        self._edges = np.asarray(tuple(edges), dtype=np.float64)
        self._series: dict[tuple[str, ...], tuple[np.ndarray, float]] = {}
        self._series_kept = series_kept
        self._lock = threading.Lock()

    def observe(self, values: np.ndarray, *labels: str) -> None:
        """Count finite `values` (n,) under the label values, in the order the labels were declared."""
        # side="left": an edge belongs to its own bucket, Prometheus' `le` is inclusive
        counts = np.bincount(
            self._edges.searchsorted(values, side="left"), minlength=len(self._edges) + 1
        ).astype(np.int64)
        total = float(values.sum(dtype=np.float64))
        with self._lock:
            known = self._series.pop(labels, None)
            if known is not None:
                counts, total = counts + known[0], total + known[1]
            self._series[labels] = (counts, total)  # last again: the order is that of use
            while len(self._series) > self._series_kept:
                self._series.pop(next(iter(self._series)))

    def collect(self) -> Iterator[Metric]:
        """Snapshot for a scrape."""
        family = HistogramMetricFamily(self._name, self._documentation, labels=self._labels)
        with self._lock:
            series = dict(self._series)
        for labels, (counts, total) in series.items():
            cumulative = counts.cumsum()
            buckets = [(str(float(edge)), int(n)) for edge, n in zip(self._edges, cumulative, strict=False)]
            family.add_metric(labels, buckets=[*buckets, ("+Inf", int(cumulative[-1]))], sum_value=total)
        yield family

    def describe(self) -> Iterator[Metric]:
        """Names only, so that registering does not read the data."""
        yield HistogramMetricFamily(self._name, self._documentation, labels=self._labels)


class Metrics:
    """All metrics of an endpoint in one registry."""

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        model, protocol = names.MODEL, names.PROTOCOL
        self.request_seconds = Histogram(
            names.REQUEST_SECONDS,
            "Time from the last byte of a request to its answer, by protocol.",
            [model, protocol],
            buckets=names.LATENCY_EDGES,
            registry=registry,
        )
        self.stage_seconds = Histogram(
            names.STAGE_SECONDS,
            "Time a request spent in a stage: parse, lookup, wait, score, reply.",
            [model, names.STAGE],
            buckets=names.STAGE_EDGES,
            registry=registry,
        )
        self.candidates = Histogram(
            names.CANDIDATES,
            "Candidates (rows) in a request.",
            [model],
            buckets=names.CANDIDATE_EDGES,
            registry=registry,
        )
        self.pctr = ArrayHistogram(
            names.PCTR, "Predicted click probability, by bundle.", names.PCTR_EDGES, (model, names.BUNDLE)
        )
        registry.register(self.pctr)
        self.predictions = Counter(names.PREDICTIONS, "Rows scored.", [model], registry=registry)
        self.rejected = Counter(
            names.REJECTED,
            "Requests without a prediction.",
            [model, protocol, names.REASON],
            registry=registry,
        )
        self.late = Counter(
            names.LATE,
            "Answers, good or not, that were written after their request's deadline.",
            [model, protocol],
            registry=registry,
        )
        self.in_flight = Gauge(names.IN_FLIGHT, "Requests being answered.", [model], registry=registry)
        self.not_finite = Counter(
            names.NOT_FINITE, "Predictions that came out NaN or infinite.", [model], registry=registry
        )
        self.bundle_info = Gauge(
            names.BUNDLE_INFO,
            "1 for the bundle in service.",
            [model, names.DIGEST, names.VERSION],
            registry=registry,
        )
        self.bundle_loaded = Gauge(
            names.BUNDLE_LOADED, "When the bundle in service was swapped in.", [model], registry=registry
        )
        self.reloads = Counter(
            names.RELOADS, "Bundles swapped in, the first included.", [model], registry=registry
        )
        self.refused = Counter(
            names.REFUSED, "Bundles refused, by reason.", [model, names.REASON], registry=registry
        )
        self.engine_info = Gauge(
            names.ENGINE_INFO,
            "1 for what runs the graph of the bundle in service, for small and for large requests.",
            [model, names.SIZE, names.ENGINE],
            registry=registry,
        )
        self.waiting = Gauge(
            names.WAITING, "Requests inside that are not being scored yet.", [model], registry=registry
        )
        self.wait_seconds = Histogram(
            names.WAIT_SECONDS,
            "Time from a whole request to the beginning of its scoring.",
            [model],
            buckets=names.LATENCY_EDGES,
            registry=registry,
        )
        self.concurrency_limit = Gauge(
            names.CONCURRENCY_LIMIT,
            "Requests that may be inside at once; those beyond are shed.",
            [model],
            registry=registry,
        )
        self.batch_rows = Histogram(
            names.BATCH_ROWS,
            "Rows in a run of the graph, with micro-batching.",
            [model],
            buckets=names.CANDIDATE_EDGES,
            registry=registry,
        )
        self.batch_requests = Histogram(
            names.BATCH_REQUESTS,
            "Requests in a run of the graph, with micro-batching.",
            [model],
            buckets=names.BATCH_EDGES,
            registry=registry,
        )
        self.ready = Gauge(names.READY, "1 when warm and not draining.", [model], registry=registry)
        self.cache_reads = Counter(
            names.CACHE_READS,
            "Rows of features and scores that were remembered (hit), waited for with others (shared), or not (miss).",
            [model, names.CACHE, names.OUTCOME],
            registry=registry,
        )
        self.fallbacks = Counter(
            names.FALLBACKS,
            "Rankings answered without the model, by the reason it was not asked or had no answer.",
            [model, names.REASON],
            registry=registry,
        )
        self.fallback_candidates = Counter(
            names.FALLBACK_CANDIDATES,
            "Candidates of those rankings by the source of their probability.",
            [model, names.SOURCE],
            registry=registry,
        )
        self.exploration_rankings = Counter(
            names.EXPLORATION_RANKINGS,
            "Rankings of an endpoint that tries hardly known ads, by what became of it.",
            [model, names.ARM, names.OUTCOME],
            registry=registry,
        )
        self.exploration_earned = Counter(
            names.EXPLORATION_EARNED,
            "Expected revenue or value of the first slot without exploring, in the currency of the bids.",
            [model, names.ARM, names.MEASURE],
            registry=registry,
        )
        self.exploration_given_up = Counter(
            names.EXPLORATION_GIVEN_UP,
            "Of that, what exploring gave up at most.",
            [model, names.ARM, names.MEASURE],
            registry=registry,
        )
        self.exploration_share = Gauge(
            names.EXPLORATION_SHARE,
            "Share of the rankings with hardly known ads that explore now.",
            [model, names.ARM],
            registry=registry,
        )
        self.log_rows = Counter(
            names.LOG_ROWS,
            "Rows offered to the prediction log: written, dropped for lack of room, or lost to a bug.",
            [model, names.OUTCOME],
            registry=registry,
        )
        self.log_pending = Gauge(
            names.LOG_PENDING,
            "Rows that wait to be written to the prediction log.",
            [model],
            registry=registry,
        )
        self.log_write_errors = Counter(
            names.LOG_WRITE_ERRORS,
            "Files of the prediction log that could not be written and are tried again.",
            [model],
            registry=registry,
        )
        self.log_events = Counter(
            names.LOG_EVENTS,
            "CloudEvents of the log: sent, refused by the broker, dropped for lack of room or time, or lost to a bug.",
            [model, names.OUTCOME],
            registry=registry,
        )
        self.log_events_pending = Gauge(
            names.LOG_EVENTS_PENDING, "CloudEvents that wait to be sent.", [model], registry=registry
        )
        self.log_event_retries = Counter(
            names.LOG_EVENT_RETRIES, "CloudEvents sent again after a failure.", [model], registry=registry
        )

    def show_engines(self, model: str, engines: Mapping[str, str]) -> None:
        """What runs the graph from now on, by size of request."""
        for size, engine in engines.items():
            for other in ("twin", "savedmodel"):
                self.engine_info.labels(model, size, other).set(other == engine)


@cache
def process_metrics() -> Metrics:
    """The metrics of this process: a registry takes each name once."""
    return Metrics()
