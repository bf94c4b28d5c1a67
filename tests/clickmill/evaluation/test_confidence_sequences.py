"""Confidence sequences hold the truth at every look at once."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import betabinom, binom

from clickmill.errors import UsageError
from clickmill.evaluation.confidence_sequences import bernoulli, mean_radius


@given(n=st.integers(1, 5_000), share=st.floats(0, 1), alpha=st.floats(1e-6, 0.5))
def test_the_ends_of_a_share_are_where_the_mixture_is_one_over_alpha_times_the_likelihood(n, share, alpha):
    k = round(share * n)
    found = bernoulli(k, n, alpha=alpha)
    assert 0 <= found.low <= k / n <= found.high <= 1
    mixture = betabinom.logpmf(k, n, 0.5, 0.5)
    for end in (found.low, found.high):
        if 1e-12 < end < 1 - 1e-12:
            assert mixture - binom.logpmf(k, n, end) == pytest.approx(-np.log(alpha), rel=1e-5, abs=1e-5)


def test_a_share_is_never_excluded_in_more_than_alpha_of_streams_however_often_one_looks():
    rng = np.random.default_rng(3)
    streams, length, p, alpha = 200, 2_000, 0.05, 0.1
    counts = (rng.random((streams, length)) < p).cumsum(axis=1)
    looks = range(9, length, 50)
    wrong = sum(
        any(not _holds(bernoulli(int(row[at]), at + 1, alpha=alpha), p) for at in looks) for row in counts
    )
    # Ville's inequality: at most 20 expected; the fixed-sample interval of the same alpha excludes the truth in most.
    assert wrong <= binom.ppf(0.999, streams, alpha)
    fixed = sum(
        any(abs(row[at] / (at + 1) - p) > 1.645 * np.sqrt(p * (1 - p) / (at + 1)) for at in looks)
        for row in counts
    )
    assert fixed > 3 * streams * alpha


def test_a_mean_is_never_excluded_in_more_than_alpha_of_streams():
    rng = np.random.default_rng(5)
    streams, length, alpha = 2_000, 20_000, 0.05
    steps = rng.exponential(size=(streams, length // 100, 100)).sum(axis=2).cumsum(axis=1)
    n = 100.0 * np.arange(1, steps.shape[1] + 1)
    radius = np.array([mean_radius(1.0, at, alpha=alpha, planned=5_000) for at in n])
    wrong = (np.abs(steps / n - 1.0) > radius).any(axis=1).sum()
    assert wrong <= binom.ppf(0.999, streams, alpha)


def test_the_radius_is_sharpest_beside_its_floor_where_it_was_planned():
    def cost(n):
        return mean_radius(1.0, n, alpha=0.05, planned=10_000) * np.sqrt(n)

    assert cost(10_000) < cost(2_000)
    assert cost(10_000) < cost(50_000)
    assert cost(10_000) > 1.96  # never narrower than the interval that may be looked at once


def test_shares_and_levels_that_cannot_be_are_refused():
    with pytest.raises(UsageError, match="successes must be from 0 to n; got 4 of 3"):
        bernoulli(4, 3, alpha=0.1)
    with pytest.raises(UsageError, match="alpha must be between 0 and 1; got 0"):
        bernoulli(1, 3, alpha=0)
    with pytest.raises(UsageError, match="planned above 0"):
        mean_radius(1.0, 10, alpha=0.1, planned=0)


def _holds(interval, value):
    return interval.low <= value <= interval.high
