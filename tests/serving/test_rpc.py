"""The gRPC clients against a real gRPC server of a few lines: what is tried again, when, and what is told; called and awaited."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import numpy as np
import pytest

from clickmill.errors import RequestError
from serving.client import AsyncGrpcClient, GrpcClient, Predictions, RetryPolicy, Unreachable
from serving.kserve_parts import pb
from serving.refusals import Overloaded

RAW = {"ad_id": np.array([b"a1"], object)}
Plan = Callable[[int, Any], None]


class Endpoint:
    """Answers ModelInfer with the number of the request, unless the plan of the test aborts or stalls it."""

    def __init__(self) -> None:
        self.plan: Plan = lambda number, context: None
        self.seen: list[Any] = []
        self.left: list[float] = []
        self.gone = threading.Event()
        self._server = grpc.server(ThreadPoolExecutor(4))
        handler = grpc.unary_unary_rpc_method_handler(
            self._infer,
            request_deserializer=pb.ModelInferRequest.FromString,
            response_serializer=pb.ModelInferResponse.SerializeToString,
        )
        methods = {"ModelInfer": handler}
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("inference.GRPCInferenceService", methods),)
        )
        self.target = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def _infer(self, request: Any, context: Any) -> Any:
        self.seen.append(request)
        self.left.append(context.time_remaining())
        number = len(self.seen)
        self.plan(number, context)
        answer = pb.ModelInferResponse(model_name="m", model_version="1")
        for name in ("pctr", "logit"):
            answer.outputs.add(name=name, datatype="FP32", shape=[1])
            answer.raw_output_contents.append(np.float32([number]).tobytes())
        return answer

    def close(self) -> None:
        self._server.stop(0)


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    endpoint = Endpoint()
    yield endpoint
    endpoint.close()


@pytest.fixture(params=[False, True], ids=["called", "awaited"])
def ask(request: pytest.FixtureRequest, endpoint: Endpoint) -> Callable[..., Predictions]:
    def called(calls: int = 1, **options: Any) -> Predictions:
        with GrpcClient(endpoint.target, model_name="m", **options) as client:
            return [client.predict_tensors(RAW) for _ in range(calls)][-1]

    def awaited(calls: int = 1, **options: Any) -> Predictions:
        async def run() -> Predictions:
            async with AsyncGrpcClient(endpoint.target, model_name="m", **options) as client:
                return [await client.predict_tensors(RAW) for _ in range(calls)][-1]

        return asyncio.run(run())

    return awaited if request.param else called


def test_an_overloaded_endpoint_is_asked_again_when_it_says_within_the_deadline(endpoint, ask):
    def overloaded_once(number: int, context: Any) -> None:
        if number == 1:
            context.set_trailing_metadata(
                (("x-clickmill-reason", "overload"), ("grpc-retry-pushback-ms", pushback))
            )
            context.abort(grpc.StatusCode.UNAVAILABLE, "too many")

    endpoint.plan, pushback = overloaded_once, "1000"
    began = time.monotonic()
    assert ask(timeout_seconds=9.0).pctr.tolist() == [2.0]
    assert time.monotonic() - began >= 1
    # The server may have started late on either, and gRPC rounds what is left; a whole new deadline would differ by nothing.
    assert endpoint.left[1] < endpoint.left[0] - 0.5
    assert endpoint.seen[0].id == endpoint.seen[1].id != "", "one call, one name in the log"
    endpoint.seen.clear()
    pushback = "30000"
    with pytest.raises(Overloaded, match="too many"):
        ask(timeout_seconds=20.0)
    assert len(endpoint.seen) == 1


def test_a_request_that_is_wrong_is_told_with_its_place_and_not_made_again(endpoint, ask):
    def wrong(number: int, context: Any) -> None:
        context.set_trailing_metadata(
            (
                ("x-clickmill-reason", "invalid"),
                ("x-clickmill-path", "inputs[0][3]"),
                ("x-clickmill-field", "ad_id"),
                ("x-clickmill-row", "3"),
            )
        )
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, "row 3, field `ad_id`: no")

    endpoint.plan = wrong
    with pytest.raises(RequestError, match="row 3, field `ad_id`: no") as caught:
        ask()
    assert (caught.value.path, caught.value.field, caught.value.row) == ("inputs[0][3]", "ad_id", 3)
    assert len(endpoint.seen) == 1


def test_a_stalled_request_is_hedged_and_cancelled(endpoint, ask):
    def stall(number: int, context: Any) -> None:
        if number == 33:
            context.add_callback(endpoint.gone.set)
            endpoint.gone.wait(60)

    endpoint.plan = stall
    policy = RetryPolicy(hedge_quantile=0.9, hedge_least_seconds=0.1)
    assert ask(33, policy=policy).pctr.tolist() == [34.0]
    assert endpoint.gone.wait(30), "the loser was cancelled"


def test_an_endpoint_that_is_not_there_is_unreachable_in_time():
    with (
        GrpcClient("127.0.0.1:1", model_name="m", timeout_seconds=0.3) as client,
        pytest.raises(Unreachable),
    ):
        client.predict_tensors(RAW)
