"""What a model was trained on is what it is asked with: the same instant, the same bits, through store and lookup."""

import asyncio
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from prometheus_client import CollectorRegistry

from clickmill.contract import loads
from clickmill.data import PrepareOptions, online_of_logs, prepare
from clickmill.features import tensors
from clickmill.progress import SILENT
from serving.features import FeatureMetrics, Lookup, encoded, publication_of, shelf_at, store_at

START = datetime(2026, 1, 5, tzinfo=UTC)
CONTRACT = loads(
    """
name: shop
fields:
  key: {role: impression_id, dtype: int64}
  event_time: {role: event_time, dtype: timestamp}
  label: {role: label, dtype: int64}
  user_id: {role: user, dtype: string, encoding: {kind: vocabulary}}
  ad_id: {role: ad, dtype: int64, encoding: {kind: vocabulary}}
  colour: {role: ad, dtype: string, encoding: {kind: vocabulary}, lookup_by: ad_id}
  history: {role: sequence, dtype: int64_list, encoding: {kind: list, max_length: 4, items: {kind: vocabulary, shares: ad_id}}, lookup_by: user_id}
  ad_ctr_1min: {role: ad, dtype: float32, encoding: {kind: log1p}, default: 0.1, aggregate: {of: ctr, by: ad_id, window: 1min, smoothing: 7}}
  ad_ctr_5min: {role: ad, dtype: float32, encoding: {kind: log1p}, default: 0.3, aggregate: {of: ctr, by: ad_id, window: 5min, smoothing: 3}}
  user_clicks: {role: user, dtype: int64, encoding: {kind: log1p}, aggregate: {of: clicks, by: user_id, window: 2min}}
  user_shown: {role: user, dtype: int64, encoding: {kind: log1p}, aggregate: {of: impressions, by: user_id, window: 5s}}
"""
)
OPTIONS = PrepareOptions(window=timedelta(minutes=1), latest=datetime(2027, 1, 1, tzinfo=UTC))


@pytest.fixture(scope="module")
def logs(tmp_path_factory):
    folder, rng, n = tmp_path_factory.mktemp("logs"), np.random.default_rng(3), 900
    ads = rng.integers(0, 6, n)
    impressions = pd.DataFrame(
        {
            "key": np.arange(n),
            "event_time": [START + timedelta(seconds=int(s)) for s in np.sort(rng.integers(0, n, n))],
            "user_id": [f"u{k}" if k else None for k in rng.integers(0, 12, n)],
            "ad_id": ads,
            "colour": [f"c{k}" for k in ads],
            "history": [[int(k)] * int(k) for k in ads],
        }
    )
    clicked = impressions[rng.random(n) < 0.3]
    delay = pd.to_timedelta(rng.integers(0, 80, len(clicked)), unit="s")
    clicks = pd.DataFrame({"key": clicked["key"], "click_time": clicked["event_time"] + delay})
    for name, frame in {"impressions": impressions, "clicks": clicks}.items():
        pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), folder / f"{name}.parquet")
    return folder


def at(logs, folder, instant, target):
    """Publish what was known before the instant, and say so to a lookup whose clock stands there."""
    online, quality = online_of_logs(
        logs / "impressions.parquet",
        CONTRACT,
        folder / f"online-{instant:%H%M%S}",
        clicks=logs / "clicks.parquet",
        as_of=instant,
        options=OPTIONS,
    )
    assert quality.quarantined == 0
    publication = publication_of(online, CONTRACT)
    rows = {by: encoded(online, by) for by in publication.entities}
    assert shelf_at(target, "shop").put(publication, rows, allow_older=True, progress=SILENT)
    metrics = FeatureMetrics(CollectorRegistry())
    return Lookup(CONTRACT, store_at(target, "shop"), metrics, clock=instant.timestamp)


def test_a_request_at_the_instant_of_an_impression_has_what_the_training_row_has(logs, target, tmp_path):
    dataset = prepare(
        logs / "impressions.parquet",
        CONTRACT,
        tmp_path / "ds",
        clicks=logs / "clicks.parquet",
        options=OPTIONS,
    )
    computed = [name for name, f in CONTRACT.fields.items() if f.aggregate]
    table = pa.concat_tables([pa.concat_tables(dataset.scan(split)) for split in dataset.splits])
    times = table["event_time"].to_pylist()
    different = 0
    for instant in (times[0], times[450], times[899]):
        rows = table.filter(pa.array([t == instant for t in times]))
        trained = tensors.from_arrow(rows, CONTRACT)
        ids = {by: rows[by].to_pylist() for by in ("user_id", "ad_id")}

        async def ask(lookup, ids=ids):
            found = await lookup.find(ids, deadline_s=60.0)
            await lookup.close()
            return found.raw

        served = asyncio.run(ask(at(logs, tmp_path, instant, target)))
        for name in computed:
            assert served[name].dtype == trained[name].dtype
            assert served[name].tobytes() == trained[name].tobytes(), (name, instant)
            different += len({*trained[name].tolist()} - {CONTRACT.fields[name].fill})
    assert different > 8  # else defaults would have been compared with defaults


def test_a_looked_up_value_is_the_one_last_logged(logs, tmp_path):
    instant = START + timedelta(seconds=500)
    lookup = at(logs, tmp_path, instant, str(tmp_path / "shop.features"))

    async def ask():
        return await lookup.find({"ad_id": [1, 3], "user_id": ["u5"]}, deadline_s=60.0)

    found = asyncio.run(ask())
    assert found.raw["colour"].tolist() == [b"c1", b"c3"]
    seen = pq.read_table(logs / "impressions.parquet").to_pandas()
    last = seen[(seen["user_id"] == "u5") & (seen["event_time"] < instant)]["history"].iloc[-1]
    assert found.raw["history"][0][: min(4, len(last))].tolist() == list(last)[-4:]
