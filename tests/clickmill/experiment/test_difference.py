"""Intervals of differences: for one look by hand, for any time by many looks."""

import numpy as np
import pytest

from clickmill.errors import DataError
from clickmill.experiment.difference import absolute, estimate, pairs, relative
from clickmill.experiment.moments import Moments, Ratio, ratio
from clickmill.experiment.multiplicity import benjamini_hochberg
from clickmill.experiment.spec import CTR


def arm(value, variance):
    return Ratio(value, np.zeros(1), variance)


def test_one_look_is_the_textbooks():
    found = estimate(*absolute(arm(0.11, 4e-6), arm(0.10, 5e-6)), 1_000, alpha=0.05, planned=1_000)
    assert (found.once_low, found.once_high) == pytest.approx(
        (0.01 - 1.96 * 3e-3, 0.01 + 1.96 * 3e-3), abs=1e-5
    )
    assert found.p_once == pytest.approx(0.00086, abs=1e-5)  # z = 10 / 3
    assert found.low < found.once_low


def test_a_lift_has_the_variance_of_a_quotient():
    value, variance = relative(arm(0.12, 4e-6), arm(0.10, 5e-6))
    rng = np.random.default_rng(0)
    drawn = rng.normal(0.12, 2e-3, 200_000) / rng.normal(0.10, 5e-6**0.5, 200_000) - 1
    assert value == pytest.approx(0.2)
    assert variance == pytest.approx(drawn.var(), rel=0.02)


def test_the_any_time_p_is_where_the_sequence_leaves_zero():
    for value in (0.02, 0.031, 0.05):
        found = estimate(value, 1e-4, 500, alpha=0.05, planned=800)
        assert (found.p_any_time < 0.05) == (found.low > 0)


def test_equal_arms_are_called_different_in_less_than_5_percent_of_10_000_experiments_looked_at_20_times():
    """Users with click rates of their own come back at every look. By an interval for one look it would be one in five."""
    rng = np.random.default_rng(20)
    experiments, users, looks = 10_000, 120, 20
    wrong = np.zeros(experiments, bool)
    naive = np.zeros(experiments, bool)
    half = users // 2
    for start in range(0, experiments, 2_000):
        rate = rng.beta(2, 8, (2_000, users)).astype(np.float32)
        y = np.zeros((2_000, users), np.float32)
        d = np.zeros((2_000, users), np.float32)
        for _ in range(looks):
            shown = rng.integers(0, 4, (2_000, users), dtype=np.int8)
            for k in range(3):
                y += (rng.random((2_000, users), dtype=np.float32) < rate) & (shown > k)
            d += shown
            one, other = ((y[:, part], d[:, part]) for part in (slice(0, half), slice(half, users)))
            (r1, v1, n1), (r2, v2, n2) = _ratios(*one), _ratios(*other)
            at = slice(start, start + 2_000)
            z = np.abs(r1 - r2) / np.sqrt(v1 + v2)
            naive[at] |= z > 1.96
            edges = _edges(pairs(n1, n2), planned=pairs(half * 30, half * 30))
            wrong[at] |= z > edges
    assert naive.mean() > 0.15
    assert wrong.mean() < 0.05


def _ratios(y, d):
    """Delta method, an experiment per row: the same as `ratio`, which the next test holds it to."""
    value = y.sum(axis=1) / d.sum(axis=1)
    residual = y - value[:, None] * d
    return value, residual.var(axis=1, ddof=1) / d.mean(axis=1) ** 2 / y.shape[1], d.sum(axis=1)


def _edges(n, planned, alpha=0.05):
    """The z at which `estimate` excludes 0, by its own interval: low = 0 there."""
    found = [
        estimate(1.0, 1.0, float(pairs_), alpha=alpha, planned=planned)
        for pairs_ in (n.min(), np.median(n), n.max())
    ]
    return np.interp(n, [n.min(), np.median(n), n.max()], [1.0 - each.low for each in found])


def test_the_simulation_computes_what_the_library_does():
    rng = np.random.default_rng(1)
    d = rng.integers(1, 5, (1, 50)).astype(float)
    y = rng.binomial(d.astype(int), 0.3).astype(float)
    value, variance, total = _ratios(y, d)
    found = ratio(Moments.of(("impressions", "clicks"), np.column_stack([d[0], y[0]])), CTR)
    assert (value[0], variance[0], total[0]) == pytest.approx((found.value, found.variance, d.sum()))


def test_nothing_can_be_said_without_variance_or_of_a_lift_over_nothing():
    with pytest.raises(DataError, match="no variance"):
        estimate(0.0, 0.0, 10, alpha=0.05, planned=10)
    with pytest.raises(DataError, match="control's metric is 0"):
        relative(arm(0.1, 1e-6), arm(0.0, 1e-6))


def test_benjamini_hochberg_agrees_with_statsmodels():
    multipletests = pytest.importorskip("statsmodels.stats.multitest").multipletests
    p = np.random.default_rng(3).random(50) ** 3
    np.testing.assert_allclose(benjamini_hochberg(p), multipletests(p, method="fdr_bh")[1])
