"""DIN's activation unit against loops, and what must not change it: padding, and without recency the order."""

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from clickmill.contract import loads
from clickmill.features import FeatureSpace
from clickmill.models import build
from clickmill.models.attention import (
    HALF_LIVES,
    LocalActivationUnit,
    age,
    candidate_slots,
    masked_softmax,
)
from clickmill.models.dice import Dice
from clickmill.models.tower import Seeds

WIDTH = 3


def _unit(
    activation: str = "prelu",
    *,
    heads: int = 2,
    softmax: bool = False,
    recency: bool = False,
    identity: bool = False,
) -> LocalActivationUnit:
    unit = LocalActivationUnit(
        (5, 4),
        activation,
        Seeds(0),
        heads=heads,
        softmax=softmax,
        recency=recency,
        identity=identity,
        name="unit",
    )
    unit(
        np.zeros((1, 2, WIDTH), np.float32),
        np.zeros((1, WIDTH), np.float32),
        np.ones((1, 2), np.int32),
        np.ones(1, np.int32),
    )
    rng = np.random.default_rng(7)
    for variable in unit.trainable_variables:
        variable.assign(rng.normal(0, 0.7, variable.shape))
    return unit


def _histories(
    seed: int, rows: int = 4, length: int = 5
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Vectors (rows, length, WIDTH), zero where padded, candidates, and rows of both: every length from 0 on; every other candidate is
    the first item of its history."""
    rng = np.random.default_rng(seed)
    there = np.arange(length) < np.arange(rows)[:, None] % (length + 1)
    ids = np.where(there, rng.integers(1, 50, (rows, length)), 0).astype(np.int32)
    vectors = (rng.normal(size=(rows, length, WIDTH)) * there[:, :, None]).astype(np.float32)
    wanted = np.where(np.arange(rows) % 2, ids[:, 0], 77).astype(np.int32)
    return vectors, rng.normal(size=(rows, WIDTH)).astype(np.float32), ids, wanted


@pytest.mark.parametrize("softmax", [False, True])
@pytest.mark.parametrize("recency", [False, True])
@pytest.mark.parametrize("identity", [False, True])
@pytest.mark.parametrize("heads", [1, 3])
def test_the_unit_is_eq_3_of_din_item_by_item(softmax, recency, identity, heads):
    unit = _unit(heads=heads, softmax=softmax, recency=recency, identity=identity)
    history, candidate, rows, wanted = _histories(0, rows=6)
    kernels = [k.numpy() for k in unit.kernels]
    biases = [b.numpy() for b in unit.biases]
    slopes = [a.alpha.numpy() for a in unit.activations]
    expected = np.zeros((6, heads, WIDTH))
    for r in range(6):
        h, c = history[r][rows[r] > 0], candidate[r]
        weights = np.zeros((len(h), heads))
        for j, item in enumerate(h):
            x = np.concatenate([item, c, item - c, item * c])
            if recency:
                x = np.concatenate([x, [0.5 ** ((len(h) - 1 - j) / half_life) for half_life in HALF_LIVES]])
            if identity:
                x = np.append(x, rows[r, j] == wanted[r])
            for layer in range(2):
                s = x @ kernels[layer] + biases[layer]
                x = np.where(s > 0, s, slopes[layer] * s)
            weights[j] = x @ kernels[2] + biases[2]
        for k in range(heads):
            w = np.exp(weights[:, k]) / np.exp(weights[:, k]).sum() if softmax else weights[:, k]
            expected[r, k] = sum((a * item for a, item in zip(w, h, strict=True)), np.zeros(WIDTH))
    np.testing.assert_allclose(unit(history, candidate, rows, wanted), expected, rtol=1e-4, atol=1e-5)
    assert not expected[0].any()  # nobody's history is empty but the first's


@given(
    more=st.integers(1, 6),
    seed=st.integers(0, 1000),
    softmax=st.booleans(),
    recency=st.booleans(),
    activation=st.sampled_from(["prelu", "dice"]),
    training=st.booleans(),
)
@settings(max_examples=30)
def test_padding_changes_nothing(more, seed, softmax, recency, activation, training):
    """While training too: Dice's moments are those of the items that are there."""
    history, candidate, rows, wanted = _histories(seed)
    pad = ((0, 0), (0, more))
    short, long = (_unit(activation, softmax=softmax, recency=recency, identity=True) for _ in range(2))
    without = short(history, candidate, rows, wanted, training=training)
    # what lies where nothing is may be anything
    noise = np.random.default_rng(seed).normal(size=(len(rows), more, WIDTH)).astype(np.float32)
    longer = np.concatenate([history, noise], axis=1)
    padded = long(longer, candidate, np.pad(rows, pad), wanted, training=training)
    np.testing.assert_allclose(padded, without, rtol=1e-4, atol=1e-5)
    for a, b in zip(short.non_trainable_variables, long.non_trainable_variables, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@given(seed=st.integers(0, 1000), softmax=st.booleans())
@settings(max_examples=20)
def test_without_recency_the_order_of_a_history_changes_nothing(seed, softmax):
    unit = _unit(softmax=softmax, identity=True)
    history, candidate, rows, wanted = _histories(seed, rows=6)
    order = np.random.default_rng(seed).permutation(5)
    np.testing.assert_allclose(
        unit(history[:, order], candidate, rows[:, order], wanted),
        unit(history, candidate, rows, wanted),
        rtol=1e-4,
        atol=1e-5,
    )


def test_with_recency_the_order_counts():
    unit = _unit(recency=True)
    history, candidate, rows, wanted = _histories(0, rows=6)
    backwards = unit(history[5:, ::-1], candidate[5:], rows[5:, ::-1], wanted[5:])
    assert np.abs(backwards - unit(history[5:], candidate[5:], rows[5:], wanted[5:])).max() > 0.01


def test_with_identity_a_history_that_holds_the_candidate_counts_otherwise():
    """By its row: the vectors are the same in both."""
    unit = _unit(identity=True)
    history, candidate, rows, _ = _histories(0, rows=6)
    there, elsewhere = (
        unit(history[5:], candidate[5:], rows[5:], row) for row in (rows[5:, 2], rows[5:, 2] + 100)
    )
    assert np.abs(there - elsewhere).max() > 0.01


def test_the_age_counts_back_from_the_last_item():
    there = np.array([[1, 1, 1, 0], [1, 0, 1, 0], [0, 0, 0, 0]], bool)
    np.testing.assert_array_equal(age(there), [[2, 1, 0, 0], [2, 1, 0, 0], [0, 0, 0, 0]])


def test_the_softmax_over_nothing_is_zero_and_survives_large_scores():
    scores = np.array([[1000.0, 1000.0, 5e4], [-1e30, 3.0, 0.0], [1.0, 2.0, 3.0]], np.float32)
    there = np.array([[1, 1, 0], [1, 1, 0], [0, 0, 0]], bool)
    np.testing.assert_allclose(
        masked_softmax(tf.constant(scores), there), [[0.5, 0.5, 0], [0, 1, 0], [0, 0, 0]]
    )


def test_dice_bends_at_the_mean_of_the_items_that_are_there():
    """Section 5.2 of the paper, in numpy, on a batch with padding."""
    rng = np.random.default_rng(0)
    s = rng.normal(2, 3, (4, 3, 2)).astype(np.float32)
    there = np.array([[1, 1, 1], [1, 1, 0], [1, 0, 0], [0, 0, 0]], bool)
    dice = Dice(name="dice")
    dice(s, there)
    dice.alpha.assign([0.3, -0.2])
    seen = s[there].astype(float)
    p = 1 / (1 + np.exp(-(s - seen.mean(axis=0)) / np.sqrt(seen.var(axis=0) + 1e-8)))
    expected = p * s + (1 - p) * np.array([0.3, -0.2]) * s
    np.testing.assert_allclose(dice(s, there, training=True), expected, rtol=1e-3, atol=1e-3)
    for _ in range(200):
        dice(s, there, training=True)
    np.testing.assert_allclose(dice(s, there, training=False), expected, rtol=1e-3, atol=1e-3)


SHARERS = """
name: sharers
fields:
  favourite: {role: user, dtype: int64, encoding: {kind: vocabulary, shares: ad}}
  brand: {role: ad, dtype: string, encoding: {kind: hash, buckets: 5}}
  rival: {role: ad, dtype: int64, encoding: {kind: vocabulary, shares: ad}}
  ad: {role: ad, dtype: int64, encoding: {kind: vocabulary}}
  liked: {role: user, dtype: int64, encoding: {kind: vocabulary, shares: page}}
  page: {role: context, dtype: int64, encoding: {kind: vocabulary}}
  clicks: {role: sequence, dtype: int64_list, encoding: {kind: list, items: {kind: vocabulary, shares: ad}, max_length: 4}}
  visits: {role: sequence, dtype: int64_list, encoding: {kind: list, items: {kind: vocabulary, shares: page}, max_length: 4}}
  words: {role: sequence, dtype: string_list, encoding: {kind: list, items: {kind: hash, buckets: 9}, max_length: 4}}
  label: {role: label, dtype: int64}
"""


@pytest.fixture(scope="module")
def sharers() -> FeatureSpace:
    known = {name: pa.array(range(5), pa.int64()) for name in ("ad", "page")}
    return FeatureSpace(loads(SHARERS), known)


def test_a_history_attends_to_the_ad_whose_rows_it_shares(sharers):
    """The ad before the user's favourite and its rival, which only share; the page of the context; words to nothing."""
    names = [slot.name for slot in sharers.slots]
    attended = {name: names[place] for name, place in candidate_slots(sharers).items()}
    assert attended == {"clicks": "ad", "visits": "page"}


@pytest.mark.parametrize("name", ["din", "dien"])
def test_a_list_without_a_candidate_is_averaged(name, sharers, encoded):
    """Its order and repetition in equal shares change nothing; that of a history would."""
    model = build(name, sharers)
    rng = np.random.default_rng(0)
    for variable in model.trainable_variables:
        variable.assign(rng.normal(0, 0.3, variable.shape))
    batch = encoded(sharers, 12)
    full = {
        **batch,
        "list/words": rng.integers(1, 4, (12, 4)).astype(np.int32) + batch["list/words"].max() - 4,
    }
    turned = {**full, "list/words": full["list/words"][:, ::-1].copy()}
    before = model(full, training=False).numpy()
    np.testing.assert_allclose(model(turned, training=False), before, rtol=1e-4, atol=1e-5)
    clicks = sharers.lists[0].offset + rng.integers(0, 5, (12, 4)).astype(np.int32)
    one, other = ({**full, "list/clicks": c} for c in (clicks, clicks[:, ::-1].copy()))
    assert np.abs(model(one, training=False).numpy() - model(other, training=False).numpy()).max() > 1e-3
