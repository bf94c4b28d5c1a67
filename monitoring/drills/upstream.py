"""Faults of what is sent: a field that is not filled any more, values that are spelt otherwise, another unit.

Which field: the one that hurts most, by the good bundle's own predictions for its reference rows. A field that the model hardly reads
may break and nobody needs to wake up for it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from clickmill import bundle as bundles
from clickmill.contract import ContractField, Dtype
from clickmill.errors import UsageError
from clickmill.features import tensors
from monitoring.drills.callers import Row

TIMES = 1000.0
RENAMED = "v2/"
"""Put before each value: another spelling, as a migration of ids makes it."""
LEAST_NE, LEAST_RATIO = 1.05, 1.1
"""What rules on live quality see: NE over what it was, predicted over real clicks (either way)."""


class Broken(StrEnum):
    """How a field comes to be wrong. One sentence each."""

    NULLED = "nulled"  # not filled any more: the endpoint takes the contract's default
    RENAMED = "renamed"  # every value is spelt otherwise, and unknown to the vocabulary
    UNIT = "unit"  # a thousand times as much: cents of a cent, grams for kilograms


@dataclass(frozen=True)
class Harm:
    """What a broken field does to the good bundle's predictions."""

    field: str
    """Its name."""
    ne: float
    """NE over that of unbroken rows."""
    ratio: float
    """Predicted over true clicks."""

    @property
    def size(self) -> float:
        """1 where the rules begin to see it."""
        return max((self.ne - 1) / (LEAST_NE - 1), abs(np.log(self.ratio)) / np.log(LEAST_RATIO))


def worst(good: Path, broken: Broken) -> Harm:
    """The legal change of one field that hurts most. Raises UsageError where none hurts enough to be seen."""
    bundle = bundles.load(good, engine="twin")
    table = pq.read_table(good / "reference.parquet")
    truth = table["pctr"].to_numpy().astype(np.float64)
    before = _entropy(truth, truth)
    harms = []
    for name, field in bundle.contract.inputs.items():
        column = _changed(table[name], broken, field)
        if column is None:
            continue
        rows = table.set_column(table.column_names.index(name), name, column).select(
            list(bundle.contract.inputs)
        )
        pctr = bundle.predict(tensors.from_arrow(rows.combine_chunks(), bundle.contract))["pctr"].astype(
            np.float64
        )
        harms.append(Harm(name, _entropy(truth, pctr) / before, float(pctr.mean() / truth.mean())))
    found = max(harms, key=lambda harm: harm.size, default=None)
    if found is None or found.size < 1:
        raise UsageError(
            f"{good}: no field of the contract {bundle.name} that can be {broken} (legally, so that the endpoint takes it) moves NE by 5 % or "
            "calibration by 10 %: the drill would show nothing. Drill with another bundle."
        )
    return found


def change(field: str, broken: Broken) -> Callable[[Row], Row]:
    """What is done to a row before it is sent."""
    if broken is Broken.NULLED:
        return lambda row: {name: value for name, value in row.items() if name != field}
    if broken is Broken.RENAMED:
        return lambda row: row | ({field: RENAMED + row[field]} if field in row else {})
    return lambda row: row | ({field: TIMES * row[field]} if field in row else {})


def _changed(
    column: pa.ChunkedArray, broken: Broken, field: ContractField
) -> pa.ChunkedArray | pa.Array | None:
    """The column as it would come; None where the endpoint would refuse it, which is another story with another end."""
    if broken is Broken.NULLED:
        return None if field.required else pa.nulls(len(column), column.type)
    if broken is Broken.RENAMED:
        if field.dtype is not Dtype.STRING or field.allowed is not None:
            return None
        return pc.binary_join_element_wise(RENAMED, column, "")
    bounded = field.range is not None and field.range.max is not None
    if field.dtype is not Dtype.FLOAT32 or bounded:
        return None
    return pc.multiply(column, TIMES).cast(pa.float32())


def _entropy(truth: np.ndarray, pctr: np.ndarray) -> float:
    """Expected NE of `pctr` where clicks come with probability `truth`."""
    q = np.clip(pctr, 1e-7, 1 - 1e-7)
    base = truth.mean()
    loss = -(truth * np.log(q) + (1 - truth) * np.log1p(-q)).mean()
    return float(loss / -(base * np.log(base) + (1 - base) * np.log1p(-base)))


__all__ = ["Broken", "Harm", "change", "worst"]
