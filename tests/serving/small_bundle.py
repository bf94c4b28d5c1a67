"""A small real bundle for tests: a SavedModel of a formula that plain Python can repeat, with every file of a bundle.

logit = bias + ad[ad_id] - 0.1 (position - 1) + 0.01 price + 0.5 returning + 0.2 |history| + 0.05 |categories| + 0.01 hour
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from clickmill import contract as contracts
from clickmill.bundle import Priors, export, golden, priors
from clickmill.bundle import manifest as manifests
from clickmill.contract import FeatureContract

CONTRACT = contracts.loads(
    """
name: small
description: The features of the serving tests.
fields:
  user_id: {role: user, dtype: string, encoding: {kind: hash, buckets: 100}}
  ad_id: {role: ad, dtype: string, required: true, encoding: {kind: vocabulary}}
  price: {role: ad, dtype: float32, encoding: {kind: log1p}, default: 2.0, range: {min: 0, max: 1000}}
  device: {role: context, dtype: string, allowed: [phone, desk], default: phone, encoding: {kind: vocabulary}}
  returning: {role: user, dtype: bool, encoding: {kind: vocabulary}}
  history: {role: sequence, dtype: string_list, encoding: {kind: list, max_length: 4, items: {kind: hash, buckets: 100}}}
  categories: {role: ad, dtype: int64_list, encoding: {kind: list, max_length: 3, items: {kind: hash, buckets: 10}}}
  shown_at: {role: event_time, dtype: timestamp}
  hour: {role: context, encoding: {kind: hour, of: shown_at}}
  position: {role: position, dtype: int64, range: {min: 1, max: 20}}
  clicked: {role: label, dtype: int64, allowed: [0, 1]}
