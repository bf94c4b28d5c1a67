"""The drift reference: what the model's world looked like when it was calibrated."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from clickmill.bundle.export import PCTR

if TYPE_CHECKING:
    from clickmill.data import PreparedDataset

REFERENCE = "reference.parquet"
SPLIT = "calibration"
BATCH = 8192
MAX_ROWS = 50_000
"""At 50,000 rows a population stability index over 10 bins has a noise of about 0.0002; alarms start at 0.1."""


def sample(dataset: PreparedDataset, *, seed: int, rows: int = MAX_ROWS) -> pa.Table:
    """Up to `rows` rows of the calibration split, all its columns, drawn without replacement, in time order."""
    n = dataset.meta.splits[SPLIT].rows
    chosen = np.sort(np.random.default_rng(seed).choice(n, size=min(n, rows), replace=False))
    parts, start = [], 0
    for part in dataset.scan(SPLIT):
        low, high = np.searchsorted(chosen, [start, start + len(part)])
        parts.append(part.take(pa.array(chosen[low:high] - start)))
        start += len(part)
    return pa.concat_tables(parts)


def write(folder: Path, rows: pa.Table, pctr: np.ndarray) -> None:
    """Keep the sample beside its predictions."""
    table = rows.append_column(PCTR, pa.array(pctr.astype(np.float32)))
    pq.write_table(table, folder / REFERENCE, compression="zstd")


def read(folder: Path) -> pa.Table:
    """The sample: columns of the contract, and `pctr`."""
    return pq.read_table(folder / REFERENCE)
