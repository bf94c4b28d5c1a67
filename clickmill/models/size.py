"""How large a model is, known before any of its memory is taken: rows, parameters, bytes in training and in the export.

Embedding tables are counted by arithmetic. The rest, which does not depend on how many rows a field has, is counted on the model itself,
built over a space of the same fields with as few rows as they can have: no second description of a model could drift from the first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from clickmill.contract import Compositional, ContractField, Cross, FeatureContract, Hash, ListOf, Vocabulary
from clickmill.features import FeatureSpace
from clickmill.models.config import ModelConfig
from clickmill.models.registry import build, configure

FLOAT = 4
"""Bytes of a float32; every weight and every optimizer's number is one."""
MOST_ROWS = 2**31 - 1
"""Rows of the fused table are numbered by int32."""
PER_WEIGHT = {"adagrad": 1, "adam": 2, "table_adam": 2, "ftrl": 2}
"""Numbers that the trainer's optimizers keep per weight of a table (training.row_optimizers) ..."""
PER_ROW = {"adagrad": 0, "adam": 1, "table_adam": 0, "ftrl": 0}
"""... and per row. Other weights are Adam's, two numbers each."""
COUNTS_PER_ROW = 1
"""Numbers per row, however many tables: how often the train split names it, by which `l2` is spread (training.distinct.times_named)."""


@dataclass(frozen=True)
class FieldRows:
    """Rows of the fused table that one field owns, or half of a compositional field."""

    field: str
    kind: str
    rows: int
    parameters: int
    """Weights in all tables of the model: rows times the sum of their widths."""


@dataclass(frozen=True)
class SizeEstimate:
    """Sizes of a model over a space; bytes are those of the arrays, without what TensorFlow and Python take for themselves."""

    model: str
    fields: tuple[FieldRows, ...]
    """Owners of rows in the order of the table. Row 0, the padding, belongs to none."""
    widths: tuple[int, ...]
    """Width of each table the model has over the rows: FM and Wide & Deep have a vector and a single weight per row, LR the weight."""
    table_rows: int
    """Rows of each table, padding included."""
    dense_parameters: int
    """Trained weights outside the tables."""
    other_parameters: int
    """Statistics that are kept, not trained by gradient (Dice's means and variances)."""
    vocabulary_bytes: int
    """Vocabulary files that go along with the export; 0 where no data has been seen yet."""
    embedding_optimizer: str
    """What moves tables of vectors: adagrad or adam."""
    linear_optimizer: str
    """What moves the linear part's table, of width 1: adagrad, adam or ftrl."""

    @property
    def table_parameters(self) -> int:
        """Weights in the embedding tables."""
        return self.table_rows * sum(self.widths)

    @property
    def parameters(self) -> int:
        """All weights."""
        return self.table_parameters + self.dense_parameters + self.other_parameters

    @property
    def weight_bytes(self) -> int:
        """The weights in float32."""
        return FLOAT * self.parameters

    @property
    def optimizer_bytes(self) -> int:
        """State of the optimizers: per weight of a table, per row, and two numbers of Adam's per other trained weight."""
        kinds = [self.linear_optimizer if width == 1 else self.embedding_optimizer for width in self.widths]
        per_row = sum(
            PER_WEIGHT[kind] * w + PER_ROW[kind] for kind, w in zip(kinds, self.widths, strict=True)
        )
        return FLOAT * (per_row * self.table_rows + PER_WEIGHT["adam"] * self.dense_parameters)

    @property
    def checkpoint_bytes(self) -> int:
        """What a checkpoint writes: weights and the optimizers' state."""
        return self.weight_bytes + self.optimizer_bytes

    @property
    def training_bytes(self) -> int:
        """What a run holds in memory: weights, the optimizers' state, and the count of each row's occurrences in the train split. Batches
        come on top."""
        return self.checkpoint_bytes + (FLOAT * COUNTS_PER_ROW * self.table_rows if self.widths else 0)

    @property
    def export_bytes(self) -> int:
        """What the exported model holds, on disk and in the endpoint's memory: weights and vocabularies, without the graph."""
        return self.weight_bytes + self.vocabulary_bytes

    @property
    def message(self) -> str:
        """The size in one line."""
        widths = " + ".join(map(str, self.widths)) or "0"
        return (
            f"{self.model}: {self.table_rows:,} rows of width {widths}, {self.parameters:,} parameters; "
            f"{in_bytes(self.training_bytes)} in training, {in_bytes(self.export_bytes)} exported"
        )


