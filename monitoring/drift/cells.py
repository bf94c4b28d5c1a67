"""Cells: how values of a field are counted, so that a window of any size becomes a few hundred numbers.

Cells are learned from the reference alone; windows are counted batch by batch, and tallies of batches add up.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from itertools import pairwise
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from clickmill.features.fingerprint import fingerprints

NEW = "(new)"
_PROBABILITY = 1e-7


@dataclass(frozen=True)
class Tally:
    """Counts of one field."""

    counts: np.ndarray
    """(cells,) int64: values that are there, finite, and not a stand-in."""
    sums: np.ndarray
    """(cells,) float64: sum of the values of each cell on the field's scale; zeros for categories."""
    rows: int = 0
    missing: int = 0
    """Rows without a value: null, an empty list, the stand-in of a log, or no column at all."""
    not_finite: int = 0
    illegal: int = 0
    """Values that the contract forbids."""
    new: int = 0
    """Values that the reference does not hold."""

    def __add__(self, other: Tally) -> Tally:
        return Tally(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    @property
    def present(self) -> int:
        """Values that were counted."""
        return int(self.counts.sum())


@dataclass(frozen=True)
class NumberCells:
    """Intervals (edge[i-1], edge[i]] of equal mass in the reference; values that are frequent by themselves have one of their own."""

    edges: np.ndarray
    """(cells - 1,) ascending."""
    groups: np.ndarray
    """(cells,) the coarse cell, of about a tenth of the reference, that each belongs to."""

    @property
    def count(self) -> int:
        return len(self.edges) + 1

    def tally(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Counts and sums by cell of finite values (n,)."""
        at = np.searchsorted(self.edges, values, side="left")
        return np.bincount(at, minlength=self.count), np.bincount(at, weights=values, minlength=self.count)

    def grouped(self, counts: np.ndarray) -> np.ndarray:
        """Counts by coarse cell."""
        return np.bincount(self.groups, weights=counts, minlength=int(self.groups.max()) + 1)

    def labels(self) -> list[str]:
        """Of the coarse cells."""
        last = np.flatnonzero(np.diff(self.groups))
        edges = [f"{self.edges[i]:.4g}" for i in last]
        if not edges:
            return ["all"]
        middle = [f"{a} to {b}" for a, b in pairwise(edges)]
        return [f"up to {edges[0]}", *middle, f"above {edges[-1]}"]


@dataclass(frozen=True)
class CategoryCells:
    """A cell per value of the reference; beyond a number of them, the most frequent and hash buckets."""

    known: pa.Array
    """Values of the reference, string, distinct."""
    cell_of: np.ndarray
    """(known,) int32."""
    named: tuple[str, ...]
    """Values with a cell of their own, which come first."""
    buckets: int
    """Hash buckets behind them; 0: one cell for all values the reference does not hold."""
    expected_new: float
    """Share of unknown values that the next draw of the same distribution would have: the share of the reference that came once
    (Good, "The population frequencies of species", Biometrika 1953)."""

    @property
    def count(self) -> int:
        return len(self.named) + max(self.buckets, 1)

    def place(self, values: pa.Array) -> tuple[np.ndarray, np.ndarray]:
        """Cell (d,) int64 of each string, and which of them (d,) bool the reference does not hold."""
        at = pc.index_in(values, value_set=self.known)
        unknown = np.asarray(at.is_null())
        cells = np.full(len(values), len(self.named), np.int64)
        cells[~unknown] = self.cell_of[np.asarray(at.drop_null())]
        if self.buckets and unknown.any():
            cells[unknown] += bucket_of(values.filter(pa.array(unknown)), self.buckets)
        return cells, unknown

    def tally(self, values: pa.Array, counts: np.ndarray) -> tuple[np.ndarray, int]:
        """Counts by cell, and how many were not known, of distinct strings (d,) that came `counts` (d,) times."""
        cells, unknown = self.place(values)
        found = np.bincount(cells, weights=counts, minlength=self.count).astype(np.int64)
        return found, int(counts[unknown].sum())

    def labels(self) -> list[str]:
        if not self.buckets:
            return [*self.named, NEW]
        return [*self.named, *(f"(bucket {i})" for i in range(self.buckets))]


Cells: TypeAlias = NumberCells | CategoryCells


def learn_numbers(values: np.ndarray, bins: int) -> NumberCells:
    """Of the reference's values (n,), finite, on the field's scale; at least one."""
    edges = np.unique(np.quantile(values, np.arange(1, bins) / bins, method="inverted_cdf"))
    counts = np.bincount(np.searchsorted(edges, values, side="left"), minlength=len(edges) + 1)
    middle = (np.cumsum(counts) - counts / 2) / len(values)
    _, groups = np.unique((middle * 10).astype(int), return_inverse=True)
    return NumberCells(edges, groups)


def learn_categories(
    values: pa.Array, counts: np.ndarray, *, once: float, categories: int, top: int, buckets: int
) -> CategoryCells:
    """Of the reference's distinct values (d,), strings, and how often each came. once: share of its draws whose value came only once."""
    order = np.lexsort((np.asarray(values.to_numpy(zero_copy_only=False), object), -counts))
    values, counts = values.take(pa.array(order)), counts[order]
    if len(values) <= categories:
        return CategoryCells(values, np.arange(len(values)), tuple(values.to_pylist()), 0, once)
    cell_of = np.arange(len(values))
    cell_of[top:] = top + bucket_of(values.slice(top), buckets)
    return CategoryCells(values, cell_of, tuple(values.slice(0, top).to_pylist()), buckets, once)


def bucket_of(values: pa.Array, buckets: int) -> np.ndarray:
    """Hash bucket (n,) int64 of strings without nulls; the same in every process and version."""
    whole = pa.concat_arrays([values])  # a slice of its own buffers, from offset 0
    offsets = np.frombuffer(whole.buffers()[1], np.int32, len(whole) + 1, 4 * whole.offset).astype(np.int64)
    data = whole.buffers()[2]
    text = (data.to_pybytes() if data is not None else b"") + bytes(8)
    return (fingerprints(text, offsets[:-1], np.diff(offsets)) % np.uint64(buckets)).astype(np.int64)


def distinct(column: pa.Array) -> tuple[pa.Array, np.ndarray]:
    """Distinct values as strings (d,), and how often each came (d,) int64; nulls are left out."""
    coded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    at = coded.indices.drop_null() if coded.null_count else coded.indices
    counts = np.bincount(np.asarray(at), minlength=len(coded.dictionary))
    return coded.dictionary.cast(pa.string()), counts


def scaled(values: np.ndarray, scale: str) -> np.ndarray:
    """float64 values (n,) on the axis they are measured on (see `fields.Scale`)."""
    if scale == "log1p":
        logarithms: np.ndarray = np.sign(values) * np.log1p(np.abs(values))
        return logarithms
    if scale == "logit":
        p = np.clip(values, _PROBABILITY, 1 - _PROBABILITY)
        odds: np.ndarray = np.log(p / (1 - p))
        return odds
    return values


def empty(cells: Cells) -> Tally:
    """Nothing counted yet."""
    return Tally(np.zeros(cells.count, np.int64), np.zeros(cells.count))


__all__ = [
    "NEW", "CategoryCells", "Cells", "NumberCells", "Tally", "bucket_of", "distinct", "empty", "learn_categories",
    "learn_numbers", "scaled",
]  # fmt: skip
