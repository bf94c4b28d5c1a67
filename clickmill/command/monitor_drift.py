"""`clickmill monitor drift`: live rows held against the reference of the bundle that answered."""

from __future__ import annotations

import os
import shlex
import signal
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clickmill.command.console import AsJson, print_json, result, words
from clickmill.command.settings import nested, typed

if TYPE_CHECKING:
    from monitoring.drift import DriftChecker, Retrain, RetrainingDecision, WindowDrift

_COLOURS = {"same": "green", "sound": "green", "drifted": "red", "broken": "red", "unknown": "yellow"}


def drift(
    store: Annotated[
        Path,
        typer.Option(
            help="Model store that the endpoint watches, or one bundle: rows are compared with its drift reference."
        ),
    ],
    log: Annotated[
        Path | None, typer.Option(help="Folder of the prediction log (clickmill serve --prediction-log).")
    ] = None,
    impressions: Annotated[
        list[str] | None,
        typer.Option(
            help="Check all rows of these impression files, folders or patterns instead of a prediction log. They hold no predictions."
        ),
    ] = None,
    out: Annotated[
        Path,
        typer.Option(
            help="Folder for the report and figures of each window, drift.prom, and the record of trainings."
        ),
    ] = Path("out/drift"),
    once: Annotated[
        bool,
        typer.Option("--once", help="Check once, print the result and exit, instead of serving /metrics."),
    ] = False,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of /metrics.")] = 9107,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for all.")] = "127.0.0.1",
    every: Annotated[float, typer.Option(min=1, help="Seconds between two checks.")] = 3600.0,
    push: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="With --once: also push the figures to a Pushgateway, since a job ends before Prometheus comes: "
            "http://pushgateway:9091/metrics/job/NAME, a NAME for each endpoint.",
        ),
    ] = None,
    retrain: Annotated[
        str | None,
        typer.Option(
            metavar="WORDS",
            help="Answer a drift with `clickmill run WORDS`, within the budget of --set retrain.*. Default: drift starts nothing.",
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="TOPIC.NAME=VALUE",
            help="drift.window_hours=24, drift.ignored=\\[user_id], drift.psi=0.2, drift.wasserstein=0.1, drift.jensen_shannon=0.1, "
            "drift.drift_share=0.3, drift.report=none; retrain.per_hours=24, retrain.cool_down_hours=3, retrain.windows=2.",
        ),
    ] = None,
    json: AsJson = False,
) -> None:
    """Report field by field whether live rows have drifted from those that the bundle was calibrated on.

    Two verdicts, each of three values: drift (same, drifted, unknown) and quality of the values (sound, broken, unknown). Each bundle
    that answered is held against its own reference. A log hashes personal fields: give its salt in CLICKMILL_LOG_SALT to compare them.
    [bold]clickmill monitor drift --log out/log --store out/store --once[/bold]
    """
    from clickmill.errors import UsageError
    from clickmill.prediction_log import Salt
    from monitoring import drift as drifts

    topics = nested(settings or [], ["drift", "retrain"])
    chosen = typed("drift", drifts.DriftSettings, topics["drift"])
    policy = typed("retrain", drifts.RetrainingPolicy, topics["retrain"])
    if (log is None) == (not impressions):
        raise UsageError(
            "give either --log (a prediction log) or --impressions (files), not both and not neither"
        )
    if log is not None and not log.is_dir():
        raise UsageError(f"--log {log}: no such folder")
    if push is not None and not once:
        raise UsageError("--push goes with --once; a monitor that goes on is scraped at its /metrics")
    group = drifts.PushGroup.at(push) if push is not None else None
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--out {out}: cannot be made a folder ({error.strerror})") from error
    if not os.access(out, os.W_OK):
        raise UsageError(f"--out {out}: may not be written to")
    salt = os.environ.get("CLICKMILL_LOG_SALT")
    checker = drifts.DriftChecker(
        drifts.Bundles(store), chosen, out, Salt(salt.encode()) if salt is not None else None
    )
    answering = None
    if retrain is not None:
        trainer = drifts.LocalTrainer(shlex.split(retrain), out / "trainings")
        answering = drifts.Retrain(trainer, policy)
    if once:
        collector = drifts.DriftCollector()
        found, decision = drifts.check_once(
            checker,
            collector,
            datetime.now(UTC),
            log_folder=log,
            impressions=impressions,
            retrain=answering,
        )
        _print(found, decision, out, json)
        if not found and log is not None:
            words.print(_nothing_in(log, chosen.window_hours), markup=False)
        if group is not None:
            group.push(collector)
        return
    _watch(checker, log, impressions, answering, port=port, host=host, every=every)


