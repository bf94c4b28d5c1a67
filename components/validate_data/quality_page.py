"""What the contract check found, as a page."""

from __future__ import annotations

from pathlib import Path

from clickmill.data import QualityReport
from clickmill.data.checked import BAD_ROWS, QUALITY
from components.pages import Table, facts, html


def write_quality_page(quarantine: Path, out: Path) -> None:
    """Make the page from `quality.json` in the quarantine folder; without one the check did not get that far, so there is no page."""
    found = quarantine / QUALITY
    if found.exists():
        out.write_text(
            quality_page(QualityReport.model_validate_json(found.read_text()), quarantine / BAD_ROWS)
        )


def quality_page(report: QualityReport, bad_rows: Path) -> str:
    """HTML."""
    if report.quarantined:
        lead = f"{report.quarantined:,} of {report.rows:,} rows ({report.share:.2%}) break the contract and were set aside."
    else:
        lead = f"All {report.rows:,} rows keep the contract."
    clock = report.clock
    parts = [
        facts(
            "Source",
            {
                "files": report.origin,
                "rows": report.rows,
                "in quarantine": report.quarantined,
                "quarantine": bad_rows if report.quarantined else None,
                "first event": clock.start and f"{clock.start:%Y-%m-%d %H:%M:%S} UTC",
                "last event": clock.end and f"{clock.end:%Y-%m-%d %H:%M:%S} UTC",
                "rows earlier than the row before": clock.backward_steps,
                "largest step back": f"{clock.largest_step_s:,.0f} s",
            },
        )
    ]
    if report.breaches:
        parts.append(
            Table(
                "Broken rules",
                ("field", "rule", "rows", "first row", "what stood there", "what to do"),
                tuple(
                    (b.field, b.rule, b.rows, b.first_row, b.first_value, b.remedy) for b in report.breaches
                ),
                "Rows are counted from 0. A row may break several rules.",
            )
        )
    return html("Data quality", lead, parts)
