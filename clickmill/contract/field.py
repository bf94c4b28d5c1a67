"""One field of a contract: what it means, what values it may have, how it is encoded, who answers for it."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Literal

from pydantic import BaseModel, model_validator

from clickmill.contract.aggregate import Aggregate
from clickmill.contract.duration import Duration
from clickmill.contract.encoding import Cross, Encoding, Hour, Weekday


class Role(StrEnum):
    """What a field is to the click: decides whether a model may see it and what the pipeline does with it."""

    USER = "user"  # feature of the user
    AD = "ad"  # feature of the candidate ad
    CONTEXT = "context"  # feature of the request: page, device, time
    CROSS = "cross"  # feature derived from several fields
    SEQUENCE = "sequence"  # ordered history of the user, the latest last
    POSITION = "position"  # 1-based slot; shifts or scales the whole probability, never enters an interaction
    PROPENSITY = "propensity"  # chances with which the ranking put this ad in slot 1, 2, ...; the position curve is read from them
    EVENT_TIME = "event_time"  # when the impression was shown; orders the splits
    LABEL = "label"  # clicked or not; absent where a click log is joined
    CLICK_TIME = "click_time"  # when the click came
    WEIGHT = "weight"  # importance of the row in the loss and the metrics
    BID = "bid"  # money per click; used by the auction, never by the model
    IMPRESSION_ID = "impression_id"  # key of the impression; the join and the duplicate check use it
    REQUEST_ID = "request_id"  # groups the candidates of one request; GAUC uses it
    TRUTH = "truth"  # true click probability of a simulated market; evaluation only
    METADATA = "metadata"  # kept beside the row (campaign note); never seen by a model


FEATURE_ROLES = frozenset({Role.USER, Role.AD, Role.CONTEXT, Role.CROSS, Role.SEQUENCE})
SHARED_ROLES = frozenset({Role.USER, Role.CONTEXT, Role.SEQUENCE, Role.EVENT_TIME})
"""Roles whose values all candidates of a request share; the others come with each candidate."""
SINGULAR_ROLES = frozenset(Role) - FEATURE_ROLES - {Role.METADATA}
"""Roles that at most one field may have."""


class Dtype(StrEnum):
    """Type of a field in the tables. A timestamp is UTC with microseconds; in tensors it is int64 epoch seconds."""

    STRING = "string"
    INT64 = "int64"
    FLOAT32 = "float32"
    BOOL = "bool"
    TIMESTAMP = "timestamp"
    STRING_LIST = "string_list"
    INT64_LIST = "int64_list"
    FLOAT32_LIST = "float32_list"

    @property
    def is_list(self) -> bool:
        return self in (Dtype.STRING_LIST, Dtype.INT64_LIST, Dtype.FLOAT32_LIST)

    @property
    def is_number(self) -> bool:
        return self in (Dtype.INT64, Dtype.FLOAT32)


class Range(BaseModel, frozen=True, extra="forbid", use_attribute_docstrings=True):
    """Closed interval a number must lie in."""

    min: float | None = None
    """Least legal value; no bound when absent."""
    max: float | None = None
    """Greatest legal value; no bound when absent."""

    @model_validator(mode="after")
    def _ordered(self) -> Range:
        if self.min is None and self.max is None:
            raise ValueError("give `min`, `max` or both")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"`min` {self.min:g} is above `max` {self.max:g}; swap them")
        return self

    def holds(self, value: float) -> bool:
        """Whether the value lies in the closed interval."""
        return (self.min is None or value >= self.min) and (self.max is None or value <= self.max)


class ContractField(BaseModel, frozen=True, extra="forbid", use_attribute_docstrings=True):
    """Everything the system knows about one field."""

    role: Role
    """What the field is to the click (user, ad, context, cross, sequence, position, label, ...)."""
    dtype: Dtype | None = None
    """Type in the tables. Absent only for derived fields (cross, hour, weekday)."""
    encoding: Encoding | None = None
    """How it becomes model input. Required for features, forbidden for all other roles."""
    column: str | None = None
    """Column name in the source, where it differs from the field's name."""
    default: str | int | float | bool | tuple[str, ...] | tuple[int, ...] | None = None
    """Takes the place of a missing value, in training and at the endpoint alike."""
    required: bool = False
    """A missing value sends the row to quarantine, or the request back, instead of taking the default."""
    range: Range | None = None
    """Legal interval of a number; a row outside goes to quarantine."""
    allowed: tuple[str | int, ...] | None = None
    """Legal values; a row with another goes to quarantine."""
    owner: str | None = None
    """Team or person who answers when the field breaks."""
    at_inference: Literal["first", "average"] | None = None
    """Position only: what a request gets that does not say its slot. `first` (the default): slot 1, the right question for a ranking.
    `average`: the mean effect over the slots of the train split, the right one for a forecast of clicks before slots are given out."""
    freshness: Duration | None = None
    """Greatest age at which the online value may still be used; older ones take the default."""
    aggregate: Aggregate | None = None
    """Computed from the log's own past instead of read from it: click rate and counts of a user or an ad over a window."""
    lookup_by: str | None = None
    """Name of the id field (user_id, ad_id) under which the online store keeps this field's latest value, so that a request
    may name the id alone. Aggregates are kept under their `by` without it."""
    personal: bool = False
    """Personal data: hashed wherever predictions are logged."""
    description: str = ""
    """What the value means, with its unit."""

    @property
    def is_feature(self) -> bool:
        return self.role in FEATURE_ROLES

    @property
    def is_derived(self) -> bool:
        """Computed inside the graph from other fields; has no column of its own."""
        return self.encoding is not None and self.encoding.kind in ("cross", "hour", "weekday")

    @property
    def parents(self) -> tuple[str, ...]:
        """Names of the fields that a derived one is made from; none for a field with a column of its own."""
        if isinstance(self.encoding, Cross):
            return self.encoding.of
        if isinstance(self.encoding, Hour | Weekday):
            return (self.encoding.of,)
        return ()

    @property
    def entity(self) -> str | None:
        """Name of the id field under which the online store keeps this field; None when it does not."""
        return self.aggregate.by if self.aggregate is not None else self.lookup_by

    @property
    def fill(self) -> str | int | float | bool | tuple[str, ...] | tuple[int, ...]:
        """The value that stands in for a missing one: `default`, or the neutral value of the type."""
        if self.default is not None:
            return self.default
        if self.role is Role.POSITION:
            # A caller who does not know the slot asks for the top one, or for slot 0: that of the average.
            return 0 if self.at_inference == "average" else 1
        assert self.dtype is not None, "derived fields are never filled"
        return _NEUTRAL[self.dtype]


_NEUTRAL: dict[Dtype, Any] = {
    Dtype.STRING: "",
    Dtype.INT64: 0,
    Dtype.FLOAT32: 0.0,
    Dtype.BOOL: False,
    Dtype.TIMESTAMP: 0,
    Dtype.STRING_LIST: (),
    Dtype.INT64_LIST: (),
    Dtype.FLOAT32_LIST: (),
}
