"""Area under the ROC curve: does the model rank clicks above non-clicks?

    AUC = P(p_i > p_j) + P(p_i = p_j) / 2        i a click, j a non-click, drawn by weight

Range [0, 1], 0.5 is chance, higher is better. Blind to calibration: any increasing map of p leaves it as it is.
Computed from ranks (Mann-Whitney U; Hanley & McNeil 1982): one sort, then the weight of the non-clicks below each row.
Undefined when the weight of clicks or of non-clicks is zero.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from clickmill.errors import UndefinedMetric
from clickmill.evaluation.rows import Floats, Ranked, check_rows, dot


def auc(y: npt.ArrayLike, p: npt.ArrayLike, weight: npt.ArrayLike | None = None) -> float:
    """Arguments: (n,). Raises UndefinedMetric with one class only.

    Of the four pairs below, three are in order and one is a tie:

    >>> auc([0, 0, 1, 1], [0.1, 0.2, 0.2, 0.3])
    0.875
    """
    rows = Ranked.of(check_rows(y, p, weight))
    value = ranked_auc(rows, rows.weight)
    if np.isnan(value):
        raise UndefinedMetric("AUC needs both clicks and non-clicks, got one class only")
    return value


def ranked_auc(rows: Ranked, weight: Floats) -> float:
    """AUC under other weights (n,) in ranked order; NaN when undefined."""
    clicks = rows.y * weight
    rest = weight - clicks
    if rows.ties:
        clicks = np.add.reduceat(clicks, rows.tie_starts)
        rest = np.add.reduceat(rest, rows.tie_starts)
    below = np.cumsum(rest)
    pairs = clicks.sum() * below[-1]
    if pairs <= 0:
        return float("nan")
    return dot(clicks, below - rest / 2) / float(pairs)
