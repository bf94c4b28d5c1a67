"""A split encoded once into memory-mapped arrays, so that no string is touched while training.

Folder of a split: one .npy per model input plus `label.npy` and, where the contract has one, `weight.npy`, and `known.npy` where labels are weighed by their age, all with a row per
impression in the split's order; `encoded.json`, written last, says what they were made from.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from clickmill.contract import FeatureContract, Role
from clickmill.errors import TrainingError, UnreadableData
from clickmill.features import tensors
from clickmill.progress import SILENT, Progress

if TYPE_CHECKING:
    from clickmill.data import PreparedDataset
    from clickmill.features import Encoder

Batch = dict[str, np.ndarray]
ROW_KEYS = ("label", "weight", "known")
"""What a split holds besides the model's inputs."""
BLOCK_ROWS = 2048
"""Rows read together when a split is too large to shuffle as a whole: large enough for sequential disk reads."""


@dataclass(frozen=True)
class EncodedSplit:
    """Model inputs, labels and weights of a split: arrays of equal length."""

    arrays: Mapping[str, np.ndarray]
    """By input key, `label` float32 (n,), and maybe `weight` float32 (n,) and `known` float32 (n,): which share of the clicks of such
    rows their labels know."""

    @property
    def rows(self) -> int:
        return len(self.arrays["label"])

    @property
    def inputs(self) -> list[str]:
        """Keys of the model inputs."""
        return [key for key in self.arrays if key not in ROW_KEYS]

    def batches(self, size: int) -> Iterator[Batch]:
        """All rows in order."""
        for start in range(0, self.rows, size):
            yield {key: np.asarray(array[start : start + size]) for key, array in self.arrays.items()}

    def shuffled(self, size: int, *, seed: int, epoch: int, memory: int, first: int = 0) -> Iterator[Batch]:
        """All rows once in random order, from batch `first` on; the order depends on seed, epoch and sizes only.

        A split of at most `memory` bytes is permuted as a whole. A larger one is read in windows of that size, each made of blocks
        of consecutive rows drawn from everywhere, and permuted within: neighbours in time seldom share a batch. Batches
        are full except the last; a window holds whole batches.
        """
        row_bytes = sum(array.nbytes for array in self.arrays.values()) // max(self.rows, 1) or 1
        blocks_per_window = max(1, memory // (row_bytes * BLOCK_ROWS))
        blocks = np.arange(-(-self.rows // BLOCK_ROWS))
        np.random.default_rng([seed, epoch]).shuffle(blocks)
        number, left = 0, np.empty(0, np.int64)
        for window, start in enumerate(range(0, len(blocks), blocks_per_window)):
            chosen = np.sort(blocks[start : start + blocks_per_window])
            rows = np.concatenate(
                [np.arange(b * BLOCK_ROWS, min((b + 1) * BLOCK_ROWS, self.rows)) for b in chosen]
            )
            np.random.default_rng([seed, epoch, window]).shuffle(rows)
            rows = np.concatenate([left, rows])
            last = start + blocks_per_window >= len(blocks)
            whole = len(rows) if last else len(rows) // size * size
            rows, left = rows[:whole], rows[whole:]
            skipped = min(max(first - number, 0) * size, len(rows))
            number += -(-skipped // size)
            if skipped < len(rows):
                yield from self._gathered(rows[skipped:], size)
                number += -(-(len(rows) - skipped) // size)

    def _gathered(self, rows: np.ndarray, size: int) -> Iterator[Batch]:
        # One sorted read of the window, then batches from memory.
        order = np.argsort(rows, kind="stable")
        place = np.empty_like(order)
        place[order] = np.arange(len(order))
        window = {key: array[rows[order]] for key, array in self.arrays.items()}
        for start in range(0, len(rows), size):
            batch = place[start : start + size]
            yield {key: array[batch] for key, array in window.items()}


def encode(
    dataset: PreparedDataset, split: str, encoder: Encoder, folder: Path, *, progress: Progress = SILENT
) -> EncodedSplit:
    """Encode a split into `folder`, or open it when it was encoded from the same rows by the same space already.

    Streams block by block; memory does not grow with the split. Raises UnreadableData for a split without rows.
    """
    files = dataset.parts(split)
    rows = sum(pq.read_metadata(file).num_rows for file in files)
    if rows == 0:
        raise UnreadableData(f"{dataset.path(split)}: the {split} split has no rows; prepare more data")
    made_from = {
        "space": encoder.space.digest,
        "files": [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in files],
    }
    note = folder / "encoded.json"
    if not note.exists() or json.loads(note.read_text()) != made_from:
        note.unlink(missing_ok=True)
        folder.mkdir(parents=True, exist_ok=True)
        _write(dataset, split, encoder, folder, rows, progress)
        note.write_text(json.dumps(made_from))
    names = json.loads((folder / "arrays.json").read_text())
    return EncodedSplit({key: np.load(folder / file, mmap_mode="r") for key, file in names.items()})


def encode_blocks(tables: Iterator[pa.Table], encoder: Encoder) -> Iterator[Batch]:
    """Tables with the contract's columns to model inputs, block by block."""
    for table in tables:
        if table.num_rows:
            encoded = encoder.encode(tensors.from_arrow(table, encoder.space.contract))
            yield {key: value.numpy() for key, value in encoded.items()}


def labels_and_weights(table: pa.Table, contract: FeatureContract, label: str) -> Batch:
    """`label` float32 (n,) of 0 and 1 and, where the contract has the role, `weight` float32 (n,), nulls 1."""
    found: Batch = {}
    weight = contract.of_role(Role.WEIGHT)
    column = table.column(label)
    if column.null_count:
        raise TrainingError(
            f"field `{label}`: {column.null_count} rows have no label; prepare the dataset again"
        )
    found["label"] = column.cast(pa.int64()).to_numpy().astype(np.float32)
    if weight:
        found["weight"] = table.column(weight).cast(pa.float32()).fill_null(1.0).to_numpy()
    return found


def _known(table: pa.Table, dataset: PreparedDataset) -> Batch:
    ripeness = dataset.meta.ripeness
    if ripeness is None:
        return {}
    shown = table.column(str(dataset.contract.of_role(Role.EVENT_TIME)))
    microseconds = shown.cast(pa.timestamp("us", "UTC")).cast(pa.int64()).to_numpy()
    return {"known": ripeness.share_known(microseconds).astype(np.float32)}


def _write(
    dataset: PreparedDataset, split: str, encoder: Encoder, folder: Path, rows: int, progress: Progress
) -> None:
    arrays: dict[str, Any] = {}
    start = 0
    progress.start(f"encode {split}", rows, "rows")
    for table in dataset.scan(split):
        if table.num_rows == 0:
            continue
        block = {
            **next(encode_blocks(iter([table]), encoder)),
            **labels_and_weights(table, dataset.contract, dataset.label),
            **_known(table, dataset),
        }
        if not arrays:
            arrays = {
                key: np.lib.format.open_memmap(
                    folder / f"{i:02d}.npy", "w+", value.dtype, (rows, *value.shape[1:])
                )
                for i, (key, value) in enumerate(block.items())
            }
        for key, value in block.items():
            arrays[key][start : start + table.num_rows] = value
        start += table.num_rows
        progress.advance(table.num_rows)
    progress.finish()
    if start != rows:
        raise UnreadableData(
            f"{dataset.path(split)}: the scan gave {start} rows, the files hold {rows}; prepare it again"
        )
    for array in arrays.values():
        array.flush()
    names = {key: f"{i:02d}.npy" for i, key in enumerate(arrays)}
    (folder / "arrays.json").write_text(json.dumps(names))
