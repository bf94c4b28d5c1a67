"""Losses for clicks that are not known yet: their expected gradients vanish at the truth, and training finds it."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf

from clickmill.calibration import Calibration
from clickmill.contract import loads
from clickmill.data import PreparedDataset
from clickmill.features import fit
from clickmill.training import TrainingConfig, train
from clickmill.training.loss import ClickLoss, fake_negative_weight, weighted_bce

CASES = [(0.03, 1.0, 1.0), (0.3, 1.0, 1.0), (0.3, 5.0, 0.2)]
each_case = pytest.mark.parametrize(("p", "positive_weight", "kept"), CASES)


def _slope(logit: float, loss) -> float:
    z = tf.Variable([logit, logit], dtype=tf.float32)
    with tf.GradientTape() as tape:
        value = loss(z)
    return float(tf.reduce_sum(tape.gradient(value, z)))


@each_case
@pytest.mark.parametrize("known", [0.4, 0.9])
def test_delay_weights_have_the_gradient_of_labels_that_know_all(p, positive_weight, kept, known):
    """Expectations as weights: p F of the rows are known clicks, the others non-clicks of which a share is kept."""
    rows, some = np.float32([p * known, (1 - p * known) * kept]), np.float32([known, known])
    ripe = np.float32([p, (1 - p) * kept])
    label = np.float32([1, 0])
    for logit in (-4.0, -1.0, 0.5):
        found = _slope(
            logit,
            lambda z: (
                weighted_bce(label, z, rows, positive_weight, known=some, negatives_kept=kept) * rows.sum()
            ),
        )
        expected = _slope(logit, lambda z: weighted_bce(label, z, ripe, positive_weight) * ripe.sum())
        assert found == pytest.approx(expected, rel=1e-4, abs=1e-6)
        at_truth = np.log(positive_weight * p / (1 - p) / kept)
        zero = lambda z: weighted_bce(label, z, rows, positive_weight, known=some, negatives_kept=kept)  # noqa: E731
        assert _slope(float(at_truth), zero) == pytest.approx(0, abs=1e-6)


def test_known_by_all_is_the_loss_as_it_was():
    rng = np.random.default_rng(1)
    y, z = rng.integers(0, 2, 30).astype(np.float32), rng.normal(size=30).astype(np.float32)
    plain = weighted_bce(y, z, None, 3.0)
    assert float(weighted_bce(y, z, None, 3.0, known=np.ones(30, np.float32), negatives_kept=0.1)) == float(
        plain
    )


@each_case
def test_fake_negative_weights_make_a_stream_one_of_true_labels(p, positive_weight, kept):
    """In a stream there is a non-click for every impression, and for a share p of them a click besides."""
    rows, label = np.float32([p, kept]), np.float32([1, 0])
    click_loss = ClickLoss(positive_weight, kept, fake_negatives=True)

    def loss(z):
        return click_loss(label, z, rows, None)

    truth = float(np.log(positive_weight * p / (1 - p) / kept))
    assert _slope(truth, loss) == pytest.approx(0, abs=1e-6)
    assert _slope(truth - 0.1, loss) < 0 < _slope(truth + 0.1, loss)


def test_the_weights_are_those_of_the_paper():
    z = np.float32([np.log(0.25 / 0.75)] * 2)
    np.testing.assert_allclose(
        fake_negative_weight(np.float32([1, 0]), z, 0.0), [1.25, 0.75 * 1.25], rtol=1e-6
    )


CONTRACT = loads("""
name: slow
fields:
  event_time: {role: event_time, dtype: timestamp}
  ad: {role: ad, dtype: int64, encoding: {kind: vocabulary, min_count: 1}}
  label: {role: label, dtype: int64}
""")
LIKED = np.array([0.4, 0.2, 0.1])
AS_OF = datetime(2026, 1, 5, tzinfo=UTC)
OLD, KNOWN = 30_000, 0.4
"""The younger half of the rows is so young that 40 % of its clicks are known."""


def _log(seed: int, treatment: str, kept: float) -> pa.Table:
    rng = np.random.default_rng(seed)
    rows = 2 * OLD
    ad, young = rng.integers(0, 3, rows), np.arange(rows) >= OLD
    clicked = rng.random(rows) < LIKED[ad]
    if treatment == "fake_negatives":
        # in balance: what is still to come is as much as what comes in of older impressions
        ad = np.concatenate([ad, ad[clicked]])
        label = np.concatenate([np.zeros(rows, bool), np.ones(clicked.sum(), bool)])
        young = np.concatenate([young, young[clicked]])
    else:
        label = clicked & (~young | (rng.random(rows) < KNOWN))
    age = np.where(young, 60, 6_000)
    shown = int(AS_OF.timestamp()) * 1_000_000 - age * 1_000_000
    table = pa.table(
        {"event_time": pa.array(shown, pa.timestamp("us", "UTC")), "ad": ad, "label": label.astype(np.int64)}
    )
    return table.filter(pa.array(label | (rng.random(len(label)) < kept)))


def _dataset(write, treatment: str, kept: float) -> PreparedDataset:
    dataset = write(CONTRACT, {"train": _log(0, treatment, kept), "validation": _log(1, treatment, kept)})
    path = dataset.root / "dataset.json"
    meta = json.loads(path.read_text())
    meta["negatives_kept"] = kept
    if treatment != "ignore":
        curve = {"seconds": [30, 3_000], "known": [KNOWN, 1.0], "clicks": 1}
        meta["ripeness"] = {
            "as_of": AS_OF.isoformat(), "later_is_ripe": True, "treatment": treatment, "curve": curve
        }  # fmt: skip
    path.write_text(json.dumps(meta))
    return PreparedDataset.open(dataset.root)


@pytest.mark.parametrize("kept", [1.0, 0.5])
@pytest.mark.parametrize("treatment", ["ignore", "delay_weights", "fake_negatives"])
def test_training_finds_the_click_rates_that_labels_do_not_know_yet(treatment, kept, write, tmp_path):
    dataset = _dataset(write, treatment, kept)
    config = TrainingConfig(epochs=4, batch_size=512, learning_rate=0.02, embedding_learning_rate=0.3)
    model = train(dataset, fit(dataset), "lr", config=config, out=tmp_path / "out")
    raw = model.raw_logits({"ad": np.arange(3)})
    p = Calibration(negatives_kept=kept, positive_weight=1.0).pctr(raw)
    if treatment == "ignore":
        np.testing.assert_allclose(p, LIKED * (1 + KNOWN) / 2, rtol=0.06)
    else:
        np.testing.assert_allclose(p, LIKED, rtol=0.06)
    # validation is judged by what its rows mean: at the truth NE is that of the best there is
    assert model.meta["history"][-1]["ne"] < 1
