"""The feature contract: the one list of features from which checks, encoders, signatures and panels are derived."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, Field, model_validator

from clickmill.contract.encoding import Cross, Encoding, Hour, ListOf, Vocabulary, Weekday
from clickmill.contract.field import SHARED_ROLES, SINGULAR_ROLES, ContractField, Dtype, Role
from clickmill.contract.field_problem import FieldProblem
from clickmill.contract.online_rules import check_online


class Format(StrEnum):
    """Layout of the source files."""

    PARQUET = "parquet"
    CSV = "csv"
    CRITEO = (
        "criteo"  # Criteo Display Advertising: TSV without header, label, 13 counts, 26 hashed categories
    )
    AVAZU = "avazu"  # Avazu CSV: `hour` is YYMMDDHH
    OPEN_BANDIT = (
        "open_bandit"  # Open Bandit Dataset CSV: one row per impression with position and propensity
    )
    LIBSVM = "libsvm"  # label index:value ...
    LIBFFM = "libffm"  # label field:index:value ...
    MOVIELENS = "movielens"  # user::item::rating::timestamp events, turned into histories and next items


class Source(BaseModel, frozen=True, extra="forbid", use_attribute_docstrings=True):
    """How the files are laid out."""

    format: Format = Format.PARQUET
    """Parquet and CSV take any columns; the other names are published layouts."""
    delimiter: str | None = Field(default=None, min_length=1, max_length=2)
    """Column separator of a CSV; guessed when absent."""
    header: bool = True
    """A CSV's first line names the columns; without it they are taken in the order of the contract's fields."""
    timestamp_format: str | None = None
    """strptime format of timestamps in a CSV, or `epoch_s`, `epoch_ms`, `epoch_us`; ISO 8601 when absent."""
    slots: int | None = Field(default=None, ge=1, le=10_000)
    """libsvm: active features per row; each becomes one field, `f01`, `f02`, ... in the row's order."""
    list_delimiter: str = Field(default="|", min_length=1, max_length=2)
    """Separator of the items inside one cell of a CSV, for list fields."""
    layout: Literal["ratings", "pairs", "sequences"] | None = None
    """movielens: rated events, `user item` lines in time order, or `user item item ...` lines; guessed when absent."""
    positive_rating: float = 4.0
    """movielens, rated events: the rating from which an event counts as a click."""
    sampled_negatives: int = Field(default=1, ge=1, le=100)
    """movielens, layouts without ratings: items drawn as non-clicks for each event."""
    negatives_kept: float = Field(default=1.0, gt=0, le=1)
    """Share of non-clicks that whoever made the train files had kept. The prior is corrected by it."""


