"""What is believed about each ad beside the model's pCTR: a Bayesian last layer with one weight per ad.

    P(click | slot, ad a) = x_slot sigmoid(f + u_a),    u_a ~ N(mean_a, 1 / precision_a)

f is the calibrated logit of any of our models and stays as it is; u_a is the weight of the ad's own indicator in the last layer. New ads have
u_a ~ N(0, sd^2), since their ids are not in the vocabulary and nothing else in the last layer knows them. Updates are those of Chapelle & Li,
"An Empirical Evaluation of Thompson Sampling", NeurIPS 2011, algorithm 3 (Laplace around the mode, a Gaussian prior carried from batch to
batch); with one indicator per row its diagonal Hessian is the whole one. Departs from it: x, the chance that the slot is seen, so that a
click not made far down counts for little; and Fisher's information in place of the Hessian, which x could make negative.

Two numbers per ad, so that they can live in the online feature store. Not chosen: an ensemble (k times the serving cost, and its members agree
on ads none of them has seen), and a full Laplace over the last hidden layer (all new ads share their input there).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from clickmill.errors import DataError

_STEPS, _CLOSE = 100, 1e-7
"""Most steps to the mode, and the last move. A batch of an hour takes five or so; ads that are clicked far more than x allows take dozens,
since there Fisher's information is far from the curvature."""


@dataclass(frozen=True, eq=False)
class AdBeliefs:
    """Of n ads, both (n,) float64."""

    mean: np.ndarray
    """Of u, on the scale of the log-odds."""
    precision: np.ndarray
    """1 / variance of u."""

    @classmethod
    def new(cls, ads: int, sd: float) -> AdBeliefs:
        """Nothing seen of any ad. Raises DataError unless sd > 0."""
        if not sd > 0:
            raise DataError(f"sd of what is unknown of an ad must be above 0, got {sd:g}")
        return cls(np.zeros(ads), np.full(ads, sd**-2.0))

    @property
    def sd(self) -> np.ndarray:
        """(n,)."""
        return self.precision**-0.5

    def after(
        self, ad: np.ndarray, clicked: np.ndarray, logit: np.ndarray, examination: np.ndarray
    ) -> AdBeliefs:
        """Beliefs once these impressions are known. All (m,): ad number, 0 or 1, f of the impression, P(its slot is seen).

        Raises DataError for lengths that differ or a chance outside (0, 1].
        """
        ad, clicked = np.asarray(ad), np.asarray(clicked, np.float64)
        if not len(ad) == len(clicked) == len(logit) == len(examination):
            raise DataError("ad, clicked, logit and examination need one value per impression each")
        if len(ad) and not ((examination > 0) & (examination <= 1)).all():
            raise DataError("examination must lie in (0, 1]")
        n, mode = len(self.mean), self.mean.copy()
        for _ in range(_STEPS):
            slope, information = _row_terms(clicked, logit + mode[ad], examination)
            slope = np.bincount(ad, slope, minlength=n) - self.precision * (mode - self.mean)
            # A step of more than 1 may leave the region where the quadratic is near.
            move = np.clip(slope / (self.precision + np.bincount(ad, information, minlength=n)), -1, 1)
            mode = mode + move
            if np.abs(move).max(initial=0) < _CLOSE:
                break
        _, information = _row_terms(clicked, logit + mode[ad], examination)
        return AdBeliefs(mode, self.precision + np.bincount(ad, information, minlength=n))


def _row_terms(clicked: np.ndarray, eta: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Per impression: slope of the log likelihood in u, and Fisher's information about it, p = x sigmoid(eta)."""
    p = x * 0.5 * (1 + np.tanh(0.5 * eta))
    change = p * (1 - p / x)
    variance = np.maximum(p * (1 - p), 1e-300)
    return (clicked - p) * change / variance, change * change / variance
