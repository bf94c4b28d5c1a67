"""A connection that is asked to go is how a client before a balancer of connections, such as a ClusterIP, finds another replica."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from serving import app
from serving.grpc_server import BundleServicer, GrpcServer
from serving.kserve_parts import kserve
from serving.lanes import Lanes
from serving.metrics import Metrics
from serving.ports import claim
from serving.predictor import BundleModel
from serving.remote_scorer import connected
from serving.scheduler import Scheduler
from tests.serving.small_bundle import raw_rows


def server(scorer: Any, registry: CollectorRegistry, port: int, connection_seconds: float) -> GrpcServer:
    model = BundleModel("small", metrics=Metrics(registry))
    model.swap(scorer, "1")
    models = kserve.ModelRepository()
    models.update(model)
    servicer = BundleServicer(app.BundleDataPlane(model_registry=models), model, Scheduler(model, Lanes(0)))
    return GrpcServer(
        servicer, (), "127.0.0.1", port, max_bytes=1 << 20, connection_seconds=connection_seconds
    )


async def by_turns(ports: list[int]) -> asyncio.Server:
    """A balancer that knows connections and no calls: each goes to the next replica."""
    turn = itertools.cycle(ports)

    async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while data := await source.read(65_536):
            sink.write(data)
            await sink.drain()
        sink.close()

    async def balance(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", next(turn))
        await asyncio.gather(pump(reader, back), pump(there, writer), return_exceptions=True)

    return await asyncio.start_server(balance, "127.0.0.1", 0)


@pytest.fixture
def on_a_loop() -> Iterator[Callable[[Awaitable[Any]], Any]]:
    """Runs what it is given on an event loop beside the test."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield lambda work: asyncio.run_coroutine_threadsafe(work, loop).result(60)  # type: ignore[arg-type]
    loop.call_soon_threadsafe(loop.stop)
    thread.join(60)
    loop.close()


@pytest.mark.parametrize("connection_seconds", [0.0, 0.3])
def test_connections_that_age_show_a_ranker_both_replicas_and_no_call_fails(
    small_scorer: Any, on_a_loop: Callable[[Awaitable[Any]], Any], connection_seconds: float
) -> None:
    ports = [claim("127.0.0.1", 0, "--grpc-port") for _ in range(2)]
    registries = [CollectorRegistry() for _ in ports]
    servers = [
        server(small_scorer, registry, port, connection_seconds)
        for registry, port in zip(registries, ports, strict=True)
    ]
    for one in servers:
        on_a_loop(one.start())
    balancer = on_a_loop(by_turns(ports))
    predictor = connected(f"127.0.0.1:{balancer.sockets[0].getsockname()[1]}", "small", "grpc-v2")
    raw = raw_rows(1)
    expected = small_scorer.predict(raw)["pctr"]

    def answered() -> list[float | None]:
        labels = {"model_name": "small"}
        return [r.get_sample_value("clickmill_predictions_total", labels) for r in registries]

    end, calls = time.monotonic() + 60, 0
    while 0 in answered() and (connection_seconds or calls < 300):
        assert time.monotonic() < end, "it never saw the second replica"
        calls += 1
        found = predictor.ask(raw, "serving_default", 30.0)
        np.testing.assert_allclose(found["pctr"], expected, atol=1e-6)
    assert sum(map(bool, answered())) == (2 if connection_seconds else 1)
    for one in servers:
        on_a_loop(one.stop(0))
    balancer.close()
