"""Ratios of sums over users: by hand, against the bootstrap, and adjusted for what was before."""

import numpy as np
import pytest

from clickmill.errors import DataError
from clickmill.experiment import MetricSpec
from clickmill.experiment.moments import Moments, adjusted, ratio
from clickmill.experiment.spec import CLICKS_PER_USER, CTR, RPM

COLUMNS = ("impressions", "clicks", "revenue")


def drawn(seed, n=4_000):
    rng = np.random.default_rng(seed)
    shown = 1 + rng.poisson(rng.gamma(1.0, 5.0, n))
    clicks = rng.binomial(shown, np.minimum(rng.gamma(4.0, 0.02, n), 1))
    return np.column_stack([shown, clicks, clicks * rng.gamma(4.0, 0.25, n)]).astype(float)


def test_a_ratio_by_hand():
    # users (2 shown, 1 clicked), (4, 1), (6, 4): R = 6 / 12; residuals y - R d are 0, -1, 1, so Var = (2 / 2) / 4^2 / 3
    arm = Moments.of(COLUMNS[:2], np.array([[2.0, 1.0], [4.0, 1.0], [6.0, 4.0]]))
    found = ratio(arm, CTR)
    assert found.value == pytest.approx(0.5)
    assert found.variance == pytest.approx(1 / 16 / 3)
    assert ratio(arm, CLICKS_PER_USER).value == pytest.approx(2.0)
    assert ratio(arm, CLICKS_PER_USER).variance == pytest.approx(3.0 / 3)


@pytest.mark.parametrize("metric", [CTR, RPM, CLICKS_PER_USER], ids=str)
def test_the_delta_method_agrees_with_the_bootstrap_over_users(metric):
    values = drawn(1)
    rng = np.random.default_rng(2)
    y = values[:, COLUMNS.index(metric.numerator)]
    d = np.ones(len(y)) if metric.denominator == "users" else values[:, COLUMNS.index(metric.denominator)]
    at = rng.integers(0, len(y), (1_000, len(y)))
    resampled = metric.scale * y[at].sum(axis=1) / d[at].sum(axis=1)
    assert ratio(Moments.of(COLUMNS, values), metric).variance == pytest.approx(resampled.var(), rel=0.12)


def test_impressions_taken_for_independent_would_promise_too_much():
    values = drawn(3)
    p, n = values[:, 1].sum() / values[:, 0].sum(), values[:, 0].sum()
    assert ratio(Moments.of(COLUMNS, values), CTR).variance > 1.2 * p * (1 - p) / n


def test_two_groups_merged_are_all_of_them():
    values = drawn(4, 500)
    merged = Moments.of(COLUMNS, values[:123]).merged(Moments.of(COLUMNS, values[123:]))
    whole = Moments.of(COLUMNS, values)
    assert merged.n == whole.n
    np.testing.assert_allclose(merged.mean, whole.mean)
    np.testing.assert_allclose(merged.covariance, whole.covariance)


def test_adjustment_is_the_regression_on_what_was_before():
    rng = np.random.default_rng(5)
    before = rng.normal(10, 3, (3_000, 2))
    after = 2 * before[:, 0] - before[:, 1] + rng.normal(0, 1, 3_000)
    values, names = np.column_stack([after, before]), ("clicks", "pre_x", "pre_y")
    arms = [Moments.of(names, values[:1_500]), Moments.of(names, values[1_500:])]
    plain, better = (adjusted(arms, CLICKS_PER_USER, z) for z in ((), ("pre_x", "pre_y")))
    assert better[0].variance == pytest.approx(1 / 1_500, rel=0.1)  # what is left is the noise
    assert plain[0].variance == pytest.approx((4 * 9 + 9 + 1) / 1_500, rel=0.1)
    # ordinary least squares of the outcome on arm and covariates gives the same difference
    arm = np.repeat([0.0, 1.0], 1_500)
    beta = np.linalg.lstsq(np.column_stack([np.ones(3_000), arm, before]), after, rcond=None)[0]
    assert better[1].value - better[0].value == pytest.approx(beta[1], abs=1e-6)


def test_columns_that_repeat_each_other_or_stand_still_do_no_harm():
    rng = np.random.default_rng(6)
    z = rng.normal(size=1_000)
    values = np.column_stack([z + rng.normal(size=1_000), z, 1e6 * z, np.ones(1_000)])
    names = ("clicks", "pre_x", "pre_again", "pre_one")
    arms = [Moments.of(names, values[:500]), Moments.of(names, values[500:])]
    one = adjusted(arms, CLICKS_PER_USER, ("pre_x",))
    many = adjusted(arms, CLICKS_PER_USER, names[1:])
    assert many[0].value == pytest.approx(one[0].value, abs=1e-6)
    assert many[0].variance == pytest.approx(one[0].variance, rel=1e-6)


def test_what_has_no_value_says_so():
    arm = Moments.of(COLUMNS, np.array([[1.0, 0.0, 0.0], [2.0, 0.0, 0.0]]))
    with pytest.raises(DataError, match="column 'clicks': sums to 0 over 2 users"):
        ratio(arm, MetricSpec(numerator="revenue", denominator="clicks"))
    with pytest.raises(DataError, match="column 'installs': not among the sums"):
        ratio(arm, MetricSpec(numerator="installs"))
    with pytest.raises(DataError, match="without users"):
        Moments.of(COLUMNS, np.zeros((0, 3)))
