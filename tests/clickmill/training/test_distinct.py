"""Distinct rows of a batch against numpy's own unique, and the way back from places to rows against a plain gather."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from clickmill.models import MODELS, build, embedding
from clickmill.training import TrainingConfig
from clickmill.training.distinct import row_keys, with_distinct_rows
from clickmill.training.lookup import looked_up
from clickmill.training.step import TrainStep


def batch(slots, history):
    return {
        "slots": np.array(slots, np.int32),
        "list/h": np.array(history, np.int32),
        "numerics": np.ones((len(slots), 1), np.float32),
        "label": np.zeros(len(slots), np.float32),
    }


def test_distinct_rows_are_named_once_and_padding_comes_first():
    plain = batch([[5, 9], [9, 7]], [[7, 8, 9], [11, 5, 2_000_000_000]])
    found = with_distinct_rows(plain)
    np.testing.assert_array_equal(found["distinct"], [0, 5, 7, 8, 9, 11, 2_000_000_000])
    np.testing.assert_array_equal(found["slots"], [[1, 4], [4, 2]])
    np.testing.assert_array_equal(found["list/h"], [[2, 3, 4], [5, 1, 6]])
    assert found["numerics"] is plain["numerics"]
    assert found["label"] is plain["label"]


def test_a_batch_without_rows_has_none():
    found = with_distinct_rows({"numerics": np.ones((3, 2), np.float32)})
    assert [len(found[key]) for key in ("distinct", "order", "segments")] == [0, 0, 0]


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(1, 60))
def test_places_lead_back_to_the_rows_and_order_sorts_them(seed, rows, highest):
    rng = np.random.default_rng(seed)
    plain = batch(rng.integers(0, highest, (rows, 3)), rng.integers(0, highest, (rows, 2)))
    found = with_distinct_rows(plain)
    keys = row_keys(plain)
    named = np.concatenate([plain[key].ravel() for key in keys])
    np.testing.assert_array_equal(found["distinct"], np.union1d([0], named))
    for key in keys:
        np.testing.assert_array_equal(found["distinct"][found[key]], plain[key])
    np.testing.assert_array_equal(named[found["order"]], np.sort(named))
    np.testing.assert_array_equal(found["distinct"][found["segments"]], np.sort(named))


def test_the_sorted_way_back_is_the_gradient_of_a_gather():
    rng = np.random.default_rng(0)
    found = with_distinct_rows(batch(rng.integers(0, 30, (16, 3)), rng.integers(0, 30, (16, 2))))
    keys = row_keys(found)
    excerpt = tf.constant(rng.normal(size=(len(found["distinct"]), 4)))
    weights = [tf.constant(rng.normal(size=(*found[key].shape, 4))) for key in keys]

    def value(vectors):
        return tf.add_n(
            [tf.reduce_sum(w * tf.sin(v)) for w, v in zip(weights, vectors, strict=True)]
        ) + tf.reduce_sum(excerpt**2)

    with tf.GradientTape(persistent=True) as tape:
        tape.watch(excerpt)
        plain = value([tf.gather(excerpt, found[key]) for key in keys])
        sorted_ = value(looked_up(excerpt, [found[key] for key in keys], found["order"], found["segments"]))
    assert float(plain) == pytest.approx(float(sorted_))
    expected = tf.convert_to_tensor(tape.gradient(plain, excerpt))
    np.testing.assert_allclose(tape.gradient(sorted_, excerpt), expected, rtol=1e-12)


class NoGather:
    """TensorFlow as the module of the table sees it, which must not gather for itself."""

    def __getattr__(self, name):
        assert name != "gather", "a table was asked for rows that were not read before"
        return getattr(tf, name)


@pytest.mark.parametrize("name", MODELS)
def test_every_model_takes_the_sorted_way(name, space, monkeypatch):
    """A table that gathered for itself would be right, and slow: its gradient jumps about."""
    model = build(name, space)
    rows = {key: np.zeros((2, *value.shape[1:]), value.dtype) for key, value in model.input.items()}
    rows["label"] = np.zeros(2, np.float32)
    step = TrainStep(model, TrainingConfig(), rows)
    monkeypatch.setattr(embedding, "tf", NoGather())
    step._run.get_concrete_function()
