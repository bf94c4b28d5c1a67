"""The one encoder: raw columns to rows of the fused table, as a TensorFlow graph used in training and exported for serving."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from clickmill.contract import (
    Bucketize,
    Compositional,
    ContractField,
    Cross,
    Dtype,
    Hash,
    Hour,
    ListOf,
    Log1p,
    Role,
    Standardize,
    Vocabulary,
    Weekday,
)
from clickmill.features.sides import numeric_sides, shared_fields, slot_sides
from clickmill.features.space import EMPTY_LINE, FARTHEST, FeatureSpace, ListSlot, Slot, vocabulary_text
from clickmill.features.tensors import PAD_INT64, signature

Raw = dict[str, tf.Tensor]
Lookup = Callable[[tf.Tensor], tf.Tensor]


class Encoder(tf.Module):
    """`encoder(raw)` maps {field: (b,) or (b, length)} over `contract.inputs` to the inputs of every model:

        slots        int32 (b, n_slots)     rows of the fused table, in the order of `space.slots`
        numerics     float32 (b, n)         standardized, in the order of `space.numerics`
        list/<name>  int32 (b, max_length)  rows of the last `max_length` items, then 0s
        position     int32 (b,)             0-based row of the position bias: min(position, space.positions) - 1, or
                                            space.positions for a slot not known, where the contract asks for the average then

    A key whose kind the contract lacks is absent. Vocabularies are lookup tables over asset files, which an exported SavedModel
    carries along. `encode` is the same as one compiled function of fixed signature.
    """

    def __init__(self, space: FeatureSpace) -> None:
        super().__init__(name="encoder")
        self._space = space
        # The asset files must outlive this object's export; the folder goes when the encoder does.
        self._folder = tempfile.TemporaryDirectory(prefix="clickmill-vocabularies-")
        self._tables: dict[str, tf.lookup.StaticHashTable] = {}
        for name, file in space.vocabulary_files().items():
            if len(space.vocabularies[name]):
                self._tables[name] = self._table(name, Path(self._folder.name) / file)
        self._has_empty = {
            name: space.contract.fields[name].dtype is Dtype.STRING
            and "" in space.vocabularies[name].to_pylist()
            for name in space.vocabularies
        }
        self.encode = tf.function(self.__call__, input_signature=[signature(space.contract)])

    @property
    def space(self) -> FeatureSpace:
        """The feature space it encodes into."""
        return self._space

    def _table(self, name: str, path: Path) -> tf.lookup.StaticHashTable:
        path.write_text(vocabulary_text(self._space.vocabularies[name]), encoding="utf-8", newline="")
        line = tf.lookup.TextFileIndex.LINE_NUMBER
        if self._space.contract.fields[name].dtype in (Dtype.INT64, Dtype.INT64_LIST):
            source = tf.lookup.TextFileInitializer(str(path), tf.int64, 0, tf.int64, line, delimiter="\t")
        else:
            whole = tf.lookup.TextFileIndex.WHOLE_LINE
            source = tf.lookup.TextFileInitializer(str(path), tf.string, whole, tf.int64, line)
        return tf.lookup.StaticHashTable(source, default_value=-1)

    def __call__(self, raw: Raw) -> dict[str, tf.Tensor]:
        """Raw tensors over `contract.inputs` to model inputs; nulls are already filled (clickmill.features.tensors)."""
        space, fields = self._space, self._space.contract.features
        encoded = self._lists_and_position(raw)
        if space.slots:
            rows = [self._slot(slot, raw) + slot.offset for slot in space.slots]
            encoded["slots"] = tf.stack(rows, axis=1)
        if space.numerics:
            values = [self._numeric(name, fields[name], raw[name]) for name in space.numerics]
            encoded["numerics"] = tf.stack(values, axis=1)
        return encoded

    def request(self, raw: Raw) -> dict[str, tf.Tensor]:
        """One request with n candidates: raw as `sides.request_signature` says, shared fields in one row. The same rows as
        `__call__` gives for the shared row repeated, without looking it up n times (`models.request_form` takes them):

            slots/shared     int32 (1, k)     slots/candidate     int32 (n, m)      places as `sides.slot_sides` says
            numerics/shared  float32 (1, k)   numerics/candidate  float32 (n, m)    places as `sides.numeric_sides` says
            list/<name>      int32 (1, L) or (n, L)
            position         int32 (n,)

        A key without a field on its side is absent.
        """
        space, fields = self._space, self._space.contract.features
        encoded = self._lists_and_position(raw)
        full = self._parents_repeated(raw)
        for side, slot_places, numeric_places in zip(
            ("shared", "candidate"), slot_sides(space), numeric_sides(space), strict=True
        ):
            source = raw if side == "shared" else full
            rows = [self._slot(space.slots[i], source) + space.slots[i].offset for i in slot_places]
            values = [
                self._numeric(name, fields[name], raw[name])
                for name in (space.numerics[i] for i in numeric_places)
            ]
            if rows:
                encoded[f"slots/{side}"] = tf.stack(rows, axis=1)
            if values:
                encoded[f"numerics/{side}"] = tf.stack(values, axis=1)
        return encoded

    def _parents_repeated(self, raw: Raw) -> Raw:
        """Raw with the shared parents of candidates' crosses in as many rows as there are candidates."""
        contract = self._space.contract
        shared = shared_fields(contract)
        candidates = [name for name in contract.inputs if name not in shared]
        mixed = {
            parent
            for name, f in contract.features.items()
            if isinstance(f.encoding, Cross) and name not in shared
            for parent in f.encoding.of
            if parent in shared
        }
        if not mixed:
            return raw
        rows = tf.shape(raw[candidates[0]])[0]
        return {**raw, **{name: tf.repeat(raw[name], rows, axis=0) for name in mixed}}

    def _lists_and_position(self, raw: Raw) -> dict[str, tf.Tensor]:
        space, fields = self._space, self._space.contract.features
        encoded = {
            f"list/{slot.name}": self._list(slot, fields[slot.name], raw[slot.name]) for slot in space.lists
        }
        position = space.contract.of_role(Role.POSITION)
        if position:
            row = tf.clip_by_value(raw[position], 1, space.positions) - 1
            if space.averages_position:
                row = tf.where(raw[position] < 1, tf.constant(space.positions, tf.int64), row)
            encoded["position"] = tf.cast(row, tf.int32)
        return encoded

    def _slot(self, slot: Slot, raw: Raw) -> tf.Tensor:
        """Local row (b,) int32 of a categorical field, or of half of a compositional one."""
        name = slot.name
        f = self._space.contract.fields[name]
        encoding = f.encoding
        if isinstance(encoding, Vocabulary):
            # Whoever shares a vocabulary brings none of the owner's attributes along.
            attributes = () if encoding.shares or encoding.unseen is None else encoding.unseen.like
            return self._known(encoding.shares or name, raw[name], [raw[a] for a in attributes])
        if isinstance(encoding, Hash):
            return _bucket(_text(raw[name]), encoding.buckets)
        if isinstance(encoding, Compositional):
            # int64 until it is divided: the id space may be larger than the table that holds it
            hashed = tf.strings.to_hash_bucket_fast(_text(raw[name]), encoding.buckets)
            half = tf.math.floordiv if slot.part == "quotient" else tf.math.floormod
            return tf.cast(half(hashed, encoding.remainders), tf.int32)
        if isinstance(encoding, Cross):
            return _bucket(_joined([_text(raw[parent]) for parent in encoding.of]), encoding.buckets)
        if isinstance(encoding, Bucketize):
            return _interval(raw[name], self._space.edges[name])
        if isinstance(encoding, Hour):
            local = raw[encoding.of] + round(encoding.utc_offset_hours * 3600)
            return tf.cast(tf.math.floormod(tf.math.floordiv(local, 3600), 24), tf.int32)
        assert isinstance(encoding, Weekday)
        local = raw[encoding.of] + round(encoding.utc_offset_hours * 3600)
        # 1970-01-01 was a Thursday, which is 3 when Monday is 0.
        return tf.cast(tf.math.floormod(tf.math.floordiv(local, 86400) + 3, 7), tf.int32)

    def _known(self, owner: str, values: tf.Tensor, attributes: Sequence[tf.Tensor] = ()) -> tf.Tensor:
        """Local rows of a vocabulary, same shape as `values`; those of `unseen` for values not in it."""
        encoding = self._space.vocabulary(owner)
        table = self._tables.get(owner)
        if values.dtype == tf.bool:
            values = _text(values)
        other = _unseen(encoding, values, attributes)
        if table is None:
            return other
        if self._has_empty[owner]:
            values = tf.where(tf.equal(values, ""), EMPTY_LINE, values)
        place = tf.cast(table.lookup(values), tf.int32)
        return tf.where(place < 0, other, place + encoding.unseen_rows)

    def _list(self, slot: ListSlot, f: ContractField, values: tf.Tensor) -> tf.Tensor:
        assert isinstance(f.encoding, ListOf)
        items = f.encoding.items
        if isinstance(items, Vocabulary):
            local = self._known(items.shares or slot.name, values)
        else:
            local = _bucket(_text(values), items.buckets)
        padding = tf.equal(values, "") if values.dtype == tf.string else tf.equal(values, PAD_INT64)
        return _last(tf.where(padding, 0, local + slot.offset), slot.max_length)

    def _numeric(self, name: str, f: ContractField, values: tf.Tensor) -> tf.Tensor:
        x = tf.cast(values, tf.float64)
        if isinstance(f.encoding, Log1p):
            x = tf.sign(x) * tf.math.log1p(tf.abs(x))
        else:
            assert isinstance(f.encoding, Standardize)
        moments = self._space.moments[name]
        z = (x - moments.mean) / moments.deviation
        return tf.cast(tf.clip_by_value(z, -FARTHEST, FARTHEST), tf.float32)


