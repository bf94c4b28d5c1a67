"""`clickmill serve-ranker`: rankings in a process of their own, before a predictor: KServe's transformer."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from clickmill.command.answering import (
    DrainSeconds,
    Explore,
    ExploreBudget,
    LogEvents,
    LogFeatures,
    LogShare,
    PredictionLog,
    exploration,
    log_arguments,
)


def serve_ranker(
    path: Annotated[
        Path,
        typer.Argument(
            help="The bundle that the predictor serves, or a model store. Of a bundle manifest.json, contract.yaml and priors.parquet suffice."
        ),
    ],
    predictor: Annotated[
        str,
        typer.Option(
            "--predictor",
            "--predictor_host",
            help="HOST:PORT of the predictor's gRPC; port 80 where none is given.",
        ),
    ],
    protocol: Annotated[
        Literal["grpc-v2", "tf-serving"],
        typer.Option(
            "--protocol",
            "--predictor_protocol",
            help="How the predictor is asked: KServe's V2 (`clickmill serve`), or TensorFlow Serving's Predict.",
        ),
    ] = "grpc-v2",
    model_name: Annotated[
        str | None,
        typer.Option(
            "--model-name",
            "--model_name",
            help="Model name in URLs, here and there; default: the name of the contract.",
        ),
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for all.")] = "127.0.0.1",
    http_port: Annotated[
        int,
        typer.Option(
            "--http-port",
            "--http_port",
            min=0,
            max=65535,
            help="Port of REST and of /metrics; 0 takes a free one.",
        ),
    ] = 8080,
    grpc_port: Annotated[
        int,
        typer.Option(
            "--grpc-port", "--grpc_port", min=0, max=65535, help="Port of V2 gRPC; 0 takes a free one."
        ),
    ] = 8081,
    at_once: Annotated[
        int,
        typer.Option(min=1, help="Calls to the predictor under way at most; a ranking beyond them waits."),
    ] = 64,
    features: Annotated[
        str | None,
        typer.Option(
            help="Feature store that rankings look users and ads up in: redis://HOST:PORT/DB, or the path of a file."
        ),
    ] = None,
    experiment: Annotated[
        Path | None,
        typer.Option(
            help="YAML of an experiment: rankings are split by its arms, answered by their rules, and logged with their arm (docs/experiments.md).",
        ),
    ] = None,
    explore: Explore = "off",
    explore_budget: ExploreBudget = 0.001,
    feature_wait_ms: Annotated[
        float, typer.Option(min=0.1, help="Most milliseconds a ranking waits for the feature store.")
    ] = 5.0,
    feature_cache_seconds: Annotated[
        float,
        typer.Option(min=0, help="Seconds for which a row read from Redis is used again; 0 reads each time."),
    ] = 5.0,
    score_cache_seconds: Annotated[
        float,
        typer.Option(
            min=0, help="Seconds for which scores answer an equal question again; 0 asks each time."
        ),
    ] = 0.0,
    fallback: Annotated[
        bool,
        typer.Option(
            "--fallback/--no-fallback",
            help="Answer a ranking that the predictor does not score by recent scores and click rates, marked as such, or with the error.",
        ),
    ] = True,
    timeout_ms: Annotated[
        float,
        typer.Option(min=0, help="Milliseconds of a request that does not say how long it has. 0: endless."),
    ] = 1000.0,
    shed_wait_ms: Annotated[
        float,
        typer.Option(
            min=0,
            help="Mean wait for a call to the predictor above which rankings are turned away. 0: never.",
        ),
    ] = 25.0,
    watch_seconds: Annotated[
        float, typer.Option(min=0.1, help="How often to look for a newer bundle, in seconds.")
    ] = 2.0,
    prediction_log: PredictionLog = None,
    log_events: LogEvents = None,
    log_share: LogShare = 1.0,
    log_features: LogFeatures = "values",
    drain_seconds: DrainSeconds = 0.0,
) -> None:
    """Serve rankings, scored by a predictor elsewhere.

    POST /v1/models/NAME:rank as `clickmill serve` has it: looks features up, asks the predictor once with user and context given once,
    holds the auction. When the predictor is down, slow or not there yet, click rates answer. The names with underscores are those that
    KServe gives a transformer. Log here and not at the predictor what an experiment is judged by: the predictor knows neither arm nor auction.
    """
    from serving.server import contract_of
    from serving.server import serve as serve_forever

    serve_forever(
        path,
        model_name=model_name,
        host=host,
        http_port=http_port,
        grpc_port=grpc_port,
        watch_seconds=watch_seconds,
        timeout_ms=timeout_ms,
        shed_wait_ms=shed_wait_ms,
        features=features,
        experiment=experiment,
        ranking={
            "fallback": fallback,
            "feature_wait_ms": feature_wait_ms,
            "feature_cache_seconds": feature_cache_seconds,
            "score_cache_seconds": score_cache_seconds,
            "exploration": exploration(explore, explore_budget),
        },
        predictor={
            "target": predictor,
            "model_name": model_name or contract_of(path).name,
            "protocol": protocol,
            "at_once": at_once,
        },
        **log_arguments(prediction_log, log_events, log_share, log_features),
        drain_seconds=drain_seconds,
    )
