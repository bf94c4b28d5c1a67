"""The loss against its formula in numpy, its gradient against (p - y) in closed form."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from clickmill.training.loss import weighted_bce

LOGITS = np.array([-40.0, -3.0, -1e-7, 0.0, 0.5, 40.0])


def sigmoid(z: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-z))


@given(st.floats(1, 100), st.lists(st.tuples(st.booleans(), st.floats(-20, 20)), min_size=1, max_size=8))
def test_the_loss_is_its_formula(positive_weight: float, rows: list[tuple[bool, float]]) -> None:
    y, z = np.array([float(c) for c, _ in rows]), np.array([z for _, z in rows])
    expected = np.mean(-(positive_weight * y * np.log(sigmoid(z)) + (1 - y) * np.log(sigmoid(-z))))
    found = weighted_bce(tf.constant(y, tf.float32), tf.constant(z, tf.float32), None, positive_weight)
    assert float(found) == pytest.approx(expected, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("click", [0.0, 1.0])
@pytest.mark.parametrize("positive_weight", [1.0, 50.0])
def test_the_gradient_pulls_towards_the_label_at_every_logit_zero_included(
    click: float, positive_weight: float
) -> None:
    logit = tf.Variable(LOGITS, dtype=tf.float32)
    with tf.GradientTape() as tape:
        loss = weighted_bce(tf.fill([len(LOGITS)], click), logit, None, positive_weight)
    expected = positive_weight * click * (sigmoid(LOGITS) - 1) + (1 - click) * sigmoid(LOGITS)
    np.testing.assert_allclose(
        len(LOGITS) * tape.gradient(loss, logit).numpy(), expected, rtol=1e-5, atol=1e-7
    )


def test_row_weights_are_relative() -> None:
    label, logit = tf.constant([0.0, 1.0]), tf.constant([0.3, -0.7])
    light = weighted_bce(label, logit, tf.constant([1.0, 3.0]), 2.0)
    heavy = weighted_bce(label, logit, tf.constant([10.0, 30.0]), 2.0)
    assert float(light) == pytest.approx(float(heavy))
    assert float(weighted_bce(label, logit, tf.constant([0.0, 0.0]), 2.0)) == 0.0
