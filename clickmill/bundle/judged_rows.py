"""Labels and weights of a split, against which every model is evaluated."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from clickmill.contract import Role
from clickmill.data import delay

if TYPE_CHECKING:
    from clickmill.data import PreparedDataset


def weights(dataset: PreparedDataset, split: str) -> np.ndarray | None:
    """Importance weights (n,) float64 of a split: the contract's weight (nulls 1), times 1 / kept for the non-clicks of a split
    that was sampled, times what makes labels ripe that are not yet (`data.delay.weights`); None where all are 1.

    A source may come with a share of its non-clicks only. Weighing each kept one by 1 / share gives back the click rate
    and the metrics of the whole (Horvitz-Thompson), so that a calibrator fitted here does not undo the prior correction.
    """
    name = dataset.contract.of_role(Role.WEIGHT)
    own = numbers(dataset, split, name, fill=1.0) if name else None
    kept = dataset.meta.splits[split].negatives_kept
    found = [] if own is None else [own]
    if kept < 1.0:
        found.append(np.where(labels(dataset, split) == 1, 1.0, 1.0 / kept))
    ripeness = dataset.meta.ripeness
    if ripeness is not None:
        clock = str(dataset.contract.of_role(Role.EVENT_TIME))
        shown = (
            dataset.columns(split, [clock])[clock].cast(pa.timestamp("us", "UTC")).cast(pa.int64()).to_numpy()
        )
        known = ripeness.share_known(shown)
        if known.min() < 1.0:
            found.append(delay.weights(labels(dataset, split) == 1, known, negatives_kept=kept))
    return np.prod(found, axis=0) if found else None


def labels(dataset: PreparedDataset, split: str) -> np.ndarray:
    """Clicks (n,) int8 of a split."""
    column = dataset.columns(split, [dataset.label])[dataset.label]
    return column.cast(pa.int8()).to_numpy()


def numbers(dataset: PreparedDataset, split: str, name: str, fill: float | None = None) -> np.ndarray:
    """Values (n,) float64 of a column of a split, nulls as `fill`."""
    column = dataset.columns(split, [name])[name].cast(pa.float64())
    return (column if fill is None else column.fill_null(fill)).to_numpy()
