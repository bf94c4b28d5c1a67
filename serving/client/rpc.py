"""gRPC clients of one model by V2, to call and to await, and what TensorFlow Serving's clients share with them.

gRPC carries the deadline itself. A connection that cannot be made is waited for within it; what the server refuses for a while
(UNAVAILABLE) is tried again by the policy.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import grpc
import numpy as np

from serving.client import calls
from serving.client.calls import Predictions
from serving.client.conduct import Conductor, hedged
from serving.client.retry import Failed, Reply, RetryPolicy, Send

T = TypeVar("T")


class Channel:
    """A channel to one server, and calls on it that wait. A context manager."""

    def __init__(self, target: str, timeout_seconds: float, policy: RetryPolicy | None) -> None:
        self.channel = grpc.insecure_channel(target)
        self._target = target
        self._conductor = Conductor(policy or RetryPolicy(), timeout_seconds)

    @property
    def timeout_seconds(self) -> float:
        """Deadline of a call that names none."""
        return self._conductor.timeout

    def call(self, method: Any, request: Any, timeout: float | None = None) -> tuple[Any, dict[str, str]]:
        """The answer of a unary method and its trailing metadata. Raises the library's errors."""

        def start(seconds: float) -> Any:
            return method.future(request, timeout=seconds, wait_for_ready=True)

        def read(call: Any) -> Reply[tuple[Any, dict[str, str]]] | Failed:
            try:
                return Reply((call.result(), _texts(call.trailing_metadata())))
            except grpc.RpcError as error:
                return calls.rpc_failed(error, self._target)

        def send(step: Send) -> Reply[tuple[Any, dict[str, str]]] | Failed:
            if step.hedge_after is not None:
                return hedged(start, read, step, self._conductor.budget)
            try:
                # on this thread: a future costs one of gRPC's
                answer, call = method.with_call(request, timeout=step.seconds, wait_for_ready=True)
            except grpc.RpcError as error:
                return calls.rpc_failed(error, self._target)
            return Reply((answer, _texts(call.trailing_metadata())))

        return self._conductor.run(send, timeout)

    def close(self) -> None:
        """Close the connection; calls under way are cancelled."""
        self.channel.close()


class AsyncChannel:
    """A channel to one server, and calls on it that are awaited."""

    def __init__(self, target: str, timeout_seconds: float, policy: RetryPolicy | None) -> None:
        self.channel = grpc.aio.insecure_channel(target)
        self._target = target
        self._conductor = Conductor(policy or RetryPolicy(), timeout_seconds)

    @property
    def timeout_seconds(self) -> float:
        """Deadline of a call that names none."""
        return self._conductor.timeout

    async def call(
        self, method: Any, request: Any, timeout: float | None = None
    ) -> tuple[Any, dict[str, str]]:
        """As `Channel.call`."""

        async def send(seconds: float) -> Reply[tuple[Any, dict[str, str]]] | Failed:
            call = method(request, timeout=seconds, wait_for_ready=True)
            try:
                return Reply((await call, _texts(await call.trailing_metadata())))
            except grpc.RpcError as error:
                return calls.rpc_failed(error, self._target)

        return await self._conductor.run_async(send, timeout)

    async def close(self) -> None:
        """As `Channel.close`."""
        await self.channel.close()


def asked(call: Callable[[], Any]) -> Any:
    """The answer of a call that is not tried again, None when there is none."""
    try:
        return call()
    except grpc.RpcError:
        return None


class GrpcClient:
    """V2 gRPC client that waits. A context manager."""

    def __init__(
        self,
        target: str,
        *,
        model_name: str,
        timeout_seconds: float = 10.0,
        policy: RetryPolicy | None = None,
    ) -> None:
        """`target` is host:port; `timeout_seconds` the deadline of a call, all tries together."""
        from serving.kserve_parts import pb_grpc

        self._channel = Channel(target, timeout_seconds, policy)
        self._stub = pb_grpc.GRPCInferenceServiceStub(self._channel.channel)
        self._name = model_name

    def __enter__(self) -> GrpcClient:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def ready(self) -> bool:
        """Whether the model is ready; False when the server cannot be reached."""
        from serving.kserve_parts import pb

        request = pb.ModelReadyRequest(name=self._name)
        answer = asked(lambda: self._stub.ModelReady(request, timeout=self._channel.timeout_seconds))
        return answer is not None and bool(answer.ready)

    def predict_tensors(
        self,
        raw: Mapping[str, np.ndarray],
        *,
        request_id: str | None = None,
        timeout_seconds: float | None = None,
    ) -> Predictions:
        """Score arrays, as `Client.predict_tensors`. Raises the same errors."""
        request = calls.infer_request(raw, self._name, request_id or uuid.uuid4().hex)
        answer, _ = self._channel.call(self._stub.ModelInfer, request, timeout_seconds)
        return calls.infer_answer(answer)


class AsyncGrpcClient:
    """V2 gRPC client that is awaited: the calls of `GrpcClient`. To be made where the event loop runs."""

    def __init__(
        self,
        target: str,
        *,
        model_name: str,
        timeout_seconds: float = 10.0,
        policy: RetryPolicy | None = None,
    ) -> None:
        """As `GrpcClient`."""
        from serving.kserve_parts import pb_grpc

        self._channel = AsyncChannel(target, timeout_seconds, policy)
        self._stub = pb_grpc.GRPCInferenceServiceStub(self._channel.channel)
        self._name = model_name

    async def __aenter__(self) -> AsyncGrpcClient:
        return self

    async def __aexit__(self, *raised: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection."""
        await self._channel.close()

    async def ready(self) -> bool:
        """As `GrpcClient.ready`."""
        from serving.kserve_parts import pb

        request = pb.ModelReadyRequest(name=self._name)
        try:
            answer = await self._stub.ModelReady(request, timeout=self._channel.timeout_seconds)
        except grpc.RpcError:
            return False
        return bool(answer.ready)

    async def predict_tensors(
        self,
        raw: Mapping[str, np.ndarray],
        *,
        request_id: str | None = None,
        timeout_seconds: float | None = None,
    ) -> Predictions:
        """As `GrpcClient.predict_tensors`."""
        request = calls.infer_request(raw, self._name, request_id or uuid.uuid4().hex)
        answer, _ = await self._channel.call(self._stub.ModelInfer, request, timeout_seconds)
        return calls.infer_answer(answer)


def _texts(metadata: Any) -> dict[str, str]:
    return {key: value for key, value in metadata or () if isinstance(value, str)}
