"""What a ranking costs by where its features come from, and what a fallback costs: processor time of the endpoint's own process.

    python tests/bench/ranker.py BUNDLE --features redis://localhost:6379/0 --features ads.features [--candidates 100]

Rankings go through `serving.ranker` in this process, without HTTP; users and ads are those of the bundle's reference rows. The median of 5 rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow.parquet as pq
from prometheus_client import CollectorRegistry

from serving.engines import load_verified
from serving.features import FeatureMetrics
from serving.lanes import Lanes
from serving.metrics import Metrics
from serving.predictor import BundleModel
from serving.ranker import Ranker
from serving.ranker_features import RankerFeatures
from serving.ranker_settings import RankerSettings
from serving.rows import json_rows
from serving.scheduler import Scheduler

ROUNDS, REQUESTS = 5, 60


def bodies(bundle: Path, form: Any, candidates: int, ids_only: bool, seed: int = 0) -> list[bytes]:
    """Requests of one user and some ads each; with all fields, or with the ids alone and the time."""
    rows = json_rows(pq.read_table(bundle / "reference.parquet"), form.contract.inputs)
    kept = form.contract.entities
    looked_up = {name for fields in kept.values() for name in fields} if ids_only else set()
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(REQUESTS):
        user = rows[rng.integers(len(rows))]
        ads = [rows[i] for i in rng.integers(0, len(rows), candidates)]
        made.append(
            orjson.dumps(
                {
                    "context": {n: v for n, v in user.items() if n in form.shared - looked_up},
                    "candidates": [
                        {
                            form.bid: 1.0,
                            **{
                                n: v
                                for n, v in ad.items()
                                if n in form.candidate - looked_up - {form.position}
                            },
                        }
                        for ad in ads
                    ],
                }
            )
        )
    return made


async def cost(ranker: Ranker, requests: list[bytes], timeout: float | None = None) -> tuple[float, str]:
    """Median processor milliseconds a ranking, and what the last one fell back on."""
    found, answer = [], None
    for _ in range(ROUNDS + 1):
        start = time.process_time()
        for body in requests:
            deadline = None if timeout is None else time.monotonic() + timeout
            answer = await ranker.answer(body, deadline)
        found.append((time.process_time() - start) / len(requests) * 1e3)
    assert answer is not None
    return statistics.median(found[1:]), answer.headers.get("x-clickmill-fallback", "")


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--features", action="append", default=[])
    parser.add_argument("--candidates", type=int, default=100)
    told = parser.parse_args()
    loaded = load_verified(told.bundle)
    registry = CollectorRegistry()
    model = BundleModel("bench", metrics=Metrics(registry))
    model.swap(loaded.scorer, "1", loaded.priors)
    form = model.in_service.ranking_form
    scheduler = Scheduler(model, Lanes(0))
    whole, short = (bodies(told.bundle, form, told.candidates, ids_only) for ids_only in (False, True))
    feature_metrics = FeatureMetrics(registry)
    rows: list[tuple[str, Ranker, list[bytes], float | None]] = [
        ("all fields sent", Ranker(model, scheduler), whole, None),
        ("ids sent, no store", Ranker(model, scheduler), short, None),
    ]
    for address in told.features:
        for seconds in (0.0, 60.0) if "://" in address else (0.0,):
            settings = RankerSettings(feature_cache_seconds=seconds, feature_wait_ms=1000)
            features = RankerFeatures(address, settings, model.metrics, "bench", feature_metrics)
            name = f"ids sent, {address.split(':')[0] if '://' in address else 'file'}" + (
                ", remembered" if seconds else ""
            )
            rows.append((name, Ranker(model, scheduler, settings, features=features), short, None))
    remembers = RankerSettings(score_cache_seconds=600)
    rows += [
        ("all fields sent, scores remembered", Ranker(model, scheduler, remembers), whole, None),
        ("fallback, all fields sent", Ranker(model, scheduler), whole, 0.0),
        ("fallback, ids sent", Ranker(model, scheduler), short, 0.0),
    ]
    print(
        f"{told.candidates} candidates, engine {getattr(loaded.scorer, 'engine', '?')}, {ROUNDS} rounds of {REQUESTS}"
    )
    for name, ranker, requests, timeout in rows:
        milliseconds, reason = await cost(ranker, requests, timeout)
        print(f"{name:36s} {milliseconds:7.2f} ms {reason}")
        await ranker.close()


if __name__ == "__main__":
    asyncio.run(main())
