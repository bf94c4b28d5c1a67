"""Lazy Adam against Keras' dense Adam, which each row should look like on the batches that name it."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from clickmill.training.sparse_adam import SparseAdam


def _one() -> tf.Variable:
    return tf.Variable(1.0)


def test_each_row_takes_the_steps_of_an_adam_that_sees_only_its_batches():
    rng = np.random.default_rng(1)
    start = rng.normal(size=(6, 3)).astype(np.float32)
    table = tf.Variable(start)
    adam = SparseAdam(table, 0.01, 0.0, _one())
    alone = [keras.Variable(start[row]) for row in range(6)]
    dense = [keras.optimizers.Adam(0.01, epsilon=1e-8) for _ in alone]
    for _ in range(12):
        rows = rng.permutation(5)[:3].astype(np.int32)  # row 5 never
        gradient = rng.normal(size=(3, 3)).astype(np.float32)
        adam.apply(
            tf.constant(rows), tf.gather(table, rows), tf.constant(gradient), tf.constant(8.0), tf.ones(3)
        )
        for row, g in zip(rows, gradient, strict=True):
            dense[row].apply([tf.constant(8.0 * g)], [alone[row]])
    np.testing.assert_allclose(table.numpy(), [weights.numpy() for weights in alone], rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(table.numpy()[5], start[5])
    assert adam.touches.numpy()[5] == 0
    assert adam.touches.numpy().sum() == 12 * 3


@pytest.mark.parametrize("before", [0, 500])
def test_the_first_step_of_a_row_is_the_learning_rate_however_late_it_comes(before):
    """With the run's own step count in the correction a late row would jump 3.2 times as far."""
    table = tf.Variable(tf.zeros([2, 1]))
    adam = SparseAdam(table, 0.01, 0.0, _one())
    for _ in range(before):
        adam.apply(
            tf.constant([0]), tf.gather(table, [0]), tf.constant([[1.0]]), tf.constant(1.0), tf.ones(1)
        )
    adam.apply(tf.constant([1]), tf.gather(table, [1]), tf.constant([[-0.3]]), tf.constant(1.0), tf.ones(1))
    assert table.numpy()[1, 0] == pytest.approx(0.01, rel=1e-4)


def test_rows_are_pulled_towards_zero_and_the_rate_scales_the_step():
    table = tf.Variable([[0.5], [0.5]])
    adam = SparseAdam(table, 0.01, 2.0, tf.Variable(0.25))
    # The first step is rate lr whatever the gradient, and rate lr / |g| is what a unit of the pull is multiplied by.
    adam.apply(
        tf.constant([1]), tf.gather(table, [1]), tf.constant([[0.1]]), tf.constant(1.0), tf.constant([0.5])
    )
    np.testing.assert_allclose(
        table.numpy(), [[0.5], [(0.5 - 0.0025) / (1 + 0.0025 / 0.1 * 2.0 * 0.5)]], rtol=1e-5
    )
