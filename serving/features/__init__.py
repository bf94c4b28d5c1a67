"""The online feature store: latest values of users and ads, in Redis or a file; loading it, and reading it within a deadline.

May import `clickmill` and `serving.metrics`. Redis is imported when a store there is opened.
"""

from serving.features.addresses import shelf_at, store_at
from serving.features.breaker import BreakerPolicy
from serving.features.cached_store import CachedStore
from serving.features.lookup import Found, Lookup, Outcome
from serving.features.metrics import FeatureMetrics, process_feature_metrics
from serving.features.publication import Publication, encoded, publication_of
from serving.features.rows import Reason
from serving.features.store import (
    FeatureStore,
    Shelf,
    Stored,
    StoreUnreachable,
    refuse_older,
)

__all__ = [
    "BreakerPolicy",
    "CachedStore",
    "FeatureMetrics",
    "FeatureStore",
    "Found",
    "Lookup",
    "Outcome",
    "Publication",
    "Reason",
    "Shelf",
    "StoreUnreachable",
    "Stored",
    "encoded",
    "process_feature_metrics",
    "publication_of",
    "refuse_older",
    "shelf_at",
    "store_at",
]
