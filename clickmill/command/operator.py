"""`clickmill operator`: releases on a cluster."""

from __future__ import annotations

import logging
import os
import socket
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    no_args_is_help=True, help="Run the operator that carries out ModelRelease objects on Kubernetes."
)

TOKEN = "CLICKMILL_ALERT_TOKEN"
_POD_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


@app.callback()
def _group() -> None:
    """Run the operator that carries out ModelRelease objects on Kubernetes."""  # keeps `run` a word of its own while it is the only one


@app.command()
def run(
    prometheus: Annotated[
        str,
        typer.Option(
            help="URL of the Prometheus that scrapes the endpoints and live quality.", metavar="URL"
        ),
    ],
    namespace: Annotated[
        str | None,
        typer.Option(help="Namespace to watch; default: the one this pod is in, else `default`."),
    ] = None,
    all_namespaces: Annotated[
        bool, typer.Option("--all-namespaces", help="Watch all; needs a ClusterRole.")
    ] = False,
    matchers: Annotated[
        str,
        typer.Option(help="Matchers of every series asked for; {namespace} is the ModelRelease's."),
    ] = 'namespace="{namespace}"',
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "0.0.0.0",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of /healthz and /metrics.")] = 8080,
    alert_port: Annotated[
        int, typer.Option(min=1, max=65535, help="Port of /alerts, Alertmanager's webhook.")
    ] = 9095,
    every: Annotated[
        float, typer.Option(min=1, help="Seconds between looks at the evidence when nothing happens.")
    ] = 10.0,
) -> None:
    """Carry ModelReleases out: a new bundle gets traffic step by step, and loses it when evidence or an alert says so.

    Several may run, one leads. Alerts are taken with the bearer token of CLICKMILL_ALERT_TOKEN. SIGTERM ends it; all it knows is on
    the cluster, so another goes on where it stopped.
    """
    from monitoring.operator import process

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("kopf.objects").setLevel(logging.WARNING)  # every change of every object
    home = _POD_NAMESPACE.read_text().strip() if _POD_NAMESPACE.exists() else namespace or "default"
    process.run(
        process.Settings(
            namespace=None if all_namespaces else namespace or home,
            home=home,
            identity=f"{socket.gethostname()}_{os.getpid()}",
            prometheus=prometheus,
            matchers=matchers,
            token=os.environ.get(TOKEN, ""),
            host=host,
            port=port,
            alert_port=alert_port,
            every=every,
        )
    )