def _watch(
    checker: DriftChecker,
    log: Path | None,
    impressions: list[str] | None,
    answering: Retrain | None,
    *,
    port: int,
    host: str,
    every: float,
) -> None:
    from monitoring import drift as drifts

    stop = threading.Event()
    for sign in (signal.SIGINT, signal.SIGTERM):
        signal.signal(sign, lambda *_: stop.set())
    words.print(f"drift on http://{host}:{port}/metrics, a look every {every:g} s; Ctrl-C ends it")

    def told(found: list[WindowDrift], decision: RetrainingDecision | None) -> None:
        for window in found:
            why = f" ({'; '.join(window.reasons)})" if window.reasons else ""
            words.print(
                f"{window.end:%H:%M:%S} {window.bundle[:8]} {window.drift}, {window.quality}: {window.rows:,} rows{why}",
                markup=False,
            )
        if decision is not None:
            words.print(f"training: {'started' if decision.start else 'no'}: {decision.reason}")

    drifts.watch(
        checker,
        port=port,
        host=host,
        every=every,
        stop=stop,
        log_folder=log,
        impressions=impressions,
        retrain=answering,
        told=told,
    )


def _print(found: list[WindowDrift], decision: RetrainingDecision | None, out: Path, json: bool) -> None:
    if json:
        document = {"windows": [window.model_dump(mode="json") for window in found]}
        print_json(document | ({"training": decision.model_dump()} if decision is not None else {}))
        return
    from rich.table import Table

    from monitoring.drift import Measure, place_of

    distances = (Measure.WASSERSTEIN, Measure.JENSEN_SHANNON, Measure.PSI)
    shares = (Measure.MISSING, Measure.NEW)
    for window in found:
        result.print(
            f"bundle {window.bundle[:12]}: {_coloured(window.drift)}, {_coloured(window.quality)}, {window.rows:,} rows"
        )
        for reason in window.reasons:
            result.print(f"  {reason}", markup=False, soft_wrap=True)
        table = Table(box=None, pad_edge=False)
        for title in ("field", "drift", "quality"):
            table.add_column(title, no_wrap=True)
        for title in ("Wasserstein", "JS", "PSI", "missing", "new"):
            table.add_column(title, justify="right", no_wrap=True)
        table.add_column("why", overflow="fold")
        for field in window.fields:
            verdicts = (_coloured(field.drift), _coloured(field.quality))
            figures = [_figure(field.measures.get(name)) for name in distances]
            figures += [_share(field.measures.get(name)) for name in shares]
            table.add_row(field.field, *verdicts, *figures, "; ".join(field.reasons))
        if window.fields:
            result.print(table)
        words.print(f"report: {place_of(out, window)}/report.html", markup=False)
    if decision is not None:
        words.print(f"training: {'started' if decision.start else 'none'}: {decision.reason}", markup=False)


def no_file_of_a_log(folder: Path) -> str:
    """What to look for when a prediction log has no file."""
    return (
        f"{folder} holds no file of a prediction log (day=*/*.parquet): is it the folder of clickmill serve --prediction-log? "
        "An endpoint that is asked writes one at least every minute."
    )


def _nothing_in(log: Path, hours: float) -> str:
    from clickmill.prediction_log import log_files

    files = log_files(log)
    if not files:
        return no_file_of_a_log(log)
    return f"no row of the last {hours:g} h in {log}; its newest file is {files[-1]}. Is the endpoint asked? A longer window: --set drift.window_hours=HOURS"


def _coloured(verdict: str) -> str:
    return f"[{_COLOURS[verdict]}]{verdict}[/]"


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f} %"
