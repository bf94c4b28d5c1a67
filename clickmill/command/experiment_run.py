"""`clickmill experiment run`: an endpoint whose users get the bundle and the rules of their arm, on this machine."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from typing import Annotated

import typer

from clickmill.command.console import result, words


def run(
    spec: Annotated[Path, typer.Argument(help="YAML of the experiment; its arms name bundles by digest.")],
    store: Annotated[Path, typer.Argument(help="Model store that holds the bundles.")],
    home: Annotated[
        Path, typer.Option(help="Folder for the prediction log (HOME/log) and the servers' own output.")
    ] = Path("out/experiment-run"),
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for all.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of the endpoint.")] = 8080,
    every: Annotated[
        float, typer.Option(min=0.1, help="Seconds between two looks whether all servers are up.")
    ] = 2.0,
) -> None:
    """Run an experiment whose arms are bundles: a server for each, and a door before them that sends every user to their own.

    Rankings (POST /v1/models/NAME:rank) are split by their `user.user_id`, or what the spec's `unit` says; other requests by the header
    x-clickmill-user. Users outside of the experiment get the control's bundle. Rankings are logged with their arm, for `clickmill
    experiment analyze --clicks` and `clickmill monitor experiment`; CLICKMILL_LOG_SALT (16 to 64 bytes) hashes personal fields there.
    Ctrl-C ends it; started again it goes on with the same arms. [bold]clickmill experiment run experiment.yaml out/run/store[/bold]
    """
    from clickmill.bundle import Store
    from clickmill.errors import UsageError
    from clickmill.experiment import spec as specs
    from clickmill.release import TargetFailed
    from serving.router import running

    chosen = specs.load(spec)
    if not store.is_dir():
        raise UsageError(f"{store}: no such folder; give a model store")
    models = Store(store)
    stop = threading.Event()
    for sign in (signal.SIGINT, signal.SIGTERM):
        signal.signal(sign, lambda *_: stop.set())
    words.print(f"starting the servers of experiment {chosen.name}")
    with running(chosen, models, home, host=host, port=port, prediction_log=home / "log") as experiment:
        result.print(f"endpoint on {experiment.url}", soft_wrap=True)
        for arm, digest in experiment.bundles.items():
            result.print(f"  {arm:<12} bundle {digest[:12]}, version {models.find(digest)}", markup=False)
        words.print(f"log in {home / 'log'}", soft_wrap=True)
        while not stop.wait(every):
            try:
                experiment.keep_up()
            except TargetFailed as error:
                words.print(str(error), markup=False, soft_wrap=True)
