"""`clickmill drill`: put one fault into a running system, and see whether what must happen does."""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clickmill.command.console import AsJson, print_json, result, words

if TYPE_CHECKING:
    from monitoring.drills import Drill, Drilled, Event

MARK = ".clickmill-drills"
"""In folders that drills wrote, which they may therefore replace."""
COLOURS = {
    "fault": "red",
    "alert": "yellow",
    "told": "yellow",
    "silence": "magenta",
    "decision": "green",
    "verdict": "bold",
}


def drill(
    fault: Annotated[
        str, typer.Argument(help="Name of a drill, or `list` to show them all.", show_default=False)
    ] = "list",
    all_drills: Annotated[
        bool, typer.Option("--all", help="Run all drills one after the other, about two minutes each.")
    ] = False,
    out: Annotated[
        Path,
        typer.Option(
            "--out", "-o", help="Folder for pages and logs, and for the bundles that all drills share."
        ),
    ] = Path("out/drills"),
    bundle: Annotated[
        Path | None,
        typer.Option(
            help="Use this bundle as the good one instead of training one on a small simulated market."
        ),
    ] = None,
    contract: Annotated[
        Path, typer.Option("--contract", "-c", help="Contract of the simulated market.")
    ] = Path("contracts/world.yaml"),
    seed: Annotated[int, typer.Option(min=0, help="Seed of the traffic and its clicks.")] = 0,
    open_page: Annotated[
        bool, typer.Option("--open/--no-open", help="Open the page in a browser where there is one.")
    ] = True,
    json: AsJson = False,
) -> None:
    """Put a fault into a running system on this machine, and check that the system reacts as it must.

    Starts a release with servers, router, callers who click, live quality, and the real Prometheus and Alertmanager. Where those are not
    installed it says so, the release machine has only its own checks, and drills that are about alerts cannot run. Ends with a timeline
    and a page. Ctrl-C stops everything it started.
    [bold]clickmill drill list[/bold]   [bold]clickmill drill uncalibrated-bundle[/bold]

    [bold]Exit status[/bold]: 0 all as expected, 1 not as expected or it could not run, 2 wrong usage, 130 interrupted.
    """
    from clickmill.bundle import verify
    from clickmill.errors import UsageError
    from monitoring import drills

    if fault == "list" and not all_drills:
        _list(list(drills.DRILLS.values()), json)
        return
    if not all_drills and fault not in drills.DRILLS:
        raise UsageError(f"there is no drill {fault!r}; there are {', '.join(drills.DRILLS)}")
    chosen = list(drills.DRILLS.values()) if all_drills else [drills.DRILLS[fault]]
    left_out = (
        [each for each in chosen if each.needs_alerts] if all_drills and drills.missing_programs() else []
    )
    chosen = [each for each in chosen if each not in left_out]
    # A supervisor's SIGTERM shall stop the children as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    cache = out / "made"
    cache.mkdir(parents=True, exist_ok=True)
    if bundle is not None:
        verify(bundle)
    good = bundle or drills.good_bundle(cache, contract, _say)
    done = [_one(each, good, cache, out / each.name, seed) for each in chosen]
    pages = {drilled.drill.name: out / drilled.drill.name / "report.html" for drilled in done}
    if json:
        print_json([_document(drilled, pages[drilled.drill.name]) for drilled in done])
    else:
        for drilled in done:
            _timeline(drilled)
        _table(done)
    for page in pages.values():
        words.print(f"[bold]{page.resolve()}[/]", soft_wrap=True)
    if len(done) == 1 and open_page and (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        typer.launch(str(next(iter(pages.values())).resolve()))
    if left_out:
        missing, names = " and ".join(drills.missing_programs()), ", ".join(each.name for each in left_out)
        words.print(f"[yellow]not run, since {missing} is not installed[/]: {names}", soft_wrap=True)
    if left_out or not all(drilled.outcome.as_expected for drilled in done):
        raise typer.Exit(1)


def _one(each: Drill, good: Path, cache: Path, folder: Path, seed: int) -> Drilled:
    from clickmill.errors import UsageError
    from monitoring import drills

    if folder.exists():
        if not (folder / MARK).exists():
            raise UsageError(f"{folder}: exists, and no drill wrote it; name another folder with --out")
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    (folder / MARK).touch()
    words.print(f"[bold]{each.name}[/]: {each.injects}", soft_wrap=True)
    start = time.time()

    def seen(event: Event) -> None:
        colour = COLOURS.get(event.kind, "dim")
        words.print(f"[dim]{event.at - start:6.1f} s[/] [{colour}]{event.kind:<9}[/]", end=" ")
        words.print(event.words, markup=False, soft_wrap=True)

    drilled = drills.run(each, good, cache, folder / "site", say=_say, seen=seen, seed=seed)
    drills.write_page(drilled, folder / "report.html")
    return drilled


def _say(what: str) -> None:
    words.print(f"[dim]{what} ...[/]", soft_wrap=True)


def _list(all_drills: list[Drill], json: bool) -> None:
    if json:
        names = ("name", "injects", "must", "why", "expected")
        print_json([{name: getattr(each, name) for name in names} for each in all_drills])
        return
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for title in ("drill", "injects", "must happen"):
        table.add_column(title, overflow="fold")
    for each in all_drills:
        table.add_row(f"[bold]{each.name}[/]", each.injects, each.must)
    result.print(table)


def _timeline(drilled: Drilled) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(
        box=None, pad_edge=False, title=f"{drilled.drill.name}: seconds since the fault", title_justify="left"
    )
    table.add_column("s", justify="right", no_wrap=True)
    table.add_column("what", no_wrap=True)
    table.add_column("", overflow="fold")
    for event in sorted(drilled.timeline.events, key=lambda event: event.at):
        colour = COLOURS.get(event.kind, "dim")
        table.add_row(
            f"{event.at - drilled.started_at:+.1f}", Text(event.kind, style=colour), Text(event.words)
        )
    result.print(table)


def _table(done: list[Drilled]) -> None:
    from rich.table import Table

    from monitoring.drills import PAUSE_SECONDS

    table = Table(box=None, pad_edge=False)
    for title in ("drill", "verdict"):
        table.add_column(title, no_wrap=True)
    for title in ("alert to stable", "fault to restored", "fault to told", "lost", "asked again", "requests"):
        table.add_column(title, justify="right")
    for drilled in done:
        outcome = drilled.outcome
        verdict = "[green]as expected[/]" if outcome.as_expected else "[red]NOT as expected[/]"
        table.add_row(
            outcome.drill, verdict, _seconds(outcome.alert_to_stable), _seconds(outcome.fault_to_restored),
            _seconds(outcome.fault_to_told), f"{outcome.lost}", f"{outcome.asked_again}", f"{outcome.requests:,}",
        )  # fmt: skip
    result.print(table)
    for drilled in done:
        for problem in drilled.outcome.problems:
            result.print(f"[red]{drilled.drill.name}[/]", problem, soft_wrap=True)
        if drilled.outcome.paused > PAUSE_SECONDS:
            words.print(
                f"{drilled.drill.name}: the machine stood still for {drilled.outcome.paused:.1f} s; drill again when it has less to do",
                soft_wrap=True,
            )


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f} s"


def _document(drilled: Drilled, page: Path) -> dict[str, object]:
    outcome = drilled.outcome
    return {
        "drill": outcome.drill,
        "as_expected": outcome.as_expected,
        "problems": list(outcome.problems),
        "reason": outcome.reason,
        "alert_to_stable_seconds": outcome.alert_to_stable,
        "fault_to_restored_seconds": outcome.fault_to_restored,
        "fault_to_told_seconds": outcome.fault_to_told,
        "requests": outcome.requests,
        "lost": outcome.lost,
        "asked_again": outcome.asked_again,
        "paused_seconds": outcome.paused,
        "not_installed": list(drilled.missing),
        "page": str(page),
    }
