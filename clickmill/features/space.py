"""What the train split taught about the features: vocabularies, edges, moments, and where each field's rows lie.

All slots and lists share ONE fused embedding table. Row 0 is padding and stays zero; each field that owns rows
takes the next free stretch, in the order of the contract:

    0         1 .. rows(a)        ..              table_rows - 1
    padding   rows of field a     rows of b       rows of the last field

Local row 0 of a vocabulary is the unknown (or its first rows are those of `unseen`); its values follow, the most frequent first. Hash, bucketize, cross, hour and
weekday know no unknown: they have exactly the rows their encoding says. A compositional field is two slots, the rows of its
remainders after those of its quotients.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pyarrow as pa

from clickmill.contract import (
    Bucketize,
    Compositional,
    ContractField,
    Cross,
    Dtype,
    FeatureContract,
    Hash,
    ListOf,
    Role,
    Vocabulary,
)
from clickmill.contract.encoding import NUMERIC_KINDS, SLOT_KINDS
from clickmill.errors import UnreadableData

EMPTY_LINE = "\x00"
"""Stands for the empty string in a vocabulary file: TensorFlow's table initializer refuses empty lines."""
FARTHEST = 1e4
"""Deviations from the mean beyond which a number counts as this far. No row of a train split of up to 1e8 rows lies farther
(|z| <= sqrt(n - 1), Samuelson 1968), so training is untouched; a request may, and its crosses would overflow to NaN."""
_FORMAT = 1


class Slot(NamedTuple):
    """A categorical field, or half of a compositional one: one row of the fused table per impression, `offset <= row < offset + rows`."""

    name: str
    """The field's; the two halves of a compositional field have it both."""
    rows: int
    offset: int
    rows_of: str
    """Field that owns the rows: itself, or the one its vocabulary shares."""
    part: Literal["quotient", "remainder"] | None = None
    """Which half of a compositional field."""

    @property
    def label(self) -> str:
        """Name for people: the field's, and for half of a compositional field `field#quotient` or `field#remainder`."""
        return self.name if self.part is None else f"{self.name}#{self.part}"


class ListSlot(NamedTuple):
    """A list field: up to `max_length` rows per impression, padded on the right with row 0."""

    name: str
    rows_of: str
    offset: int
    max_length: int
    rows: int


class Moments(NamedTuple):
    """Mean and deviation over the train split (after the logarithm for log1p); deviation 0 is kept as 1."""

    mean: float
    deviation: float


