"""Log loss: the mean surprise at what happened, in nats.

    LL = sum w ll(y, p) / sum w,    ll(y, p) = -(y ln p + (1 - y) ln(1 - p))

Range [0, 36.04], lower is better, a proper scoring rule: the true probabilities minimise its expectation. Not
comparable between data sets of different click rates; that is what normalized entropy is for. p is kept 2.2e-16 away
from 0 and 1. Always defined.
"""

from __future__ import annotations

import numpy.typing as npt

from clickmill.evaluation.rows import Floats, Ranked, check_rows, dot


def log_loss(y: npt.ArrayLike, p: npt.ArrayLike, weight: npt.ArrayLike | None = None) -> float:
    """Arguments: (n,). In nats.

    >>> round(log_loss([0, 1], [0.5, 0.5]), 4)     # ln 2
    0.6931
    """
    rows = Ranked.of(check_rows(y, p, weight))
    return ranked_log_loss(rows, rows.weight)


def ranked_log_loss(rows: Ranked, weight: Floats) -> float:
    """Log loss under other weights (n,) in ranked order; NaN when they sum to zero."""
    total = float(weight.sum())
    return dot(weight, rows.loss) / total if total > 0 else float("nan")
