"""Small folders that carry a true manifest, and one real bundle of a small market for all tests of the room."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from clickmill import bundle as bundles
from clickmill import data, features
from clickmill.bundle import Bundle
from clickmill.bundle import manifest as manifests
from clickmill.bundle.manifest import Lineage, Manifest, ModelFacts, SplitFacts
from clickmill.contract import loads
from clickmill.data import PreparedDataset
from clickmill.training import TrainedModel, TrainingConfig, train

FILES = {
    "contract.yaml": b"name: toy\n",
    "model/1/saved_model.pb": bytes(range(256)),
    "model/1/variables/variables.index": b"",
    "plots/roc.svg": b"<svg/>",
}


def write_manifest(folder: Path, created: datetime = datetime(2026, 11, 24, 9, 30, tzinfo=UTC)) -> Manifest:
    files = manifests.take_stock(folder)
    day = datetime(2026, 11, 1, tzinfo=UTC)
    manifest = Manifest(
        name="toy",
        created=created,
        digest=manifests.digest_of(files),
        files=files,
        model=ModelFacts(name="lr", config={"l2": 0.1}, training={"epochs": 1}),
        lineage=Lineage(
            data_digest="d" * 64,
            contract_digest="c" * 64,
            parent=None,
            code_version="0.1.0",
            seed=7,
            negatives_kept=0.5,
            positive_weight=1.0,
            splits={"test": SplitFacts(start=day, end=day, rows=10, clicks=1)},
        ),
        versions={"python": "3.11", "tensorflow": "2.21", "keras": "3.15", "numpy": "2.4"},
        metrics={"auc": 0.8, "gauc": None},
    )
    (folder / "manifest.json").write_bytes(manifest.to_bytes())
    return manifest


@pytest.fixture
def make_folder(tmp_path: Path) -> Callable[..., Path]:
    """A folder with a few files and a true manifest; `extra` makes its digest another one."""

    def make(name: str = "bundle", extra: bytes = b"") -> Path:
        folder = tmp_path / name
        for path, content in {**FILES, "card.md": b"# toy" + extra}.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(content)
        write_manifest(folder)
        return folder

    return make


CONTRACT = """
name: toy-market
description: Impressions of a small made-up market
fields:
  user_id: {role: user, dtype: string, encoding: {kind: vocabulary}, personal: true}
  segment: {role: user, dtype: string, allowed: [a, b, c], encoding: {kind: vocabulary}, default: a}
  ad_id: {role: ad, dtype: int64, encoding: {kind: vocabulary}, required: true}
  price: {role: ad, dtype: float32, range: {min: 0, max: 1000}, encoding: {kind: log1p}}
  quality: {role: ad, dtype: float32, encoding: {kind: standardize}}
  age: {role: user, dtype: int64, range: {min: 13, max: 120}, default: 30, encoding: {kind: bucketize, quantiles: 4}}
  site: {role: context, dtype: string, encoding: {kind: hash, buckets: 32}, description: "<b>Site</b> | page"}
  logged_in: {role: context, dtype: bool, encoding: {kind: vocabulary}}
  segment_site: {role: cross, encoding: {kind: cross, of: [segment, site], buckets: 64}}
  shown_at: {role: event_time, dtype: timestamp}
  hour: {role: context, encoding: {kind: hour, of: shown_at}}
  clicked_ads: {role: sequence, dtype: int64_list,
                encoding: {kind: list, items: {kind: vocabulary, shares: ad_id}, max_length: 3}}
  topics: {role: sequence, dtype: string_list, encoding: {kind: list, items: {kind: hash, buckets: 16}, max_length: 2}}
  position: {role: position, dtype: int64, range: {min: 1, max: 4}}
  request_id: {role: request_id, dtype: string}
  truth: {role: truth, dtype: float32}
  label: {role: label, dtype: int64}
"""


def impressions(rows: int = 4000, seed: int = 5) -> pd.DataFrame:
    """A market whose ads differ, with a position effect; the truth beside each row."""
    rng = np.random.default_rng(seed)
    ad, quality = rng.integers(0, 20, rows), rng.normal(size=20)
    position = rng.integers(1, 5, rows)
    truth = 1 / (1 + np.exp(1.2 - 1.2 * quality[ad] + 0.3 * (position - 1)))
    site = np.array([f"site{i}" for i in rng.integers(0, 9, rows)], dtype=object)
    site[rng.random(rows) < 0.05] = None
    seconds = np.sort(rng.integers(0, 10 * 86_400, rows))
    return pd.DataFrame(
        {
            "user_id": [f"u{i}" for i in rng.integers(0, 200, rows)],
            "segment": rng.choice(list("abc"), rows),
            "ad_id": ad,
            "price": rng.lognormal(2, 1, rows).clip(0, 999).astype(np.float32),
            "quality": (quality[ad] + rng.normal(0, 0.2, rows)).astype(np.float32),
            "age": rng.integers(13, 90, rows),
            "site": site,
            "logged_in": rng.random(rows) < 0.5,
            "shown_at": pd.Timestamp("2026-11-01", tz="UTC") + pd.to_timedelta(seconds, unit="s"),
            "clicked_ads": [rng.integers(0, 20, n).tolist() for n in rng.integers(0, 6, rows)],
            "topics": [[f"t{i}" for i in rng.integers(0, 9, n)] for n in rng.integers(0, 3, rows)],
            "position": position,
            "request_id": [f"r{i // 4}" for i in range(rows)],
            "truth": truth.astype(np.float32),
            "label": (rng.random(rows) < truth).astype(np.int64),
        }
    )


@pytest.fixture(scope="session", autouse=True)
def one_commit():
    """Somebody may commit while the tests run; the bundles they compare are of one code version."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CLICKMILL_COMMIT", "7839a89")
        yield


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> PreparedDataset:
    """The toy market, half of the non-clicks of train and validation dropped."""
    root = tmp_path_factory.mktemp("market")
    impressions().to_parquet(root / "log.parquet", coerce_timestamps="us")
    options = data.PrepareOptions(negatives_kept=0.5)
    return data.prepare([root / "log.parquet"], loads(CONTRACT), root / "dataset", options=options)


@pytest.fixture(scope="session")
def trained(dataset: PreparedDataset, tmp_path_factory: pytest.TempPathFactory) -> TrainedModel:
    """A small DCN-v2 with a weighted loss: every part of the calibration has something to do."""
    config = TrainingConfig(epochs=2, batch_size=256, positive_weight=3.0)
    out = tmp_path_factory.mktemp("trained")
    sizes = {"dim": 4, "units": [8], "cross_layers": 2}
    return train(dataset, features.fit(dataset), "dcn_v2", model_config=sizes, config=config, out=out)


@pytest.fixture(scope="session")
def bundle(
    trained: TrainedModel, dataset: PreparedDataset, tmp_path_factory: pytest.TempPathFactory
) -> Bundle:
    """The whole bundle, written once; tests that change it take a copy."""
    out = tmp_path_factory.mktemp("bundles") / "bundle"
    created = datetime(2026, 11, 24, 9, 30, tzinfo=UTC)
    return bundles.build_bundle(
        trained, dataset, out, method="platt", parent="a" * 64, resamples=40, created=created
    )


@pytest.fixture
def copy_of(bundle: Bundle, tmp_path: Path) -> Path:
    """A copy of the bundle's folder that may be broken."""
    return Path(shutil.copytree(bundle.path, tmp_path / "copy"))
