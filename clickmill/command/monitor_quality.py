"""`clickmill monitor quality`: predictions joined with their clicks."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clickmill.command.console import AsJson, print_json, result, show, words
from clickmill.command.settings import nested, typed

if TYPE_CHECKING:
    from monitoring.live import Ingested, Look, Reference


def quality(
    log: Annotated[
        Path, typer.Option(help="Folder of the prediction log (clickmill serve --prediction-log).")
    ],
    clicks: Annotated[
        Path,
        typer.Option(
            help="Folder of the click log: Parquet, CSV or JSON lines with impression_id and click_time (UTC); "
            "each file must appear whole."
        ),
    ],
    state: Annotated[
        Path,
        typer.Option(
            help="File that remembers what was read; with the same file a restart continues where it stopped."
        ),
    ] = Path("out/live-quality.duckdb"),
    store: Annotated[
        Path | None,
        typer.Option(
            help="Model store or bundle: also exports each bundle's metrics on its own test data, which alerts compare with."
        ),
    ] = None,
    once: Annotated[
        bool,
        typer.Option("--once", help="Measure once, print the figures and exit, instead of serving /metrics."),
    ] = False,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of /metrics.")] = 9105,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for all.")] = "127.0.0.1",
    every: Annotated[float, typer.Option(min=0.1, help="Seconds between two checks.")] = 15.0,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="live.NAME=VALUE",
            help="live.attribution_seconds=1800, live.lateness_seconds=300, live.windows_seconds=[1800,21600], live.slices=\\[device].",
        ),
    ] = None,
    json: AsJson = False,
) -> None:
    """Join predictions with their clicks and report how good each bundle is: NE, calibration, AUC, click rate.

    An impression is judged when its attribution window is over. Only predictions with an impression id count: a ranking scores
    candidates that nobody sees. Each file is counted once, also when this is killed and started again.
    [bold]clickmill monitor quality --log out/log --clicks out/clicks --once[/bold]
    """
    from clickmill.errors import UsageError
    from monitoring import live

    chosen = typed("live", live.LiveSettings, nested(settings or [], ["live"])["live"])
    for option, folder in (("--log", log), ("--clicks", clicks), ("--store", store)):
        if folder is not None and not folder.is_dir():
            raise UsageError(f"{option} {folder}: no such folder")
    if once:
        with live.LabelJoin(state, chosen) as joined:
            look, taken = live.look(joined, log, clicks, datetime.now(UTC))
        references = live.references(store) if store else []
        if store and not references:
            words.print(f"--store {store} holds no bundle yet: nothing to hold the figures against")
        _print(look, taken, references, json)
        for hint in _hints(look, taken, log, clicks, chosen.slices):
            words.print(hint, markup=False)
        return
    stop = threading.Event()
    for sign in (signal.SIGINT, signal.SIGTERM):
        signal.signal(sign, lambda *_: stop.set())
    words.print(
        f"live quality of {log} on http://{host}:{port}/metrics, a look every {every:g} s; Ctrl-C ends it"
    )
    live.watch(chosen, log, clicks, state, port=port, host=host, every=every, stop=stop, store=store)


def _print(look: Look, taken: Ingested, references: list[Reference], json: bool) -> None:
    from dataclasses import asdict

    from monitoring.live import measured

    on_test = {reference.digest: reference for reference in references}
    found = [
        {
            "bundle": slice_.bundle,
            "field": slice_.field,
            "value": slice_.value,
            "window_seconds": window,
            **asdict(figures),
            "test_normalized_entropy": on_test[slice_.bundle].normalized_entropy
            if slice_.bundle in on_test
            else None,
        }
        for window, slice_, figures in measured(look)
    ]
    if json:
        print_json({"at": look.at, "taken_in": asdict(taken), "quality": found})
        return
    from rich.table import Table

    for window in look.slices:
        table = Table(box=None, pad_edge=False, title=f"window of {window:g} s", title_justify="left")
        for title in ("bundle", "slice"):
            table.add_column(title, no_wrap=True)
        for title in ("judged", "clicks", "NE", "on test", "calibration", "AUC"):
            table.add_column(title, justify="right", no_wrap=True)
        for row in (row for row in found if row["window_seconds"] == window):
            place = f"{row['field']}={row['value']}" if row["field"] else "all"
            counts = (show(row["impressions"]), show(row["clicks"]))
            ends = f"{_three(row['calibration_low'])}-{_three(row['calibration_high'])}"
            ratio = row["calibration_ratio"] and f"{row['calibration_ratio']:.3f} ({ends})"
            losses = (_three(row["normalized_entropy"]), _three(row["test_normalized_entropy"]))
            figures = (*losses, ratio or "-", _three(row["auc"]))
            table.add_row(row["bundle"][:8], place, *counts, *figures)
        result.print(table)
    words.print(
        f"read {taken.impressions:,} impressions, {taken.without_impression:,} predictions without an impression id, "
        f"{taken.fallbacks:,} impressions ranked by a fallback, "
        f"{taken.clicks:,} clicks, {taken.incomplete_clicks:,} clicks without id or time"
    )
    for reason in taken.unreadable:
        words.print("[yellow]unreadable[/]", reason)


def _hints(look: Look, taken: Ingested, log: Path, clicks: Path, slices: Sequence[str]) -> Iterator[str]:
    """What is likely wrong with what was given, a sentence each."""
    from clickmill.command.monitor_drift import no_file_of_a_log
    from clickmill.prediction_log import log_files
    from monitoring.live import MISSING, click_files

    if not log_files(log):
        yield no_file_of_a_log(log)
        return
    if not click_files(clicks):
        yield f"{clicks} holds no click file: .parquet, .csv, .jsonl or .json, directly in the folder"
    judged = [one for slices_of_window in look.slices.values() for one in slices_of_window]
    if not judged:
        yield (
            "no impression can be judged yet: attribution window and lateness "
            "(live.attribution_seconds, live.lateness_seconds) are not over"
        )
    elif taken.clicks and not any(one.labelled.clicks for one in judged):
        yield (
            f"{taken.clicks:,} clicks were read and none is of an impression that is judged: are the impression ids of both logs the same, "
            "and click_time in UTC?"
        )
    for name in slices:
        values = {one.value for one in judged if one.field == name}
        if values == {MISSING}:
            yield (
                f"live.slices: no prediction has a value of {name}: is it a field of the contract, and does the endpoint log values "
                "(clickmill serve --log-features values)?"
            )


def _three(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
