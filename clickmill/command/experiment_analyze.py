"""`clickmill experiment analyze`: yes, no, or not known."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clickmill.command.console import AsJson, print_json, result, words

if TYPE_CHECKING:
    from clickmill.experiment.findings import Analysis

NO, UNKNOWN = 3, 4

Attribution = Annotated[
    float,
    typer.Option(
        min=1,
        help="With --clicks: seconds after the prediction until which a click counts; younger predictions wait.",
    ),
]


def analyze(
    spec: Annotated[Path, typer.Argument(help="YAML of the experiment.")],
    log: Annotated[
        list[Path],
        typer.Argument(
            help="Parquet or CSV files, or folders of them, a row per impression: the user, arm, time, clicked, and revenue. With --clicks: folders of a prediction log."
        ),
    ],
    clicks: Annotated[
        list[Path] | None,
        typer.Option(
            help="Click log to join with the prediction log: impression_id, click_time, and price where revenue is measured."
        ),
    ] = None,
    attribution: Attribution = 1_800.0,
    look_hours: Annotated[
        float,
        typer.Option(
            min=0.01, help="Hours between the looks that are drawn; the answer may be read at any of them."
        ),
    ] = 24.0,
    holdout: Annotated[
        bool,
        typer.Option(
            "--holdout",
            help="Compare everybody else with the users whom the spec holds out: what all that was shipped since its start has changed.",
        ),
    ] = False,
    report: Annotated[
        Path | None, typer.Option(help="HTML page to write: the answer, why, and what next.")
    ] = None,
    json: AsJson = False,
) -> None:
    """Answer whether an arm beats the control: yes, no, or not known.

    First whether every arm has the users it should have: if not, no figure counts. Then the lift of each metric with an interval that may
    be looked at every day. [bold]clickmill experiment analyze experiment.yaml out/log --report out/answer.html[/bold]

    [bold]Exit status[/bold]: 0 yes, 3 no, 4 not known, 1 the log can't be used, 2 wrong usage.
    """
    from clickmill.experiment import report as reports
    from clickmill.experiment import spec as specs
    from clickmill.experiment.reading import analyse_joined, analyse_log
    from clickmill.release import Verdict

    chosen, look = specs.load(spec), timedelta(hours=look_hours)
    if clicks is None:
        analysis = analyse_log(chosen, log, look=look, holdout=holdout)
    else:
        window = timedelta(seconds=attribution)
        analysis = analyse_joined(chosen, log, clicks, attribution=window, look=look, holdout=holdout)
    if report is not None:
        report.parent.mkdir(parents=True, exist_ok=True)
        report.write_text(reports.page(analysis))
        words.print(f"report written to {report}")
    if json:
        print_json(analysis.model_dump(mode="json"))
    else:
        print_answer(analysis)
    code = {Verdict.PASS: 0, Verdict.FAIL: NO, Verdict.UNKNOWN: UNKNOWN}[analysis.verdict]
    if code:
        raise typer.Exit(code)


def print_answer(analysis: Analysis) -> None:
    """The answer and its figures in the terminal."""
    from rich.table import Table
    from rich.text import Text

    for conclusion in analysis.conclusions:
        result.print(Text(conclusion.headline, style="bold"))
        result.print(Text(f"  why   {conclusion.reason}"), soft_wrap=True)
        result.print(Text(f"  next  {conclusion.advice}"), soft_wrap=True)
    table = Table(box=None, pad_edge=False)
    for title in ("metric", "arm", "control", "arm's", "lift", "always-valid interval"):
        table.add_column(title, justify="left" if title in ("metric", "arm") else "right")
    for e in analysis.effects:
        span = f"{100 * e.low:+.2f} % to {100 * e.high:+.2f} %"
        table.add_row(
            e.metric,
            e.treatment,
            f"{e.control_value:.5g}",
            f"{e.treatment_value:.5g}",
            f"{100 * e.lift:+.2f} %",
            span,
        )
    result.print(table)
    split = analysis.sample_ratio
    told = ", ".join(f"{n:,} {arm}" for arm, n in split.users.items())
    words.print(
        f"split {'sound' if split.sound else 'BROKEN'}: {told}; chi-square p {split.chi_square_p:.3g}, at any time {split.any_time_p:.3g}"
    )
