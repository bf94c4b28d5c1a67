"""The endpoint as a process: ports, threads, start, drain. `serve` is what `clickmill serve` runs.

Live as soon as the ports listen; ready when a bundle is loaded, proven and warm. SIGTERM and SIGINT: not ready from then on,
requests still answered for `drain_seconds`, then no new connection, then those in flight are finished.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import uvicorn
import uvloop

from clickmill import contract as contracts
from clickmill.contract import FeatureContract
from clickmill.errors import BundleError, ClickmillError, UsageError
from clickmill.experiment.spec import load as load_experiment
from clickmill.prediction_log import Salt, check_salt
from serving import app, ports
from serving.arms import check_fields
from serving.batcher import BatchSettings
from serving.concurrency import ShedPolicy
from serving.engines import EngineChoice, loader
from serving.front import Front
from serving.grpc_server import BundleServicer, GrpcServer
from serving.http_protocol import BoundedHead
from serving.kserve_parts import kserve
from serving.lanes import Lanes
from serving.limits import Limits
from serving.log_sinks import open_sinks
from serving.prediction_log import LogSettings
from serving.predictor import BundleModel
from serving.ranker import Ranker
from serving.ranker_settings import RankerSettings
from serving.remote_predictor import RemotePredictor
from serving.scheduler import Scheduler
from serving.standby import first_standby
from serving.startup_message import startup_message
from serving.tf_grpc import TfServices
from serving.traces import Traces
from serving.watcher import BundleFolder, Loaded, StoreFolder, Watcher, source_at

log = logging.getLogger(__name__)

Announce = Callable[[str], None]

_LAST_WRITE_SECONDS = 10.0
"""What the logs of answers may take at the end."""
_LAST_SPANS_SECONDS = 5.0
"""What the last traces may take."""


def _to_stderr(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def serve(
    path: str | Path,
    *,
    http_port: int = 8080,
    grpc_port: int = 8081,
    host: str = "127.0.0.1",
    watch_seconds: float = 2.0,
    model_name: str | None = None,
    limits: Limits | None = None,
    threads: int | None = None,
    batch_rows: int = 0,
    batch_wait_us: float = 0.0,
    timeout_ms: float = 10_000.0,
    shed_wait_ms: float = 25.0,
    features: str | None = None,
    ranking: RankerSettings | Mapping[str, Any] | None = None,
    experiment: Path | None = None,
    predictor: RemotePredictor | Mapping[str, Any] | None = None,
    prediction_log: Path | None = None,
    log_events: str | None = None,
    log_settings: LogSettings | None = None,
    log_salt: Salt | None = None,
    traces: str | None = None,
    trace_share: float = 1.0,
    grpc_connection_seconds: float = 60.0,
    drain_seconds: float = 0.0,
    grace_seconds: float = 30.0,
    announce: Announce = _to_stderr,
    engine: EngineChoice = "twin",
    load: Callable[[Path], Loaded] | None = None,
) -> None:
    """Serve a bundle, or the newest good bundle of a store, until SIGTERM or SIGINT. Blocks.

    Args:
        path: folder of a bundle, or of a store (`root/1`, `root/2`, ...), which may still be empty.
        http_port: REST port; 0 takes a free one, told by `announce`.
        grpc_port: gRPC port; 0 takes a free one.
        host: address to listen on; 0.0.0.0 for all.
        watch_seconds: how often the folder is looked at for a newer bundle.
        model_name: name in the URLs; the contract's name when None.
        limits: sizes above which requests are refused.
        threads: threads for large requests; one for each core when None, 0 scores all on the event loop (see `lanes`).
        batch_rows: rows up to which waiting requests share a run of the graph; 0 for never.
        batch_wait_us: microseconds a request waits for company while a thread is free.
        timeout_ms: time of a request that names none, within which its scoring must begin; 0 for endless.
        shed_wait_ms: mean wait before scoring above which requests are turned away; 0 for never.
        features: feature store that rankings look users and ads up in, a Redis URL or the path of a file; None fills with defaults.
        ranking: caches and fallback of rankings.
        experiment: file of the experiment whose arms rankings are split by; None for none.
        predictor: whose graph scores, for a ranker in a process of its own; None runs the graph here.
        prediction_log: folder to log answers in; None writes no files.
        log_events: URL of a broker to send answers to as CloudEvents; None sends none. For both logs `log_settings` say what and how
            much, `log_salt` hashes personal fields, without which such a contract is refused.
        traces: where spans of requests go: `console`, or the URL of an OTLP/HTTP collector; None makes none.
        trace_share: share of the requests that is traced, of those whose caller does not say.
        grpc_connection_seconds: age at which a gRPC connection is asked to go, so that its client finds new replicas; 0 for never.
        drain_seconds: how long to go on answering after SIGTERM while saying not ready, for load balancers to notice.
        grace_seconds: how long requests in flight may take to finish.
        announce: gets the lines for the person who started it.
        engine: what runs the graph: the ONNX twin where the bundle has one, the SavedModel, or the quicker of the two (see `engines`).
        load: loads and proves a bundle; a seam for tests.

    Raises UsageError (port in use, no such folder, a store without a name) and BundleError when nothing there can be served.
    """
    path = Path(path)
    if not path.is_dir():
        raise UsageError(
            f"{path}: no such folder; give a bundle (with manifest.json in it) or a store of bundles"
        )
    name = model_name or contract_of(path).name
    settings = log_settings or LogSettings()
    if (prediction_log or log_events) and source_at(path).candidates():
        check_salt(contract_of(path), settings.features, log_salt)
    if experiment and source_at(path).candidates():
        check_fields(load_experiment(experiment), contract_of(path))
    sock = ports.listen(host, http_port, "--http-port")
    model: BundleModel | None = None
    spans = Traces(traces, name, share=trace_share) if traces else None
    try:
        grpc_number = ports.claim(host, grpc_port, "--grpc-port")
        model = BundleModel(name, limits=limits)
        model.log = open_sinks(name, prediction_log, log_events, settings, log_salt, model.metrics)
        scorer = RemotePredictor.model_validate(predictor) if predictor else None
        scheduler = Scheduler(
            model,
            scorer.lanes() if scorer else Lanes(threads),
            batch=BatchSettings(rows=batch_rows, wait_us=batch_wait_us),
            shed=ShedPolicy(target_wait_seconds=shed_wait_ms / 1e3) if shed_wait_ms else None,
            timeout_seconds=timeout_ms / 1e3 if timeout_ms else None,
            record=spans.record if spans else None,
        )
        ranker = Ranker.opened(
            model, scheduler, RankerSettings.model_validate(ranking or {}), features, experiment
        )
        server = BundleServer(
            model,
            host,
            sock,
            grpc_number,
            grace_seconds,
            drain_seconds,
            scheduler,
            ranker,
            announce,
            grpc_connection_seconds,
        )
        watcher = Watcher(
            model,
            source_at(path),
            every_seconds=watch_seconds,
            load=scorer.loader() if scorer else _after_standby(load or loader(engine), model),
            on_first=lambda error: server.on_first_look(path, error),
        )
        server.watcher, server.runs_the_graph = watcher, scorer is None
        server.start([model])
    finally:
        sock.close()
        if model is not None and model.log is not None:
            model.log.close(_LAST_WRITE_SECONDS)
        if spans is not None:
            spans.close(_LAST_SPANS_SECONDS)
        gc.unfreeze()  # what tune_process froze: the collector tidies up at exit, or nanobind reports leaks


class BundleServer(kserve.ModelServer):
    """KServe's ModelServer, for one model that becomes ready later, on one address, with a drain."""

    watcher: Watcher
    runs_the_graph = True

    def __init__(
        self,
        model: BundleModel,
        host: str,
        sock: Any,
        grpc_port: int,
        grace_seconds: float,
        drain_seconds: float,
        scheduler: Scheduler,
        ranker: Ranker,
        announce: Announce,
        connection_seconds: float,
    ) -> None:
        super().__init__(
            http_port=sock.getsockname()[1],
            grpc_port=grpc_port,
            workers=1,
            enable_latency_logging=False,
            grace_period=int(grace_seconds),
        )
        for name in (
            "uvicorn",
            "uvicorn.error",
            "kserve",
        ):  # KServe has just set them to tell every start and stop
            logging.getLogger(name).setLevel(logging.WARNING)
        self.dataplane = app.BundleDataPlane(model_registry=self.registered_models)
        self._model, self._host, self._sock = model, host, sock
        self._drain_seconds, self._announce = drain_seconds, announce
        self._connection_seconds = connection_seconds
        self._scheduler, self._ranker = scheduler, ranker
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = asyncio.Event()
        self._fatal: Exception | None = None

    def start(self, models: list[BundleModel]) -> None:
        """Run until told to stop. Unlike KServe's, starts before its model is ready. Raises what made it stop."""
        for model in models:
            self.register_model(model)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self._run())
        self._scheduler.close()
        if self._fatal is not None:
            raise self._fatal

    def stop(self, sig: int | None = None) -> None:
        """Begin to drain; a second call stops at once. Safe from any thread."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._stopping.set)

    def on_first_look(self, path: Path, error: Exception | None) -> None:
        """Called by the watcher after its first look: greet, wait for a first bundle, or give up."""
        source = source_at(path)
        if error is not None:
            self._fatal = (
                error
                if isinstance(error, ClickmillError)
                else BundleError(f"{path}: cannot be served: {error}")
            )
            self.stop()
        elif self._model.ready:
            self._announce(self._greeting())
        elif isinstance(source, StoreFolder):
            self._announce(f"{path} holds no bundle yet; waiting for the first version, not ready until then")

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        http = _Uvicorn(
            uvicorn.Config(
                Front(app.build(self.dataplane), self._model, self._scheduler, self._ranker),
                http=BoundedHead,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                date_header=False,
                timeout_keep_alive=self.timeout_keep_alive,
                timeout_graceful_shutdown=self.grace_period,
            )
        )
        limits = self._model.limits
        servicer = BundleServicer(self.dataplane, self._model, self._scheduler)
        # its messages come with TensorFlow, which only a graph needs
        tensorflow = TfServices(self._model, self._scheduler).handlers() if self.runs_the_graph else ()
        rpc = GrpcServer(
            servicer,
            tensorflow,
            self._host,
            self.grpc_port,
            max_bytes=limits.max_body_bytes,
            connection_seconds=self._connection_seconds,
        )
        with self._signals(http):
            await rpc.start()
            serving = asyncio.create_task(http.serve(sockets=[self._sock]))
            self.watcher.start()
            stopping = asyncio.create_task(self._stopping.wait())
            await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
            self._model.drain()
            if self._fatal is None:
                self._announce("draining: not ready any more, finishing what is in flight")
                await asyncio.sleep(self._drain_seconds)
            http.should_exit = True
            await asyncio.gather(serving, rpc.stop(self.grace_period))
            await self._ranker.close()
            stopping.cancel()
            self.watcher.stop(timeout=0.1)

    @contextlib.contextmanager
    def _signals(self, http: uvicorn.Server) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield  # embedded in a test or a notebook: whoever embeds it calls stop()
            return
        assert self._loop is not None

        def told() -> None:
            if self._stopping.is_set():
                http.force_exit = True  # the second Ctrl-C
            self._stopping.set()

        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, told)
        try:
            yield
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                self._loop.remove_signal_handler(number)

    def _greeting(self) -> str:
        host, name = _in_url(self._host), self._model.name
        url, target = f"http://{host}:{self.http_port}", f"{host}:{self.grpc_port}"
        return startup_message(
            name, url, target, self._model.in_service, self.watcher.path, graph=self.runs_the_graph
        )


class _Uvicorn(uvicorn.Server):
    """Leaves the signals to BundleServer: uvicorn would stop at once, before readiness has said no."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def contract_of(path: Path) -> FeatureContract:
    """The contract of the bundle, or of the newest version of a store that has a readable one. Raises BundleError and UsageError."""
    candidates = source_at(path).candidates()
    problem: Exception | None = None
    for candidate in candidates:
        try:
            return contracts.load(candidate.path / "contract.yaml")
        except ClickmillError as error:
            problem = problem or error
    if isinstance(source_at(path), BundleFolder) or candidates:
        raise BundleError(f"{path}: no contract can be read from it: {problem}") from problem
    raise UsageError(
        f"{path} holds no bundle yet, so the model has no name; give --model-name, or deploy a bundle first"
    )


def _after_standby(load: Callable[[Path], Loaded], model: BundleModel) -> Callable[[Path], Loaded]:
    """`load` that first takes what is read at once: click rates answer rankings while the engines are imported."""
    first = True

    def first_load(path: Path) -> Loaded:
        nonlocal first
        if first:
            first = False
            model.standby = first_standby(path)
        return load(path)

    return first_load


def _in_url(host: str) -> str:
    if host in ("0.0.0.0", "::"):
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host


__all__ = ["BundleServer", "contract_of", "serve"]
