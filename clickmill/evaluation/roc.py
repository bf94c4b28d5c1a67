"""The ROC curve, thinned to as many points as a plot can show.

true positive rate = clicks with p >= threshold / clicks;   false positive rate = the same of non-clicks
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from clickmill.errors import UndefinedMetric, UsageError
from clickmill.evaluation.rows import Ranked, check_rows


class RocCurve(BaseModel):
    """Points from (0, 0) to (1, 1); thresholds descend. Rows with p >= threshold count as predicted clicks."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)

    false_positive_rate: tuple[float, ...]
    true_positive_rate: tuple[float, ...]
    threshold: tuple[float, ...]
    """The first is 1 + 2.2e-16, above every prediction: nothing is predicted a click."""


def roc_curve(
    y: npt.ArrayLike, p: npt.ArrayLike, weight: npt.ArrayLike | None = None, *, points: int = 101
) -> RocCurve:
    """At most `points` points, evenly spread along the curve's length in ranks. Raises UndefinedMetric with one class.

    >>> roc_curve([0, 0, 1, 1], [0.1, 0.2, 0.2, 0.3]).true_positive_rate
    (0.0, 0.5, 1.0, 1.0)
    """
    if points < 2:
        raise UsageError(f"points must be at least 2, got {points}")
    rows = Ranked.of(check_rows(y, p, weight))
    starts = rows.tie_starts
    clicks = np.r_[0.0, np.cumsum(np.add.reduceat(rows.weight * rows.y, starts)[::-1])]
    rest = np.r_[0.0, np.cumsum(np.add.reduceat(rows.weight * (1 - rows.y), starts)[::-1])]
    if clicks[-1] <= 0 or rest[-1] <= 0:
        raise UndefinedMetric("a ROC curve needs both clicks and non-clicks, got one class only")
    x, t = rest / rest[-1], clicks / clicks[-1]
    threshold = np.r_[1 + np.finfo(np.float64).eps, rows.p[starts][::-1]]
    if len(x) > points:
        # Even steps of x + t put points where the curve moves, whether it climbs or runs flat.
        kept = np.unique(np.searchsorted((x + t) / 2, np.linspace(0, 1, points)))
        x, t, threshold = x[kept], t[kept], threshold[kept]
    return RocCurve(
        false_positive_rate=tuple(x.tolist()),
        true_positive_rate=tuple(t.tolist()),
        threshold=tuple(threshold.tolist()),
    )
