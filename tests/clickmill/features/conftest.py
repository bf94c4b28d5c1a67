"""A toy market with every kind of field, as a prepared dataset written by hand."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clickmill.contract import FeatureContract, dumps, loads
from clickmill.data import DatasetMeta, PreparedDataset, QualityReport, SplitInfo

MARKET = """
name: toy
fields:
  impression_id: {role: impression_id, dtype: string}
  event_time: {role: event_time, dtype: timestamp}
  user: {role: user, dtype: string, encoding: {kind: vocabulary, min_count: 2}}
  age: {role: user, dtype: int64, encoding: {kind: standardize}, range: {min: 0, max: 120}, default: 40}
  ad: {role: ad, dtype: int64, encoding: {kind: vocabulary, min_count: 2}}
  next_ad: {role: ad, dtype: int64, encoding: {kind: vocabulary, shares: ad}}
  premium: {role: ad, dtype: bool, encoding: {kind: vocabulary}}
  price: {role: ad, dtype: float32, encoding: {kind: log1p}}
  quality: {role: ad, dtype: float32, encoding: {kind: bucketize, boundaries: [0.3, 0.7]}}
  page: {role: context, dtype: string, encoding: {kind: hash, buckets: 50}, required: true}
  format: {role: context, dtype: string, encoding: {kind: vocabulary, min_count: 1}, allowed: [banner, video], default: banner}
  user_ad: {role: cross, encoding: {kind: cross, of: [user, ad], buckets: 97}}
  hour: {role: context, encoding: {kind: hour, of: event_time, utc_offset_hours: 5.5}}
  weekday: {role: context, encoding: {kind: weekday, of: event_time}}
  history: {role: sequence, dtype: int64_list, encoding: {kind: list, items: {kind: vocabulary, shares: ad}, max_length: 3}}
  tags: {role: ad, dtype: string_list, encoding: {kind: list, items: {kind: vocabulary, min_count: 1}, max_length: 4}}
  position: {role: position, dtype: int64, range: {min: 1}}
  label: {role: label, dtype: int64}
"""


@pytest.fixture(scope="session")
def market() -> FeatureContract:
    return loads(MARKET)


@pytest.fixture(scope="session")
def impressions() -> Callable[..., pa.Table]:
    def make(rows: int, seed: int = 0) -> pa.Table:
        rng = np.random.default_rng(seed)

        def some_null(values: list) -> list:
            return [
                None if missing else value
                for value, missing in zip(values, rng.random(rows) < 0.1, strict=True)
            ]

        users = some_null([f"u{k}" for k in rng.integers(0, 12, rows)])
        seconds = rng.integers(-86_400, 2_000_000_000, rows)
        return pa.table(
            {
                "impression_id": [f"i{k}" for k in range(rows)],
                "event_time": pa.array(
                    seconds * 1_000_000 + rng.integers(0, 10**6, rows), pa.timestamp("us", "UTC")
                ),
                "user": pa.array(users, pa.string()),
                "age": pa.array(some_null(rng.integers(18, 80, rows).tolist()), pa.int64()),
                "ad": pa.array(some_null(rng.integers(-3, 9, rows).tolist()), pa.int64()),
                "next_ad": pa.array(rng.integers(-3, 12, rows), pa.int64()),
                "premium": pa.array(some_null((rng.random(rows) < 0.5).tolist()), pa.bool_()),
                "price": pa.array(some_null(rng.normal(0, 10, rows).tolist()), pa.float32()),
                "quality": pa.array(some_null(rng.random(rows).tolist()), pa.float32()),
                "page": pa.array([f"p{k}" for k in rng.integers(0, 30, rows)]),
                "format": pa.array(some_null(rng.choice(["banner", "video"], rows).tolist()), pa.string()),
                "history": pa.array(
                    some_null([rng.integers(-3, 12, rng.integers(0, 6)).tolist() for _ in range(rows)]),
                    pa.list_(pa.int64()),
                ),
                "tags": pa.array(
                    some_null(
                        [[f"t{q}" for q in rng.integers(0, 8, rng.integers(0, 7))] for _ in range(rows)]
                    ),
                    pa.list_(pa.string()),
                ),
                "position": pa.array(some_null(rng.integers(1, 6, rows).tolist()), pa.int64()),
                "label": pa.array(rng.integers(0, 2, rows), pa.int64()),
            }
        )

    return make


@pytest.fixture(scope="session")
def prepared(
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[FeatureContract, pa.Table], PreparedDataset]:
    def write(contract: FeatureContract, train: pa.Table) -> PreparedDataset:
        root = tmp_path_factory.mktemp("dataset")
        (root / "train").mkdir()
        half = train.num_rows // 2
        pq.write_table(train.slice(0, half), root / "train" / "part-000.parquet")
        pq.write_table(train.slice(half), root / "train" / "part-001.parquet")
        (root / "contract.yaml").write_text(dumps(contract))
        meta = DatasetMeta(
            contract_digest=contract.digest,
            data_digest="0" * 64,
            negatives_kept=1.0,
            seed=0,
            splits={"train": SplitInfo(rows=train.num_rows, clicks=0)},
            quality=QualityReport(origin="by hand", rows=train.num_rows, quarantined=0),
        )
        (root / "dataset.json").write_text(meta.model_dump_json())
        return PreparedDataset.open(root)

    return write
