"""Settings of live quality: attribution window, lateness of the logs, measuring windows, slices."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, field_validator


class LiveSettings(BaseModel):
    """Settings of live quality."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    attribution_seconds: float = Field(default=1_800.0, gt=0)
    """A click counts when it comes no later than this after the prediction. That of the training data (`data prepare`), or live and
    offline speak of different click rates."""
    lateness_seconds: float = Field(default=300.0, ge=0)
    """How long after the attribution window a click may still arrive in the log. An impression is judged when both are over: earlier, its
    missing click may be on its way, and the model would look too hopeful."""
    skew_seconds: float = Field(default=5.0, ge=0)
    """How far before its prediction a click may seem to come: two machines' clocks differ, and a shadow answers after the user has."""
    windows_seconds: tuple[float, ...] = (1_800.0, 21_600.0)
    """Lengths of the windows that are measured, each up to the newest impression that can be judged."""
    slices: tuple[str, ...] = ()
    """Fields whose values are measured apart. The prediction log must hold their values (`--log-features values`)."""
    slice_top: int = Field(default=10, ge=1)
    """Values of a slice that are exported, the most frequent ones: each is a series per metric."""
    keep_seconds: float = Field(default=86_400.0, gt=0)
    """How long impressions are kept for a second look, such as a release that began before. At least the longest window."""

    @field_validator("windows_seconds")
    @classmethod
    def _some(cls, windows: tuple[float, ...]) -> tuple[float, ...]:
        if not windows or min(windows) <= 0:
            raise ValueError(f"must be one or more lengths above 0; got {list(windows)}")
        return windows

    @property
    def horizon_seconds(self) -> float:
        """Age at which an impression can be forgotten."""
        return (
            max(*self.windows_seconds, self.keep_seconds) + self.attribution_seconds + self.lateness_seconds
        )
