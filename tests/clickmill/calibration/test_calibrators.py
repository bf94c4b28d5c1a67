"""Prior correction, Platt, isotonic: against the closed form, scikit-learn and their own laws."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from clickmill.calibration import (
    Calibration,
    Calibrator,
    Identity,
    Isotonic,
    Platt,
    PriorCorrection,
    fit_isotonic,
    fit_platt,
)
from clickmill.calibration.logits import log_loss_of_logits, logit_of, sigmoid
from clickmill.errors import DataError, DegenerateLabels, UsageError


def traffic(n, seed=0, slope=1.0, intercept=0.0, base=-2.5):
    """Logits whose true click probability is sigmoid(slope * z + intercept), and clicks."""
    rng = np.random.default_rng(seed)
    z = rng.normal(base, 1.2, n)
    return z, (rng.random(n) < sigmoid(slope * z + intercept)).astype(int)


@given(p=st.floats(1e-6, 1 - 1e-6), kept=st.floats(1e-4, 1), weight=st.floats(0.01, 100))
def test_prior_correction_recovers_the_true_probability_from_the_optimum_of_the_sampled_weighted_loss(
    p, kept, weight
):
    # In traffic: p clicks, (1 - p) non-clicks. On the sample: w+ p against kept (1 - p); the optimum is their ratio.
    optimum = weight * p / (weight * p + kept * (1 - p))
    corrected = PriorCorrection(negatives_kept=kept, positive_weight=weight)(logit_of([optimum]))
    assert sigmoid(corrected)[0] == pytest.approx(p, rel=1e-6)


def test_prior_correction_is_the_formula_of_he_et_al():
    q, w = np.array([0.05, 0.3, 0.9]), 0.025
    assert sigmoid(PriorCorrection(negatives_kept=w)(logit_of(q))) == pytest.approx(q / (q + (1 - q) / w))


def test_prior_correction_mends_a_logistic_regression_on_a_real_sample():
    z, y = traffic(400_000, seed=3)
    rng = np.random.default_rng(4)
    kept = (y == 1) | (rng.random(len(y)) < 0.1)
    model = LogisticRegression(C=np.inf, tol=1e-8).fit(
        z[kept, None], y[kept], sample_weight=1 + 4.0 * y[kept]
    )
    correction = PriorCorrection(negatives_kept=0.1, positive_weight=5)
    corrected = sigmoid(correction(model.decision_function(z[:, None])))
    assert corrected.sum() / y.sum() == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("field", [{"negatives_kept": 0}, {"negatives_kept": 1.5}, {"positive_weight": 0}])
def test_prior_correction_refuses_shares_and_weights_without_meaning(field):
    with pytest.raises(ValidationError, match=r"greater than|less than"):
        PriorCorrection(**field)
    with pytest.raises(ValidationError, match=r"greater than|less than"):
        Calibration(**field)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("scale", "offset"), [(1, 0), (40, 300), (1e-3, -5)])
def test_platt_is_the_unpenalised_logistic_regression_of_scikit_learn(weighted, scale, offset):
    z, y = traffic(5_000, slope=0.6, intercept=0.4)
    weight = np.random.default_rng(1).uniform(0.1, 3, len(z)) if weighted else None
    fitted = fit_platt(scale * z + offset, y, weight)
    oracle = LogisticRegression(C=np.inf, tol=1e-12, max_iter=10_000, solver="newton-cholesky").fit(
        z[:, None], y, sample_weight=weight
    )
    slope, intercept = oracle.coef_[0, 0], oracle.intercept_[0]
    assert fitted.slope * scale == pytest.approx(slope, rel=1e-6)
    assert fitted.intercept + fitted.slope * offset == pytest.approx(intercept, rel=1e-6)


def test_platt_finds_the_distortion_that_was_put_in():
    z, y = traffic(300_000, slope=0.5, intercept=-0.7)
    fitted = fit_platt(z, y)
    assert (fitted.slope, fitted.intercept) == pytest.approx((0.5, -0.7), abs=0.03)


def test_platt_smoothing_is_platts_targets():
    # With his targets as weights of both labels, the smoothed fit is a plain weighted fit on doubled rows.
    z, y = traffic(60, seed=5, base=-0.5)
    clicks, rest = y.sum(), (1 - y).sum()
    target = np.where(y == 1, (clicks + 1) / (clicks + 2), 1 / (rest + 2))
    oracle = LogisticRegression(C=np.inf, tol=1e-12, max_iter=10_000, solver="newton-cholesky").fit(
        np.r_[z, z][:, None], np.r_[np.ones(60), np.zeros(60)], sample_weight=np.r_[target, 1 - target]
    )
    fitted = fit_platt(z, y, smoothing=True)
    assert (fitted.slope, fitted.intercept) == pytest.approx(
        (oracle.coef_[0, 0], oracle.intercept_[0]), rel=1e-5
    )


def test_platt_on_separated_classes_asks_for_smoothing_and_works_with_it():
    z, y = [-3.0, -2.0, -1.0, 1.0, 2.0], [0, 0, 0, 1, 1]
    with pytest.raises(DegenerateLabels, match=r"no finite slope.*use smoothing=True or more rows"):
        fit_platt(z, y)
    assert 0 < fit_platt(z, y, smoothing=True).slope < 50


def test_platt_never_turns_the_ranking_over():
    z, y = traffic(2_000, base=0)
    with pytest.raises(DegenerateLabels, match=r"slope -\d.*the model does not rank"):
        fit_platt(-z, y)
    with pytest.raises(DegenerateLabels, match="same logit in every row"):
        fit_platt(np.full(10, -2.0), [0, 1] * 5)


@given(st.integers(0, 10_000), st.booleans())
@settings(max_examples=40)
def test_isotonic_hits_the_blocks_of_scikit_learn_at_their_centres(seed, weighted):
    z, y = traffic(300, seed=seed, base=-0.5)
    z = np.round(z, 1)  # ties
    weight = np.random.default_rng(seed).integers(1, 4, 300).astype(float) if weighted else np.ones(300)
    fitted = fit_isotonic(z, y, weight, max_knots=1000)
    block = np.round(IsotonicRegression().fit(z, y, weight).predict(z), 12)
    rates = np.unique(block)
    centres = [np.average(z[block == rate], weights=weight[block == rate]) for rate in rates]
    assert fitted.x == pytest.approx(centres)
    inner = (rates > 0) & (rates < 1)
    assert sigmoid(np.array(fitted.y))[inner] == pytest.approx(rates[inner])


@given(st.integers(0, 10_000), st.integers(2, 30))
@settings(max_examples=40)
def test_isotonic_is_finite_monotone_bounded_and_increases_between_its_ends(seed, knots):
    z, y = traffic(500, seed=seed, base=-1)
    fitted = fit_isotonic(z, y, max_knots=knots)
    assert len(fitted.x) <= knots
    out = fitted(np.sort(np.r_[z, -1e9, 1e9]))
    assert np.isfinite(out).all()
    assert (np.diff(out) >= 0).all()
    assert out[0] == fitted.y[0]
    assert out[-1] == fitted.y[-1]


def test_isotonic_blocks_without_clicks_get_half_a_click():
    z = np.r_[np.linspace(-5, -4, 99), np.linspace(-1, 0, 20)]
    y = np.r_[np.zeros(99), [0, 1] * 10]
    fitted = fit_isotonic(z, y)
    assert sigmoid(np.array(fitted.y))[0] == pytest.approx(0.5 / 101)  # 99 rows and the first of the 20
    assert np.isfinite(fitted.y).all()


def test_isotonic_learns_a_bend_that_platt_cannot():
    rng = np.random.default_rng(0)
    z = rng.uniform(-6, 0, 60_000)
    true = np.where(z < -3, -4.0 + 0.1 * z, -4.3 + 1.2 * (z + 3))
    y = (rng.random(60_000) < sigmoid(true)).astype(int)
    fit, test = slice(0, 40_000), slice(40_000, None)
    best = log_loss_of_logits(true[test], y[test]).mean()
    platt = log_loss_of_logits(fit_platt(z[fit], y[fit])(z[test]), y[test]).mean()
    isotonic = log_loss_of_logits(fit_isotonic(z[fit], y[fit])(z[test]), y[test]).mean()
    assert isotonic - best < 0.35 * (platt - best)


def test_isotonic_without_order_says_so():
    with pytest.raises(DegenerateLabels, match="one block: higher logits have no higher click rate"):
        fit_isotonic([1.0, 2.0, 3.0, 4.0], [1, 1, 0, 0])
    with pytest.raises(UsageError, match="max_knots must be at least 2, got 1"):
        fit_isotonic([1.0, 2.0], [0, 1], max_knots=1)


@pytest.mark.parametrize("fit", [fit_platt, fit_isotonic])
def test_unusable_rows_are_refused_in_words(fit):
    with pytest.raises(DegenerateLabels, match="needs clicks and non-clicks, got 0 clicks among 2 rows"):
        fit([0.1, 0.2], [0, 0])
    with pytest.raises(DataError, match="logit must be finite, got inf in row 1"):
        fit([0.1, float("inf")], [0, 1])
    with pytest.raises(DataError, match=r"y must be 0 or 1, got 0.5 in row 0"):
        fit([0.1, 0.2], [0.5, 1])
    with pytest.raises(DataError, match=r"logit must be of shape \(3,\) like y, got \(2,\)"):
        fit([0.1, 0.2], [0, 1, 0])
    with pytest.raises(DataError, match=r"weight must be at least 0, got -1.0 in row 1"):
        fit([0.1, 0.2], [0, 1], [1, -1])


@pytest.mark.parametrize(
    ("knots", "words"),
    [
        ({"x": (0, 0), "y": (0, 1)}, "x must ascend strictly"),
        ({"x": (0, 1), "y": (1, 0)}, "y must not descend"),
        ({"x": (0, 1), "y": (1,)}, "as many knots"),
        ({"x": (), "y": ()}, "at least 1"),
        ({"x": (0, 1), "y": (0, float("inf"))}, "finite"),
    ],
)
def test_isotonic_knots_are_checked_when_read(knots, words):
    with pytest.raises(ValidationError, match=words):
        Isotonic(**knots)


CALIBRATORS = [Identity(), Platt(slope=0.7, intercept=-0.2), Isotonic(x=(-5, -3, -1), y=(-6, -3.5, -0.1))]


@pytest.mark.parametrize("calibrator", CALIBRATORS, ids=lambda c: c.kind)
def test_a_calibration_survives_json(calibrator):
    record = Calibration(negatives_kept=0.1, positive_weight=3, calibrator=calibrator)
    again = Calibration.model_validate_json(record.model_dump_json())
    assert again == record
    assert type(again.calibrator) is type(calibrator)
    assert TypeAdapter(Calibrator).validate_json(calibrator.model_dump_json()) == calibrator
    z = np.linspace(-8, 2, 50)
    assert again(z) == pytest.approx(calibrator(z + np.log(0.1) - np.log(3)), rel=1e-12)
    assert again.pctr(z) == pytest.approx(1 / (1 + np.exp(-again(z))))


@pytest.mark.parametrize("calibrator", CALIBRATORS, ids=lambda c: c.kind)
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-6), ("float64", 1e-12)])
def test_the_graph_calibrates_as_numpy_does(calibrator, dtype, tolerance):
    import tensorflow as tf

    from clickmill.calibration import graph

    record = Calibration(negatives_kept=0.2, positive_weight=2, calibrator=calibrator)
    z = np.r_[np.linspace(-30, 30, 2001), -5 + 2.302585093, 0].astype(dtype)
    in_graph = tf.function(lambda logit: graph.apply(record, logit))(tf.constant(z))
    assert in_graph.dtype == dtype
    expected = record(z.astype(np.float64))
    # float32 holds a logit of 30 to 1e-6: compare what the caller gets, relative to its size.
    assert in_graph.numpy() == pytest.approx(expected, abs=tolerance, rel=tolerance)
    assert graph.apply(calibrator, tf.constant(z)).numpy() == pytest.approx(
        calibrator(z.astype(np.float64)), abs=tolerance, rel=tolerance
    )


def test_the_graph_keeps_steep_knots_and_any_shape():
    import tensorflow as tf

    from clickmill.calibration import graph

    z, y = traffic(30_000)
    steep = fit_isotonic(np.r_[z, -2 + 1e-4 * z], np.r_[y, y])
    assert max(np.diff(steep.y) / np.diff(steep.x)) > 20
    at = np.sort(z[:4_000]).astype(np.float32)
    out = graph.apply(steep, tf.reshape(at, (40, 100)))
    assert out.shape == (40, 100)
    assert out.numpy().ravel() == pytest.approx(steep(at.astype(np.float64)), abs=1e-6)
    assert (np.diff(out.numpy().ravel()) >= 0).all()
