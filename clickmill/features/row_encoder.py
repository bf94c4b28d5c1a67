"""The encoder without TensorFlow: the same rows and numbers as `Encoder`, for the endpoint's ONNX twin.

The rules are those of `clickmill.features.encoder`, written a second time because TensorFlow takes ten times as long to be asked about one row
(and seconds to be imported). tests/clickmill/features/test_row_encoder.py holds the two equal over every encoding and hypothesis' requests,
and every bundle's golden rows do it again at export and at each load.

All texts of a request are hashed at once, all keys looked up at once, all hashed fields reduced at once: at one row it is the number
of numpy calls that costs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from clickmill.contract import (
    Bucketize,
    Compositional,
    Cross,
    Dtype,
    FeatureContract,
    Hash,
    Hour,
    ListOf,
    Log1p,
    Role,
    Vocabulary,
    Weekday,
)
from clickmill.features.fingerprint import fingerprint64, fingerprints
from clickmill.features.requests import PAD_INT64
from clickmill.features.row_index import RowIndex, mix64, salt
from clickmill.features.sides import numeric_sides, shared_fields, slot_sides
from clickmill.features.space import FARTHEST, FeatureSpace, ListSlot
from clickmill.features.texts import Texts

Raw = Mapping[str, Any]
"""Of each field an array, or `Texts` in place of an array of strings."""
Source = tuple[str, ...]
"""Fields whose text is hashed: one alone, or several joined."""


class RowEncoder:
    """`encoder(raw)` gives what `Encoder` gives for the same rows, and `encoder.request(raw)` what `Encoder.request` gives, as numpy arrays."""

    def __init__(self, space: FeatureSpace, index: RowIndex | None = None) -> None:
        """`index` over `space.vocabularies`, where it was made before; it is all that is used of them."""
        self._space = space
        self._index = RowIndex.over(space.vocabularies) if index is None else index
        self._shared = shared_fields(space.contract)
        lists = tuple(range(len(space.lists)))
        self._rows = _Plan(space, range(len(space.slots)), range(len(space.numerics)), lists)
        slots, numerics = slot_sides(space), numeric_sides(space)
        sides = [
            tuple(i for i in lists if (space.lists[i].name in self._shared) is shared)
            for shared in (True, False)
        ]
        self._sides = (
            ("shared", _Plan(space, slots.shared, numerics.shared, sides[0])),
            ("candidate", _Plan(space, slots.candidate, numerics.candidate, sides[1])),
        )
        self._candidate = next((name for name in space.contract.inputs if name not in self._shared), None)
        position = space.contract.of_role(Role.POSITION)
        self._position = position

    def __call__(self, raw: Raw) -> dict[str, np.ndarray]:
        """Raw arrays of n rows over `contract.inputs` (clickmill.features.tensors) to model inputs, as `Encoder` says."""
        rows = len(next(iter(raw.values())))
        slots, numerics, encoded = self._encoded(self._rows, raw, rows)
        if slots is not None:
            encoded["slots"] = slots
        if numerics is not None:
            encoded["numerics"] = numerics
        return self._with_position(raw, encoded)

    def request(self, raw: Raw) -> dict[str, np.ndarray]:
        """One request with n candidates, shared fields in one row, to the inputs `Encoder.request` says."""
        rows = 1 if self._candidate is None else len(raw[self._candidate])
        both: dict[str, np.ndarray] = {}
        for side, plan in self._sides:
            slots, numerics, encoded = self._encoded(plan, raw, 1 if side == "shared" else rows)
            both |= encoded
            if slots is not None:
                both[f"slots/{side}"] = slots
            if numerics is not None:
                both[f"numerics/{side}"] = numerics
        return self._with_position(raw, both)

    def _with_position(self, raw: Raw, encoded: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        if self._position:
            positions, given = self._space.positions, raw[self._position]
            row = np.minimum(np.maximum(given, 1), positions) - 1
            if self._space.averages_position:
                row = np.where(given < 1, positions, row)
            encoded["position"] = row.astype(np.int32)
        return encoded

    def _encoded(
        self, plan: _Plan, raw: Raw, rows: int
    ) -> tuple[np.ndarray | None, np.ndarray | None, dict[str, np.ndarray]]:
        """Slots (n, k), numerics (n, m) and lists of one plan; fields of one row stand for n where they are crossed with others."""
        prints = _fingerprints(plan.sources, raw, rows, self._space.contract)
        places = self._places(plan, raw, prints)
        slots = self._slots(plan, raw, rows, prints, places) if plan.width else None
        return slots, _numerics(plan, raw), self._lists(plan, raw, prints, places)

    def _places(
        self, plan: _Plan, raw: Raw, prints: Mapping[Source, np.ndarray]
    ) -> Mapping[tuple[str, str], np.ndarray]:
        """Place in its vocabulary, -1 where unknown, of every value of (field, owner of the vocabulary)."""
        if not plan.known:
            return {}
        keys = []
        for name, _, added, is_integer in plan.known:
            keys.append((mix64(raw[name].ravel()) if is_integer else prints[(name,)]) + added)
        whole = self._index.find(np.concatenate(keys))
        ends = np.cumsum([len(part) for part in keys])
        parts = np.split(whole, ends[:-1])
        return {(name, owner): part for (name, owner, _, _), part in zip(plan.known, parts, strict=True)}

    def _slots(
        self,
        plan: _Plan,
        raw: Raw,
        rows: int,
        prints: Mapping[Source, np.ndarray],
        places: Mapping[tuple[str, str], np.ndarray],
    ) -> np.ndarray:
        found = np.empty((plan.width, rows), np.int32)
        if plan.hashed:
            hashed = np.array([prints[source] for source in plan.hashed]) % plan.buckets
            if plan.divisors is not None:
                hashed = np.where(plan.is_quotient, hashed // plan.divisors, hashed % plan.divisors)
            found[plan.hashed_at] = hashed
        for at, name, owner, encoding in plan.vocabularies:
            found[at] = _local(encoding, places[name, owner], plan.unseen.get(at), prints)
        for at, name, edges in plan.intervals:
            values = raw[name]
            values = _flushed(values) if edges.dtype == np.float32 else values.astype(np.float64)
            found[at] = np.searchsorted(edges, values, side="right")
        for at, name, offset, unit, later, many in plan.clocks:
            found[at] = np.mod(np.floor_divide(raw[name] + offset, unit) + later, many)
        found += plan.offsets
        return np.ascontiguousarray(found.T)

    def _lists(
        self,
        plan: _Plan,
        raw: Raw,
        prints: Mapping[Source, np.ndarray],
        places: Mapping[tuple[str, str], np.ndarray],
    ) -> dict[str, np.ndarray]:
        encoded = {}
        for slot, owner, encoding, unseen in plan.lists:
            values = raw[slot.name]
            if isinstance(encoding, Hash):
                local = (prints[(slot.name,)] % np.uint64(encoding.buckets)).astype(np.int32)
            else:
                local = _local(encoding, places[slot.name, owner], unseen, prints)
            if isinstance(values, Texts):
                there = values.lengths.ravel() != 0
            else:
                there = values.ravel() != (PAD_INT64 if values.dtype == np.int64 else b"")
            rows = np.where(there, local + np.int32(slot.offset), np.int32(0)).reshape(values.shape)
            encoded[f"list/{slot.name}"] = _last(rows, slot.max_length)
        return encoded


@dataclass
class _Plan:
    """What is to be computed for some slots, numerics and lists of a space, grouped by the numpy calls that do it."""

    space: FeatureSpace
    slot_places: Iterable[int]
    numeric_places: Iterable[int]
    list_places: Iterable[int]
    sources: list[Source] = field(default_factory=list)
    """Texts to hash, each once."""
    known: list[tuple[str, str, np.uint64, bool]] = field(default_factory=list)
    """Field, owner of its vocabulary, salt, and whether the values are integers."""
    hashed: list[Source] = field(default_factory=list)
    vocabularies: list[tuple[int, str, str, Vocabulary]] = field(default_factory=list)
    unseen: dict[int, Source] = field(default_factory=dict)
    """By place of the slot: what tells unseen values apart."""
    intervals: list[tuple[int, str, np.ndarray]] = field(default_factory=list)
    clocks: list[tuple[int, str, int, int, int, int]] = field(default_factory=list)
    """Place, timestamp, seconds of local time, seconds of the unit, units added, units of the cycle."""
    lists: list[tuple[ListSlot, str, Hash | Vocabulary, Source | None]] = field(default_factory=list)
    divisors: np.ndarray | None = None
    """uint64 (hashed, 1), where any is compositional; the largest integer for the others, which leaves them as they are."""

    def __post_init__(self) -> None:
        space, fields = self.space, self.space.contract.fields
        slots = [space.slots[i] for i in self.slot_places]
        self.width = len(slots)
        self.offsets = np.array([[slot.offset] for slot in slots], np.int32).reshape(-1, 1)
        self._numbers = {name: number for number, name in enumerate(space.vocabularies)}
        hashed: list[tuple[int, int, int, bool]] = []  # place, buckets, divisor, whether quotient
        for at, slot in enumerate(slots):
            name, encoding = slot.name, fields[slot.name].encoding
            if isinstance(encoding, Vocabulary):
                owner = encoding.shares or name
                like = () if encoding.shares or encoding.unseen is None else encoding.unseen.like
                whole = space.vocabulary(owner)
                self.vocabularies.append((at, name, owner, whole))
                if source := self._apart(name, owner, like):
                    self.unseen[at] = source
            elif isinstance(encoding, Hash | Cross | Compositional):
                self.hashed.append(self._hash(encoding.of if isinstance(encoding, Cross) else (name,)))
                divisor = encoding.remainders if isinstance(encoding, Compositional) else _WHOLE
                hashed.append((at, encoding.buckets, divisor, slot.part == "quotient"))
            elif isinstance(encoding, Bucketize):
                kind = np.float32 if fields[name].dtype is Dtype.FLOAT32 else np.float64
                self.intervals.append((at, name, np.array(space.edges[name], kind)))
            else:
                assert isinstance(encoding, Hour | Weekday)
                offset = round(encoding.utc_offset_hours * 3600)
                # 1970-01-01 was a Thursday, which is 3 when Monday is 0
                unit = (3600, 0, 24) if isinstance(encoding, Hour) else (86400, 3, 7)
                self.clocks.append((at, encoding.of, offset, *unit))
        self.hashed_at = [at for at, *_ in hashed]
        self.buckets = np.array([[buckets] for _, buckets, _, _ in hashed], np.uint64)
        if any(divisor != _WHOLE for _, _, divisor, _ in hashed):
            self.divisors = np.array([[divisor] for _, _, divisor, _ in hashed], np.uint64)
            self.is_quotient = np.array([[quotient] for *_, quotient in hashed])
        for i in self.list_places:
            listed = space.lists[i]
            outer = fields[listed.name].encoding
            assert isinstance(outer, ListOf)
            if isinstance(outer.items, Hash):
                self.lists.append((listed, listed.name, outer.items, self._hash((listed.name,))))
            else:
                owner = outer.items.shares or listed.name
                apart = self._apart(listed.name, owner, ())
                self.lists.append((listed, owner, space.vocabulary(owner), apart))
        self.numerics = [space.numerics[i] for i in self.numeric_places]
        self.log_at = [
            at for at, name in enumerate(self.numerics) if isinstance(fields[name].encoding, Log1p)
        ]
        moments = [space.moments[name] for name in self.numerics]
        self.means = np.array([[m.mean] for m in moments])
        self.deviations = np.array([[m.deviation] for m in moments])

    def _apart(self, name: str, owner: str, like: Sequence[str]) -> Source | None:
        """Enrol a field with a vocabulary; what tells its unseen values apart, None where nothing does."""
        contract = self.space.contract
        is_integer = contract.fields[owner].dtype in (Dtype.INT64, Dtype.INT64_LIST)
        self.known.append((name, owner, salt(self._numbers[owner]), is_integer))
        if not is_integer:
            self._hash((name,))
        unseen = self.space.vocabulary(owner).unseen
        if unseen is None or (unseen.like and not like):
            return None
        return self._hash(tuple(like) or (name,))

    def _hash(self, source: Source) -> Source:
        if source not in self.sources:
            self.sources.append(source)
        return source


_WHOLE = 2**63
_LEAST_NORMAL = np.finfo(np.float32).tiny


def _local(
    encoding: Vocabulary, places: np.ndarray, apart: Source | None, prints: Mapping[Source, np.ndarray]
) -> np.ndarray:
    """Local rows int32 of a vocabulary from places in it."""
    known = places + np.int32(encoding.unseen_rows)
    if apart is None or encoding.unseen is None:
        return np.where(places < 0, np.int32(0), known)
    other = (prints[apart] % np.uint64(encoding.unseen.buckets)).astype(np.int32)
    return np.where(places < 0, other + np.int32(bool(encoding.unseen.like)), known)


def _numerics(plan: _Plan, raw: Raw) -> np.ndarray | None:
    if not plan.numerics:
        return None
    x = np.array([raw[name] for name in plan.numerics], np.float64)
    if plan.log_at:
        part = x[plan.log_at]
        x[plan.log_at] = np.copysign(np.log1p(np.abs(part)), part)
    x -= plan.means
    x /= plan.deviations
    return np.ascontiguousarray(np.clip(x, -FARTHEST, FARTHEST, out=x).T, np.float32)


def _fingerprints(
    sources: Sequence[Source], raw: Raw, rows: int, contract: FeatureContract
) -> dict[Source, np.ndarray]:
    """uint64 per value of each source, all of one buffer hashed at once."""
    made: list[bytes] = []
    ends: list[int] = []
    of_made: list[Source] = []
    of_buffer: dict[int, list[Source]] = {}
    for source in sources:
        values = raw[source[0]]
        if len(source) == 1 and isinstance(values, Texts):
            of_buffer.setdefault(id(values.buffer), []).append(source)
            continue
        if len(source) == 1:
            made += _texts(values, contract.fields[source[0]].dtype)
        else:
            made += _joined(source, raw, rows, contract)
        ends.append(len(made))
        of_made.append(source)
    found = _cut(fingerprint64(made), of_made, ends) if of_made else {}
    for group in of_buffer.values():
        texts = [raw[source[0]] for source in group]
        starts, lengths = (
            np.concatenate([getattr(t, part).ravel() for t in texts]) for part in ("starts", "lengths")
        )
        sizes = np.cumsum([t.lengths.size for t in texts]).tolist()
        found |= _cut(fingerprints(texts[0].buffer, starts, lengths), group, sizes)
    return found


def _cut(whole: np.ndarray, sources: Sequence[Source], ends: Sequence[int]) -> dict[Source, np.ndarray]:
    return {source: whole[start:end] for source, start, end in zip(sources, [0, *ends], ends, strict=False)}


def _texts(values: np.ndarray, dtype: Dtype | None) -> list[bytes]:
    """Strings as they are, integers in decimal, booleans as true and false, floats by their bits; row by row, flat."""
    if dtype is Dtype.FLOAT32:
        values = _flushed(values).view(np.int32)
    flat: list[bytes] = values.ravel().tolist()
    if dtype in (Dtype.STRING, Dtype.STRING_LIST):
        return flat
    if dtype is Dtype.BOOL:
        return [b"true" if value else b"false" for value in flat]
    return [b"%d" % value for value in flat]  # type: ignore[str-format]


def _flushed(values: np.ndarray) -> np.ndarray:
    """float32 with -0.0 and subnormal numbers as 0.0."""
    return np.where(np.abs(values) < _LEAST_NORMAL, np.float32(0.0), values)


def _joined(source: Source, raw: Raw, rows: int, contract: FeatureContract) -> list[bytes]:
    """One text per row; each part is led by its length. A parent of one row stands for all of them."""
    parts = []
    for name in source:
        texts = [b"%d:%b" % (len(text), text) for text in _texts(raw[name], contract.fields[name].dtype)]
        parts.append(texts * rows if len(texts) == 1 and rows != 1 else texts)
    return [b"".join(pieces) for pieces in zip(*parts, strict=True)]


def _last(rows: np.ndarray, length: int) -> np.ndarray:
    """The last `length` items of right-padded rows (b, any) as (b, length), padded with 0; a hole stays where it is."""
    if rows.shape[1] == length:
        return rows
    padded = np.pad(rows, [(0, 0), (0, length)])
    filled = np.where(padded > 0, np.arange(1, padded.shape[1] + 1), 0).max(axis=1)
    first = np.maximum(filled - length, 0)
    return np.take_along_axis(padded, first[:, None] + np.arange(length), axis=1)
