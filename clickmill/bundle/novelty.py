"""Which users and ads of a split the train split knew: slices for cold start.

    new      never in the train split
    rare     in it, but less often than the vocabulary's `min_count`: without a row of its own
    known    the rest

Counted in the dataset and not looked up in a model, so that champion and challenger are compared on the same rows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from clickmill.contract import Compositional, ContractField, Dtype, Hash, Role, Vocabulary

if TYPE_CHECKING:
    from clickmill.data import PreparedDataset

NEW, RARE, KNOWN = "new", "rare", "known"
SUFFIX = " in train"
"""What the names of these slice columns end with, after the field's."""
TRAIN = "train"


def novelty(dataset: PreparedDataset, split: str, *, least_values: int) -> dict[str, np.ndarray]:
    """`new`, `rare` or `known` (n,) object of each row of a split, by `<field> in train`, for the user and the ad.

    The user is the user field of most values in the split, the ad likewise; a field of at most `least_values` values is a segment, not an
    id. A field that the train split knows throughout is left out.
    """
    found = {}
    for role in (Role.USER, Role.AD):
        name = id_field(dataset, split, role, least_values=least_values)
        if name is None:
            continue
        labels = _labels(dataset, split, name)
        if (labels != KNOWN).any():
            found[name + SUFFIX] = labels
    return found


def id_field(dataset: PreparedDataset, split: str, role: Role, *, least_values: int = 0) -> str | None:
    """The field that says which user or ad it is: of the role's ids the one with the most values in the split, more than `least_values`."""
    counts = {
        name: pc.count_distinct(dataset.columns(split, [name])[name]).as_py()
        for name, field in dataset.contract.inputs.items()
        if field.role is role and _is_id(field)
    }
    name = max(counts, key=lambda name: counts[name], default=None)
    return None if name is None or counts[name] <= least_values else name


def _is_id(field: ContractField) -> bool:
    return isinstance(field.encoding, Vocabulary | Hash | Compositional) and field.dtype in (
        Dtype.STRING,
        Dtype.INT64,
    )


def _labels(dataset: PreparedDataset, split: str, name: str) -> np.ndarray:
    encoding = dataset.contract.fields[name].encoding
    wanted = encoding.min_count if isinstance(encoding, Vocabulary) else 1
    train = pc.value_counts(_plain(dataset, TRAIN, name))
    place = pc.index_in(_plain(dataset, split, name), value_set=train.field("values"))
    seen = np.append(train.field("counts").to_numpy(), 0)[pc.fill_null(place, -1).to_numpy()]
    return np.array([NEW, RARE, KNOWN], dtype=object)[np.where(seen == 0, 0, np.where(seen < wanted, 1, 2))]


def _plain(dataset: PreparedDataset, split: str, name: str) -> pa.ChunkedArray:
    """The column with its missing values filled, as training and requests see them."""
    column = dataset.columns(split, [name])[name]
    string = dataset.contract.fields[name].dtype is Dtype.STRING
    return pc.fill_null(
        column.cast(pa.string() if string else pa.int64()), dataset.contract.fields[name].fill
    )
