"""Where a ranker's features come from: the store behind a look-up, made anew with each bundle's contract, on the server's event loop."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from serving.features import (
    CachedStore,
    FeatureMetrics,
    FeatureStore,
    Lookup,
    Outcome,
    process_feature_metrics,
    store_at,
)
from serving.features.file_store import FileStore
from serving.features.ranked import RankedFields
from serving.metrics import Metrics
from serving.predictor import InService
from serving.ranker_settings import RankerSettings
from serving.ranking import Ranking
from serving.stages import Stage, timed

OF_WHAT_IS_LEFT = 0.5
"""Share of a request's remaining time that the store may take at most: the scores need the rest."""


class RankerFeatures:
    """Of one endpoint. A contract that keeps nothing in a store costs nothing here."""

    def __init__(
        self,
        address: str,
        settings: RankerSettings,
        metrics: Metrics,
        model_name: str,
        feature_metrics: FeatureMetrics | None = None,
    ) -> None:
        """address: as of `store_at`. Raises UsageError for one that is none; whether a store is there shows at the first ranking."""
        store_at(address, model_name)
        self._address, self._settings = address, settings
        self._metrics = feature_metrics or process_feature_metrics()
        self._reads, self._model_name = metrics.cache_reads, model_name
        self._bundle = ""
        self._fields: RankedFields | None = None
        self._lookup: Lookup | None = None
        self._closing: set[asyncio.Task[None]] = set()

    async def fill(self, served: InService, asked: Ranking, left: float | None) -> Ranking:
        """The ranking with its gaps filled from the store, where the bundle's contract keeps something there. left: seconds that the
        request has, None for any. Never raises for what the store does."""
        if served.scorer.digest != self._bundle:
            self._change(served)
        if self._fields is None or self._lookup is None:
            return asked
        gaps = self._fields.gaps(asked.outline.shared, asked.outline.candidates)
        if not gaps:
            return asked
        budget = self._settings.feature_wait_ms / 1e3
        if left is not None:
            budget = max(min(budget, OF_WHAT_IS_LEFT * left), 0.0)
        with timed(Stage.LOOKUP):
            found = await self._lookup.find(gaps.ids, deadline_s=budget, only=gaps.fields)
        store = None if found.outcome is Outcome.OK else found.outcome.value
        return replace(asked, raw=self._fields.filled(asked.raw, gaps, found), store=store)

    async def close(self) -> None:
        """Close the store."""
        if self._lookup is not None:
            await self._lookup.close()
        await asyncio.gather(*self._closing, return_exceptions=True)

    def _change(self, served: InService) -> None:
        """Begin with another bundle: other fields perhaps, no remembered row, and a breaker that has seen nothing."""
        former, contract = self._lookup, served.scorer.contract
        self._bundle = served.scorer.digest
        self._fields = self._lookup = None
        if contract.entities:
            self._fields = RankedFields(contract, served.ranking_form.shared)
            self._lookup = Lookup(contract, self._store(contract.name), self._metrics)
        if former is not None:
            task = asyncio.create_task(former.close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    def _store(self, name: str) -> FeatureStore:
        store, settings = store_at(self._address, name), self._settings
        # a file is read quicker than it is remembered
        if (
            isinstance(store, FileStore)
            or not settings.feature_cache_seconds
            or not settings.feature_cache_rows
        ):
            return store
        return CachedStore(
            store,
            rows=settings.feature_cache_rows,
            seconds=settings.feature_cache_seconds,
            count=lambda outcome, ids: self._reads.labels(self._model_name, "features", outcome).inc(ids),
        )
