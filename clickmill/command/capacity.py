"""`clickmill capacity`: replicas, cores, memory and money for a promised rate and latency."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clickmill.command.console import AsJson, print_facts, print_json, show
from clickmill.command.durations import milliseconds

if TYPE_CHECKING:
    from clickmill.capacity import Demand, Measured, Plan


def capacity(
    qps: Annotated[
        float,
        typer.Option(min=1e-9, help="Requests per second at the peak; each holds --candidates candidates."),
    ],
    p99: Annotated[str, typer.Option(help="Latency that 99 of 100 requests stay below: 10ms, 0.02s.")],
    candidates: Annotated[
        int, typer.Option(min=1, help="Candidates per request; each needs one prediction.")
    ] = 1,
    measured: Annotated[
        Path | None,
        typer.Option(
            help="File that `clickmill serve BUNDLE --tune` wrote: it says how quick one of your replicas is."
        ),
    ] = None,
    saturation: Annotated[
        float | None,
        typer.Option(
            min=1e-9, help="Without --measured: the most requests per second that a replica answers."
        ),
    ] = None,
    idle_p50: Annotated[
        str | None, typer.Option(help="Without --measured: median latency of an idle replica.")
    ] = None,
    idle_p99: Annotated[
        str | None, typer.Option(help="Without --measured: p99 latency of an idle replica.")
    ] = None,
    cores: Annotated[float, typer.Option(min=0.01, help="Without --measured: cores of a replica.")] = 1.0,
    memory: Annotated[float, typer.Option(min=1, help="Without --measured: MiB of a replica.")] = 1024.0,
    zones: Annotated[
        int,
        typer.Option(
            min=1, help="Number of zones; with two or more, the promise still holds when one is lost."
        ),
    ] = 3,
    most_utilization: Annotated[
        float,
        typer.Option(min=0.01, max=1, help="Highest share of its time a replica may be planned to be busy."),
    ] = 0.8,
    price: Annotated[
        float, typer.Option(min=0, help="Price of one core for one hour, in your currency.")
    ] = 0.04,
    json: AsJson = False,
) -> None:
    """Plan how many replicas a latency promise takes, and what they cost.

    `clickmill capacity --qps 1000000 --p99 10ms --candidates 100 --measured serve.yaml`

    A replica is a queue: the wait follows from its rate, the number of requests it serves at once and how much their times differ
    (M/G/c with Erlang's C; `clickmill.capacity.queueing` has the equations), and comes on top of the latency of an idle replica. The
    promise is kept with a zone lost. Requests are taken to come independently of each other (Poisson) and to be spread at random.

    [bold]Exit status[/bold]: 0 planned, 2 the promise cannot be kept at any size, or wrong usage.
    """
    from clickmill.capacity import Demand, plan

    found = _measured(measured, candidates, saturation, idle_p50, idle_p99, cores, memory)
    demand = Demand(
        qps=qps,
        p99_ms=milliseconds(p99, "--p99"),
        candidates=candidates,
        zones=zones,
        most_utilization=most_utilization,
        price_per_core_hour=price,
    )
    made = plan(demand, found)
    if json:
        print_json(
            {
                "demand": demand.model_dump(),
                "plan": asdict(made),
                "measured": found.model_dump(exclude={"points"}),
            }
        )
        return
    _tell(demand, made, found)


def _tell(demand: Demand, made: Plan, found: Measured) -> None:
    lost = f", {made.p99_ms_zone_lost:.3g} ms with a zone lost" if demand.zones > 1 else ""
    busy = f", {made.utilization_zone_lost:.0%} with a zone lost" if demand.zones > 1 else ""
    print_facts(
        f"{show(demand.qps)} requests/s of {demand.candidates:,} candidate{'s' * (demand.candidates > 1)}, p99 {demand.p99_ms:g} ms",
        {
            "replicas": f"{made.replicas:,} ({made.replicas_per_zone:,} in each of {demand.zones} zones)",
            "cores": f"{made.cores:,.0f} ({found.cores:g} a replica)",
            "memory": f"{made.memory_gib:,.0f} GiB",
            "predictions": f"{made.predictions_per_second:,.0f} a second",
            "cost": f"{made.cost_per_hour:,.2f} an hour at {demand.price_per_core_hour:g} a core and hour; "
            f"{made.cost_per_million_predictions:,.4f} per million predictions at this rate",
            "p99": f"{made.p99_ms:.3g} ms{lost}",
            "busy": f"{made.utilization:.0%}{busy}",
            "a replica": f"{made.rate_per_replica:,.0f} requests/s; its bound is the {made.bound_by}",
            "measured on": " · ".join(filter(None, [found.bundle, found.protocol, found.machine]))
            or "figures of the command line",
        },
    )


def _measured(
    path: Path | None,
    candidates: int,
    saturation: float | None,
    idle_p50: str | None,
    idle_p99: str | None,
    cores: float,
    memory: float,
) -> Measured:
    from clickmill.capacity import Measured, Point
    from clickmill.command.serve_settings import measured_in
    from clickmill.errors import UsageError

    if path is not None:
        if saturation or idle_p50 or idle_p99:
            raise UsageError("give --measured, or --saturation, --idle-p50 and --idle-p99; not both")
        return measured_in(path)
    if saturation is None or idle_p50 is None or idle_p99 is None:
        raise UsageError(
            "how quick is a replica? Measure it with `clickmill serve BUNDLE --tune` and give --measured serve.yaml, or give --saturation, "
            "--idle-p50 and --idle-p99"
        )
    p50, p99 = milliseconds(idle_p50, "--idle-p50"), milliseconds(idle_p99, "--idle-p99")
    point = Point.of_figures(candidates, saturation, p50, p99)
    return Measured(cores=cores, memory_mib=memory, points=(point,))
