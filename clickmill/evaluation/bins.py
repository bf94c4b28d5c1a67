"""Bins of predicted probabilities, shared by ECE and the reliability curve.

- `equal_width`: [0, 1/k), [1/k, 2/k), ..., [1 - 1/k, 1]. Guo et al. (ICML 2017) use k = 15. With click rates of 1 to
  5 % nearly every impression falls into the first bin, so over- and under-prediction inside it cancel.
- `equal_mass`: k bins of equal weight by rank; equal probabilities never part. The default for click probabilities.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

from clickmill.errors import UsageError
from clickmill.evaluation.rows import Ints, Ranked

Strategy = Literal["equal_mass", "equal_width"]
DEFAULT_BINS = 15


def bin_of(rows: Ranked, strategy: str, bins: int) -> Ints:
    """(n,) bin number of each ranked row, ascending, 0..bins-1; some bins may stay empty. Raises UsageError."""
    if bins < 1:
        raise UsageError(f"bins must be at least 1, got {bins}")
    if strategy == "equal_width":
        # A product like 0.29 * 100 = 28.999... must not move an edge into the bin below: compare with the edges.
        edges = np.arange(1, bins) / bins
        return np.searchsorted(edges, rows.p, side="right").astype(np.int64, copy=False)
    if strategy == "equal_mass":
        starts = rows.tie_starts
        mass = np.add.reduceat(rows.weight, starts)
        middle = np.cumsum(mass) - mass / 2
        number = np.minimum((bins * middle / mass.sum()).astype(np.int64), bins - 1)
        return np.repeat(number, np.diff(np.r_[starts, len(rows.p)]))
    raise UsageError(f"strategy must be one of {', '.join(get_args(Strategy))}, got {strategy!r}")
