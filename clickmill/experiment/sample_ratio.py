"""Did every arm get the users it should have? When not, something drops or doubles users by arm, and no figure of the experiment counts.

`chi_square_p` is Pearson's chi-square, for one look. `log_bayes_factor` may be looked at any time: the Bayes factor of a Dirichlet over the arms'
shares against the planned ones, a martingale when the split is sound, so that by Ville's inequality its inverse is an always-valid
p-value (Lindon, Malek, "Anytime-Valid Inference for Multinomial Count Data", NeurIPS 2022).

    E = B(c w + k) / B(c w) / prod_a w_a^k_a        w: planned shares, k: users, c: how narrowly around w a fault is looked for
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from clickmill.errors import UsageError

CONCENTRATION = 1_000.0
"""Standard deviation of the shares tried for two even arms: 1.6 points. Faults of that size are found first."""


def chi_square_p(counts: Sequence[int], weights: Sequence[float]) -> float:
    """p-value of Pearson's chi-square. counts: users by arm; weights: planned shares, adding up to 1.

    >>> round(chi_square_p([5_000, 5_300], [0.5, 0.5]), 4)
    0.0031
    """
    from scipy.stats import chisquare  # type: ignore[import-untyped]

    k, w = _checked(counts, weights)
    return float(chisquare(k, w * k.sum()).pvalue) if k.sum() else 1.0


def log_bayes_factor(counts: Sequence[int], weights: Sequence[float]) -> float:
    """ln E of the counts so far: above ln(1 / alpha) the split is called broken, at whatever look.

    >>> log_bayes_factor([0, 0], [0.5, 0.5])
    0.0
    """
    from scipy.special import gammaln  # type: ignore[import-untyped]

    k, w = _checked(counts, weights)
    prior = CONCENTRATION * w
    beta = (
        gammaln(prior + k).sum()
        - gammaln(CONCENTRATION + k.sum())
        - gammaln(prior).sum()
        + gammaln(CONCENTRATION)
    )
    return float(beta - (k * np.log(w)).sum())


def always_valid_p(looks: Sequence[Sequence[int]], weights: Sequence[float]) -> float:
    """Always-valid p-value after these looks, each the users by arm so far; 1 before the first.

    >>> always_valid_p([[100, 100], [5_000, 5_000], [5_000, 6_000]], [0.5, 0.5]) < 1e-6
    True
    """
    most = max((log_bayes_factor(counts, weights) for counts in looks), default=0.0)
    return min(math.exp(-most), 1.0)


def _checked(counts: Sequence[int], weights: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    k, w = np.asarray(counts, np.float64), np.asarray(weights, np.float64)
    if k.shape != w.shape or (k < 0).any() or not ((w > 0).all() and math.isclose(w.sum(), 1.0)):
        raise UsageError(
            f"need a count of at least 0 and a share above 0 for each arm, shares adding up to 1; got {counts} and {weights}"
        )
    return k, w


__all__ = ["always_valid_p", "chi_square_p", "log_bayes_factor"]
