"""The market on disk: Parquet logs partitioned by hour, and world.json with what they hold."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import defaultdict
from datetime import date, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict

from clickmill.data.world.ceiling import Ceiling, CeilingTally
from clickmill.data.world.clicks import is_orphan
from clickmill.data.world.config import WorldConfig
from clickmill.data.world.policy import Policy
from clickmill.data.world.simulation import HourBatch, generate
from clickmill.errors import UsageError
from clickmill.progress import SILENT, Progress

_REPORT = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class DayReport(Ceiling):
    """The ceiling of one day, so that a test on the last days has its own."""

    day: date
    """Date of the impressions, UTC."""


class PositionReport(BaseModel):
    """What happened at one position."""

    model_config = _REPORT

    position: int
    """1 is the top."""
    impressions: int
    clicks: int
    mean_relevance: float
    """Mean P(click | examined): falls with the position, because the policy puts good ads on top."""
    examination: float
    """P(examined), as configured."""


class WorldReport(BaseModel):
    """Contents of world.json."""

    model_config = _REPORT

    config: WorldConfig
    """The settings that reproduce these logs."""
    ceiling: Ceiling
    """Counts and the best AUC and NE that any model can expect, over the whole log."""
    days: tuple[DayReport, ...]
    """The same by day of the impression."""
    positions: tuple[PositionReport, ...]
    """By position; empty positions left out."""
    requests: int
    click_rows: int
    """Rows of the click log: clicks, duplicates and orphans."""
    duplicate_clicks: int
    """Click rows that repeat an earlier one."""
    orphan_clicks: int
    """Click rows whose impression is in no log."""
    users: int
    """Distinct users seen."""
    ads: int
    """Distinct ads shown."""
    mean_history: float
    """Mean clicks in the history shown with an impression."""
    last_click: datetime | None
    """Time of the last row of the click log; None without clicks."""

    @property
    def impressions(self) -> int:
        """Rows of the impression log."""
        return self.ceiling.impressions

    @property
    def clicks(self) -> int:
        """Impressions that were clicked; duplicates and orphans do not count."""
        return self.ceiling.clicks

    @property
    def ctr(self) -> float:
        """clicks / impressions."""
        return self.clicks / self.impressions


def write(
    config: WorldConfig,
    out: Path,
    *,
    policy: Policy | None = None,
    progress: Progress = SILENT,
) -> WorldReport:
    """Simulate a market into `out`:

        impressions/date=YYYY-MM-DD/hour=HH/part-0.parquet     by time of the impression
        truth/date=YYYY-MM-DD/hour=HH/part-0.parquet           the same rows: evaluation only, never a feature
        clicks/date=YYYY-MM-DD/hour=HH/part-0.parquet          by time of the CLICK
        world.json                                             the WorldReport

    Atomic: a folder under a temporary name beside `out`, renamed when complete; nothing is left after a failure.
    Raises UsageError when `out` exists and is not an empty folder.
    """
    out = Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out}: exists already; name another folder or remove it first")
    out.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        tally = _Tally(config)
        progress.start("simulate", config.impressions, "impressions")
        for batch in generate(config, policy):
            _store(batch.impressions, draft / "impressions", batch.hour)
            _store(batch.truth, draft / "truth", batch.hour)
            _store(batch.clicks, draft / "clicks", batch.hour)
            tally.add(batch)
            progress.advance(len(batch.clicked))
        report = tally.report()
        (draft / "world.json").write_text(report.model_dump_json(indent=2) + "\n")
        draft.chmod(0o755)  # mkdtemp makes it private; a data folder is not
        os.replace(draft, out)  # also over an empty folder
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    finally:
        progress.finish()
    return report


def _store(table: pa.Table, log: Path, hour: datetime) -> None:
    if not len(table):
        return
    folder = log / f"date={hour:%Y-%m-%d}" / f"hour={hour:%H}"
    folder.mkdir(parents=True)
    pq.write_table(table, folder / "part-0.parquet", compression="snappy")


class _Tally:
    """Counts of a whole world, batch by batch."""

    def __init__(self, config: WorldConfig) -> None:
        self._config = config
        self._days: dict[date, CeilingTally] = defaultdict(CeilingTally)
        self._requests = self._history = self._click_rows = self._duplicates = self._orphans = 0
        self._positions = np.zeros((3, config.slots_max))  # impressions, clicks, relevance
        self._ads: set[str] = set()
        self._user_ids: set[str] = set()
        self._last_us: int | None = None

    def add(self, batch: HourBatch) -> None:
        shown, truth = batch.impressions, batch.truth
        if len(shown):
            relevance = truth["relevance"].to_numpy()
            self._days[batch.hour.date()].add(truth["true_pctr"].to_numpy(), batch.clicked)
            slot = shown["position"].to_numpy() - 1
            for row, weight in enumerate((np.ones(len(slot)), batch.clicked, relevance)):
                self._positions[row] += np.bincount(slot, weight, minlength=self._config.slots_max)
            self._requests += len(shown["request_id"].unique())
            self._history += sum(len(chunk.flatten()) for chunk in shown["history_ads"].chunks)
            self._ads.update(shown["ad_id"].unique().to_pylist())
            self._user_ids.update(shown["user_id"].unique().to_pylist())
        events = batch.click_events
        if len(events):
            orphans = int(is_orphan(events).sum())
            self._click_rows += len(events)
            self._orphans += orphans
            self._duplicates += int((~events.genuine).sum()) - orphans
            self._last_us = int(events.time_us[-1])

    def report(self) -> WorldReport:
        whole = CeilingTally()
        for day in self._days.values():
            whole.merge(day)
        ceiling = whole.ceiling()
        return WorldReport(
            config=self._config,
            ceiling=ceiling,
            days=tuple(
                DayReport(day=day, **tally.ceiling().model_dump())
                for day, tally in sorted(self._days.items())
            ),
            positions=tuple(
                PositionReport(
                    position=slot + 1,
                    impressions=int(shown),
                    clicks=int(clicks),
                    mean_relevance=relevance / shown,
                    examination=self._config.examination[slot],
                )
                for slot, (shown, clicks, relevance) in enumerate(self._positions.T)
                if shown
            ),
            requests=self._requests,
            click_rows=self._click_rows,
            duplicate_clicks=self._duplicates,
            orphan_clicks=self._orphans,
            users=len(self._user_ids),
            ads=len(self._ads),
            mean_history=self._history / ceiling.impressions,
            last_click=None
            if self._last_us is None
            else datetime.fromtimestamp(self._last_us / 1e6, self._config.start.tzinfo),
        )
