"""The `validate_data` step."""

from typing import List  # noqa: UP035  kfp knows this one

from kfp import dsl

from components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def validate_data(
    contract: str,
    impressions: List[str],  # noqa: UP006
    clicks: List[str],  # noqa: UP006
    truth: List[str],  # noqa: UP006
    test: List[str],  # noqa: UP006
    max_quarantine_share: float,
    inputs_digest: str,
    validated: dsl.Output[dsl.Dataset],
    quarantine: dsl.Output[dsl.Dataset],
    report: dsl.Output[dsl.HTML],
    metrics: dsl.Output[dsl.Metrics],
):
    """Check every row of the logs against the feature contract and set the bad ones aside, each with its reason.

    Fails when more rows are bad than allowed, when a column is missing or of another type, or when a file is empty or broken.

    Args:
        contract: Feature contract: path of the YAML file, or its text.
        impressions: Impression log: paths of files or folders, or patterns.
        clicks: Click log, when the label comes from a join.
        truth: True click probabilities of a simulated market; may be empty.
        test: Test files, when the test split is not cut by time; may be empty.
        max_quarantine_share: Share of rows that may be bad before the run stops.
        inputs_digest: Part of the cache key: change it when files of the same name hold other rows.
        validated: The rows that keep the contract.
        quarantine: The rows that do not, with row number, field and reason.
        report: What broke which rule, where first, and what to do about it.
        metrics: Rows, quarantined rows and their share.
    """
    from pathlib import Path

    from clickmill.data import PrepareOptions, check_logs
    from components.metrics import log_metrics
    from components.step import step
    from components.validate_data.contract_text import contract_of
    from components.validate_data.quality_page import write_quality_page

    with step("validate_data") as running:
        try:
            checked = check_logs(
                impressions,
                contract_of(contract),
                Path(validated.path),
                quarantine=Path(quarantine.path),
                clicks=clicks or None,
                truth=truth or None,
                test=test or None,
                options=PrepareOptions(max_quarantine_share=max_quarantine_share),
                progress=running.progress,
            )
        finally:
            # Also when too many rows are bad: that is when people want to see which.
            write_quality_page(Path(quarantine.path), Path(report.path))
        found = checked.meta.quality
        log_metrics(
            metrics,
            {"rows": found.rows, "quarantined": found.quarantined, "quarantined_share": found.share},
        )
        validated.metadata.update(quality_report=report.uri, quarantine=quarantine.uri, rows=found.rows)
        running.note(f"{found.rows:,} rows, {found.quarantined:,} in quarantine")
