"""The position curve from clicks and the chances of the slots, against planted curves and hand-made counts."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from clickmill.contract import loads
from clickmill.errors import ContractError, TrainingError, UsageError
from clickmill.features import fit
from clickmill.training import TrainedModel, TrainingConfig, train
from clickmill.training.position_curve import from_clicks, of_train_split

CONTRACT = """
name: slots
fields:
  event_time: {role: event_time, dtype: timestamp}
  ad: {role: ad, dtype: int64, encoding: {kind: vocabulary, min_count: 1}}
  position: {role: position, dtype: int64}
  chances: {role: propensity, dtype: float32_list}
  label: {role: label, dtype: int64}
"""
SEEN = np.array([1.0, 0.6, 0.3])
LIKED = np.array([0.6, 0.45, 0.3, 0.2])


def _log(rows: int, seed: int) -> pa.Table:
    """An old ranking knows of each impression a worth that no field tells, and puts what it likes on top, with some noise."""
    rng = np.random.default_rng(seed)
    ad, hidden = rng.integers(0, len(LIKED), rows), rng.choice([0.5, 1.5], rows)
    chances = np.where(hidden[:, None] > 1, [0.6, 0.3, 0.1], [0.1, 0.3, 0.6])
    position = 1 + (rng.random(rows)[:, None] > np.cumsum(chances, axis=1)).sum(axis=1)
    label = rng.random(rows) < SEEN[position - 1] * LIKED[ad] * hidden
    return pa.table(
        {
            "event_time": pa.array(np.arange(rows) * 1_000_000, pa.timestamp("us", "UTC")),
            "ad": ad,
            "position": position.astype(np.int64),
            "chances": pa.array(chances.astype(np.float32).tolist(), pa.list_(pa.float32())),
            "label": label.astype(np.int64),
        }
    )


@pytest.fixture
def dataset(write):
    return write(loads(CONTRACT), {"train": _log(60_000, 0), "validation": _log(8_000, 1)})


def _trained(dataset, out, **settings) -> TrainedModel:
    config = TrainingConfig(
        epochs=8, batch_size=512, learning_rate=0.02, embedding_learning_rate=0.3, **settings
    )
    return train(
        dataset, fit(dataset), "lr", model_config={"position": "examination"}, config=config, out=out
    )


def test_with_slots_by_the_toss_of_a_coin_the_curve_is_the_ratio_of_the_clicks():
    slot = np.repeat([1, 2, 3], [80, 60, 20])
    curve = from_clicks(slot, np.full((160, 3), 1 / 3))
    np.testing.assert_allclose(curve.seen, [1, 60 / 80, 20 / 80], rtol=1e-9)
    # ln of a ratio of two counts: variance 1 / n + 1 / m
    np.testing.assert_allclose(curve.relative_error, [0, (1 / 60 + 1 / 80) ** 0.5, (1 / 20 + 1 / 80) ** 0.5])
    assert curve.clicks == 160


def test_a_slot_given_twice_as_often_needs_twice_the_clicks():
    slot = np.repeat([1, 2], [50, 50])
    assert from_clicks(slot, np.tile([0.2, 0.4], (100, 1))).seen == pytest.approx((1, 0.5))
    # only ratios within a row count, so that chances given the ad is shown at all serve as well
    assert from_clicks(slot, np.tile([0.1, 0.2], (100, 1))).seen == pytest.approx((1, 0.5))


def test_requests_with_fewer_slots_tell_of_the_slots_they_have():
    slot = np.repeat([1, 2, 1, 2, 3], [40, 20, 80, 40, 20])
    chances = np.repeat([[0.5, 0.5, 0], [1 / 3, 1 / 3, 1 / 3]], [60, 140], axis=0)
    assert from_clicks(slot, chances).seen == pytest.approx((1, 0.5, 0.25), rel=1e-6)


def test_no_curve_in_the_neighbourhood_is_likelier():
    rng = np.random.default_rng(3)
    chances = rng.dirichlet([2, 1, 1, 1], 4_000)
    slot = 1 + (rng.random(4_000)[:, None] > np.cumsum(chances, axis=1)).sum(axis=1)
    found = np.array(from_clicks(slot, chances).seen)

    def likelihood(curve):
        share = chances * curve
        return np.log(share[np.arange(len(slot)), slot - 1] / share.sum(axis=1)).sum()

    for k in (1, 2, 3):
        for factor in (0.98, 1.02):
            other = found.copy()
            other[k] *= factor
            assert likelihood(other) < likelihood(found)


def test_learning_curve_and_worth_together_takes_hidden_worth_for_the_slot_and_propensities_do_not(
    dataset, tmp_path
):
    learned = _trained(dataset, tmp_path / "learned").keras_model.get_layer("examination").curve.numpy()
    assert learned[2] < 0.6 * SEEN[2]  # 0.3 looks like 0.12

    model = _trained(dataset, tmp_path / "read", position_curve="propensities")
    curve = model.keras_model.get_layer("examination").curve.numpy()
    read = of_train_split(dataset, 3)
    np.testing.assert_allclose(curve, SEEN, rtol=0.05)
    np.testing.assert_allclose(curve, read.seen, rtol=1e-5)
    assert np.all(np.abs(np.log(curve[1:] / SEEN[1:])) < 3 * np.array(read.relative_error[1:]))
    assert model.meta["position_curve"]["clicks"] == read.clicks
    again = TrainedModel.load(tmp_path / "read")
    np.testing.assert_array_equal(again.keras_model.get_layer("examination").curve, curve)


def test_which_non_clicks_were_kept_does_not_matter(write):
    log = _log(20_000, 5)
    few = pa.concat_tables(
        [log.filter(pa.compute.equal(log["label"], 1)), log.filter(pa.compute.equal(log["label"], 0))[::7]]
    )
    contract = loads(CONTRACT)
    whole, sampled = (write(contract, {"train": t}, name=n) for n, t in (("whole", log), ("few", few)))
    assert of_train_split(sampled, 3) == of_train_split(whole, 3)


def test_deeper_slots_than_the_model_knows_count_as_its_last(dataset):
    slot_1, deeper = of_train_split(dataset, 2).seen
    assert slot_1 == 1
    assert SEEN[2] < deeper < SEEN[1]


def test_what_the_log_does_not_decide_is_refused(write, tmp_path):
    with pytest.raises(TrainingError, match="slot 2 has no click among 10"):
        from_clicks(np.ones(10, np.int64), np.full((10, 2), 0.5))
    with pytest.raises(
        TrainingError, match="1 of 3 clicked rows stood in a slot for which the log gives no chance"
    ):
        from_clicks(np.array([1, 2, 2]), np.array([[0.5, 0.5], [0.5, 0.5], [1.0, 0.0]]))
    with pytest.raises(TrainingError, match="the ranking has no noise there"):
        from_clicks(np.array([1, 1, 2, 2]), np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]))
    log = _log(400, 2)
    unknown = log.set_column(3, "chances", pa.nulls(len(log), pa.list_(pa.float32())))
    dataset = write(loads(CONTRACT), {"train": unknown, "validation": log})
    clicks = int(np.sum(log["label"].to_numpy()))
    with pytest.raises(TrainingError, match=f"{clicks} of {clicks} clicked rows"):
        _trained(dataset, tmp_path / "out", position_curve="propensities")


def test_a_setting_that_the_contract_or_the_model_cannot_meet_is_refused(write, tmp_path):
    contract = loads(CONTRACT.replace("  chances: {role: propensity, dtype: float32_list}\n", ""))
    log = _log(400, 2)
    dataset = write(contract, {"train": log.drop("chances"), "validation": log.drop("chances")})
    with pytest.raises(ContractError, match="`slots` has no field of role propensity"):
        _trained(dataset, tmp_path / "out", position_curve="propensities")
    other = write(loads(CONTRACT), {"train": log, "validation": log}, name="other")
    with pytest.raises(UsageError, match="position: examination"):
        train(
            other, fit(other), "lr", config=TrainingConfig(position_curve="propensities"), out=tmp_path / "additive"
        )  # fmt: skip
