"""The `monitor` step."""

from typing import Any, Dict, List  # noqa: UP035  kfp knows these

from kfp import dsl

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def monitor(
    store: str,
    log: str,
    impressions: List[str],  # noqa: UP006
    folder: str,
    drift: Dict[str, Any],  # noqa: UP006
    retrain: Dict[str, Any],  # noqa: UP006
    push: str,
    report: dsl.Output[dsl.HTML],
    evidently: dsl.Output[dsl.HTML],
    metrics: dsl.Output[dsl.Metrics],
) -> str:
    """Hold live rows against the drift reference of the bundle that answered, and start a training if they have drifted and may.

    Returns the verdict on the bundle that serves: same, drifted or unknown. What is found stays in `folder`, window by window, with the
    record of trainings, so that the budget holds from one run of the schedule to the next.

    Args:
        store: Model store that the endpoint watches.
        log: Folder of the prediction log; or empty, and `impressions` are looked at.
        impressions: Impression log: paths of files or folders, or patterns; empty with a prediction log.
        folder: Folder on a mounted volume where windows, drift.prom and the record of trainings are archive.
        drift: Settings of the look, such as {"window_hours": 24, "ignored": ["user_id"]}.
        retrain: The training that a drift may start, such as {"pipeline": "/mnt/ctr.yaml", "arguments": {...}}; empty: none.
        push: Group of a Pushgateway that gets the figures, such as http://pushgateway:9091/metrics/job/ctr-drift; empty: none.
        report: What was found of the bundle that serves, field by field.
        evidently: Evidently's report of an even sample of the same rows.
        metrics: Rows, drifted and broken fields.
    """
    from datetime import UTC, datetime
    from pathlib import Path

    from clickmill.prediction_log import Salt
    from components.metrics import log_metrics
    from components.monitor.retraining import retraining_of
    from components.monitor.shown import show
    from components.step import step
    from components.typed_settings import typed_settings
    from monitoring import drift as drifts

    with step("monitor") as running:
        answering = retraining_of(retrain)
        group = drifts.PushGroup.at(push) if push else None
        checker = drifts.DriftChecker(
            drifts.Bundles(Path(store)),
            typed_settings("drift", drifts.DriftSettings, drift),
            Path(folder),
            Salt.of_environment(),
        )
        collector = drifts.DriftCollector()
        found, decision = drifts.check_once(
            checker,
            collector,
            datetime.now(UTC),
            log_folder=Path(log) if log else None,
            impressions=impressions or None,
            retrain=drifts.kubeflow_retrain(**answering.model_dump()) if answering is not None else None,
        )
        serving = next((window for window in found if window.bundle == checker.bundles.serving()), None)
        place = None if serving is None else drifts.place_of(Path(folder), serving)
        verdict, figures = show(serving, place, Path(report.path), Path(evidently.path))
        log_metrics(metrics, figures)
        running.note(f"{len(found)} bundles answered; the one that serves: {verdict}")
        if decision is not None:
            running.note(f"training {'started' if decision.start else 'not started'}: {decision.reason}")
        if group is not None:
            try:
                group.push(collector)
            except drifts.NotPushed as error:
                # A step that fails is retried, and a second look a minute later would count as one that agrees.
                running.note(str(error))
    return verdict
