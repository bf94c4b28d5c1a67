"""What was seen of a release since it began: counts by arm and period, the smoke test, alerts. Adds up; decides nothing.

Sums, not rows: an hour of traffic is a few numbers, whatever its size. Periods stay apart because the arms are compared within each
period only: while a canary grows from 1 to 50 percent the night comes, and its mean is not that of the stable bundle's day.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

_FROZEN = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)


class Traffic(BaseModel):
    """Requests that one bundle answered, or should have."""

    model_config = _FROZEN

    requests: int = Field(default=0, ge=0)
    """All, answered or not."""
    errors: int = Field(default=0, ge=0)
    """Of them: 5xx, broken connections, timeouts."""
    slow: int = Field(default=0, ge=0)
    """Of them: slower than the policy's `p99_ms`."""
    not_finite: int = Field(default=0, ge=0)
    """Predictions that were NaN or infinite."""

    @model_validator(mode="after")
    def _parts_within_the_whole(self) -> Traffic:
        for name in ("errors", "slow"):
            if getattr(self, name) > self.requests:
                raise ValueError(
                    f"{name} must be at most requests ({self.requests}); got {getattr(self, name)}"
                )
        return self


class Labelled(BaseModel):
    """Impressions whose click is known (or whose attribution window is over), as a bundle had predicted them."""

    model_config = _FROZEN

    impressions: int = Field(default=0, ge=0)
    """Impressions."""
    clicks: int = Field(default=0, ge=0)
    """Clicks among them."""
    pctr: float = Field(default=0.0, ge=0)
    """Sum of the predictions: the clicks it expected."""
    residual_squares: float = Field(default=0.0, ge=0)
    """Sum of (pCTR - click)^2."""
    log_loss: float = Field(default=0.0, ge=0)
    """Sum of the log losses, nats."""
    log_loss_squares: float = Field(default=0.0, ge=0)
    """Sum of their squares."""

    @model_validator(mode="after")
    def _clicks_within_impressions(self) -> Labelled:
        if self.clicks > self.impressions:
            raise ValueError(f"clicks must be at most impressions ({self.impressions}); got {self.clicks}")
        return self


class Arm(BaseModel):
    """One bundle in one period."""

    model_config = _FROZEN

    traffic: Traffic = Traffic()
    """What it answered."""
    labelled: Labelled = Labelled()
    """How its predictions came out."""


class Period(BaseModel):
    """Both bundles side by side, with the split between them unchanged."""

    model_config = _FROZEN

    percent: int = Field(ge=1, le=100)
    """The candidate's share of the traffic."""

    stable: Arm = Arm()
    """The bundle that serves."""
    candidate: Arm = Arm()
    """The bundle that wants to."""


class Shadowed(BaseModel):
    """The candidate's answers to requests that the stable bundle served: nobody saw them, so clicks judge both on the same impressions."""

    model_config = _FROZEN

    traffic: Traffic = Traffic()
    """The candidate's answers."""
    labelled: Labelled = Labelled()
    """The candidate's predictions."""
    stable: Arm
    """The stable bundle meanwhile: what stops the machine or the click log is the fault of neither."""
    difference: float = 0.0
    """Sum of the candidate's log loss - the stable bundle's, nats."""
    difference_squares: float = Field(default=0.0, ge=0)
    """Sum of the squared differences."""


class Paired(BaseModel):
    """Requests that the promoted bundle and the last good one got at the same moment: a sample, at most so many a second.

    What stops the machine, or the network, stops both; what is the bundle's own stops only it. Who is late with a sign of life, or sheds
    load, has the traffic to blame and not the bundle, since the other one gets little of it: that is no failure here.
    """

    model_config = _FROZEN

    requests: int = Field(default=0, ge=0)
    """All."""
    only_promoted: int = Field(default=0, ge=0)
    """Of them: the promoted bundle failed, the last good one did not."""
    only_last_good: int = Field(default=0, ge=0)
    """Of them: the other way round."""

    @model_validator(mode="after")
    def _parts_within_the_whole(self) -> Paired:
        if self.only_promoted + self.only_last_good > self.requests:
            raise ValueError(
                f"only_promoted ({self.only_promoted}) and only_last_good ({self.only_last_good}) must add up to at most "
                f"requests ({self.requests})"
            )
        return self


class Watched(BaseModel):
    """The promoted bundle in one period since its promotion."""

    model_config = _FROZEN

    traffic: Traffic = Traffic()
    """What it answered. From a target that makes no pairs, errors are those of the server's own making only."""
    paired: Paired | None = None
    """None: the target makes no pairs."""


class Compared(BaseModel):
    """Impressions that the promoted bundle and the last good one both predicted, judged by the same clicks."""

    model_config = _FROZEN

    promoted: Labelled = Labelled()
    """The promoted bundle's predictions."""
    last_good: Labelled = Labelled()
    """The last good bundle's."""
    difference: float = 0.0
    """Sum of the promoted bundle's log loss - the last good one's, nats."""
    difference_squares: float = Field(default=0.0, ge=0)
    """Sum of the squared differences."""

    @model_validator(mode="after")
    def _the_same_impressions(self) -> Compared:
        one, two = self.promoted.impressions, self.last_good.impressions
        if one != two:
            raise ValueError(f"both must have predicted the same impressions; got {one} and {two}")
        return self


class Smoke(BaseModel):
    """Golden predictions replayed on the candidate's own endpoint."""

    model_config = _FROZEN

    passed: bool
    """Whether every golden prediction came back."""
    words: str
    """What was replayed, or what differed."""


class Alert(BaseModel):
    """An alert that fires now."""

    model_config = _FROZEN

    name: str
    """Its rule."""
    fingerprint: str
    """Alertmanager's name of the alert and its labels."""
    bundle: str
    """Digest of the bundle it is about."""
    summary: str
    """Its words."""


class Evidence(BaseModel):
    """All that is known of a release when it is decided on."""

    model_config = _FROZEN

    smoke: Smoke | None = None
    """None while it has not come back."""
    shadow: tuple[Shadowed, ...] = ()
    """One per period of shadowing."""
    canary: tuple[Period, ...] = ()
    """One per period of shared traffic, over all steps."""
    watch: tuple[Watched, ...] = ()
    """The promoted bundle in the last `watch_seconds` of the policy."""
    compared: Compared | None = None
    """Its labels beside the last good bundle's; None where that one is not asked."""
    alerts: tuple[Alert, ...] = ()
    """Only those whose action is a rollback."""


Sums = TypeVar("Sums", Traffic, Labelled, Paired)


def total(kind: type[Sums], parts: Iterable[Sums]) -> Sums:
    """All of them as one.

    >>> total(Traffic, [Traffic(requests=3, errors=1), Traffic(requests=4)]).requests
    7
    """
    found = list(parts)
    return kind(**{name: sum(getattr(part, name) for part in found) for name in kind.model_fields})


__all__ = [
    "Alert",
    "Arm",
    "Compared",
    "Evidence",
    "Labelled",
    "Paired",
    "Period",
    "Shadowed",
    "Smoke",
    "Traffic",
    "Watched",
    "total",
]
