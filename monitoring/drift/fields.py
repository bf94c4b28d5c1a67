"""What of a contract is watched: every feature with a column, the items and the length of lists, and the prediction."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum

from clickmill.contract import SHARED_ROLES, ContractField, FeatureContract, Role
from clickmill.contract.encoding import NUMERIC_KINDS

PREDICTION = "pctr"
LENGTH = ".length"


class Kind(StrEnum):
    """How a field is counted."""

    NUMBER = "number"  # cells of equal mass
    CATEGORY = (
        "category"  # a cell per value; for many values a cell for each of the most frequent, and hash buckets
    )


class Scale(StrEnum):
    """On which axis a number is measured: that of the model."""

    PLAIN = "plain"
    LOG1P = "log1p"  # sign(x) ln(1 + |x|), where the contract encodes so: a long tail must not hide the body
    LOGIT = "logit"  # ln(p / (1 - p)): click probabilities live between 0.1 % and 10 %


@dataclass(frozen=True)
class Watched:
    """One thing that has a distribution."""

    name: str
    """As reported: the field's name, `FIELD.length`, or `pctr`."""
    column: str
    """Column that it is read from."""
    kind: Kind
    scale: Scale = Scale.PLAIN
    field: ContractField | None = None
    """None: the prediction."""
    length: bool = False
    """Number of items of a list, instead of the items."""

    @property
    def is_list(self) -> bool:
        return bool(self.field is not None and self.field.dtype and self.field.dtype.is_list)

    @property
    def shared(self) -> bool:
        """All rows of a request have the same value, so that requests are the independent draws, not rows."""
        return self.field is not None and self.field.role in SHARED_ROLES

    @property
    def personal(self) -> bool:
        return self.field is not None and self.field.personal


def watched(contract: FeatureContract, ignored: Collection[str] = ()) -> tuple[Watched, ...]:
    """In the contract's order, the prediction last.

    Not watched: timestamps, since time moves; the position, which the caller chooses; derived fields, whose parents are watched.
    """
    found: list[Watched] = []
    for name, field in contract.inputs.items():
        if not field.is_feature or field.role is Role.POSITION or field.dtype is None:
            continue
        if field.dtype.is_list:
            found.append(Watched(name, name, Kind.CATEGORY, field=field))
            found.append(Watched(name + LENGTH, name, Kind.NUMBER, field=field, length=True))
        elif _is_number(field):
            assert field.encoding is not None
            scale = Scale.LOG1P if field.encoding.kind == "log1p" else Scale.PLAIN
            found.append(Watched(name, name, Kind.NUMBER, scale, field))
        else:
            found.append(Watched(name, name, Kind.CATEGORY, field=field))
    found.append(Watched(PREDICTION, PREDICTION, Kind.NUMBER, Scale.LOGIT))
    return tuple(one for one in found if one.name not in ignored)


def _is_number(field: ContractField) -> bool:
    kind = field.encoding.kind if field.encoding is not None else ""
    return kind in NUMERIC_KINDS or kind == "bucketize"


__all__ = ["LENGTH", "PREDICTION", "Kind", "Scale", "Watched", "watched"]
