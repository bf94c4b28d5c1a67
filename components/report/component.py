"""The `report` step."""

from typing import List  # noqa: UP035  kfp knows this one

from kfp import dsl

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def report(
    status: dsl.PipelineTaskFinalStatus,
    models: List[str],  # noqa: UP006
    store: str,
    summary: dsl.Output[dsl.Markdown],
    page: dsl.Output[dsl.HTML],
):
    """Say how the run ended, whatever happened: the state, the reason of a failure, what each step found, what is deployed.

    Args:
        status: How the run ended, filled in by the pipeline engine.
        models: Models the run was asked to train.
        store: Model store, to name the version that serves now; may be empty.
        summary: The report for the UI.
        page: The same as a page of its own.
    """
    import os
    from pathlib import Path

    from components.report.account import account
    from components.step import RECORD_VARIABLE, read_records

    record = os.environ.get(RECORD_VARIABLE)
    told = account(
        state=status.state,
        message=status.error_message or "",
        records=read_records(Path(record)) if record else [],
        models=models,
        store=Path(store) if store else None,
    )
    print(told.headline)
    Path(summary.path).write_text(told.as_markdown())
    Path(page.path).write_text(told.as_html())
