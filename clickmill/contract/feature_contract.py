"""The feature contract: the one list of features from which checks, encoders, signatures and panels are derived."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, Field, model_validator

from clickmill.contract.field import SINGULAR_ROLES, ContractField, Role
from clickmill.contract.field_problem import FieldProblem
from clickmill.contract.field_rules import check_field
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
            check_field(self.fields, name, field)
            check_online(self.fields, name, field)
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
            needed.update(field.parents)
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