@dataclass(frozen=True)
class FeatureSpace:
    """Everything the encoder needs; pure data. Made by `fit`, kept by `save`."""

    contract: FeatureContract
    vocabularies: Mapping[str, pa.Array] = field(default_factory=dict)
    """Known values of each field with a vocabulary of its own (string or int64), in the order of their rows."""
    edges: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """Inner edges of each bucketized field, ascending; k edges make k + 1 rows."""
    moments: Mapping[str, Moments] = field(default_factory=dict)
    """Mean and deviation of each numeric field."""
    positions: int = 0
    """Positions 1..positions have a bias each, deeper ones share the last; 0 when the contract has no position."""

    @cached_property
    def averages_position(self) -> bool:
        """Whether a slot that is not known has the mean effect of all, as a row of its own behind those of the positions."""
        name = self.contract.of_role(Role.POSITION)
        return name is not None and self.contract.fields[name].at_inference == "average"

    @cached_property
    def slots(self) -> tuple[Slot, ...]:
        """Categorical fields in the order of the contract; a compositional one is two, quotient before remainder."""
        found = []
        for name, f in self.contract.features.items():
            if f.encoding is None or f.encoding.kind not in SLOT_KINDS:
                continue
            owner = _owner(name, f)
            offset = self._offsets[owner]
            if isinstance(f.encoding, Compositional):
                quotients = f.encoding.quotients
                found.append(Slot(name, quotients, offset, owner, "quotient"))
                found.append(Slot(name, f.encoding.remainders, offset + quotients, owner, "remainder"))
            else:
                found.append(Slot(name, self._rows[owner], offset, owner))
        return tuple(found)

    @cached_property
    def lists(self) -> tuple[ListSlot, ...]:
        """List fields in the order of the contract."""
        found = []
        for name, f in self.contract.features.items():
            if isinstance(f.encoding, ListOf):
                owner = _owner(name, f)
                found.append(
                    ListSlot(name, owner, self._offsets[owner], f.encoding.max_length, self._rows[owner])
                )
        return tuple(found)

    @cached_property
    def numerics(self) -> tuple[str, ...]:
        """Numeric fields in the order of the contract."""
        return tuple(
            n for n, f in self.contract.features.items() if f.encoding and f.encoding.kind in NUMERIC_KINDS
        )

    @cached_property
    def table_rows(self) -> int:
        """Rows of the fused table, padding included."""
        return 1 + sum(self._rows.values())

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {
            name: self._own_rows(name, f)
            for name, f in self.contract.features.items()
            if f.encoding is not None and f.encoding.kind not in NUMERIC_KINDS and _owner(name, f) == name
        }

    @cached_property
    def _offsets(self) -> dict[str, int]:
        offsets, free = {}, 1
        for name, rows in self._rows.items():
            offsets[name] = free
            free += rows
        return offsets

    def _own_rows(self, name: str, f: ContractField) -> int:
        encoding = f.encoding.items if isinstance(f.encoding, ListOf) else f.encoding
        if isinstance(encoding, Vocabulary):
            return encoding.unseen_rows + len(self.vocabularies[name])
        if isinstance(encoding, Hash | Cross):
            return encoding.buckets
        if isinstance(encoding, Compositional):
            return encoding.quotients + encoding.remainders
        if isinstance(encoding, Bucketize):
            return 1 + len(self.edges[name])
        assert encoding is not None
        return {"hour": 24, "weekday": 7}[encoding.kind]

    def vocabulary(self, owner: str) -> Vocabulary:
        """Encoding of a field with a vocabulary of its own."""
        encoding = self.contract.fields[owner].encoding
        encoding = encoding.items if isinstance(encoding, ListOf) else encoding
        assert isinstance(encoding, Vocabulary)
        return encoding

    @cached_property
    def digest(self) -> str:
        """sha256 over contract and everything learned: spaces of one digest encode alike."""
        whole = hashlib.sha256(json.dumps(self.document(), sort_keys=True).encode())
        for name in sorted(self.vocabularies):
            whole.update(name.encode() + b"\0" + vocabulary_text(self.vocabularies[name]).encode())
        return whole.hexdigest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FeatureSpace) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def save(self, directory: Path) -> None:
        """Write `space.json` and one text file per vocabulary, a value a line."""
        directory.mkdir(parents=True, exist_ok=True)
        for name, file in self.vocabulary_files().items():
            (directory / file).write_text(
                vocabulary_text(self.vocabularies[name]), encoding="utf-8", newline=""
            )
        (directory / "space.json").write_text(json.dumps(self.document(), indent=1, ensure_ascii=False))

    @classmethod
    def load(cls, directory: Path) -> FeatureSpace:
        """Read what `save` wrote. Raises UnreadableData when a file is missing, cut short or of another format."""
        path = directory / "space.json"
        try:
            document = json.loads(path.read_text())
            if document["format"] != _FORMAT:
                raise UnreadableData(
                    f"{path}: format {document['format']}, this version reads {_FORMAT}; refit"
                )
            contract = FeatureContract.model_validate(document["contract"])
            vocabularies = {}
            for name, entry in document["vocabularies"].items():
                text = (directory / entry["file"]).read_bytes().decode()
                vocabularies[name] = _parse_vocabulary(text, contract.fields[name])
                if len(vocabularies[name]) != entry["rows"]:
                    found = len(vocabularies[name])
                    raise UnreadableData(
                        f"{directory / entry['file']}: {found} values, space.json says {entry['rows']}; copy it again"
                    )
            return cls(
                contract,
                vocabularies,
                {name: tuple(edges) for name, edges in document["edges"].items()},
                {name: Moments(*pair) for name, pair in document["moments"].items()},
                document["positions"],
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UnreadableData(
                f"{path}: not a readable feature space ({error}); fit and save it again"
            ) from error

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> FeatureSpace:
        """The space of a `document`, its vocabularies as many nulls: all that is known of them but their values. Raises KeyError,
        TypeError or ValueError for another thing, UnreadableData for another format."""
        if document["format"] != _FORMAT:
            raise UnreadableData(f"format {document['format']}, this version reads {_FORMAT}; refit")
        return cls(
            FeatureContract.model_validate(document["contract"]),
            {name: pa.nulls(entry["rows"]) for name, entry in document["vocabularies"].items()},
            {name: tuple(edges) for name, edges in document["edges"].items()},
            {name: Moments(*pair) for name, pair in document["moments"].items()},
            document["positions"],
        )

    def vocabulary_files(self) -> dict[str, str]:
        """File name of each vocabulary; field names may hold characters a file name can't."""
        return {
            name: f"vocabulary-{i:03d}-{re.sub(r'[^A-Za-z0-9_-]', '_', name)[:64]}.txt"
            for i, name in enumerate(self.vocabularies)
        }

    def document(self) -> dict[str, Any]:
        """All but the values of the vocabularies, as `space.json` holds it."""
        files = self.vocabulary_files()
        return {
            "format": _FORMAT,
            "contract": self.contract.model_dump(mode="json"),
            "vocabularies": {n: {"file": files[n], "rows": len(v)} for n, v in self.vocabularies.items()},
            "edges": {n: list(e) for n, e in self.edges.items()},
            "moments": {n: list(m) for n, m in self.moments.items()},
            "positions": self.positions,
        }


def owned_stretches(space: FeatureSpace) -> dict[str, tuple[int, int]]:
    """First row and number of rows of every field that owns rows of the fused table, in the order of the table."""
    return {name: (space._offsets[name], rows) for name, rows in space._rows.items()}


def vocabulary_text(values: pa.Array) -> str:
    """The vocabulary as a text file: one value a line, the empty string as `EMPTY_LINE`."""
    return "".join(f"{EMPTY_LINE if value == '' else value}\n" for value in values.to_pylist())


def _parse_vocabulary(text: str, f: ContractField) -> pa.Array:
    lines = text.split("\n")[:-1]
    if f.dtype in (Dtype.INT64, Dtype.INT64_LIST):
        return pa.array([int(line) for line in lines], pa.int64())
    return pa.array(["" if line == EMPTY_LINE else line for line in lines], pa.string())


def _owner(name: str, f: ContractField) -> str:
    encoding = f.encoding.items if isinstance(f.encoding, ListOf) else f.encoding
    shared = encoding.shares if isinstance(encoding, Vocabulary) else None
    return shared or name
