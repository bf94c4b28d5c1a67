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
from serving.features.lookup import Run, at_once
from serving.features.ranked import RankedFields
from serving.metrics import Metrics
from serving.predictor import InService
from serving.ranker_settings import RankerSettings
from serving.ranking import Ranking
from serving.stages import Stage, timed

OF_WHAT_IS_LEFT = 0.5
"""Share of a request's remaining time that the store may take at most: the scores need the rest."""

LAST_READ_S = 2.0
"""How long the store of a bundle that is gone stays open: no read takes longer."""


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
        self._of: dict[str, tuple[RankedFields, Lookup] | None] = {}
        self._retiring: dict[asyncio.Task[None], Lookup] = {}

    async def fill(
        self, served: InService, asked: Ranking, left: float | None, run: Run = at_once
    ) -> Ranking:
        """The ranking with its gaps filled from the store, where the bundle's contract keeps something there. left: seconds that the
        request has, None for any. `run` is the lane of the request. Never raises for what the store does."""
        digest = served.scorer.digest
        if digest not in self._of:
            self._begin(served)
        parts = self._of[digest]
        if parts is None:
            return asked
        fields, lookup = parts
        gaps = fields.gaps(asked.outline.shared, asked.outline.candidates)
        if not gaps:
            return asked
        budget = self._settings.feature_wait_ms / 1e3
        if left is not None:
            budget = max(min(budget, OF_WHAT_IS_LEFT * left), 0.0)
        with timed(Stage.LOOKUP):
            found = await lookup.find(gaps.ids, deadline_s=budget, only=gaps.fields, run=run)
        store = None if found.outcome is Outcome.OK else found.outcome.value
        return replace(asked, raw=fields.filled(asked.raw, gaps, found), store=store)

    async def close(self) -> None:
        """Close the stores."""
        lookups = [parts[1] for parts in self._of.values() if parts] + list(self._retiring.values())
        for task in tuple(self._retiring):
            task.cancel()
        await asyncio.gather(*(lookup.close() for lookup in lookups))

    def _begin(self, served: InService) -> None:
        """With another bundle: other fields perhaps, no remembered row, and a breaker that has seen nothing. The one before goes on for
        the requests that began on it."""
        contract = served.scorer.contract
        self._of[served.scorer.digest] = (
            (
                RankedFields(contract, served.ranking_form.shared),
                Lookup(contract, self._store(contract.name), self._metrics),
            )
            if contract.entities
            else None
        )
        if len(self._of) > 2:
            oldest = self._of.pop(next(iter(self._of)))
            if oldest is not None:
                task = asyncio.create_task(_retire(oldest[1]))
                self._retiring[task] = oldest[1]
                task.add_done_callback(lambda done: self._retiring.pop(done, None))

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


async def _retire(lookup: Lookup) -> None:
    await asyncio.sleep(LAST_READ_S)
    await lookup.close()
