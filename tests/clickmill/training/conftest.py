"""A small market with a rule a model can find, prepared for training."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clickmill.contract import FeatureContract, dumps, loads
from clickmill.data import DatasetMeta, PreparedDataset, QualityReport, SplitInfo
from clickmill.features import FeatureSpace, fit

MARKET = """
name: toy
fields:
  event_time: {role: event_time, dtype: timestamp}
  user: {role: user, dtype: string, encoding: {kind: vocabulary, min_count: 1}}
  ad: {role: ad, dtype: int64, encoding: {kind: vocabulary, min_count: 1}}
  price: {role: ad, dtype: float32, encoding: {kind: standardize}}
  history: {role: sequence, dtype: int64_list, encoding: {kind: list, items: {kind: vocabulary, shares: ad}, max_length: 3}}
  position: {role: position, dtype: int64}
  importance: {role: weight, dtype: float32}
  label: {role: label, dtype: int64}
"""


def market_rows(rows: int, seed: int) -> pa.Table:
    """Clicks follow whether user and ad go together (which a linear model can't see), the price, and the position."""
    rng = np.random.default_rng(seed)
    user, ad = rng.integers(0, 12, rows), rng.integers(0, 9, rows)
    price, position = rng.normal(size=rows), rng.integers(1, 4, rows)
    logit = -1.0 + 2.0 * ((user + ad) % 3 == 0) - 0.5 * price - 0.4 * position
    label = rng.random(rows) < 1 / (1 + np.exp(-logit))
    return pa.table(
        {
            "event_time": pa.array(np.arange(rows) * 1_000_000, pa.timestamp("us", "UTC")),
            "user": [f"u{k}" for k in user],
            "ad": pa.array(ad),
            "price": pa.array(price.astype(np.float32)),
            "history": pa.array(
                [rng.integers(0, 9, k).tolist() for k in rng.integers(0, 5, rows)], pa.list_(pa.int64())
            ),
            "position": pa.array(position),
            "importance": pa.array(rng.uniform(0.5, 2.0, rows).astype(np.float32)),
            "label": pa.array(label.astype(np.int64)),
        }
    )


def write_dataset(
    root: Path, contract: FeatureContract, splits: dict[str, pa.Table], digest: str = "0"
) -> PreparedDataset:
    infos = {}
    for name, table in splits.items():
        (root / name).mkdir(parents=True)
        half = table.num_rows // 2
        pq.write_table(table.slice(0, half), root / name / "part-000.parquet")
        pq.write_table(table.slice(half), root / name / "part-001.parquet")
        infos[name] = SplitInfo(rows=table.num_rows, clicks=int(np.sum(table["label"].to_numpy())))
    (root / "contract.yaml").write_text(dumps(contract))
    meta = DatasetMeta(
        contract_digest=contract.digest,
        data_digest=digest,
        negatives_kept=0.5,
        seed=0,
        splits=infos,
        quality=QualityReport(origin="by hand", rows=1, quarantined=0),
    )
    (root / "dataset.json").write_text(meta.model_dump_json())
    return PreparedDataset.open(root)


@pytest.fixture(scope="session")
def market() -> FeatureContract:
    return loads(MARKET)


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., PreparedDataset]:
    """Writes a dataset of given splits under the test's own folder."""

    def make(
        contract: FeatureContract, splits: dict[str, pa.Table], name: str = "data", digest: str = "0"
    ) -> PreparedDataset:
        return write_dataset(tmp_path / name, contract, splits, digest)

    return make


@pytest.fixture(scope="session")
def rows() -> Callable[[int, int], pa.Table]:
    return market_rows


@pytest.fixture(scope="session")
def dataset(market: FeatureContract, tmp_path_factory: pytest.TempPathFactory) -> PreparedDataset:
    splits = {"train": market_rows(3000, 0), "validation": market_rows(1000, 1), "test": market_rows(1000, 2)}
    return write_dataset(tmp_path_factory.mktemp("market") / "data", market, splits)


@pytest.fixture(scope="session")
def shared(market: FeatureContract, tmp_path_factory: pytest.TempPathFactory) -> PreparedDataset:
    """A smaller one, with what was learned from it beside the rows, as a run of the pipeline leaves it."""
    splits = {"train": market_rows(1025, 0), "validation": market_rows(501, 1), "test": market_rows(10, 2)}
    found = write_dataset(tmp_path_factory.mktemp("shared") / "data", market, splits)
    fit(found).save(found.root / "space")
    return found


@pytest.fixture(scope="session")
def space(dataset: PreparedDataset) -> FeatureSpace:
    return fit(dataset)
