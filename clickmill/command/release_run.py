"""`clickmill release run`: an endpoint whose bundles come and go by evidence, on this machine."""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clickmill.command.console import words
from clickmill.command.release_state import HOME, JOURNAL, POLICY, SAYING, Home
from clickmill.command.settings import nested, typed
from clickmill.errors import UsageError

if TYPE_CHECKING:
    from clickmill.bundle import Store
    from monitoring.release import Tls

TOKEN = "CLICKMILL_ALERT_TOKEN"


def run(
    store: Annotated[
        Path, typer.Argument(help="Model store (folder of numbered bundles) that `deploy` adds to.")
    ],
    home: Home = HOME,
    clicks: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the click log (see `clickmill monitor quality`). Without it checks on clicks stay UNKNOWN, "
            "and nothing is promoted."
        ),
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for all.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of the endpoint.")] = 8080,
    admin_port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port of the console, /alerts, /release and /metrics.")
    ] = 9106,
    tls_cert: Annotated[
        Path | None, typer.Option(help="Certificate of the admin port (PEM); it then speaks https.")
    ] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Its key (PEM).")] = None,
    client_ca: Annotated[
        Path | None,
        typer.Option(
            help="Whoever asks the admin port must show a certificate of this authority (PEM), and the token besides."
        ),
    ] = None,
    every: Annotated[float, typer.Option(min=0.05, help="Seconds between steps.")] = 1.0,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="TOPIC.NAME=VALUE",
            help="release.steps=[5,50,100], release.step_seconds=60, live.attribution_seconds=600, ...",
        ),
    ] = None,
) -> None:
    """Serve a model store: a new bundle gets traffic step by step, and loses it when evidence or an alert says so.

    One server per bundle, a router before them, predictions logged and joined with clicks. Alertmanager's webhook is
    `POST /alerts` on the admin port with the bearer token of CLICKMILL_ALERT_TOKEN. Ctrl-C ends it; started again it goes on.
    """
    from clickmill.bundle import Store
    from clickmill.disk import replace_text
    from clickmill.release import Journal, Release, ReleasePolicy
    from monitoring import live
    from monitoring import release as releases
    from serving.router import LocalTarget

    chosen = nested(settings or [], ["release", "live"])
    policy = typed("release", ReleasePolicy, chosen["release"])
    labels = typed("live", live.LiveSettings, chosen["live"])
    if clicks is not None and not clicks.is_dir():
        raise UsageError(f"--clicks {clicks}: no such folder")
    tls = _tls(tls_cert, tls_key, client_ca)
    models = Store(store)
    first = models.latest_deployed()
    if first is None:
        raise UsageError(f"{store}: no bundle to begin with; `clickmill run` deploys one")
    journal = Journal(home / JOURNAL)
    now = datetime.now(UTC)
    if not journal.path.exists():
        with journal.hold():
            begin = Release.first(first.manifest.name, first.manifest.digest, now)
            journal.begin(begin, by="clickmill", reason="first bundle of the store")
    replace_text(home / POLICY, policy.model_dump_json())
    inbox = releases.Inbox(home / "alerts.json")
    stop = threading.Event()
    stepped: list[float] = []
    with ExitStack() as stack:
        joined = None
        if clicks is not None:
            joined = stack.enter_context(live.LabelJoin(home / "live.duckdb", labels))
        target = stack.enter_context(
            LocalTarget(
                lambda digest: _folder(models, digest),
                model_name=journal.state.endpoint,
                home=home,
                host=host,
                port=port,
                prediction_log=home / "log",
                log_settings={"features": "nothing", "file_seconds": max(every, 1.0)},
                slow_ms=policy.p99_ms,
            )
        )
        runner = releases.Runner(
            journal,
            releases.Observations(home / "observations.json", watch_seconds=policy.watch_seconds),
            target,
            policy,
            inbox=inbox,
            joined=joined,
            logs=None if clicks is None else (home / "log", clicks),
        )
        for sign in (signal.SIGINT, signal.SIGTERM):
            signal.signal(sign, lambda *_: stop.set())
        token = os.environ.get(TOKEN, "")
        if token:
            app = releases.application(
                journal,
                inbox,
                target,
                policy,
                token,
                stepped=lambda: stepped[-1] if stepped else None,
                quality=lambda: runner.quality,
                servers=lambda: target.servers,
                saying=lambda: runner.saying,
            )
            stack.enter_context(releases.listening(app, host, admin_port, tls))
            scheme = "http" if tls is None else "https"
            words.print(f"console, alerts and metrics on {scheme}://{host}:{admin_port}")
        else:
            words.print(f"no {TOKEN} in the environment: no alerts are taken and the admin port stays shut")
        _loop(runner, models, target, every, stop, stepped, home / SAYING)


def _tls(cert: Path | None, key: Path | None, client_ca: Path | None) -> Tls | None:
    """Raises UsageError for half of the options, and for files that can't be used."""
    from monitoring.release import Tls

    if cert is None or key is None:
        if (cert, key, client_ca) != (None, None, None):
            raise UsageError("--tls-cert and --tls-key go together, and --client-ca needs both")
        return None
    tls = Tls(cert, key, client_ca)
    tls.check()
    return tls


def _loop(
    runner: Any,
    models: Store,
    target: Any,
    every: float,
    stop: threading.Event,
    stepped: list[float],
    saying: Path,
) -> None:
    from clickmill.disk import replace_text

    said, heard = "", False
    while not stop.is_set():
        newest = models.latest_deployed()
        if newest is not None:
            runner.offer(newest.manifest.digest, datetime.now(UTC))
        decision = runner.step(datetime.now(UTC))
        stepped[:] = [time.time()]
        replace_text(saying, decision.reason)  # each step, so that its age says whether the loop lives
        state = decision.next
        now_said = f"{state.phase}" + (f" at {state.percent} %" if state.percent else "")
        if now_said != said:
            words.print(f"[bold]{now_said}[/]", end="  ")
            words.print(decision.reason, markup=False, soft_wrap=True)
            said = now_said
        if target.listening and not heard:
            words.print(f"endpoint on {target.url}")
            heard = True
        stop.wait(every)


def _folder(models: Store, digest: str) -> Path:
    version = models.find(digest)
    if version is None:
        raise UsageError(
            f"bundle {digest[:12]} is no longer in {models.root}; put it back, it may have to serve again"
        )
    return models.path(version)