def estimate(
    space: FeatureSpace,
    model: str,
    config: ModelConfig | dict[str, Any] | None = None,
    *,
    embedding_optimizer: str = "adagrad",
    linear_optimizer: str = "adagrad",
) -> SizeEstimate:
    """Size of a model by name over a space: one learned from data, or `features.bound.largest_space(contract)` for an upper bound.

    The optimizers are TrainingConfig's settings of those names. Takes the memory of the model's dense part only. Raises UsageError
    for an unknown model or setting.
    """
    from clickmill.models.embedding import FusedEmbedding

    built = build(model, _smallest(space), configure(model, config))
    tables = [layer for layer in built.layers if isinstance(layer, FusedEmbedding)]
    owned = {id(layer.table) for layer in tables}
    widths = tuple(layer.width for layer in tables)
    return SizeEstimate(
        model=model,
        fields=tuple(
            FieldRows(label, kind, rows, rows * sum(widths)) for label, kind, rows in owned_rows(space)
        ),
        widths=widths,
        table_rows=space.table_rows,
        dense_parameters=sum(_count(v) for v in built.trainable_weights if id(v) not in owned),
        other_parameters=sum(_count(v) for v in built.non_trainable_weights),
        vocabulary_bytes=sum(map(_text_bytes, space.vocabularies.values())),
        embedding_optimizer=embedding_optimizer,
        linear_optimizer=linear_optimizer,
    )


def owned_rows(space: FeatureSpace) -> list[tuple[str, str, int]]:
    """Label, kind of encoding and rows of everything that owns rows of the fused table, in the order of the table."""
    found = [
        (slot.offset, slot.label, _kind(space, slot.name), slot.rows)
        for slot in space.slots
        if slot.rows_of == slot.name
    ]
    found += [
        (slot.offset, slot.name, _kind(space, slot.name), slot.rows)
        for slot in space.lists
        if slot.rows_of == slot.name
    ]
    return [(label, kind, rows) for _, label, kind, rows in sorted(found)]


def in_bytes(count: int) -> str:
    """A number of bytes as people read it, in binary units to three digits that count.

    >>> in_bytes(999), in_bytes(2 * 1024**3), in_bytes(1_500_000)
    ('999 B', '2 GiB', '1.43 MiB')
    """
    value, unit = float(count), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if value < 1024:
            break
        value, unit = value / 1024, larger
    return f"{value:.0f} {unit}" if value >= 100 else f"{value:.3g} {unit}"


def _smallest(space: FeatureSpace) -> FeatureSpace:
    """The same fields with as few rows as they can have."""
    fields = {name: _few_rows(f) for name, f in space.contract.fields.items()}
    contract: FeatureContract = space.contract.model_copy(update={"fields": fields})
    none = pa.nulls(0)
    return FeatureSpace(
        contract, dict.fromkeys(space.vocabularies, none), space.edges, space.moments, space.positions
    )


def _few_rows(f: ContractField) -> ContractField:
    encoding = f.encoding
    if isinstance(encoding, Hash | Cross):
        encoding = encoding.model_copy(update={"buckets": 2})
    elif isinstance(encoding, Compositional):
        encoding = encoding.model_copy(update={"buckets": 4})
    elif isinstance(encoding, Vocabulary):
        encoding = encoding.model_copy(update={"unseen": None})
    elif isinstance(encoding, ListOf):
        few = {"buckets": 2} if isinstance(encoding.items, Hash) else {"unseen": None}
        items = encoding.items.model_copy(update=few)
        encoding = encoding.model_copy(update={"items": items})
    return f.model_copy(update={"encoding": encoding})


def _kind(space: FeatureSpace, name: str) -> str:
    encoding = space.contract.fields[name].encoding
    assert encoding is not None
    return f"list of {encoding.items.kind}" if isinstance(encoding, ListOf) else encoding.kind


def _count(variable: Any) -> int:
    count = 1
    for length in variable.shape:
        count *= int(length)
    return count


def _text_bytes(values: pa.Array) -> int:
    """Bytes of a vocabulary file, a value and a line break each; 0 for values that are not known (`largest_space`)."""
    if pa.types.is_null(values.type):
        return 0
    lengths = pc.sum(pc.binary_length(values.cast(pa.string()))).as_py() or 0
    empty = pc.sum(pc.equal(values.cast(pa.string()), "")).as_py() or 0  # written as one character
    return int(lengths + empty + len(values))
