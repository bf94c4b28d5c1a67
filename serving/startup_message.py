"""What is printed when an endpoint has started: its addresses, and a request to try."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import orjson

from serving.in_service import InService
from serving.rows import example_row


def startup_message(
    name: str, url: str, grpc_target: str, served: InService, folder: Path | None, *, graph: bool
) -> str:
    """folder: the bundle, whose first golden row makes the example, where there is one. graph: whether the graph runs here; a
    ranker's runs at its predictor."""
    row = (
        example_row(folder, served.scorer.contract.inputs)
        if folder and (folder / "golden.parquet").exists()
        else None
    )
    routes = f"  REST  {url}/v1/models/{name}:rank, {url}/v1/models/{name}:predict and {url}/v2/models/{name}/infer"
    services = "inference.GRPCInferenceService" + (", tensorflow.serving.PredictionService" if graph else "")
    lines = [
        f"{name} is ready: version {served.version}, digest {served.scorer.digest[:12]}",
        routes,
        f"  gRPC  {grpc_target} ({services})",
        f"  also  {url}/docs (the calls, made from the contract), {url}/metrics, {url}/v2/health/ready",
    ]
    if row is not None:
        route, body = ("predict", {"instances": [row]}) if graph else ("rank", _ranking(row, served))
        example = shlex.quote(orjson.dumps(body).decode())
        lines.append(
            f"try:\n  curl -s {url}/v1/models/{name}:{route} -H 'Content-Type: application/json' -d {example}"
        )
    return "\n".join(lines)


def _ranking(row: dict[str, Any], served: InService) -> dict[str, Any]:
    form = served.ranking_form
    shared = {name: value for name, value in row.items() if name in form.shared}
    candidate = {n: v for n, v in row.items() if n in form.candidate and n != form.position}
    return {"context": shared, "candidates": [{"id": "an ad", form.bid: 1.0, **candidate}]}
