"""Normalized entropy (NE; also normalized cross-entropy, NCE): log loss relative to knowing only the base rate.

    NE = LL(y, p) / H(c),    c = sum w y / sum w,    H(c) = -(c ln c + (1 - c) ln(1 - c))

He et al., "Practical Lessons from Predicting Clicks on Ads at Facebook", ADKDD 2014, eq. 1. Lower is better: 0 is
perfect, 1 knows only the base rate, above 1 is worse than a constant. Sees ranking and calibration at once, which is
why it decides at the gate. Undefined when all labels are equal (H = 0).
"""

from __future__ import annotations

import math

import numpy.typing as npt

from clickmill.errors import UndefinedMetric
from clickmill.evaluation.rows import Floats, Ranked, check_rows, dot


def normalized_entropy(y: npt.ArrayLike, p: npt.ArrayLike, weight: npt.ArrayLike | None = None) -> float:
    """Arguments: (n,). Raises UndefinedMetric when all labels are equal.

    >>> round(normalized_entropy([0, 0, 0, 1], [0.1, 0.1, 0.2, 0.6]), 3)
    0.42
    >>> normalized_entropy([0, 0, 0, 1], [0.25, 0.25, 0.25, 0.25])
    1.0
    """
    rows = Ranked.of(check_rows(y, p, weight))
    value = ranked_normalized_entropy(rows, rows.weight)
    if math.isnan(value):
        raise UndefinedMetric("normalized entropy needs both clicks and non-clicks, got one class only")
    return value


def ranked_normalized_entropy(rows: Ranked, weight: Floats) -> float:
    """NE under other weights (n,) in ranked order; NaN when undefined."""
    total = float(weight.sum())
    clicks = dot(weight, rows.y)
    # Two sums in different order: with clicks only, the shares may miss 1 by rounding.
    if not 0 < clicks < total * (1 - 1e-12):
        return float("nan")
    rate = clicks / total
    entropy = -(rate * math.log(rate) + (1 - rate) * math.log1p(-rate))
    return dot(weight, rows.loss) / total / entropy
