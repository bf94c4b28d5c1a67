"""`clickmill experiment`: plan, split, analyse, and see it all on the simulated market."""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clickmill.command import experiment_demo
from clickmill.command.console import AsJson, print_facts, print_json, result, words

if TYPE_CHECKING:
    from clickmill.experiment.design import Baseline
    from clickmill.experiment.findings import Analysis

app = typer.Typer(
    no_args_is_help=True,
    help="Does B beat A? Plan an experiment, split its users, analyse it.",
    epilog="Exit status: 0 done (analyze: the answer is yes), 1 could not run, 2 wrong usage, 3 analyze: the answer is no, 4 analyze: not known.",
)
app.command("demo")(experiment_demo.demo)

LIFTS = (0.001, 0.005, 0.01, 0.02, 0.05, 0.1)
NO, UNKNOWN = 3, 4


@app.command()
def design(
    ctr: Annotated[float, typer.Option(help="Click rate now, between 0 and 1.")],
    traffic: Annotated[float, typer.Option(help="Impressions a day in all arms.", metavar="PER_DAY")],
    lift: Annotated[
        list[float] | None,
        typer.Option(
            help="Relative lift to find, 0.001 is 0.1 % of the rate; may be given several times (default: 0.1 % to 10 %)."
        ),
    ] = None,
    absolute: Annotated[
        float | None,
        typer.Option(help="Absolute lift of the click rate to find instead: 0.001 is from 3.0 % to 3.1 %."),
    ] = None,
    rpm: Annotated[
        float | None,
        typer.Option(
            help="Revenue per thousand impressions now: plan for that metric instead of the click rate."
        ),
    ] = None,
    price_cv: Annotated[
        float, typer.Option(min=0, help="Deviation of what a click pays over its mean, with --rpm.")
    ] = 0.7,
    impressions_per_user: Annotated[
        float, typer.Option(min=1, help="Impressions of a user over the whole experiment, mean.")
    ] = 1.0,
    impressions_cv: Annotated[float, typer.Option(min=0, help="Deviation of them over their mean.")] = 1.0,
    rate_cv: Annotated[
        float, typer.Option(min=0, help="Deviation of the users' own click rates over the mean rate.")
    ] = 0.5,
    arms: Annotated[int, typer.Option(min=2, help="Arms, the control among them, all alike.")] = 2,
    metrics: Annotated[
        int, typer.Option(min=1, help="Metrics that decide: the primary one and the guardrails.")
    ] = 1,
    alpha: Annotated[
        float, typer.Option(help="Chance of a false alarm over all comparisons, two-sided.")
    ] = 0.05,
    power: Annotated[float, typer.Option(help="Chance of finding the lift where there is one.")] = 0.8,
    plot: Annotated[
        Path | None, typer.Option(help="SVG to write: the least lift that can be found, by the days it runs.")
    ] = None,
    json: AsJson = False,
) -> None:
    """Say how much traffic an experiment needs, and for how long, before it begins.

    Users are split and impressions are counted: users who come back are alike to themselves, so that a million impressions of ten
    thousand users tell less than those of a million. "Any time" is the price of looking every day, which `analyze` does.
    [bold]clickmill experiment design --ctr 0.036 --traffic 5000000 --impressions-per-user 20[/bold]
    """
    from clickmill.experiment import design as designs
    from clickmill.experiment import plots

    baseline = designs.click_rate(
        ctr, impressions_per_user=impressions_per_user, impressions_cv=impressions_cv, rate_cv=rate_cv
    )
    unit = "click rate"
    if rpm is not None:
        baseline = designs.revenue(
            rpm, ctr=ctr, price_cv=price_cv, design_effect=max(baseline.design_effect, 1.0)
        )
        unit = "revenue per thousand impressions"
    comparisons = (arms - 1) * metrics
    plans = {
        kind: designs.Plan(alpha, power, comparisons, 0.5, kind == "any_time")
        for kind in ("once", "any_time")
    }
    wanted = [absolute / ctr] if absolute is not None else list(lift or LIFTS)
    rows = [_wanted(baseline, one, plans, arms, traffic) for one in wanted]
    if plot is not None:
        plot.write_bytes(plots.detectable(baseline, plans["once"], traffic * 2 / arms, 56))
        words.print(f"plot written to {plot}")
    weeks = {
        days: designs.minimal_effect(baseline, plans["any_time"], round(traffic * 2 / arms * days))
        for days in (7, 14, 28)
    }
    if json:
        print_json({"baseline": asdict(baseline), "needs": rows, "least_lift_any_time_by_days": weeks})
        return
    _print_design(baseline, unit, rows, weeks, arms, comparisons)


