"""A bundle on a prepared dataset: predictions of a split, and what they are worth."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from clickmill.bundle.export import PCTR
from clickmill.bundle.judged_rows import labels, numbers, weights
from clickmill.bundle.novelty import novelty
from clickmill.contract import Compositional, ContractField, Dtype, Hash, Role, Vocabulary
from clickmill.errors import DataError
from clickmill.evaluation import Evaluation, evaluate
from clickmill.features import tensors
from clickmill.progress import SILENT, Progress

if TYPE_CHECKING:
    from clickmill.bundle.load import Bundle
    from clickmill.data import PreparedDataset

BATCH = 8192
MOST_VALUES = 20
"""A field with at most this many values in the split is sliced by; more values leave too few clicks each."""


def score(
    bundle: Bundle, dataset: PreparedDataset, split: str, *, batch: int = BATCH, progress: Progress = SILENT
) -> np.ndarray:
    """pctr (n,) float32 of all rows of a split, in its order. Streams: only `batch` rows are in memory.

    Raises SchemaMismatch when the dataset lacks a field the bundle reads.
    """
    parts = [np.empty(0, np.float32)]
    names = list(bundle.contract.inputs)
    progress.start(f"score {split}", dataset.meta.splits[split].rows, "rows")
    for table in dataset.scan(split, columns=names, batch_rows=batch):
        parts.append(bundle.predict(tensors.from_arrow(table, bundle.contract))[PCTR])
        progress.advance(len(table))
    progress.finish()
    return np.concatenate(parts)


def evaluate_bundle(
    bundle: Bundle,
    dataset: PreparedDataset,
    split: str = "test",
    *,
    pctr: np.ndarray | None = None,
    seed: int = 0,
    resamples: int = 200,
    progress: Progress = SILENT,
) -> Evaluation:
    """Judge a bundle on a split: slices, GAUC by user and request, weights and the truth where the contract names them.

    `pctr` (n,) float32 saves scoring again. Raises UndefinedMetric when the split has one class only.
    """
    if pctr is None:
        pctr = score(bundle, dataset, split, progress=progress)
    return evaluate_predictions(pctr, dataset, split, seed=seed, resamples=resamples)


def evaluate_predictions(
    pctr: np.ndarray, dataset: PreparedDataset, split: str, *, seed: int = 0, resamples: int = 200
) -> Evaluation:
    """Judge predictions (n,) for the rows of a split, cut and grouped as the contract says."""
    return evaluate(
        labels(dataset, split),
        np.asarray(pctr, np.float64),
        groups=groups(dataset, split),
        slices=slices(dataset, split),
        truth=truths(dataset, split),
        weight=weights(dataset, split),
        seed=seed,
        resamples=resamples,
    )


def truths(dataset: PreparedDataset, split: str) -> np.ndarray | None:
    """True click probabilities (n,) float64 of a split; None where the contract names none or no truth log was given.

    Raises DataError when only some rows have one: a ceiling over part of the rows could not be compared with anything.
    """
    name = dataset.contract.of_role(Role.TRUTH)
    if name is None:
        return None
    found = numbers(dataset, split, name, fill=float("nan"))
    missing = int(np.isnan(found).sum())
    if missing == len(found):
        return None
    if missing:
        raise DataError(
            f"split {split}: {missing:,} of {len(found):,} rows have no `{name}`; give the whole truth log (--truth) or none"
        )
    return found


def slices(dataset: PreparedDataset, split: str) -> dict[str, np.ndarray]:
    """Values (n,) of every categorical input with 2 to 20 values in the split, by name; the position included. And, for cold start,
    which users and ads the train split knew (`novelty`)."""
    found = {}
    for name, field in dataset.contract.inputs.items():
        if not _is_categorical(field):
            continue
        column = dataset.columns(split, [name])[name]
        if 2 <= pc.count_distinct(column, mode="all").as_py() <= MOST_VALUES:
            found[name] = _ids(column)
    return found | novelty(dataset, split, least_values=MOST_VALUES)


def groups(dataset: PreparedDataset, split: str) -> dict[str, np.ndarray]:
    """Ids (n,) float64 to compute GAUC within, NaN where there is none: `request` by the contract's request id, `user` by the user field of most values.

    A field of at most 20 values is a segment, not a user; with one impression per group no group has both classes.
    """
    found = {}
    request = dataset.contract.of_role(Role.REQUEST_ID)
    if request is not None:
        found["request"] = _codes(dataset.columns(split, [request])[request])[0]
    users = {
        name: _codes(dataset.columns(split, [name])[name])
        for name, field in dataset.contract.inputs.items()
        if field.role is Role.USER and _is_categorical(field)
    }
    if users:
        codes, values = max(users.values(), key=lambda user: len(user[1]))
        if len(values) > MOST_VALUES:
            found["user"] = codes
    return {kind: ids for kind, ids in found.items() if _repeats(ids)}


def _repeats(codes: np.ndarray) -> bool:
    known = codes[~np.isnan(codes)].astype(np.int64)
    return len(known) > 0 and bool(np.bincount(known).max() > 1)


def _is_categorical(field: ContractField) -> bool:
    if field.role is Role.POSITION:
        return True
    return isinstance(field.encoding, Vocabulary | Hash | Compositional) and field.dtype in (
        Dtype.STRING,
        Dtype.INT64,
        Dtype.BOOL,
    )


def _ids(column: pa.ChunkedArray) -> np.ndarray:
    """Values as text (n,) object, None where missing."""
    codes, values = _codes(column)
    return np.array([*values, None], dtype=object)[np.where(np.isnan(codes), -1, codes).astype(np.int64)]


def _codes(column: pa.ChunkedArray) -> tuple[np.ndarray, list[str]]:
    """Number of each row's value (n,) float64, NaN where missing, and the values as text."""
    dictionary = (
        column.unify_dictionaries() if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    )
    whole = pa.concat_arrays(dictionary.unify_dictionaries().chunks)
    return whole.indices.cast(pa.float64()).to_numpy(zero_copy_only=False), [
        str(v) for v in whole.dictionary.to_pylist()
    ]
