"""Distinct rows of a batch, and the way back from places to rows, against numpy."""

import numpy as np
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from clickmill.training.distinct import row_keys, shares, times_named, with_distinct_rows
from clickmill.training.rows import by_row


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


@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(1, 60))
def test_a_share_is_one_part_of_the_places_that_name_the_row_in_the_whole_split(seed, rows, highest):
    rng = np.random.default_rng(seed)
    split = batch(rng.integers(0, highest, (rows, 3)), rng.integers(0, highest, (rows, 2)))
    everything = np.concatenate([split["slots"].ravel(), split["list/h"].ravel()])
    named = times_named(split, highest)
    np.testing.assert_array_equal(named, np.bincount(everything, minlength=highest))
    planned = with_distinct_rows({key: value[: -(-rows // 2)] for key, value in split.items()})
    expected = [1 / np.sum(everything == row) for row in planned["distinct"][1:]]
    np.testing.assert_allclose(shares(planned, named)[1:], expected, rtol=1e-6)


def test_padding_that_no_place_names_has_no_share_and_without_counts_all_others_have_all():
    planned = with_distinct_rows(batch([[5, 9], [9, 7]], [[7, 8, 9], [11, 5, 8]]))
    np.testing.assert_array_equal(shares(planned, None), [0, 1, 1, 1, 1, 1])
    padded = with_distinct_rows(batch([[5, 9], [9, 7]], [[7, 0, 0], [11, 5, 0]]))
    np.testing.assert_array_equal(shares(padded, np.full(12, 4.0)), [0.25] * 5)


def test_gradients_of_places_add_up_by_row():
    rng = np.random.default_rng(0)
    plain = batch(rng.integers(0, 30, (16, 3)), rng.integers(0, 30, (16, 2)))
    found = with_distinct_rows(plain)
    keys = row_keys(found)
    gradients = [rng.normal(size=(*found[key].shape, 4)) for key in keys]
    expected = np.zeros((30, 4))
    for key, gradient in zip(keys, gradients, strict=True):
        np.add.at(expected, plain[key], gradient)
    got = by_row([tf.constant(g) for g in gradients], found["order"], found["segments"])
    np.testing.assert_allclose(got, expected[found["distinct"]], rtol=1e-12)
