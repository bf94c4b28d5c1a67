"""A broken split is found, and a sound one is left alone however often one looks."""

import numpy as np
import pytest
from scipy.stats import chi2

from clickmill.errors import UsageError
from clickmill.experiment.sample_ratio import always_valid_p, chi_square_p, log_bayes_factor


def test_chi_square_by_hand():
    # (5000 - 5150)^2 / 5150 twice
    assert chi_square_p([5_000, 5_300], [0.5, 0.5]) == pytest.approx(chi2.sf(2 * 150**2 / 5_150, 1))
    assert chi_square_p([100, 200, 100], [0.25, 0.5, 0.25]) == 1.0


def test_the_evidence_of_one_user_is_one():
    """Whoever comes first says nothing: the mixture has the planned shares as its mean."""
    assert log_bayes_factor([1, 0], [0.3, 0.7]) == pytest.approx(0.0, abs=1e-9)
    assert log_bayes_factor([0, 1], [0.3, 0.7]) == pytest.approx(0.0, abs=1e-9)


def test_a_sound_split_is_called_broken_in_less_than_alpha_of_experiments_at_any_of_200_looks():
    rng = np.random.default_rng(4)
    alpha, experiments = 0.05, 2_000
    counts = np.cumsum(rng.multinomial(100, [0.25, 0.75], (experiments, 200)), axis=1)
    called = naive = 0
    for one in counts:
        called += max(log_bayes_factor(look, [0.25, 0.75]) for look in one[9::10]) > np.log(1 / alpha)
        expected = one.sum(axis=1, keepdims=True) * np.array([0.25, 0.75])
        naive += bool((((one - expected) ** 2 / expected).sum(axis=1) > chi2.isf(alpha, 1)).any())
    assert called / experiments < alpha
    assert naive / experiments > 0.2  # what the chi-square of one look would do


def test_a_loss_of_a_twentieth_of_one_arm_is_found():
    rng = np.random.default_rng(5)
    looks = np.cumsum(rng.multinomial(5_000, [1 / 1.95, 0.95 / 1.95], 14), axis=0)
    assert always_valid_p(looks.tolist(), [0.5, 0.5]) < 1e-3
    assert always_valid_p([[500, 500]], [0.5, 0.5]) == 1.0


def test_shares_that_are_none_are_refused():
    for weights in ([0.5, 0.6], [1.0, 0.0], [1.0]):
        with pytest.raises(UsageError, match="shares adding up to 1"):
            chi_square_p([1, 2], weights)
