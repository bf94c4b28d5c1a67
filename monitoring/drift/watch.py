"""Checks for drift at a regular interval, exports the result, and starts a training where the policy allows it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, start_http_server

from clickmill.data.files import PathsLike
from clickmill.errors import ClickmillError, UsageError
from monitoring.drift import archive
from monitoring.drift.checker import DriftChecker
from monitoring.drift.examine import WindowDrift
from monitoring.drift.exporter import DriftCollector, write_textfile
from monitoring.drift.retraining import RetrainingDecision, RetrainingPolicy
from monitoring.drift.retraining_trigger import RetrainingRecord, trigger_retraining
from monitoring.drift.trainers import KubeflowTrainer, Trainer

log = logging.getLogger(__name__)

RECORD = "retrainings.jsonl"
TEXTFILE = "drift.prom"


@dataclass(frozen=True)
class Retrain:
    """How a drift is answered."""

    trainer: Trainer
    policy: RetrainingPolicy


def kubeflow_retrain(
    pipeline: Path, arguments: Mapping[str, Any], host: str | None, experiment: str, budget: Mapping[str, Any]
) -> Retrain:
    """An answer by a run of a compiled pipeline. Raises UsageError for a pipeline that is not there, ValidationError for the budget."""
    if not pipeline.is_file():
        raise UsageError(
            f"{pipeline}: no such file; give the compiled training pipeline, on a volume the step mounts"
        )
    trainer = KubeflowTrainer(pipeline, arguments, host=host, experiment=experiment)
    return Retrain(trainer, RetrainingPolicy.model_validate(budget))


def check_once(
    checker: DriftChecker,
    collector: DriftCollector,
    now: datetime,
    *,
    log_folder: Path | None = None,
    impressions: PathsLike | None = None,
    retrain: Retrain | None = None,
    keep_windows: int = 200,
) -> tuple[list[WindowDrift], RetrainingDecision | None]:
    """Look at one of the two, keep what was found, answer it, and write the metrics' file.

    Returns the windows and, if drift may start trainings, what was decided. Raises as `DriftChecker` and `trigger_retraining` do.
    """
    folder = checker.folder
    if log_folder is not None:
        found = checker.check_log(log_folder, now)
    else:
        assert impressions is not None, "give a log or impressions"
        found = checker.check_impressions(impressions, now)
    record = RetrainingRecord(folder / RECORD)
    decision = None
    if retrain is not None:
        serving = checker.bundles.serving()
        # Only of this look: a bundle that no longer answers has no window now, and its old ones ask for nothing.
        windows: Sequence[WindowDrift] = (
            archive.history(folder, serving, retrain.policy.windows)
            if serving is not None and any(window.bundle == serving for window in found)
            else []
        )
        decision = trigger_retraining(windows, record, retrain.trainer, retrain.policy, now)
    archive.forget(folder, keep_windows)
    collector.show(now, found, record.lines())
    write_textfile(folder / TEXTFILE, collector)
    return found, decision


def watch(
    checker: DriftChecker,
    *,
    port: int,
    host: str,
    every: float,
    stop: threading.Event,
    log_folder: Path | None = None,
    impressions: PathsLike | None = None,
    retrain: Retrain | None = None,
    told: Callable[[list[WindowDrift], RetrainingDecision | None], None] = lambda found, decision: None,
) -> None:
    """Serve /metrics and look every `every` seconds until `stop` is set. A look that fails is logged, counted and made again."""
    collector = DriftCollector()
    registry = CollectorRegistry()
    registry.register(collector)
    server, thread = start_http_server(port, addr=host, registry=registry)
    try:
        while True:
            try:
                told(
                    *check_once(
                        checker, collector, datetime.now(UTC),
                        log_folder=log_folder, impressions=impressions, retrain=retrain,
                    )
                )  # fmt: skip
            except (ClickmillError, OSError) as error:
                log.error("drift could not be looked at: %s", error)
                collector.failed()
            if stop.wait(every):
                return
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


__all__ = ["RECORD", "TEXTFILE", "Retrain", "check_once", "kubeflow_retrain", "watch"]
