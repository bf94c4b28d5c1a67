"""Expected calibration error (ECE): how far predicted and observed click rates are apart, bin by bin.

    ECE = sum_b (W_b / W) |mean p in b - click rate in b|        W_b: weight in bin b

Naeini et al. (AAAI 2015), Guo et al. (ICML 2017). Range [0, 1], lower is better, in units of probability: at a click
rate of 2 %, an ECE of 0.02 is as large as the click rate itself, so read it beside the calibration ratio. Biased
upwards: even the true probabilities score about sqrt(bins * c (1 - c) / n) through chance. Bins: see `bins.py`.
Always defined.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from clickmill.evaluation.bins import DEFAULT_BINS, Strategy
from clickmill.evaluation.rows import Floats, Ranked, check_rows


def expected_calibration_error(
    y: npt.ArrayLike,
    p: npt.ArrayLike,
    weight: npt.ArrayLike | None = None,
    *,
    strategy: Strategy = "equal_mass",
    bins: int = DEFAULT_BINS,
) -> float:
    """Arguments: (n,). Raises UsageError for an unknown strategy or bins < 1.

    Two bins of two rows: |0.15 - 0| and |0.35 - 0.5|, half of the weight each:

    >>> round(expected_calibration_error([0, 0, 0, 1], [0.1, 0.2, 0.3, 0.4], bins=2), 6)
    0.15
    """
    rows = Ranked.of(check_rows(y, p, weight))
    return _ece(rows, rows.weight, rows.bin_starts(strategy, bins))


def ranked_ece_equal_mass(rows: Ranked, weight: Floats) -> float:
    """ECE of 15 equal-mass bins under other weights (n,) in ranked order; the edges stay those of `rows`."""
    return _ece(rows, weight, rows.bin_starts("equal_mass", DEFAULT_BINS))


def ranked_ece_equal_width(rows: Ranked, weight: Floats) -> float:
    """ECE of 15 equal-width bins under other weights (n,) in ranked order."""
    return _ece(rows, weight, rows.bin_starts("equal_width", DEFAULT_BINS))


def _ece(rows: Ranked, weight: Floats, bin_starts: npt.NDArray[np.int64]) -> float:
    total = weight.sum()
    if total <= 0:
        return float("nan")
    # W_b |mean p - mean y| = |sum of w (p - y) in b|: no division by empty bins.
    return float(np.abs(np.add.reduceat(weight * rows.excess, bin_starts)).sum() / total)