def _unseen(encoding: Vocabulary, values: tf.Tensor, attributes: Sequence[tf.Tensor]) -> tf.Tensor:
    """Local rows for values without one of their own: by the hash of the value, by that of its attributes, or all in one."""
    unseen = encoding.unseen
    if unseen is None or (unseen.like and not attributes):
        return tf.zeros_like(values, tf.int32)
    if unseen.like:
        return 1 + _bucket(_joined([_text(attribute) for attribute in attributes]), unseen.buckets)
    return _bucket(_text(values), unseen.buckets)


def _text(values: tf.Tensor) -> tf.Tensor:
    """Strings as they are, integers in decimal, booleans as true and false, floats by their bits (exact, no rounding)."""
    if values.dtype == tf.string:
        return values
    if values.dtype == tf.float32:
        return tf.strings.as_string(tf.bitcast(_flushed(values), tf.int32))
    return tf.strings.as_string(values)


def _flushed(values: tf.Tensor) -> tf.Tensor:
    """float32 with -0.0 and subnormal numbers as 0.0. Some of TensorFlow's threads see subnormals as zero and some do not; and adding 0.0
    would not do for -0.0, since a graph leaves that out."""
    return tf.where(tf.abs(values) < np.finfo(np.float32).tiny, 0.0, values)


