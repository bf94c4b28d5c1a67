"""`clickmill serve`: a bundle, or a model store, behind V1, V2 REST, V2 gRPC and TF Serving's gRPC."""

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
from clickmill.command.serve_settings import take_settings


def serve(
    path: Annotated[
        Path,
        typer.Argument(
            help="A bundle, or a model store (folder of numbered bundles; the newest sound one is served)."
        ),
    ],
    model_name: Annotated[
        str | None, typer.Option(help="Model name in URLs; default: the name of the bundle's contract.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for all.")] = "127.0.0.1",
    http_port: Annotated[
        int,
        typer.Option(min=0, max=65535, help="Port of V1 and V2 REST and of /metrics; 0 takes a free one."),
    ] = 8080,
    grpc_port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port of gRPC (V2 and TF Serving's); 0 takes a free one.")
    ] = 8081,
    grpc_connection_seconds: Annotated[
        float,
        typer.Option(
            min=0,
            help="Seconds after which a gRPC connection is asked to go, without a failed call: a balancer that chooses by connection, such as "
            "a Kubernetes Service, shows a client new replicas only then. 0: connections stay.",
        ),
    ] = 60.0,
    watch_seconds: Annotated[
        float, typer.Option(min=0.1, help="How often to look for a newer bundle, in seconds.")
    ] = 2.0,
    threads: Annotated[
        int | None,
        typer.Option(
            rich_help_panel="Load",
            min=0,
            help="Threads for large requests; default: one for each core. 0: all on one thread.",
        ),
    ] = None,
    batch_rows: Annotated[
        int,
        typer.Option(
            rich_help_panel="Load",
            min=0,
            help="Micro-batching: requests that wait for a thread at the same moment are scored by one run of the graph, up to "
            "this many rows together. 512 nearly doubles the requests a second of 16 clients and changes nothing for one. "
            "0: each alone.",
        ),
    ] = 0,
    batch_wait_us: Annotated[
        float,
        typer.Option(
            rich_help_panel="Load",
            min=0,
            help="With --batch-rows: microseconds a request waits for company while a thread is free. 0 adds no wait: only "
            "requests that queue anyway are scored together. 200 trades a fifth of a millisecond for fuller runs.",
        ),
    ] = 0.0,
    timeout_ms: Annotated[
        float,
        typer.Option(
            rich_help_panel="Load",
            min=0,
            help="Milliseconds within which scoring must begin, for requests that do not say (header x-request-timeout-ms, gRPC "
            "deadline). One that is too late is answered 504 (DEADLINE_EXCEEDED) without being scored. 0: endless.",
        ),
    ] = 10_000.0,
    shed_wait_ms: Annotated[
        float,
        typer.Option(
            rich_help_panel="Load",
            min=0,
            help="Load shedding: when requests wait longer than this many milliseconds on average before they are scored, fewer "
            "are let in and the rest is answered 503 (UNAVAILABLE) at once, with Retry-After. 0: queues grow without bound.",
        ),
    ] = 25.0,
    features: Annotated[
        str | None,
        typer.Option(
            rich_help_panel="Rankings",
            help="Feature store that rankings (:rank) look users and ads up in, as `clickmill features publish --to` names it: "
            "redis://[USER:PASSWORD@]HOST:PORT/DB, or the path of a file. Default: what a request leaves out is the contract's default.",
        ),
    ] = None,
    experiment: Annotated[
        Path | None,
        typer.Option(
            rich_help_panel="Rankings",
            help="YAML of an experiment: rankings are split by its arms, answered by their rules, and logged with their arm (docs/experiments.md).",
        ),
    ] = None,
    explore: Explore = "off",
    explore_budget: ExploreBudget = 0.001,
    feature_wait_ms: Annotated[
        float,
        typer.Option(
            rich_help_panel="Rankings",
            min=0.1,
            help="Most milliseconds a ranking waits for the feature store (and never more than half of what time it has).",
        ),
    ] = 5.0,
    feature_cache_seconds: Annotated[
        float,
        typer.Option(
            rich_help_panel="Rankings",
            min=0,
            help="Seconds for which a row read from Redis is used again; 0 reads each time.",
        ),
    ] = 5.0,
    score_cache_seconds: Annotated[
        float,
        typer.Option(
            rich_help_panel="Rankings",
            min=0,
            help="Seconds for which a ranking's scores answer an equal question again (same inputs, same bundle). 0 computes each.",
        ),
    ] = 0.0,
    fallback: Annotated[
        bool,
        typer.Option(
            "--fallback/--no-fallback",
            rich_help_panel="Rankings",
            help="Answer a ranking that the model can't (not loaded, overload, no time left, NaN) by recent scores and click rates, marked "
            "as such, or with the error. A request says otherwise with x-clickmill-on-failure: fallback, or error.",
        ),
    ] = True,
    max_rows: Annotated[
        int,
        typer.Option(
            rich_help_panel="Limits",
            min=1,
            help="Most rows or candidates in one request; more are answered 413.",
        ),
    ] = 2000,
    max_body_kib: Annotated[
        int,
        typer.Option(
            rich_help_panel="Limits",
            min=1,
            help="Largest body of a request (gRPC: message), in KiB; a larger one is answered 413 and never held.",
        ),
    ] = 4096,
    max_string_bytes: Annotated[
        int,
        typer.Option(
            rich_help_panel="Limits",
            min=16,
            help="Longest string in a request, in bytes of UTF-8; a longer one is answered 413.",
        ),
    ] = 4096,
    body_seconds: Annotated[
        float,
        typer.Option(
            rich_help_panel="Limits",
            min=0.001,
            help="Seconds within which a body must arrive; a slower one is answered 408.",
        ),
    ] = 10.0,
    prediction_log: PredictionLog = None,
    log_events: LogEvents = None,
    log_share: LogShare = 1.0,
    log_features: LogFeatures = "values",
    traces: Annotated[
        str | None,
        typer.Option(
            rich_help_panel="Logs and traces",
            help="OpenTelemetry traces: `console`, or the URL of an OTLP/HTTP collector (http://localhost:4318). A span per request, and one "
            "per stage below it. Default: none.",
        ),
    ] = None,
    trace_share: Annotated[
        float,
        typer.Option(
            rich_help_panel="Logs and traces",
            min=0,
            max=1,
            help="Share of the requests that is traced; a request that comes with a `traceparent` follows its caller's choice.",
        ),
    ] = 1.0,
    engine: Annotated[
        Literal["twin", "savedmodel", "auto"],
        typer.Option(
            help="What runs the graph. twin: ONNX Runtime, without TensorFlow in the process; a bundle that has no twin is run by "
            "TensorFlow. savedmodel: TensorFlow. auto: both are loaded and timed at every load, and the quicker kept for small and for "
            "large requests, which takes seconds and TensorFlow's memory.",
        ),
    ] = "twin",
    drain_seconds: DrainSeconds = 0.0,
    openapi: Annotated[
        bool,
        typer.Option("--openapi", help="Print the OpenAPI 3.1 document of what would be served, and exit."),
    ] = False,
    settings: Annotated[
        Path | None,
        typer.Option(
            is_eager=True,
            callback=take_settings,
            rich_help_panel="Tuning",
            help="YAML with `serve: {option: value}`, such as --tune writes; what the command line says goes before it.",
        ),
    ] = None,
    tune: Annotated[
        bool,
        typer.Option(
            "--tune",
            rich_help_panel="Tuning",
            help="Do not serve: measure threads, shared runs and waits on this machine, print the table and write the best to "
            "--tune-out. One to three minutes.",
        ),
    ] = False,
    tune_p99: Annotated[
        str,
        typer.Option(
            rich_help_panel="Tuning", help="Promise to keep: latency that 99 of 100 requests stay below."
        ),
    ] = "10ms",
    tune_candidates: Annotated[
        int, typer.Option(min=1, rich_help_panel="Tuning", help="Candidates a request.")
    ] = 100,
    tune_protocol: Annotated[
        Literal["v1", "v2", "grpc", "tf", "rank"],
        typer.Option(
            rich_help_panel="Tuning",
            help="How you ask: V1 JSON, V2 binary, V2 gRPC, TensorFlow Serving's Predict, or :rank.",
        ),
    ] = "v1",
    tune_seconds: Annotated[
        float, typer.Option(min=0.1, rich_help_panel="Tuning", help="Length of one measurement.")
    ] = 1.5,
    tune_out: Annotated[Path, typer.Option(rich_help_panel="Tuning", help="File to write.")] = Path(
        "serve.yaml"
    ),
) -> None:
    """Serve click probabilities.

    Not ready until the bundle is verified, its golden predictions are reproduced and the graph is warm. A newer bundle in
    the store takes over without a failed request; one that fails its checks is refused and the old one goes on.
    What it answers is told by /openapi.json, and as a page by /docs.

    `--tune` measures which settings are best on this machine; `--settings serve.yaml` then uses them, and `clickmill capacity
    --measured serve.yaml` says how many replicas a load takes.
    """
    if tune:
        from clickmill.command.serve_tune import Tuning
        from clickmill.command.serve_tune import tune as measure

        measure(path, model_name, Tuning(tune_p99, tune_candidates, tune_protocol, tune_seconds, tune_out))
        return
    from serving.limits import Limits

    limits = Limits(
        max_rows=max_rows,
        max_body_bytes=max_body_kib * 1024,
        max_string_bytes=max_string_bytes,
        body_seconds=body_seconds,
    )
    if openapi:
        from clickmill.command.console import print_json
        from serving.openapi import describe
        from serving.server import contract_of

        print_json(describe(contract_of(path), model_name=model_name, limits=limits))
        return
    from clickmill.command.tensorflow_start import start_tensorflow
    from serving.server import serve as serve_forever

    if (
        engine != "twin" and path.is_dir()
    ):  # a wrong path shall be named at once, not after TensorFlow's seconds
        start_tensorflow()

    serve_forever(
        path,
        model_name=model_name,
        host=host,
        http_port=http_port,
        grpc_port=grpc_port,
        grpc_connection_seconds=grpc_connection_seconds,
        watch_seconds=watch_seconds,
        threads=threads,
        batch_rows=batch_rows,
        batch_wait_us=batch_wait_us,
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
        limits=limits,
        **log_arguments(prediction_log, log_events, log_share, log_features),
        traces=traces,
        trace_share=trace_share,
        engine=engine,
        drain_seconds=drain_seconds,
    )
