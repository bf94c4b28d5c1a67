"""Calibration ratio: predicted clicks per observed click.

    ratio = sum w p / sum w y

Range [0, inf), best is 1. 1.2 predicts 20 % too many clicks: every bid derived from it is 20 % too high. The inverse
of He et al.'s "calibration" is sometimes meant by the name; this is predicted over observed. Its standard error is
about 1 / sqrt(clicks). Undefined without clicks.
"""

from __future__ import annotations

import math

import numpy.typing as npt

from clickmill.errors import UndefinedMetric
from clickmill.evaluation.rows import Floats, Ranked, check_rows, dot


def calibration_ratio(y: npt.ArrayLike, p: npt.ArrayLike, weight: npt.ArrayLike | None = None) -> float:
    """Arguments: (n,). Raises UndefinedMetric without clicks.

    >>> calibration_ratio([0, 0, 0, 1], [0.25, 0.25, 0.25, 0.5])
    1.25
    """
    rows = Ranked.of(check_rows(y, p, weight))
    value = ranked_calibration_ratio(rows, rows.weight)
    if math.isnan(value):
        raise UndefinedMetric("the calibration ratio needs at least one click, got none")
    return value


def ranked_calibration_ratio(rows: Ranked, weight: Floats) -> float:
    """Ratio under other weights (n,) in ranked order; NaN without clicks."""
    clicks = dot(weight, rows.y)
    return dot(weight, rows.p) / clicks if clicks > 0 else float("nan")