def _joined(parts: list[tf.Tensor]) -> tf.Tensor:
    """One string per row; each part is led by its length, so ("ab", "c") and ("a", "bc") differ whatever they hold."""
    pieces: list[tf.Tensor | str] = []
    for part in parts:
        pieces += [tf.strings.as_string(tf.strings.length(part)), ":", part]
    return tf.strings.join(pieces)


def _bucket(text: tf.Tensor, buckets: int) -> tf.Tensor:
    return tf.cast(tf.strings.to_hash_bucket_fast(text, buckets), tf.int32)


def _interval(values: tf.Tensor, edges: tuple[float, ...]) -> tf.Tensor:
    """Index of the interval, each closed on the left. A float32 field meets its edges in float32: 0.7 falls on edge 0.7."""
    dtype = tf.float32 if values.dtype == tf.float32 else tf.float64
    if not edges:
        return tf.zeros_like(values, tf.int32)
    values = _flushed(values) if dtype is tf.float32 else tf.cast(values, dtype)
    return tf.searchsorted(tf.constant(edges, dtype), values, side="right")


def _last(rows: tf.Tensor, length: int) -> tf.Tensor:
    """The last `length` items of right-padded rows (b, any) as (b, length), padded with 0.

    Callers that follow clickmill.features.tensors send `length` columns already; a client of the SavedModel may send more or fewer.
    """
    rows = tf.pad(rows, [[0, 0], [0, length]])
    # Length up to the last item, not the number of items: a hole stays where it is.
    steps = tf.range(1, tf.shape(rows)[1] + 1)
    filled = tf.reduce_max(tf.where(rows > 0, steps[None, :], 0), axis=1)
    first = tf.maximum(filled - length, 0)
    return tf.gather(rows, first[:, None] + tf.range(length)[None, :], batch_dims=1)
