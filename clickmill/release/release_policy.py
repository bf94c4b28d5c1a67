"""How a release goes on: its steps, and what it is held to on the way."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, field_validator


class ReleasePolicy(BaseModel):
    """Steps and thresholds of a release. `clickmill release power` says how much traffic they ask for."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)

    steps: tuple[int, ...] = (1, 5, 25, 50, 100)
    """Percent of live traffic, ascending, the last is 100. The first is small because what it breaks is broken for real."""
    shadow: bool = True
    """Whether the candidate answers beside the stable bundle, unseen, before it gets traffic. It costs a second scoring of each request
    and finds what a canary finds with far fewer impressions, since both are judged on the same ones."""
    step_seconds: float = Field(default=300.0, ge=0)
    """Seconds that shadow and each step last at least. Five minutes, so that a leak or a cold cache can show."""
    min_requests: int = Field(default=1_000, ge=1)
    """Requests that the candidate must have answered in shadow and at each step."""
    min_clicks: int = Field(default=100, ge=1)
    """Clicks needed before calibration and NE are judged at all; below, their intervals cannot be trusted."""

    max_error_rate: float = Field(default=0.01, gt=0, lt=1)
    """Share of requests that may fail. Compared with the stable bundle: what both suffer is not the candidate's fault."""
    p99_ms: float = Field(default=10.0, gt=0)
    """At most 1 % of requests may be slower, milliseconds. The promise of the endpoint, or a multiple of the stable bundle's p99."""
    max_calibration_bias: float = Field(default=0.1, gt=0, lt=1)
    """The calibration ratio must be within 1 -+ this: money is bid by it."""
    ne_margin: float = Field(default=0.01, ge=0)
    """NE may exceed the stable bundle's by this. Shown in shadow, on the same impressions; a canary then only has to show no more than
    this is exceeded. Without shadow it has to show it alone, on different users: at a click rate of 1 % that is millions of
    impressions at 0.01, and a margin of 0.05 is more to the point."""

    watch_seconds: float = Field(default=600.0, gt=0)
    """Seconds of the past by which the answers of a promoted bundle are judged. What it did well for a week must not outweigh what it does
    now: where all requests begin to fail, that is seen within about a hundredth of this."""
    watch_ne_margin: float = Field(default=0.05, gt=0)
    """A promoted bundle goes back when its NE is shown to exceed the last good bundle's by this, on the same impressions. As wide as the
    alerts on NE: a smaller loss is not worth the older bundle, and a click log that loses clicks must not look like one."""

    alpha: float = Field(default=0.01, gt=0, lt=1)
    """Probability that a candidate which is as good as the stable bundle is ever refused, over all checks and all looks."""
    planned_impressions: int = Field(default=100_000, ge=1)
    """Labelled impressions at which the intervals are sharpest. Twice or half of it costs little, a hundredth a third of the width."""
    cool_down_seconds: float = Field(default=3_600.0, ge=0)
    """Seconds after a rollback in which no candidate moves, so that a broken pipeline cannot try again at once."""

    @field_validator("steps")
    @classmethod
    def _ascending_to_100(cls, steps: tuple[int, ...]) -> tuple[int, ...]:
        if not steps or steps[-1] != 100 or steps[0] < 1 or list(steps) != sorted(set(steps)):
            raise ValueError(f"must ascend from at least 1 to 100 percent; got {list(steps)}")
        return steps


__all__ = ["ReleasePolicy"]