def _wanted(
    baseline: Baseline, lift: float, plans: dict[str, Any], arms: int, traffic: float
) -> dict[str, Any]:
    from clickmill.experiment import design as designs

    row: dict[str, Any] = {"lift": lift, "from": baseline.value, "to": baseline.value * (1 + lift)}
    for kind, plan in plans.items():
        n = round(designs.impressions(baseline, lift, plan) * arms / 2)
        row[kind] = {"impressions": n, "days": designs.days(n, traffic)}
    return row


def _print_design(
    baseline: Baseline,
    unit: str,
    rows: list[dict[str, Any]],
    weeks: dict[int, float],
    arms: int,
    comparisons: int,
) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for title in ("lift", unit, "impressions, one look", "days", "impressions, any time", "days"):
        table.add_column(title, justify="right")
    for row in rows:
        table.add_row(
            f"{100 * row['lift']:+.3g} %",
            f"{row['from']:.4g} to {row['to']:.4g}",
            f"{row['once']['impressions']:,}",
            f"{row['once']['days']:,}",
            f"{row['any_time']['impressions']:,}",
            f"{row['any_time']['days']:,}",
        )
    result.print(f"[bold]impressions in all {arms} arms until a lift is found[/]")
    result.print(table)
    words.print(
        f"users who come back cost a factor of {baseline.design_effect:.2f}; {comparisons} comparison(s) share alpha. "
        f"Run whole weeks. In 7, 14 and 28 days lifts from {', '.join(f'{100 * v:.2g} %' for v in weeks.values())} on are found, looked at any time."
    )


@app.command()
def assign(
    spec: Annotated[Path, typer.Argument(help="YAML of the experiment (docs/experiments.md).")],
    users: Annotated[
        list[str] | None,
        typer.Argument(help="User ids; none given: a made-up crowd of 100,000, to see the shares."),
    ] = None,
    others: Annotated[
        list[Path] | None,
        typer.Option(
            "--beside",
            help="YAML of an experiment that runs at the same time: refuse if the two would split the same users.",
        ),
    ] = None,
    json: AsJson = False,
) -> None:
    """Say which arm users are in, the way the ranker does.

    The arm is a salted hash of the user: the same on every machine, and growing `ramp` moves nobody from one arm to another.
    [bold]clickmill experiment assign experiment.yaml u17 u18[/bold]
    """
    from clickmill.experiment import spec as specs
    from clickmill.experiment.assignment import assign_all

    chosen = specs.load(spec)
    specs.check_layers([chosen, *map(specs.load, others or [])])
    if users:
        rows = assign_all(chosen, users).to_pylist()
        if json:
            print_json(rows)
            return
        for row in rows:
            result.print(f"{row['user']}  {row['arm'] or '-'}  {row['place']}")
        return
    crowd = assign_all(chosen, [f"user-{number}" for number in range(100_000)])
    counts = {
        f"{place['values']}": place["counts"] for place in crowd["place"].value_counts().to_pylist()
    } | {
        f"arm {arm['values']}": arm["counts"]
        for arm in crowd["arm"].value_counts().to_pylist()
        if arm["values"]
    }
    shares = {name: count / len(crowd) for name, count in sorted(counts.items())}
    if json:
        print_json(shares)
    else:
        print_facts(
            "share of 100,000 made-up users", {name: f"{share:.2%}" for name, share in shares.items()}
        )


@app.command()
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
    attribution: Annotated[
        float,
        typer.Option(
            min=1,
            help="With --clicks: seconds after the prediction until which a click counts; younger predictions wait.",
        ),
    ] = 1_800.0,
    look_hours: Annotated[
        float,
        typer.Option(
            min=0.01, help="Hours between the looks that are drawn; the answer may be read at any of them."
        ),
    ] = 24.0,
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
        analysis = analyse_log(chosen, log, look=look)
    else:
        analysis = analyse_joined(chosen, log, clicks, attribution=timedelta(seconds=attribution), look=look)
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