"""
)

WITH_IMPRESSIONS = contracts.loads(
    contracts.dumps(CONTRACT).replace(
        "fields:", "fields:\n  impression_id: {role: impression_id, dtype: string}", 1
    )
)
"""The same with an id by which clicks find their predictions."""

PRIORS = Priors(0.03, "ad_id", {"a1": 0.06, "a2": 0.01}, user_field="user_id", strength=20.0)
"""Not what the formula says, so that an answer shows which of the two it is."""

ADS = {"a1": 0.5, "a2": -0.5, "ü3": 1.0}

BIASES = (-3.0, -2.0, -1.0, 0.0)
"""Of the bundles that an integration test deploys one after the other; the first is the default of `logit_of`."""

GOOD_ROW: dict[str, Any] = {
    "user_id": "u1",
    "ad_id": "a1",
    "price": 3.5,
    "device": "desk",
    "returning": True,
    "history": ["a", "b"],
    "categories": [7],
    "shown_at": 1_700_000_000,
    "position": 2,
}


def logit_of(row: Mapping[str, Any], bias: float = -3.0) -> float:
    """The formula again, without arrays or TensorFlow."""
    seconds = row.get("shown_at", 0)
    hour = datetime.fromtimestamp(seconds, UTC).hour
    return (
        bias
        + ADS.get(row["ad_id"], 0.0)
        - 0.1 * (row.get("position", 1) - 1)
        + 0.01 * row.get("price", 2.0)
        + 0.5 * row.get("returning", False)
        + 0.2 * min(len(row.get("history", [])), 4)
        + 0.05 * min(len(row.get("categories", [])), 3)
        + 0.01 * hour
    )


def pctr_of(row: Mapping[str, Any], bias: float = -3.0) -> float:
    return 1 / (1 + math.exp(-logit_of(row, bias)))


def raw_rows(n: int, seed: int = 0) -> dict[str, np.ndarray]:
    """n legal rows as arrays."""
    rng = np.random.default_rng(seed)
    history = np.full((n, 4), b"", object)
    history[:, 0] = b"x"
    categories = np.full((n, 3), np.iinfo(np.int64).min)
    categories[:, 0] = rng.integers(0, 5, n)
    return {
        "user_id": rng.choice(np.array([b"u1", b"u2"], object), n),
        "ad_id": rng.choice(np.array([key.encode() for key in ADS], object), n),
        "price": rng.uniform(0, 10, n).astype(np.float32),
        "device": rng.choice(np.array([b"phone", b"desk"], object), n),
        "returning": rng.random(n) < 0.5,
        "history": history,
        "categories": categories,
        "shown_at": rng.integers(1_600_000_000, 1_700_000_000, n),
        "position": rng.integers(1, 21, n),
    }


def write_small_bundle(
    folder: Path, *, bias: float = -3.0, golden_shift: float = 0.0, contract: FeatureContract = CONTRACT
) -> Path:
    """Write a bundle. `golden_shift` makes its golden predictions lie by that much. contract: `CONTRACT`, or one with the same inputs."""
    import tensorflow as tf

    from clickmill.features import tensors
    from clickmill.features.sides import request_signature

    class Formula(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            keys = tf.constant(list(ADS))
            values = tf.constant(list(ADS.values()), tf.float32)
            self.ads = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(keys, values), 0.0)
            self.bias = tf.Variable(bias, dtype=tf.float32)

    module = Formula()

    def raw_logit(raw: dict[str, Any]) -> Any:
        hour = tf.cast(tf.math.floordiv(tf.math.floormod(raw["shown_at"], 86400), 3600), tf.float32)
        items = tf.reduce_sum(tf.cast(raw["history"] != "", tf.float32), 1)
        pad = tf.constant(np.iinfo(np.int64).min, tf.int64)
        categories = tf.reduce_sum(tf.cast(raw["categories"] != pad, tf.float32), 1)
        return (
            module.bias
            + module.ads.lookup(raw["ad_id"])
            - 0.1 * (tf.cast(raw["position"], tf.float32) - 1)
            + 0.01 * raw["price"]
            + 0.5 * tf.cast(raw["returning"], tf.float32)
            + 0.2 * items
            + 0.05 * categories
            + 0.01 * hour
            + 0.0 * tf.cast(tf.strings.length(raw["user_id"]) + tf.strings.length(raw["device"]), tf.float32)
        )

    saved = folder / "model" / "1"
    saved.parent.mkdir(parents=True)
    # Every term is summed by broadcasting, so that one formula answers rows and requests.
    forms = {
        export.SIGNATURE: (raw_logit, tensors.signature(contract)),
        export.RANKING: (raw_logit, request_signature(contract)),
    }
    export.save(module, forms, lambda logit: logit, contract, saved)
    (folder / "contract.yaml").write_text(contracts.dumps(contract))
    priors.write(folder, PRIORS)
    graph = tf.saved_model.load(str(saved)).signatures[export.SIGNATURE]

    def predict(raw: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        answers = graph(**{name: tf.constant(values) for name, values in raw.items()})
        logit = answers["logit"].numpy() + golden_shift
        return {"logit": logit, "pctr": 1 / (1 + np.exp(-logit))}

    raw = raw_rows(16)
    golden.write(folder, raw, ["real"] * 16, contract, predict)
    complete(folder, contract)
    return folder


def complete(
    folder: Path, contract: FeatureContract, metrics: Mapping[str, float | None] | None = None
) -> None:
    """Write the manifest over the files that are there. metrics: what it says of its test data."""
    (folder / manifests.MANIFEST).unlink(missing_ok=True)
    files = manifests.take_stock(folder)
    day = datetime(2026, 11, 24, tzinfo=UTC)
    manifest = manifests.Manifest(
        name=contract.name,
        created=day,
        digest=manifests.digest_of(files),
        files=files,
        model=manifests.ModelFacts(name="formula", config={}, training={}),
        lineage=manifests.Lineage(
            data_digest="0" * 64,
            contract_digest=contract.digest,
            parent=None,
            code_version="0",
            seed=0,
            negatives_kept=1.0,
            positive_weight=1.0,
            splits={},
        ),
        versions={"python": "3"},
        metrics=dict(metrics or {}),
    )
    (folder / manifests.MANIFEST).write_bytes(manifest.to_bytes())
