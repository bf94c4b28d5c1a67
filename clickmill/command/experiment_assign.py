"""`clickmill experiment assign`: which arm a user is in."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from clickmill.command.console import AsJson, print_facts, print_json, result


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
    """Show which arm users are in, by the same rule as the ranker.

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
