"""Starts a training because of drift: first the decision, then its record, then the training.

The record is one JSON object a line, on the disk before anything is started.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import UTC, datetime

from pydantic import ValidationError

from clickmill.disk import LineFile
from clickmill.errors import DataError
from monitoring.drift.examine import WindowDrift
from monitoring.drift.retraining import (
    Event,
    Retraining,
    RetrainingDecision,
    RetrainingPolicy,
    decide,
    under_way,
)
from monitoring.drift.trainers import NotStarted, Trainer

log = logging.getLogger(__name__)

_SILENT = {"same", "unknown", "unconfirmed"}
"""Nothing was refused: there is no drift, or none yet."""


class RetrainingRecord(LineFile):
    """A file that outlives restarts: two monitors of one folder cannot both spend the budget while one holds it."""

    def lines(self) -> list[Retraining]:
        """Oldest first; empty where there is none yet. What a crash cut short at the end was not written.

        Raises DataError naming file and line for one that was altered: a budget that can't be read is spent.
        """
        if not self.path.exists():
            return []
        found = []
        for number, line in enumerate(self.whole_lines(), 1):
            try:
                found.append(Retraining.model_validate_json(line))
            except ValidationError as error:
                raise DataError(
                    f"{self.path}:{number}: no line of the record of trainings: {error.errors()[0]['msg']}. "
                    "Nothing is started until it can be read; mend the line, or move the file away, which forgets what was spent."
                ) from error
        return found

    def append(self, line: Retraining) -> None:
        """Write a line, on the disk when this returns. Raises OSError."""
        self.append_line(line.model_dump_json().encode())

    def refuse(self, line: Retraining) -> None:
        """Append a refusal, unless it is what the last line says."""
        last = self.lines()[-1:]
        if (
            last
            and last[0].event is Event.REFUSED
            and (last[0].cause, last[0].bundle) == (line.cause, line.bundle)
        ):
            return
        self.append(line)


def trigger_retraining(
    windows: Sequence[WindowDrift],
    record: RetrainingRecord,
    trainer: Trainer,
    policy: RetrainingPolicy,
    now: datetime,
) -> RetrainingDecision:
    """Note trainings that have ended, decide on the serving bundle's windows (oldest first), and start a training if so decided.

    Raises DataError for a record that can't be read, OSError for one that can't be written: then nothing is started.
    """
    with record.hold():
        _note_ends(record, trainer, policy, now)
        decision = decide(windows, record.lines(), policy, now)
        bundle = windows[-1].bundle if windows else ""
        if not decision.start:
            if decision.cause not in _SILENT:
                record.refuse(
                    Retraining(
                        at=now,
                        event=Event.REFUSED,
                        bundle=bundle,
                        reason=decision.reason,
                        cause=decision.cause,
                    )
                )
            return decision
        run = f"drift-{now.astimezone(UTC):%Y%m%dT%H%M%SZ}-{bundle[:8]}"
        record.append(Retraining(at=now, event=Event.STARTED, bundle=bundle, reason=decision.reason, run=run))
        try:
            where = trainer.start(run)
        except NotStarted as error:
            log.error("the training for a drift could not be started: %s", error)
            record.append(
                Retraining(at=now, event=Event.NOT_STARTED, bundle=bundle, reason=str(error), run=run)
            )
            return RetrainingDecision(start=False, cause="not_started", reason=str(error))
        log.warning("drift: a training was started (%s): %s", where, decision.reason)
        return decision.model_copy(update={"reason": f"{decision.reason} ({where})"})


def _note_ends(record: RetrainingRecord, trainer: Trainer, policy: RetrainingPolicy, now: datetime) -> None:
    """Write down that the training under way has ended, if it has. Hold the record meanwhile."""
    running = under_way(record.lines(), policy, now)
    if running is None or running.run is None:
        return
    ended = trainer.ended(running.run)
    if ended is not None:
        event = Event.ENDED if ended.well else Event.FAILED
        record.append(
            Retraining(at=now, event=event, bundle=running.bundle, reason=ended.words, run=running.run)
        )


__all__ = ["RetrainingRecord", "trigger_retraining"]
