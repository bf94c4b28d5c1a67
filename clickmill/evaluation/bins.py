"""Bins of predicted probabilities, shared by ECE and the reliability curve.

- `equal_width`: [0, 1/k), [1/k, 2/k), ..., [1 - 1/k, 1]. Guo et al. (ICML 2017) use k = 15. With click rates of 1 to
  5 % nearly every impression falls into the first bin, so over- and under-prediction inside it cancel.
- `equal_mass`: k bins of equal weight by rank; equal probabilities never part. The default for click probabilities.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from clickmill.errors import UsageError

Strategy = Literal["equal_mass", "equal_width"]
DEFAULT_BINS = 15


def bin_starts(
    p: npt.NDArray[np.float64],
    weight: npt.NDArray[np.float64],
    tie_starts: npt.NDArray[np.int64],
    strategy: str,
    bins: int,
) -> npt.NDArray[np.int64]:
    """First row of each bin that holds a row. `p` (n,) ascending, its `weight` (n,), the first row of each run of equal `p`.

    Raises UsageError for a strategy or a number of bins that do not exist.
    """
    if bins < 1:
        raise UsageError(f"bins must be at least 1, got {bins}")
    if strategy == "equal_width":
        # A product like 0.29 * 100 = 28.999... must not move an edge into the bin below: compare with the edges.
        number = np.searchsorted(np.arange(1, bins) / bins, p, side="right")
    elif strategy == "equal_mass":
        mass = np.add.reduceat(weight, tie_starts)
        middle = np.cumsum(mass) - mass / 2
        number = np.minimum((bins * middle / mass.sum()).astype(np.int64), bins - 1)
        number = np.repeat(number, np.diff(np.r_[tie_starts, len(p)]))
    else:
        raise UsageError(f"strategy must be one of {', '.join(get_args(Strategy))}, got {strategy!r}")
    return np.flatnonzero(np.r_[True, number[1:] != number[:-1]]).astype(np.int64)
