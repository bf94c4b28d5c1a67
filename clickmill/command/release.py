"""`clickmill release`: the group, and what a release policy asks for before it is used."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from clickmill.command import release_run, release_state
from clickmill.command.console import AsJson, print_json, result, words
from clickmill.command.settings import nested, typed

app = typer.Typer(
    no_args_is_help=True, help="Move traffic to a new bundle step by step, and back if it is bad."
)

ERRORS = (0.15, 0.2, 0.3, 0.5, 1.0, 2.0)


app.command("run")(release_run.run)
app.command("status")(release_state.status)
app.command("history")(release_state.history)
app.command("propose")(release_state.propose)
app.command("rollback")(release_state.rollback)
app.command("freeze")(release_state.freeze)
app.command("resume")(release_state.resume)


@app.command()
def power(
    ctr: Annotated[float, typer.Option(help="Click rate, between 0 and 1.")],
    traffic: Annotated[
        float, typer.Option(help="Impressions per second of the whole endpoint.", metavar="PER_SECOND")
    ],
    label_delay: Annotated[
        float,
        typer.Option(help="Seconds until it is known whether an impression was clicked.", metavar="SECONDS"),
    ] = 0.0,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="release.NAME=VALUE",
            help="A setting of the policy: release.steps=[10,50,100], release.max_calibration_bias=0.05, release.shadow=false.",
        ),
    ] = None,
    json: AsJson = False,
) -> None:
    """Estimate how long a release will take, and how many clicks it takes to notice a fault.

    Too little traffic never promotes and never rolls back, it only waits: ask here for how long, before a policy is used.
    [bold]clickmill release power --ctr 0.01 --traffic 1000[/bold]
    """
    from clickmill.release import ReleasePolicy
    from clickmill.release.power import calibration_floors, steps

    policy = typed("release", ReleasePolicy, nested(settings or [], ["release"])["release"])
    floors = calibration_floors(policy, ctr, ERRORS)
    way = steps(policy, ctr, traffic, label_delay)
    if json:
        print_json({"floors": [asdict(floor) for floor in floors], "steps": [asdict(step) for step in way]})
        return
    from rich.table import Table

    first = policy.steps[0]
    table = Table("the candidate", box=None, pad_edge=False)
    for title in ("one look", "any time", f"at {first} %"):
        table.add_column(title, justify="right")
    for floor in floors:
        seconds = floor.any_time / (traffic * first / 100) + label_delay
        table.add_row(floor.fault, f"{floor.once:,}", f"{floor.any_time:,}", _duration(seconds))
    result.print("[bold]labelled impressions until a fault is refused (4 of 5 times)[/]")
    result.print(table)
    result.print()
    table = Table("share", "lasts at least", "waits for", box=None, pad_edge=False)
    for step in way:
        table.add_row(f"{step.percent} %", _duration(step.seconds), step.waits_for)
    result.print("[bold]a bundle without fault[/]")
    result.print(table)
    words.print(
        f"in all about {_duration(sum(step.seconds for step in way))}, after smoke{' and shadow' * policy.shadow}"
    )


def _duration(seconds: float) -> str:
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:,.1f} {unit}"
    return f"{seconds:,.0f} s"
