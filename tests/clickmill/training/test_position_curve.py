"""The examination product in training: the curve of traffic from samples with other odds, and from rankings that knew more than the model."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest

from clickmill.calibration import Calibration
from clickmill.contract import loads
from clickmill.features import fit, tensors
from clickmill.training import TrainedModel, TrainingConfig, train

CONTRACT = """
name: slots
fields:
  event_time: {role: event_time, dtype: timestamp}
  ad: {role: ad, dtype: int64, encoding: {kind: vocabulary, min_count: 1}}
  position: {role: position, dtype: int64}
  label: {role: label, dtype: int64}
"""
SEEN = np.array([1.0, 0.6, 0.3])
LIKED = np.array([0.9, 0.7, 0.5, 0.3, 0.15])


def _log(rows: int, seed: int, kept: float = 1.0) -> pa.Table:
    """Better ads stand higher more often; non-clicks are kept with probability `kept`."""
    rng = np.random.default_rng(seed)
    ad = rng.integers(0, len(LIKED), rows)
    position = 1 + np.clip(np.rint(ad / 2 + rng.normal(0, 0.8, rows)), 0, 2).astype(np.int64)
    label = (rng.random(rows) < SEEN[position - 1] * LIKED[ad]).astype(np.int64)
    chosen = (label == 1) | (rng.random(rows) < kept)
    columns = {
        "event_time": pa.array(np.arange(rows) * 1_000_000, pa.timestamp("us", "UTC")),
        "ad": ad,
        "position": position,
        "label": label,
    }
    return pa.table(columns).filter(pa.array(chosen))


@pytest.fixture
def learned(write, tmp_path) -> TrainedModel:
    splits = {"train": _log(40_000, 0, kept=0.5), "validation": _log(8_000, 1, kept=0.5)}
    dataset = write(loads(CONTRACT), splits)
    assert dataset.negatives_kept == 0.5
    config = TrainingConfig(
        epochs=8, batch_size=512, learning_rate=0.02, embedding_learning_rate=0.3, positive_weight=10.0
    )
    return train(
        dataset, fit(dataset), "lr", model_config={"position": "examination"}, config=config, out=tmp_path / "out"
    )  # fmt: skip


def test_the_curve_and_the_worth_of_ads_are_those_of_traffic(learned, tmp_path):
    layer = learned.keras_model.get_layer("examination")
    assert float(layer.prior) == pytest.approx(math.log(10 / 0.5))
    np.testing.assert_allclose(layer.curve, SEEN, atol=0.04)

    ad, position = np.repeat(np.arange(len(LIKED)), 3), np.tile([1, 2, 3], len(LIKED))
    raw = learned.raw_logits({"ad": ad, "position": position})
    p = Calibration(negatives_kept=0.5, positive_weight=10.0).pctr(raw)
    np.testing.assert_allclose(p, SEEN[position - 1] * LIKED[ad], atol=0.05)

    again = TrainedModel.load(tmp_path / "out")
    assert again.meta["model_config"] == {"position": "examination"}
    np.testing.assert_array_equal(again.raw_logits({"ad": ad, "position": position}), raw)


@pytest.mark.parametrize("treatment", ["additive", "examination"])
def test_a_request_without_a_slot_gets_the_average_of_traffic(treatment, write, tmp_path):
    contract = loads(
        CONTRACT.replace(
            "{role: position, dtype: int64}", "{role: position, dtype: int64, at_inference: average}"
        )
    )
    log = _log(20_000, 0, kept=0.5)
    dataset = write(contract, {"train": log, "validation": _log(4_000, 1, kept=0.5)})
    config = TrainingConfig(epochs=2, batch_size=512, learning_rate=0.02, embedding_learning_rate=0.3)
    model = train(
        dataset, fit(dataset), "lr", model_config={"position": treatment}, config=config, out=tmp_path / "out"
    )
    ad = np.arange(len(LIKED))
    known = [
        model.raw_logits({"ad": ad, "position": np.full(len(ad), k)}).astype(np.float64) for k in (1, 2, 3)
    ]
    absent = model.raw_logits(tensors.from_rows([{"ad": int(a)} for a in ad], contract))
    # a non-click that was kept stands for two
    stands_for = np.where(log["label"].to_numpy() == 1, 1, 2)
    share = np.bincount(log["position"].to_numpy() - 1, stands_for) / stands_for.sum()
    pctr = Calibration(negatives_kept=0.5, positive_weight=1.0).pctr
    if treatment == "examination":
        expected = share @ [pctr(logit) for logit in known]
    else:
        odds = share @ np.exp(known)
        expected = pctr(np.log(odds))
    np.testing.assert_allclose(pctr(absent), expected, rtol=1e-4)
