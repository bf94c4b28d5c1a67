"""How logs become a dataset: every choice there is, with why its default."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from pydantic import BaseModel, Field, field_validator

from clickmill.contract.duration import Duration
from clickmill.data import engine
from clickmill.data.delay import DelayedClicks
from clickmill.data.splits import CutTimes, Fractions


class PrepareOptions(BaseModel, frozen=True, extra="forbid", use_attribute_docstrings=True):
    """How logs become a dataset."""

    window: Duration = timedelta(hours=24)
    """Attribution window: a click later than this after its impression does not count."""
    as_of: datetime | None = None
    """The moment of learning, to learn as on that day: of impressions before it only clicks before it are known, and they make up train,
    validation and calibration; impressions from it on are the test split, with all their clicks. By default the end of the click log."""
    wait: Duration = timedelta(0)
    """Waiting window: impressions younger than this at `as_of` are left out, since some of their clicks are yet to come. The attribution
    window itself leaves none to come. None by default: most clicks come within minutes, and a day less would empty the test
    split of a short log. The report counts the impressions whose window is open in any case."""
    delayed_clicks: DelayedClicks = DelayedClicks.IGNORE
    """What is done about clicks still to come: `ignore`; `delay_weights`, known clicks weighted by the estimated distribution of the delay; or
    `fake_negatives`, the same weights where a clicked impression is a non-click besides, which the loss takes back."""
    fractions: Fractions = Fractions()
    """Shares of the rows per split, in order of time."""
    cut_times: CutTimes | None = None
    """Explicit cut times; they win over the fractions."""
    allow_overlap: bool = False
    """Accept separate test files that begin before calibration ends: for comparing policies, not for judging a model."""
    negatives_kept: float = Field(default=1.0, gt=0, le=1)
    """Share of the non-clicks kept in train and validation. Calibration and test are never sampled."""
    seed: int = Field(default=0, ge=0)
    """Seed of the negative sampling."""
    max_quarantine_share: float = Field(default=0.01, ge=0, le=1)
    """Share of bad rows above which nothing goes on."""
    latest: datetime | None = None
    """Newest legal event time; default one day from now, since no log knows the future."""
    memory_limit: str = engine.DEFAULT_MEMORY
    """What DuckDB holds before it spills to a folder beside the output."""
    threads: int | None = Field(default=None, ge=1)
    """Threads of DuckDB; default the cores this process may use."""

    @field_validator("as_of")
    @classmethod
    def _in_utc(cls, time: datetime | None) -> datetime | None:
        return time if time is None or time.tzinfo else time.replace(tzinfo=UTC)
