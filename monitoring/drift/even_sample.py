"""A bounded sample that lies evenly over a stream whose length nobody knows."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa


class EvenSample:
    """One row at random out of each of up to `limit` blocks of consecutive rows, all of one length.

    When the blocks are used up, neighbours become one block of twice the length and one of their two rows stays, by chance: every row of
    a block is equally likely at any time. A log in order of time is thus sampled in strata of time, holds `limit`/2 to `limit` rows once
    there are as many, and needs one pass.
    """

    def __init__(self, limit: int, seed: int) -> None:
        if limit < 2:
            raise ValueError(f"a sample of {limit} rows: at least 2")
        self._limit = limit - limit % 2
        self._rng = np.random.default_rng(seed)
        self._stride, self._begun, self._seen = 1, 0, 0
        self._awaited = np.empty(0, np.int64)
        self._rows: pa.Table | None = None

    @property
    def rows(self) -> pa.Table | None:
        """The sample, in the order of the stream; None before the first row."""
        return self._rows

    def add(self, count: int, take: Callable[[np.ndarray], pa.Table]) -> None:
        """Look at the next `count` rows; `take` gives those at the given places among them, int64 (k,)."""
        end = self._seen + count
        while True:
            last = min(self._limit, -(-end // self._stride))
            blocks = np.arange(self._begun, last)
            drawn = blocks * self._stride + self._rng.integers(self._stride, size=len(blocks))
            awaited = np.concatenate([self._awaited, drawn])
            self._begun = max(last, self._begun)
            came = awaited[awaited < end]
            self._awaited = awaited[awaited >= end]
            if len(came):
                self._keep(take(came - self._seen))
            if self._begun < self._limit or end <= self._limit * self._stride:
                break
            self._thin()
        self._seen = end

    def _keep(self, rows: pa.Table) -> None:
        self._rows = rows if self._rows is None else pa.concat_tables([self._rows, rows])

    def _thin(self) -> None:
        assert self._rows is not None
        assert len(self._rows) == self._limit
        pairs = np.arange(0, self._limit, 2)
        self._rows = self._rows.take(
            pa.array(pairs + self._rng.integers(2, size=len(pairs)))
        ).combine_chunks()
        self._stride, self._begun = 2 * self._stride, self._limit // 2


__all__ = ["EvenSample"]
