"""Fields computed from the log's own past: click rate and counts of a user or an ad over a window."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum

from pydantic import BaseModel, Field, field_validator, model_validator

from clickmill.contract.duration import Duration

_LONGEST = timedelta(days=3650)


class Measure(StrEnum):
    """What is made of the events in the window."""

    CTR = "ctr"  # smoothed click rate
    CLICKS = "clicks"  # impressions of the window known to be clicked
    IMPRESSIONS = "impressions"  # impressions of the window


class Aggregate(BaseModel, frozen=True, extra="forbid", use_attribute_docstrings=True):
    """A value of one id's past, as it was known strictly before the instant it is asked for.

    With n the impressions of the id shown in [t - window, t) and c those of them whose click had come before t:

        impressions = n        clicks = c        ctr = (c + s d) / (n + s)

    s is `smoothing`, d the field's `default`: the mean of the click rate under a Beta(s d, s (1 - d)) prior, after c clicks in n
    impressions. Without events it is d, so that an id never seen and a value the online store lacks are the same to the model.
    """

    of: Measure
    """`ctr`, `clicks` or `impressions`."""
    by: str
    """Name of the id field whose past it is: user_id, ad_id."""
    window: Duration
    """How far back events count."""
    smoothing: float | None = Field(default=None, gt=0, le=1e9)
    """Of `ctr`: how many impressions the default weighs, 20 when absent. An id then needs 20 impressions of its own before they
    outweigh the default; less lets one lucky click make a new ad look best."""

    @field_validator("window")
    @classmethod
    def _some_past(cls, window: timedelta) -> timedelta:
        if not timedelta(0) < window <= _LONGEST:
            raise ValueError(f"must be longer than nothing and at most {_LONGEST.days:,} days")
        return window

    @model_validator(mode="after")
    def _smoothing_smooths(self) -> Aggregate:
        if self.of is not Measure.CTR and self.smoothing is not None:
            raise ValueError(f"`smoothing` belongs to `of: ctr`; `{self.of}` is a plain count: remove it")
        return self

    @property
    def prior_weight(self) -> float:
        """s of the formula: `smoothing`, or 20."""
        return 20.0 if self.smoothing is None else self.smoothing
