"""The `experiment` step."""

from typing import List  # noqa: UP035  kfp knows this one

from kfp import dsl

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def experiment(
    spec: str,
    log: List[str],  # noqa: UP006
    clicks: List[str],  # noqa: UP006
    attribution_seconds: float,
    analysis: dsl.Output[dsl.Artifact],
    metrics: dsl.Output[dsl.Metrics],
    page: dsl.Output[dsl.HTML],
) -> str:
    """Analyse an experiment: is the split sound, is an arm better than the control, what next.

    The intervals are always valid, so that this may run on a schedule for as long as the experiment does.

    Args:
        spec: The experiment: path of its YAML file, or its text.
        log: Its log, a row per impression: files or folders of Parquet or CSV. With clicks: folders of a prediction log.
        clicks: Click log to join with a prediction log; empty for a log of its own.
        attribution_seconds: With clicks: how long after its prediction a click counts.
        analysis: All that was found, as JSON.
        metrics: Lift and interval of each metric, users, p-value of the split.
        page: The report for people: verdict, why, what next.

    Returns:
        `PASS` when an arm is shown to be better, `FAIL` when all are shown not to be, `UNKNOWN` when the data can't say.
    """
    from datetime import timedelta
    from pathlib import Path

    from clickmill.experiment.reading import analyse_joined, analyse_log
    from clickmill.experiment.report import page as page_of
    from components.experiment.figures import figures_of
    from components.experiment.spec_text import spec_of
    from components.metrics import log_metrics
    from components.step import step

    with step("experiment") as running:
        chosen, paths = spec_of(spec), [Path(path) for path in log]
        if clicks:
            joined = [Path(path) for path in clicks]
            found = analyse_joined(chosen, paths, joined, attribution=timedelta(seconds=attribution_seconds))
        else:
            found = analyse_log(chosen, paths)
        Path(analysis.path).write_text(found.model_dump_json(indent=2) + "\n")
        Path(page.path).write_text(page_of(found))
        log_metrics(metrics, figures_of(found), verdict=found.verdict, headline=found.best.headline)
        running.note(found.best.headline)
        return found.verdict.value
