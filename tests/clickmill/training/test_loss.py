"""The loss against its formula in numpy, its gradient against (p - y) in closed form."""

import math

import numpy as np
import pytest
import tensorflow as tf

from clickmill.training.loss import prior_shift, weighted_bce

LOGITS = np.array([-40.0, -3.0, -1e-7, 0.0, 0.5, 40.0])


def sigmoid(z: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-z))


@pytest.mark.parametrize("positive_weight", [1.0, 37.0])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_loss_is_the_weighted_cross_entropy(positive_weight, weighted):
    rng = np.random.default_rng(0)
    logit = rng.normal(0, 3, 50).astype(np.float32)
    y = rng.integers(0, 2, 50).astype(np.float32)
    weight = rng.uniform(0.1, 5, 50).astype(np.float32) if weighted else None
    p = 1 / (1 + np.exp(-logit.astype(float)))
    each = -(positive_weight * y * np.log(p) + (1 - y) * np.log(1 - p))
    expected = np.average(each, weights=weight)
    assert float(weighted_bce(y, logit, weight, positive_weight)) == pytest.approx(expected, rel=1e-5)


def test_the_loss_is_finite_where_the_probability_rounds_to_one():
    loss = float(weighted_bce(tf.constant([0.0, 1.0]), tf.constant([200.0, -200.0]), None, 10.0))
    assert loss == pytest.approx((200 + 2000) / 2)


def test_the_shift_undoes_the_weight_of_clicks_at_the_optimum():
    """For one value of x with true rate q, the minimizer of the weighted loss is found by ternary search."""
    q, w = 0.03, 50.0
    low, high = -20.0, 20.0

    def loss(z: float) -> float:
        p = 1 / (1 + math.exp(-z))
        return -(w * q * math.log(p) + (1 - q) * math.log(1 - p))

    for _ in range(200):
        a, b = low + (high - low) / 3, high - (high - low) / 3
        low, high = (low, b) if loss(a) < loss(b) else (a, high)
    assert 1 / (1 + math.exp(-(low + prior_shift(w)))) == pytest.approx(q, rel=1e-5)


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
