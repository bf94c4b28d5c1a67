"""The examination product against its formula in float64, and under the laws of the zoo."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from clickmill.models import MODELS, build, configure, request_form
from clickmill.models.examination import Examination

every_model = pytest.mark.parametrize("name", MODELS)


def _layer(theta, prior=0.0) -> Examination:
    layer = Examination(len(theta) + 1, "e")
    layer(np.zeros(1, np.float32), np.zeros(1, np.int32))
    layer.theta.assign(theta)
    layer.prior.assign(prior)
    return layer


def _stirred(name, space, seed=0):
    model = build(name, space, {"position": "examination"}, seed=seed)
    rng = np.random.default_rng(seed)
    for variable in model.trainable_variables:
        variable.assign(rng.normal(0, 0.3, variable.shape))
    return model


def test_the_logit_is_that_of_the_product_of_two_probabilities():
    f = np.linspace(-15, 15, 61).astype(np.float32)
    theta = np.array([2.0, 0.0, -3.0, 8.0], np.float32)
    layer = _layer(theta)
    e = np.concatenate([[1.0], 1 / (1 + np.exp(-theta.astype(np.float64)))])
    for k in range(1, 5):
        p = e[k] / (1 + np.exp(-f.astype(np.float64)))
        found = layer(f, np.full(61, k, np.int32)).numpy()
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, np.log(p) - np.log1p(-p), rtol=1e-6, atol=2e-6)
    np.testing.assert_array_equal(layer(f, np.zeros(61, np.int32)), f)
    np.testing.assert_allclose(layer.curve, e, rtol=1e-6)


def test_three_clicks_in_ten_at_the_top_are_three_in_twenty_where_half_look():
    logit = _layer([0.0])(np.array([np.log(3 / 7)], np.float32), np.array([1], np.int32)).numpy()
    np.testing.assert_allclose(1 / (1 + np.exp(-logit)), [0.15], rtol=1e-6)


@pytest.mark.parametrize("theta", [-90.0, -1.0, 0.0, 1.0, 90.0])
def test_extreme_logits_and_curves_stay_finite_with_their_slopes(theta):
    layer = _layer([theta])
    f = tf.constant([-300.0, -90.0, 0.0, 90.0, 300.0] * 2)
    position = tf.constant([0] * 5 + [1] * 5)
    with tf.GradientTape() as tape:
        tape.watch(f)
        logit = layer(f, position)
    assert np.isfinite(logit).all()
    for slope in tape.gradient(logit, [f, layer.theta.value]):
        assert np.isfinite(slope).all()
    # However good the ad, a slot that is seen with probability e is clicked with no more than that.
    assert float(logit[-1]) == pytest.approx(theta, abs=1e-4)


def test_the_slopes_are_those_of_the_formula():
    f, theta = np.array([-2.0, 0.5, 3.0]), 0.7
    layer = _layer([theta])
    x = tf.constant(f, tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(x)
        total = tf.reduce_sum(layer(x, tf.constant([1, 1, 1])))
    by_f, by_theta = tape.gradient(total, [x, layer.theta.value])
    e, r = 1 / (1 + np.exp(-theta)), 1 / (1 + np.exp(-f))
    # d logit(p) = dp / (p (1 - p)) with p = e r
    np.testing.assert_allclose(by_f, (1 - r) / (1 - e * r), rtol=1e-5)
    np.testing.assert_allclose(by_theta, [((1 - e) / (1 - e * r)).sum()], rtol=1e-5)


def test_the_prior_is_added_to_the_log_odds_and_not_learned():
    f, position = np.array([-1.0, 2.0], np.float32), np.array([1, 0], np.int32)
    layer = _layer([0.4], prior=3.0)
    np.testing.assert_allclose(layer(f, position), _layer([0.4])(f, position) + 3.0, rtol=1e-6)
    assert [v.name for v in layer.trainable_variables] == ["theta"]


@every_model
def test_every_model_multiplies_the_click_probability_of_the_first_slot_by_the_curve(name, space, encoded):
    model, batch = _stirred(name, space), encoded(space, 40)
    curve = model.get_layer("examination").curve.numpy().astype(np.float64)
    assert len(curve) == space.positions
    p = [
        1 / (1 + np.exp(-model({**batch, "position": np.full(40, k, np.int32)}).numpy().astype(np.float64)))
        for k in range(space.positions)
    ]
    assert len(np.unique(p[0])) > 30
    for k in range(1, space.positions):
        np.testing.assert_allclose(p[k] / p[0], curve[k], rtol=1e-5)


@every_model
def test_saved_weights_and_the_request_form_carry_the_curve(name, space, encoded, tmp_path):
    model, batch = _stirred(name, space), encoded(space, 6)
    model.get_layer("examination").prior.assign(1.5)
    expected = model(batch, training=False).numpy()
    model.save_weights(tmp_path / "model.weights.h5")
    other = build(name, space, {"position": "examination"}, seed=9)
    other.load_weights(tmp_path / "model.weights.h5")
    np.testing.assert_array_equal(other(batch, training=False), expected)
    assert "examination" in [layer.name for layer in request_form(model, space).layers]


def test_a_log_of_one_slot_has_nothing_to_learn_and_still_a_logit(space, encoded):
    one = dataclasses.replace(space, positions=1)
    batch = encoded(one, 5)
    model = _stirred("lr", one)
    f = build("lr", dataclasses.replace(space, positions=0))
    f.set_weights([v.numpy() for v in model.variables if v.path.split("/")[0] != "examination"])
    expected = f({key: value for key, value in batch.items() if key != "position"})
    np.testing.assert_allclose(model(batch), expected, rtol=1e-6)


def test_additive_is_what_one_gets_without_asking():
    assert all(configure(name).position == "additive" for name in MODELS)
