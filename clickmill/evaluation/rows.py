"""Scored impressions: the one place where labels, probabilities and weights are checked.

Every metric takes `y` (n,) labels 0/1, `p` (n,) predicted click probabilities and an optional `weight` (n,).
`check_rows` turns them into float64 arrays that the arithmetic can trust; `Ranked` puts them in order of `p`,
which AUC, ECE and lift all need, once.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from clickmill.errors import DataError
from clickmill.evaluation.bins import bin_starts

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

SMALLEST_P = float(np.finfo(np.float64).eps)
"""Probabilities are kept this far from 0 and 1 inside logarithms: one certain mistake costs 36.04 nats, not infinity
(the clip of scikit-learn's `log_loss` for float64)."""


@dataclass(frozen=True)
class Rows:
    """Checked impressions: three float64 arrays of one length n >= 1; weights are >= 0 and do not all vanish."""

    y: Floats
    p: Floats
    weight: Floats

    def take(self, rows: npt.NDArray) -> Rows:
        """The impressions at these positions, or under this mask."""
        return Rows(self.y[rows], self.p[rows], self.weight[rows])


@dataclass(frozen=True)
class Ranked:
    """Impressions by ascending `p`; what depends on that order only is computed once and shared by all resamples."""

    order: Ints
    """(n,) position in the original rows of each ranked row."""
    y: Floats
    p: Floats
    weight: Floats

    @classmethod
    def of(cls, rows: Rows) -> Ranked:
        order = np.argsort(rows.p, kind="stable").astype(np.int64, copy=False)
        return cls(order, rows.y[order], rows.p[order], rows.weight[order])

    @cached_property
    def tie_starts(self) -> Ints:
        """First ranked row of each run of equal `p`."""
        return np.flatnonzero(np.r_[True, self.p[1:] != self.p[:-1]]).astype(np.int64, copy=False)

    @cached_property
    def ties(self) -> bool:
        return len(self.tie_starts) < len(self.p)

    @cached_property
    def loss(self) -> Floats:
        """(n,) log loss of each row, nats."""
        return row_loss(self.y, self.p)

    @cached_property
    def excess(self) -> Floats:
        """(n,) p - y."""
        return self.p - self.y

    @cached_property
    def _bin_starts(self) -> dict[tuple[str, int], Ints]:
        return {}

    def bin_starts(self, strategy: str, bins: int) -> Ints:
        """First ranked row of each bin that holds a row; see `bins.py`."""
        key = (strategy, bins)
        if key not in self._bin_starts:
            self._bin_starts[key] = bin_starts(self.p, self.weight, self.tie_starts, strategy, bins)
        return self._bin_starts[key]


def check_rows(y: npt.ArrayLike, p: npt.ArrayLike, weight: npt.ArrayLike | None = None) -> Rows:
    """Arguments: (n,) each. Raises DataError naming the argument, the rule and the first row that breaks it.

    >>> check_rows([0, 2], [0.1, 0.2])
    Traceback (most recent call last):
    clickmill.errors.DataError: y must be 0 or 1, got 2.0 in row 1 (1 of 2 rows)
    """
    labels = _vector("y", y)
    probabilities = _vector("p", p)
    _same_length("p", probabilities, labels)
    if not len(labels):
        raise DataError("y must be at least one row long, got 0 rows")
    _all(labels, (labels == 0) | (labels == 1), "y must be 0 or 1")
    _all(probabilities, (probabilities >= 0) & (probabilities <= 1), "p must be between 0 and 1")
    if weight is None:
        return Rows(labels, probabilities, np.ones_like(labels))
    weights = _vector("weight", weight)
    _same_length("weight", weights, labels)
    _all(weights, weights >= 0, "weight must be at least 0")
    if not weights.any():
        raise DataError("weight must be above 0 in some row, got only zeros")
    return Rows(labels, probabilities, weights)


def codes_of(name: str, values: npt.ArrayLike, n: int) -> Ints:
    """(n,) numbers 0, 1, ... of the distinct `values` of any type, in order of appearance; -1 where missing (None, NaN).

    Raises DataError when the shape is not (n,).
    """
    import pandas as pd

    array = np.asarray(values)
    if array.shape != (n,):
        raise DataError(f"{name} must be of shape ({n},) like y, got {array.shape}")
    codes, _ = pd.factorize(array)
    return codes.astype(np.int64, copy=False)


def cluster_codes(cluster: npt.ArrayLike, n: int) -> tuple[Ints, int]:
    """Numbers (n,) of the clusters and how many there are; a row without an id is a cluster of its own."""
    codes = codes_of("cluster", cluster, n)
    named = int(codes.max(initial=-1)) + 1
    alone = codes < 0
    codes[alone] = named + np.arange(int(alone.sum()))
    return codes, named + int(alone.sum())


def row_loss(y: Floats, p: Floats) -> Floats:
    """(n,) -(y ln p + (1 - y) ln(1 - p)) of labels 0/1, nats."""
    p = np.clip(p, SMALLEST_P, 1 - SMALLEST_P)
    return np.where(y > 0, -np.log(p), -np.log1p(-p))


def dot(a: Floats, b: Floats) -> float:
    """sum a b without BLAS: a threaded dot product of 200k rows waits longer for its threads than it computes when
    other processes hold the cores (10 times slower there), and its rounding depends on their number."""
    return float(np.einsum("i,i->", a, b))


def _vector(name: str, values: npt.ArrayLike) -> Floats:
    try:
        vector = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"{name} must be numbers, got {np.asarray(values).dtype}: {error}") from error
    if vector.ndim != 1:
        raise DataError(f"{name} must be one-dimensional, got shape {vector.shape}")
    _all(vector, np.isfinite(vector), f"{name} must be finite")
    return vector


def _same_length(name: str, values: Floats, labels: Floats) -> None:
    if len(values) != len(labels):
        raise DataError(f"{name} must be as long as y ({len(labels)} rows), got {len(values)} rows")


def _all(values: Floats, good: npt.NDArray[np.bool_], rule: str) -> None:
    if not good.all():
        row = int(np.argmin(good))
        raise DataError(
            f"{rule}, got {values[row]} in row {row} ({int((~good).sum())} of {len(values)} rows)"
        )
