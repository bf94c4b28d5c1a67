"""From a trained model to a candidate bundle: calibrate on rows it has not seen, judge on later ones, write."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from clickmill.bundle.calibration_report import CalibrationReport, CalibrationStep
from clickmill.bundle.judged_rows import labels, weights
from clickmill.bundle.load import Bundle
from clickmill.bundle.score import evaluate_predictions
from clickmill.bundle.stored_rows import ExportConfig, served
from clickmill.bundle.write import write
from clickmill.calibration import METHODS, Calibration, Selection, fit
from clickmill.evaluation import (
    calibration_ratio,
    expected_calibration_error,
    log_loss,
    normalized_entropy,
)
from clickmill.progress import SILENT, Progress

if TYPE_CHECKING:
    from clickmill.data import PreparedDataset
    from clickmill.training import TrainedModel

Choice = Literal["auto", "none", "platt", "isotonic"]


def calibrate(
    trained: TrainedModel, dataset: PreparedDataset, *, method: Choice = "auto", folds: int = 5, seed: int = 0
) -> tuple[Calibration, Selection]:
    """Correct the prior of the training rows in closed form, then fit a calibrator on the calibration split.

    `auto` takes the simplest method whose NE on held-out folds is as good as the best's. Raises DegenerateLabels when the split has
    one class only, or too few clicks for a method asked for by name.
    """
    return fit(
        trained.raw_logits_of(dataset, "calibration"),
        labels(dataset, "calibration"),
        weights(dataset, "calibration"),
        negatives_kept=trained.meta["negatives_kept"],
        positive_weight=trained.meta["positive_weight"],
        folds=folds,
        seed=seed,
        methods=METHODS if method == "auto" else (method,),
    )


def build_bundle(
    trained: TrainedModel,
    dataset: PreparedDataset,
    out: str | Path,
    *,
    method: Choice = "auto",
    export: ExportConfig | None = None,
    parent: str | None = None,
    seed: int = 0,
    resamples: int = 200,
    created: datetime | None = None,
    progress: Progress = SILENT,
) -> Bundle:
    """Calibrate on the calibration split, evaluate on the test split, write the bundle at `out`.

    export: how the rows are stored in the graph. The calibrator is fitted on float32 rows, and what is judged is what is served: the
    rounded ones, so that the loss told is not made good by the calibrator. parent: digest of the champion it will challenge. resamples: bootstrap resamples behind each interval. Raises what
    `calibrate`, `evaluate_predictions` and `write` raise.
    """
    progress.start("calibrate and judge", 3, "steps")
    calibration, selection = calibrate(trained, dataset, method=method, seed=seed)
    progress.advance(1)
    model = served(trained, (export or ExportConfig()).rows)
    raw_logit = model.trained.raw_logits_of(dataset, "test")
    progress.advance(1)
    evaluation = evaluate_predictions(
        calibration.pctr(raw_logit), dataset, "test", seed=seed, resamples=resamples
    )
    progress.advance(1, auc=evaluation.auc.value, ne=evaluation.normalized_entropy.value)
    progress.finish()
    ne_float32 = None
    if model.rows != "float32":
        exact = calibration.pctr(trained.raw_logits_of(dataset, "test"))
        ne_float32 = normalized_entropy(labels(dataset, "test"), exact, weights(dataset, "test"))
    report = report_calibration(
        raw_logit,
        labels(dataset, "test"),
        weights(dataset, "test"),
        calibration,
        selection,
        requested=method,
        seed=seed,
    )
    return write(
        out,
        trained,
        calibration,
        evaluation,
        dataset,
        report=report,
        model=model,
        ne_float32=ne_float32,
        parent=parent,
        created=created,
        seed=seed,
        progress=progress,
    )


def report_calibration(
    raw_logit: npt.ArrayLike,
    y: npt.ArrayLike,
    weight: npt.NDArray[np.float64] | None,
    calibration: Calibration,
    selection: Selection,
    *,
    requested: str,
    seed: int,
) -> CalibrationReport:
    """What each step of the calibration did to the predictions of rows (n,) that it was not fitted on."""
    prior_only = Calibration(
        negatives_kept=calibration.negatives_kept, positive_weight=calibration.positive_weight
    )
    steps = {"raw score": Calibration(), "prior corrected": prior_only, "calibrated": calibration}
    return CalibrationReport(
        method=selection.calibrator.kind,
        requested=requested,
        reason=selection.reason,
        candidates=dict(selection.ne_by_method),
        seed=seed,
        click_rate=float(np.average(np.asarray(y, np.float64), weights=weight)),
        steps=tuple(_step(title, step.pctr(raw_logit), y, weight) for title, step in steps.items()),
    )


def _step(
    title: str, p: npt.NDArray[np.float64], y: npt.ArrayLike, weight: npt.NDArray[np.float64] | None
) -> CalibrationStep:
    return CalibrationStep(
        title=title,
        mean=float(np.average(p, weights=weight)),
        normalized_entropy=normalized_entropy(y, p, weight),
        log_loss=log_loss(y, p, weight),
        ece_equal_mass=expected_calibration_error(y, p, weight),
        ece_equal_width=expected_calibration_error(y, p, weight, strategy="equal_width"),
        calibration_ratio=calibration_ratio(y, p, weight),
    )
