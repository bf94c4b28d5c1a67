"""`clickmill serve-router`: the door of an endpoint on a cluster that has no Gateway."""

from __future__ import annotations

import logging
from typing import Annotated

import typer

from clickmill.command.answering import DrainSeconds


def serve_router(
    shares: Annotated[
        str,
        typer.Argument(
            help="ConfigMap, in the namespace of this pod, with who gets how much: the release operator writes it.",
            metavar="CONFIGMAP",
        ),
    ],
    home: Annotated[
        str,
        typer.Option(
            help="Service that gets everything while there is no such ConfigMap, such as ctr-predictor.",
            metavar="SERVICE",
        ),
    ],
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "0.0.0.0",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of requests.")] = 8080,
    admin_port: Annotated[
        int, typer.Option(min=1, max=65535, help="Port of /healthz, /readyz and /metrics.")
    ] = 9108,
    timeout_seconds: Annotated[
        float,
        typer.Option(min=0.01, help="Seconds for each try at a Service; then another one is asked."),
    ] = 2.0,
    drain_seconds: DrainSeconds = 0.0,
) -> None:
    """Split an endpoint's requests between its Services, as the ModelRelease stands.

    A user (header x-clickmill-user) stays with a bundle. A request whose pod breaks the connection is asked again. When the API server
    is away the shares stay as they were last heard. HTTP only; where there is a Gateway, an HTTPRoute does the same.
    """
    from serving.router.cluster_router import RouterSettings, serve

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    serve(
        RouterSettings(
            config_map=shares,
            home=home,
            host=host,
            port=port,
            admin_port=admin_port,
            timeout_seconds=timeout_seconds,
            drain_seconds=drain_seconds,
        )
    )
