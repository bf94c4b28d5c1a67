"""A number with its uncertainty."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, model_validator


class Estimate(BaseModel):
    """A value and the ends of its confidence interval: low <= value <= high."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)

    value: float
    """What the rows say."""
    low: float
    """Lower end of the interval."""
    high: float
    """Upper end of the interval."""

    @model_validator(mode="after")
    def _ordered(self) -> Estimate:
        if not self.low <= self.value <= self.high:
            raise ValueError(f"must be low <= value <= high, got {self.low} <= {self.value} <= {self.high}")
        return self

    def __str__(self) -> str:
        return f"{self.value:.4f} [{self.low:.4f}, {self.high:.4f}]"
