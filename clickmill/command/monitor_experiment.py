"""`clickmill monitor experiment`: a running experiment as metrics."""

from __future__ import annotations

import signal
import threading
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from clickmill.command.console import words


def experiment(
    spec: Annotated[
        Path, typer.Argument(help="YAML of the experiment that the ranker runs (docs/experiments.md).")
    ],
    log: Annotated[
        Path,
        typer.Option(help="Folder of the prediction log (--prediction-log, with --log-features values)."),
    ],
    clicks: Annotated[
        Path,
        typer.Option(
            help="Folder of the click log: impression_id, click_time, and price where revenue is measured."
        ),
    ],
    attribution: Annotated[
        float, typer.Option(min=1, help="Seconds after the prediction until which a click counts.")
    ] = 1_800.0,
    look_hours: Annotated[
        float, typer.Option(min=0.01, help="Hours between the points of the report's timeline.")
    ] = 24.0,
    report: Annotated[
        Path | None, typer.Option(help="HTML page to keep up to date beside the metrics.")
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of /metrics.")] = 9107,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for all.")] = "127.0.0.1",
    every: Annotated[
        float,
        typer.Option(min=1, help="Seconds between two analyses; each reads both logs from their beginning."),
    ] = 60.0,
) -> None:
    """Analyse a running experiment again and again: users, click rate, revenue, split and answer by arm, on /metrics.

    Looking often costs nothing in truth: the intervals are always valid. A log that can't be used (yet) is counted and told, and what was
    shown stays. [bold]clickmill monitor experiment experiment.yaml --log out/log --clicks out/clicks[/bold]
    """
    from clickmill.errors import UsageError
    from clickmill.experiment import spec as specs
    from monitoring import experiments

    chosen = specs.load(spec)
    for option, folder in (("--log", log), ("--clicks", clicks)):
        if not folder.is_dir():
            raise UsageError(f"{option} {folder}: no such folder")
    stop = threading.Event()
    for sign in (signal.SIGINT, signal.SIGTERM):
        signal.signal(sign, lambda *_: stop.set())
    words.print(
        f"experiment {chosen.name} on http://{host}:{port}/metrics, analysed every {every:g} s; Ctrl-C ends it"
    )
    watched = experiments.Watched(
        chosen, log, clicks, timedelta(seconds=attribution), timedelta(hours=look_hours)
    )
    experiments.watch(watched, port=port, host=host, every=every, stop=stop, report=report)
