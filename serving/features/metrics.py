"""Metrics of the feature store as an endpoint sees it: how old values are, and how often a default stood in and why."""

from __future__ import annotations

from functools import cache

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram

from clickmill import metric_names as names
from serving.metrics import ArrayHistogram

_FIELDS_KEPT = 256
"""Fields whose age series stay exposed; more than any contract looks up."""


class FeatureMetrics:
    """All metrics of one reader of a store, in one registry."""

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self.read_seconds = Histogram(
            names.FEATURE_READ_SECONDS,
            "Time a request waited for the feature store.",
            buckets=names.LATENCY_EDGES,
            registry=registry,
        )
        self.reads = Counter(
            names.FEATURE_READS,
            "Reads of the feature store: ok, late (after the deadline), failed, skipped (left alone after failures).",
            [names.OUTCOME],
            registry=registry,
        )
        self.defaulted = Counter(
            names.FEATURES_DEFAULTED,
            "Values that the contract's default stood in for, by field and reason.",
            [names.FIELD, names.REASON],
            registry=registry,
        )
        self.age = ArrayHistogram(
            names.FEATURE_AGE,
            "Age of the values found, stale ones included, by field.",
            names.AGE_EDGES,
            (names.FIELD,),
            series_kept=_FIELDS_KEPT,
        )
        registry.register(self.age)
        self.as_of = Gauge(
            names.FEATURES_AS_OF,
            "When the aggregates of the publication in service were true.",
            registry=registry,
        )
        self.publication = Gauge(
            names.FEATURES_PUBLICATION,
            "1 for the publication in service.",
            [names.VERSION],
            registry=registry,
        )


@cache
def process_feature_metrics() -> FeatureMetrics:
    """The metrics of this process: a registry takes each name once."""
    return FeatureMetrics()
