"""How logs become a dataset: every choice there is, with why its default."""

from __future__ import annotations

from datetime import datetime, timedelta

from pydantic import BaseModel, Field

from clickmill.data import engine
from clickmill.data.splits import CutTimes, Fractions


class PrepareOptions(BaseModel, frozen=True, extra="forbid", use_attribute_docstrings=True):
    """How logs become a dataset."""

    window: timedelta = timedelta(hours=24)
    """Attribution window: a click later than this after its impression does not count."""
    mature_only: bool = False
    """Leave out impressions whose window was still open when the click log ended. Off by default: a click log usually ends
    within minutes of the impressions, most clicks come within minutes too, and a day less would empty the test split of
    a short log. The report counts these impressions in any case."""
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
