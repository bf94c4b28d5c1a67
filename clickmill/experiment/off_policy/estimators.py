"""Value of a target policy from rows of another: w = target / propensity, r the reward, q a reward model.

    IPS    mean(w r)                                Horvitz & Thompson, JASA 1952; unbiased where the log covers the target
    SNIPS  sum(w r) / sum(w)                        Swaminathan & Joachims, NeurIPS 2015; biased by O(1/n), less variance
    DM     mean(sum_a target(a) q(a))               as good as q, and the interval does not know how good that is
    DR     mean(sum_a target(a) q(a) + w (r - q))   Dudik, Langford, Li, ICML 2011; right if propensities or q are

Every one is a ratio of two sums over rows, so that one linearisation and one bootstrap serve them all.
"""

from __future__ import annotations

from enum import StrEnum

import numpy as np

from clickmill.errors import UsageError
from clickmill.experiment.off_policy.log import Floats, LoggedRows


class Method(StrEnum):
    """How the value is estimated."""

    IPS = "ips"
    """Inverse propensity scores."""
    SNIPS = "snips"
    """Self-normalised inverse propensity scores."""
    DM = "dm"
    """Direct method: the reward model alone."""
    DR = "dr"
    """Doubly robust: the reward model, corrected by weighted residuals."""


def ratio(rows: LoggedRows, method: Method) -> tuple[Floats, Floats]:
    """(n,) numerator and (n,) denominator; the value is the ratio of their sums.

    Raises UsageError for `dm` and `dr` without a reward model.
    """
    ones = np.ones(len(rows))
    if method is Method.IPS:
        return rows.weight * rows.reward, ones
    if method is Method.SNIPS:
        return rows.weight * rows.reward, rows.weight
    if rows.model is None or rows.model_target is None:
        raise UsageError(f"{method} needs a reward model: give model and model_target")
    if method is Method.DM:
        return rows.model_target, ones
    return rows.model_target + rows.weight * (rows.reward - rows.model), ones


def value(rows: LoggedRows, method: Method) -> float:
    """Expected reward per impression under the target policy; NaN for `snips` where no row has any weight.

    >>> rows = LoggedRows.checked(reward=[1, 0, 0, 1], propensity=[0.5, 0.5, 0.5, 0.5], target=[0.9, 0.1, 0.9, 0.1])
    >>> value(rows, Method.IPS), value(rows, Method.SNIPS)
    (0.5, 0.5)
    """
    numerator, denominator = ratio(rows, method)
    total = float(denominator.sum())
    return float(numerator.sum()) / total if total > 0 else float("nan")
