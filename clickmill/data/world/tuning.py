"""Fitting a world to its targets: the click rate, and how much a perfect model could know."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from clickmill.data.world.config import WorldConfig
from clickmill.data.world.population import Floats
from clickmill.data.world.preference import Dial, sigmoid


def fit_dial(effects: Floats, examination: Floats, config: WorldConfig) -> Dial:
    """The dial at which impressions with these effects meet `target_ctr` and, if set, `target_auc`.

    `effects` and `examination` are (n,): the logit of relevance before the dial, and P(examined). Raises ValueError when
    a target is out of reach.
    """
    most = float(examination.mean())
    if most <= config.target_ctr:
        raise ValueError(
            f"target_ctr={config.target_ctr:g} cannot be reached: users examine only {most:.3f} of the slots. "
            "Lower target_ctr or raise examination."
        )

    def intercept(scale: float) -> float:
        return _rising_root(
            lambda b: float((examination * sigmoid(scale * effects + b)).mean()) - config.target_ctr, -40, 40
        )

    def reached(scale: float) -> float:
        return expected_auc(examination * sigmoid(scale * effects + intercept(scale)))

    target = config.target_auc
    if target is None:
        return Dial(intercept(1.0), 1.0)
    low, high = 0.0, 8.0
    if not reached(low) < target < reached(high):
        raise ValueError(
            f"target_auc={target:g} cannot be reached: these effects and this examination curve allow "
            f"{reached(low):.3f} to {reached(high):.3f}. Move target_auc, or set it to null to take the effects as they are."
        )
    scale = _rising_root(lambda s: reached(s) - target, low, high, steps=14)
    return Dial(intercept(scale), scale)


def expected_auc(pctr: Floats) -> float:
    """AUC of the true probabilities (n,) against clicks drawn from them, in expectation:
    sum over pairs of p_i (1 - p_j) [p_i > p_j], ties counted half, over the expected number of such pairs."""
    p = np.sort(pctr)
    missed = 1 - p
    below = np.cumsum(missed) - missed
    return float((p * (below + 0.5 * missed)).sum() / (p.sum() * missed.sum()))


def _rising_root(function: Callable[[float], float], low: float, high: float, steps: int = 40) -> float:
    for _ in range(steps):
        middle = (low + high) / 2
        if function(middle) < 0:
            low = middle
        else:
            high = middle
    return (low + high) / 2
