"""Which calibrator is picked, on worlds where the right answer is known."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clickmill.calibration import Calibration, Selection, fit, fit_platt, select
from clickmill.calibration.logits import log_loss_of_logits, sigmoid
from clickmill.calibration.selection import _folds
from clickmill.errors import DegenerateLabels, UsageError


def traffic(n, true_logit, seed=0):
    rng = np.random.default_rng(seed)
    z = rng.uniform(-5, 0, n)
    return z, (rng.random(n) < sigmoid(true_logit(z))).astype(int)


def bent(z):
    return np.where(z < -3, -4.0 + 0.1 * z, -4.3 + 1.2 * (z + 3))


def test_a_calibrated_logit_is_left_alone():
    kinds = [select(*traffic(20_000, lambda z: z, seed), seed=seed).calibrator.kind for seed in range(12)]
    # Platt's two needless parameters beat nothing by a standard error only now and then.
    assert kinds.count("none") >= 9
    assert "isotonic" not in kinds


def test_a_straight_distortion_is_given_to_platt():
    z, y = traffic(30_000, lambda z: 0.6 * z - 0.5)
    selection = select(z, y)
    assert selection.calibrator.kind == "platt"
    assert selection.calibrator == fit_platt(z, y)
    assert selection.ne_by_method["platt"] < selection.ne_by_method["none"]
    assert "platt" in selection.reason


def test_a_bent_distortion_is_given_to_isotonic():
    selection = select(*traffic(80_000, bent))
    assert selection.calibrator.kind == "isotonic"
    assert selection.reason.startswith("isotonic has the best NE on held-out folds: 0.")
    assert selection.reason.endswith("simpler ones are worse by more than a standard error")
    assert selection.held_out_ne == min(selection.ne_by_method.values())


def test_the_simpler_of_two_equals_wins_and_the_reason_says_why():
    z, y = traffic(40_000, lambda z: 0.6 * z - 0.5)
    selection = select(z, y, methods=("platt", "isotonic"), seed=1)
    assert set(selection.ne_by_method) == {"platt", "isotonic"}
    assert selection.calibrator.kind == "platt"


def test_held_out_ne_is_that_of_a_plain_cross_validation():
    z, y = traffic(3_000, lambda z: 0.6 * z)
    loss = np.empty(len(z))
    fold = _folds(y.astype(float), 4, seed=9)
    for k in range(4):
        loss[fold == k] = log_loss_of_logits(
            fit_platt(z[fold != k], y[fold != k])(z[fold == k]), y[fold == k]
        )
    rate = y.mean()
    entropy = -(rate * math.log(rate) + (1 - rate) * math.log(1 - rate))
    selection = select(z, y, folds=4, seed=9, methods=("none", "platt"))
    assert selection.ne_by_method["platt"] == pytest.approx(loss.mean() / entropy)
    assert selection.ne_by_method["none"] == pytest.approx(log_loss_of_logits(z, y).mean() / entropy)


@given(st.lists(st.integers(0, 1), min_size=4, max_size=80), st.integers(2, 6), st.integers(0, 99))
def test_folds_share_rows_and_clicks_evenly(labels, folds, seed):
    y = np.array(labels, dtype=float)
    fold = _folds(y, folds, seed)
    clicks = np.bincount(fold, y, minlength=folds)
    rows = np.bincount(fold, minlength=folds)
    assert clicks.max() - clicks.min() <= 1
    assert rows.max() - rows.min() <= 1


def test_few_clicks_leave_isotonic_out_and_fewer_leave_nothing_to_fit():
    z, y = traffic(4_000, bent)
    assert 50 <= y.sum() < 1000
    selection = select(z, y)
    assert "isotonic" not in selection.ne_by_method
    assert f"isotonic was not considered: {y.sum()} clicks, 1000 needed" in selection.reason
    z, y = traffic(400, bent, seed=2)
    assert 0 < y.sum() < 50
    selection = select(z, y)
    assert selection.calibrator.kind == "none"
    assert selection.reason.startswith("none is the only method that was judged: NE on held-out folds ")
    assert f"platt was not considered: {y.sum()} clicks, 50 needed" in selection.reason
    with pytest.raises(DegenerateLabels, match=r"isotonic was not considered.*allow method none"):
        select(z, y, methods=("isotonic",))


def test_a_model_that_ranks_backwards_keeps_its_logit_and_is_named():
    z, y = traffic(20_000, lambda z: -z - 5)
    selection = select(z, y)
    assert selection.calibrator.kind == "none"
    assert "platt is out: Platt scaling found slope -" in selection.reason


def test_fit_corrects_the_prior_first():
    z, y = traffic(30_000, lambda z: z)
    raw = (
        z - math.log(0.05) + math.log(10)
    )  # what a model trained on 5 % of the non-clicks with w+ = 10 would say
    calibration, selection = fit(raw, y, negatives_kept=0.05, positive_weight=10)
    assert isinstance(calibration, Calibration)
    assert selection.calibrator.kind == "none"
    assert calibration(raw) == pytest.approx(z)


@settings(max_examples=10)
@given(st.integers(0, 1000))
def test_the_same_seed_picks_the_same_and_json_keeps_it(seed):
    z, y = traffic(2_000, bent, seed)
    selection = select(z, y, seed=seed)
    assert selection == select(z, y, seed=seed)
    assert Selection.model_validate_json(selection.model_dump_json()) == selection


def test_unknown_methods_and_folds_are_refused():
    z, y = traffic(100, lambda z: z + 3)
    with pytest.raises(UsageError, match=r"methods must be some of none, platt, isotonic, got \['spline'\]"):
        select(z, y, methods=("spline",))
    with pytest.raises(UsageError, match="folds must be at least 2, got 1"):
        select(z, y, folds=1)
