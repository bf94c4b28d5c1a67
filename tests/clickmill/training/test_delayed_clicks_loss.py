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
@pytest.mark.parametrize("known", [1.0, 0.4])
def test_fake_negative_weights_make_rows_ones_of_true_labels(p, positive_weight, kept, known):
    """There is a non-click for every impression, and for a share p F of them a click besides."""
    rows, label, some = np.float32([p * known, kept]), np.float32([1, 0]), np.float32([known, known])
    click_loss = ClickLoss(positive_weight, kept, fake_negatives=True)

    def loss(z):
        return click_loss(label, z, rows, some)

    truth = float(np.log(positive_weight * p / (1 - p) / kept))
    assert _slope(truth, loss) == pytest.approx(0, abs=1e-6)
    assert _slope(truth - 0.1, loss) < 0 < _slope(truth + 0.1, loss)


def test_the_weights_are_those_of_the_paper():
    z = np.float32([np.log(0.25 / 0.75)] * 2)
    np.testing.assert_allclose(
        fake_negative_weight(np.float32([1, 0]), z, 0.0), [1.25, 0.75 * 1.25], rtol=1e-6
    )
    half = np.float32([0.5, 0.5])
    np.testing.assert_allclose(
        fake_negative_weight(np.float32([1, 0]), z, 0.0, half), [2.5, 0.75 * 1.25], rtol=1e-6
    )


CONTRACT = loads("""
name: slow
fields:
  event_time: {role: event_time, dtype: timestamp}
  ad: {role: ad, dtype: int64, encoding: {kind: vocabulary, min_count: 1}}
  label: {role: label, dtype: int64}
""")
LIKED = np.array([0.4, 0.2, 0.1])
YOUNG = np.array([0.2, 0.5, 0.9])
"""Share of an ad's impressions that are so young that 40 % of their clicks are known: the ad tells the date."""
AS_OF = datetime(2026, 1, 5, tzinfo=UTC)
SHOWN, KNOWN = 20_000, 0.4


def _log(treatment: str, kept: float) -> pa.Table:
    """Exactly as many clicks and non-clicks of each ad and age as there are on average."""
    pieces = []
    for ad, (rate, share) in enumerate(zip(LIKED, YOUNG, strict=True)):
        for young in (True, False):
            shown = round(SHOWN * (share if young else 1 - share))
            clicks = round(shown * rate * (KNOWN if young else 1))
            others = shown if treatment == "fake_negatives" else shown - clicks
            label = np.repeat([1, 0], [clicks, round(kept * others)])
            age = 60 if young else 6_000
            time = np.full(len(label), (int(AS_OF.timestamp()) - age) * 1_000_000)
            pieces.append(
                pa.table(
                    {
                        "event_time": pa.array(time, pa.timestamp("us", "UTC")),
                        "ad": np.full(len(label), ad),
                        "label": label,
                    }
                )
            )
    return pa.concat_tables(pieces)


def _dataset(write, treatment: str, kept: float) -> PreparedDataset:
    dataset = write(CONTRACT, dict.fromkeys(("train", "validation"), _log(treatment, kept)))
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
    config = TrainingConfig(
        epochs=12, batch_size=1024, learning_rate=0.02, embedding_learning_rate=0.3, linear_l2=0, rate_decay=0.1, patience=4
    )  # fmt: skip
    model = train(dataset, fit(dataset), "lr", config=config, out=tmp_path / "out")
    raw = model.raw_logits({"ad": np.arange(3)})
    p = Calibration(negatives_kept=kept, positive_weight=1.0).pctr(raw)
    known = 1 - YOUNG * (1 - KNOWN) if treatment == "ignore" else 1.0
    np.testing.assert_allclose(p, LIKED * known, rtol=0.02)
    # validation is judged by what its rows mean: at the truth NE is that of the best there is
    assert model.meta["history"][-1]["ne"] < 1
