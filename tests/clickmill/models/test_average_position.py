"""A slot that is not known: the first by default, the mean of all where the contract says so."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from clickmill.contract import FeatureContract, loads
from clickmill.errors import ContractError
from clickmill.features import tensors
from clickmill.models import build
from clickmill.models.examination import Examination
from clickmill.models.logit import PositionBias

CONTRACT = """
name: slots
fields:
  ad: {role: ad, dtype: int64, encoding: {kind: vocabulary, min_count: 1}}
  position: {role: position, dtype: int64, AT}
  label: {role: label, dtype: int64}
"""


def _contract(at: str) -> FeatureContract:
    return loads(CONTRACT.replace(", AT", at))


def test_without_a_slot_a_request_asks_for_the_first_or_for_the_average():
    for at, expected in (("", 1), (", at_inference: first", 1), (", at_inference: average", 0)):
        raw = tensors.from_rows([{"ad": 3}, {"ad": 3, "position": 2}], _contract(at))
        assert raw["position"].tolist() == [expected, 2]


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (", at_inference: average, default: 2", "remove one of the two"),
        (", at_inference: average, required: true", "a required position is never missing"),
        (", at_inference: median", "first"),
    ],
)
def test_two_answers_to_the_same_question_are_refused(broken, words):
    with pytest.raises(ContractError, match=words):
        _contract(broken)


def test_only_the_position_has_an_effect_at_inference():
    with pytest.raises(ContractError, match="only the position"):
        loads(CONTRACT.replace(", AT", "").replace("{role: ad,", "{role: ad, at_inference: average,"))


def test_the_average_chance_to_be_seen_is_the_mean_over_the_slots_shown():
    f, share = np.array([-3.0, 0.0, 2.0], np.float32), np.array([0.5, 0.3, 0.2])
    layer = Examination(3, "e", average=True)
    layer(f, np.zeros(3, np.int32))
    layer.hold([1.0, 0.6, 0.25])
    layer.share.assign(share)
    p = (0.5 * 1.0 + 0.3 * 0.6 + 0.2 * 0.25) / (1 + np.exp(-f.astype(np.float64)))
    found = layer(f, np.full(3, 3, np.int32)).numpy()
    np.testing.assert_allclose(found, np.log(p) - np.log1p(-p), rtol=1e-5)
    # known slots are as they were
    np.testing.assert_allclose(1 / (1 + np.exp(-layer(f, np.full(3, 2, np.int32)))), 0.25 / (1 + np.exp(-f)), rtol=1e-5)  # fmt: skip


def test_the_average_shift_is_that_of_the_mean_odds():
    layer = PositionBias(2, "p", average=True)
    layer(np.zeros(1, np.float32), np.zeros(1, np.int32))
    layer.shift.assign(np.log([4.0, 1.0]))
    layer.share.assign([0.25, 0.75])
    # odds of 0.25 * 4 + 0.75 * 1
    found = layer(np.array([0.5], np.float32), np.array([2], np.int32))
    np.testing.assert_allclose(found, [0.5 + np.log(1.75)], rtol=1e-6)


@pytest.mark.parametrize("position", ["additive", "examination"])
def test_a_log_of_one_slot_has_that_slot_for_its_average(space, encoded, position):
    field = space.contract.fields["position"].model_copy(
        update={"at_inference": "average", "required": False}
    )
    contract = space.contract.model_copy(update={"fields": {**space.contract.fields, "position": field}})
    one = dataclasses.replace(space, contract=contract, positions=1)
    assert one.averages_position
    model = build("lr", one, {"position": position}, seed=0)
    batch = encoded(one, 4)
    first = model({**batch, "position": np.zeros(4, np.int32)})
    np.testing.assert_allclose(model({**batch, "position": np.ones(4, np.int32)}), first, atol=1e-5)