class FeatureContract(BaseModel, frozen=True, extra="forbid", use_attribute_docstrings=True):
    """Names every field: what it is, what is legal, how it is encoded and who answers for it."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_-]{0,62}$")
    """Name of the contract, also of the model it serves: lower case, digits, - and _."""
    version: int = Field(default=1, ge=1)
    """Raised by people when the meaning of a field changes."""
    description: str = ""
    """What these impressions are, in a sentence."""
    source: Source = Source()
    """Layout of the files this contract describes."""
    fields: dict[str, ContractField] = Field(min_length=2)
    """The fields by name, in the order in which models see them."""

    @model_validator(mode="after")
    def _consistent(self) -> FeatureContract:
        for role in SINGULAR_ROLES:
            names = [n for n, f in self.fields.items() if f.role is role]
            if len(names) > 1:
                raise FieldProblem(
                    f"{names[1]}.role", role.value, f"`{names[0]}` has this role already; only one field may"
                )
        if not any(f.is_feature for f in self.fields.values()):
            raise FieldProblem(
                "", "", "no field has a feature role (user, ad, context, cross, sequence); add one"
            )
        columns: dict[str, str] = {}
        for name, field in self.fields.items():
            _check_field(self, name, field)
            if not field.is_derived:
                column = field.column or name
                if column in columns:
                    raise FieldProblem(
                        f"{name}.column", column, f"field `{columns[column]}` reads this column already"
                    )
                columns[column] = name
        return self

    def __iter__(self) -> Iterator[tuple[str, ContractField]]:  # type: ignore[override]
        return iter(self.fields.items())

    def of_role(self, role: Role) -> str | None:
        """Name of the field with a singular role, or None."""
        return next((n for n, f in self.fields.items() if f.role is role), None)

    @property
    def features(self) -> dict[str, ContractField]:
        """Fields the model sees, in order; derived ones included, position excluded."""
        return {n: f for n, f in self.fields.items() if f.is_feature}

    @property
    def inputs(self) -> dict[str, ContractField]:
        """Fields a request carries: what the signature of the exported graph names, in order.

        Feature columns, the position, and whatever timestamps or fields the derived ones are made from.
        """
        needed = {n for n, f in self.fields.items() if f.is_feature and not f.is_derived}
        for field in self.features.values():
            needed.update(_parents(field.encoding))
        position = self.of_role(Role.POSITION)
        if position:
            needed.add(position)
        return {n: f for n, f in self.fields.items() if n in needed and not f.is_derived}

    @property
    def columns(self) -> dict[str, ContractField]:
        """Fields that have a column in the tables, in order."""
        return {n: f for n, f in self.fields.items() if not f.is_derived}

    @property
    def logged(self) -> dict[str, ContractField]:
        """Fields that an impression log holds: the columns but for the aggregates, which are computed from it."""
        return {n: f for n, f in self.columns.items() if f.aggregate is None}

    @property
    def entities(self) -> dict[str, dict[str, ContractField]]:
        """What the online store keeps: fields by the id field that they are looked up by, both in order."""
        kept: dict[str, dict[str, ContractField]] = {}
        for name, field in self.fields.items():
            if field.entity is not None:
                kept.setdefault(field.entity, {})[name] = field
        return kept

    @property
    def digest(self) -> str:
        """sha256 over the canonical JSON: two contracts with one digest mean the same."""
        text = json.dumps(self.model_dump(mode="json", exclude_defaults=True), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def _parents(encoding: Encoding | None) -> tuple[str, ...]:
    if isinstance(encoding, Cross):
        return encoding.of
    if isinstance(encoding, Hour | Weekday):
        return (encoding.of,)
    return ()


_READS: dict[str, frozenset[Dtype]] = {
    "vocabulary": frozenset({Dtype.STRING, Dtype.INT64, Dtype.BOOL}),
    "hash": frozenset({Dtype.STRING, Dtype.INT64}),
    "compositional": frozenset({Dtype.STRING, Dtype.INT64}),
    "bucketize": frozenset({Dtype.INT64, Dtype.FLOAT32}),
    "log1p": frozenset({Dtype.INT64, Dtype.FLOAT32}),
    "standardize": frozenset({Dtype.INT64, Dtype.FLOAT32}),
    "list": frozenset({Dtype.STRING_LIST, Dtype.INT64_LIST}),
}

_ROLE_DTYPES: dict[Role, frozenset[Dtype]] = {
    Role.POSITION: frozenset({Dtype.INT64}),
    Role.PROPENSITY: frozenset({Dtype.FLOAT32_LIST}),
    Role.EVENT_TIME: frozenset({Dtype.TIMESTAMP}),
    Role.CLICK_TIME: frozenset({Dtype.TIMESTAMP}),
    Role.LABEL: frozenset({Dtype.INT64, Dtype.BOOL}),
    Role.WEIGHT: frozenset({Dtype.FLOAT32}),
    Role.BID: frozenset({Dtype.FLOAT32, Dtype.INT64}),
    Role.TRUTH: frozenset({Dtype.FLOAT32}),
    Role.IMPRESSION_ID: frozenset({Dtype.STRING, Dtype.INT64}),
    Role.REQUEST_ID: frozenset({Dtype.STRING, Dtype.INT64}),
    Role.SEQUENCE: frozenset({Dtype.STRING_LIST, Dtype.INT64_LIST}),
}


def _check_field(contract: FeatureContract, name: str, field: ContractField) -> None:
    encoding = field.encoding
    if field.is_feature and encoding is None:
        raise FieldProblem(
            f"{name}.encoding", None, f"role `{field.role}` is a feature; say how it is encoded"
        )
    if not field.is_feature and encoding is not None:
        remedy = f"role `{field.role}` is never a model input; remove the encoding or change the role"
        raise FieldProblem(f"{name}.encoding", encoding.kind, remedy)
    if field.is_derived:
        if field.dtype is not None or field.column is not None:
            raise FieldProblem(
                f"{name}.dtype", field.dtype, "a derived field has no column; remove dtype and column"
            )
        _check_parents(contract, name, field)
        check_online(contract, name, field)
        return
    if field.dtype is None:
        raise FieldProblem(f"{name}.dtype", None, f"give a dtype: one of {', '.join(Dtype)}")
    legal = _ROLE_DTYPES.get(field.role)
    if legal and field.dtype not in legal:
        raise FieldProblem(f"{name}.dtype", field.dtype.value, f"role `{field.role}` needs {_either(legal)}")
    if encoding is not None and field.dtype not in _READS[encoding.kind]:
        remedy = f"encoding `{encoding.kind}` reads {_either(_READS[encoding.kind])}"
        raise FieldProblem(f"{name}.dtype", field.dtype.value, remedy)
    if field.range is not None and not field.dtype.is_number:
        raise FieldProblem(
            f"{name}.range", field.dtype.value, "only int64 and float32 have a range; use `allowed`"
        )
    if field.allowed is not None and field.dtype not in (Dtype.STRING, Dtype.INT64):
        raise FieldProblem(f"{name}.allowed", field.dtype.value, "only string and int64 have allowed values")
    _check_default(name, field)
    _check_at_inference(name, field)
    _check_shares(contract, name, field)
    _check_unseen(contract, name, field)
    check_online(contract, name, field)


def _check_parents(contract: FeatureContract, name: str, field: ContractField) -> None:
    for parent in _parents(field.encoding):
        path = f"{name}.encoding.of"
        if parent not in contract.fields:
            raise FieldProblem(path, parent, f"no field of this name; known: {', '.join(contract.fields)}")
        other = contract.fields[parent]
        if isinstance(field.encoding, Hour | Weekday):
            if other.dtype is not Dtype.TIMESTAMP:
                raise FieldProblem(path, parent, f"must be a timestamp; `{parent}` is {other.dtype}")
        elif not other.is_feature or other.is_derived or other.dtype is None or other.dtype.is_list:
            raise FieldProblem(
                path, parent, "a cross combines plain feature columns: no lists, labels or derived fields"
            )


_PYTHON_TYPE: dict[Dtype, tuple[type, ...]] = {
    Dtype.STRING: (str,),
    Dtype.INT64: (int,),
    Dtype.FLOAT32: (int, float),
    Dtype.BOOL: (bool,),
    Dtype.TIMESTAMP: (int,),
    Dtype.STRING_LIST: (tuple,),
    Dtype.INT64_LIST: (tuple,),
    Dtype.FLOAT32_LIST: (tuple,),
}


def _check_default(name: str, field: ContractField) -> None:
    assert field.dtype is not None
    value = field.default
    if value is None:
        return
    path = f"{name}.default"
    if not isinstance(value, _PYTHON_TYPE[field.dtype]) or (
        isinstance(value, bool) and field.dtype is not Dtype.BOOL
    ):
        raise FieldProblem(path, value, f"must be of type {field.dtype}")
    if field.required:
        raise FieldProblem(path, value, "a required field never takes its default; remove one of the two")
    bounds = field.range
    if bounds and isinstance(value, int | float) and not bounds.holds(value):
        raise FieldProblem(path, value, "lies outside the field's own range")
    if field.allowed is not None and value not in field.allowed:
        raise FieldProblem(path, value, "is not among the field's own allowed values")


def _check_at_inference(name: str, field: ContractField) -> None:
    if field.at_inference is None:
        return
    path = f"{name}.at_inference"
    if field.role is not Role.POSITION:
        raise FieldProblem(
            path, field.at_inference, "only the position has an effect at inference; remove it"
        )
    if field.default is not None:
        raise FieldProblem(
            path,
            field.at_inference,
            "says what stands in for a missing slot, as `default` does; remove one of the two",
        )
    if field.required:
        raise FieldProblem(
            path,
            field.at_inference,
            "a required position is never missing; remove `required` or `at_inference`",
        )


def _check_shares(contract: FeatureContract, name: str, field: ContractField) -> None:
    encoding = field.encoding.items if isinstance(field.encoding, ListOf) else field.encoding
    if not isinstance(encoding, Vocabulary) or encoding.shares is None:
        return
    path = f"{name}.encoding" + (
        ".items" if field.role is Role.SEQUENCE or encoding is not field.encoding else ""
    )
    path += ".shares"
    other = contract.fields.get(encoding.shares)
    if other is None:
        raise FieldProblem(
            path, encoding.shares, f"no field of this name; known: {', '.join(contract.fields)}"
        )
    if not isinstance(other.encoding, Vocabulary) or other.encoding.shares is not None:
        raise FieldProblem(path, encoding.shares, "must name a field with a vocabulary of its own")
    item = Dtype.INT64 if field.dtype in (Dtype.INT64, Dtype.INT64_LIST) else Dtype.STRING
    if other.dtype is not item:
        raise FieldProblem(
            path, encoding.shares, f"holds {other.dtype}, this field holds {item}: they can't share rows"
        )


def _check_unseen(contract: FeatureContract, name: str, field: ContractField) -> None:
    in_list = isinstance(field.encoding, ListOf)
    encoding = field.encoding.items if isinstance(field.encoding, ListOf) else field.encoding
    if not isinstance(encoding, Vocabulary) or encoding.unseen is None:
        return
    path = f"{name}.encoding.{'items.' if in_list else ''}unseen"
    if encoding.shares is not None:
        remedy = f"the rows are those of `{encoding.shares}`; say there how its unseen values are told apart"
        raise FieldProblem(path, encoding.shares, remedy)
    if field.dtype is Dtype.BOOL:
        raise FieldProblem(path, field.dtype.value, "a bool has no unseen values; remove `unseen`")
    for other in encoding.unseen.like:
        _check_attribute(contract, f"{path}.like", name, field, other, in_list)


def _check_attribute(
    contract: FeatureContract, path: str, name: str, field: ContractField, other: str, in_list: bool
) -> None:
    if in_list:
        raise FieldProblem(path, other, "the items of a list have no attributes; give `buckets` only")
    if other not in contract.fields:
        raise FieldProblem(path, other, f"no field of this name; known: {', '.join(contract.fields)}")
    if other == name:
        raise FieldProblem(
            path, other, "an unseen value is not like itself; leave `like` out to hash the value"
        )
    attribute = contract.fields[other]
    if not attribute.is_feature or attribute.dtype not in (Dtype.STRING, Dtype.INT64, Dtype.BOOL):
        remedy = "must be a feature with a column of strings, integers or flags: their values are hashed"
        raise FieldProblem(path, other, remedy)
    if (attribute.role in SHARED_ROLES) != (field.role in SHARED_ROLES):
        sides = {True: "of the request", False: "of the candidate"}
        remedy = (
            f"`{name}` is {sides[field.role in SHARED_ROLES]} (role {field.role}) and `{other}` {sides[attribute.role in SHARED_ROLES]} "
            f"(role {attribute.role}): name fields of the same side"
        )
        raise FieldProblem(path, other, remedy)


def _either(options: frozenset[Dtype]) -> str:
    return " or ".join(sorted(options))
