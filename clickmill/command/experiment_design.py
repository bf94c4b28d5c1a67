"""`clickmill experiment design`: how much traffic, for how long."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clickmill.command.console import AsJson, print_json, result, words

if TYPE_CHECKING:
    from clickmill.experiment.design import Baseline

LIFTS = (0.001, 0.005, 0.01, 0.02, 0.05, 0.1)


def design(
    ctr: Annotated[float, typer.Option(help="Present click rate, between 0 and 1.")],
    traffic: Annotated[
        float, typer.Option(help="Impressions per day, in all arms together.", metavar="PER_DAY")
    ],
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
        float,
        typer.Option(
            min=0, help="With --rpm: standard deviation of the price of a click, divided by its mean."
        ),
    ] = 0.7,
    impressions_per_user: Annotated[
        float, typer.Option(min=1, help="Mean number of impressions per user over the whole experiment.")
    ] = 1.0,
    impressions_cv: Annotated[
        float,
        typer.Option(min=0, help="Standard deviation of the impressions per user, divided by their mean."),
    ] = 1.0,
    rate_cv: Annotated[
        float,
        typer.Option(
            min=0, help="Standard deviation of the click rate between users, divided by the mean rate."
        ),
    ] = 0.5,
    arms: Annotated[
        int, typer.Option(min=2, help="Number of arms of equal size, including the control.")
    ] = 2,
    metrics: Annotated[
        int, typer.Option(min=1, help="Number of metrics that decide: the primary metric and the guardrails.")
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
    """Plan how much traffic an experiment needs and how long it will run.

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
