"""REST clients of one model, to call and to await: V1 rows, V2 tensors, rankings.

Both keep their connections and are context managers; one client may be used by many threads, or tasks. Every call has a deadline: the
server is told what is left of it (`x-request-timeout-ms`), and nothing is tried beyond.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeVar

import httpx
import numpy as np

from clickmill.errors import UsageError
from serving.client import calls
from serving.client.calls import Call, Predictions, Ranked
from serving.client.conduct import Conductor
from serving.client.retry import Failed, Reply, RetryPolicy, Send

T = TypeVar("T")


class Client:
    """REST client that waits. Not hedged: a thread cannot take back what it waits for; `AsyncClient` and the gRPC clients can."""

    def __init__(
        self,
        url: str,
        *,
        model_name: str | None = None,
        timeout_seconds: float = 10.0,
        policy: RetryPolicy | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        """`url` is that of the server (http://127.0.0.1:8080). Without `model_name` the server is asked for its only one.
        `timeout_seconds` is the deadline of a call, all tries together. Raises UsageError for a policy that hedges."""
        policy = policy or RetryPolicy()
        if policy.hedge_quantile is not None:
            raise UsageError(
                "Client does not hedge; take AsyncClient or GrpcClient, or leave hedge_quantile out"
            )
        self._http = httpx.Client(base_url=url, transport=transport, trust_env=False)
        self._url, self._name = url, model_name
        self._conductor = Conductor(policy, timeout_seconds)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    @property
    def model_name(self) -> str:
        """Name in the URLs. Raises UnknownModel when the server has none or several and none was given."""
        if self._name is None:
            self._name = calls.only_name(self._url, self._do(calls.names(), None))
        return self._name

    def ready(self) -> bool:
        """Whether the server would answer a prediction now; False when it cannot be reached."""
        try:
            return self._http.get("/v2/health/ready", timeout=self._conductor.timeout).status_code == 200
        except httpx.TransportError:
            return False

    def metadata(self) -> dict[str, Any]:
        """V2 metadata: inputs and outputs with datatypes and shapes, the version in service."""
        return self._do(calls.metadata(self.model_name), None)

    def predict(
        self,
        rows: Sequence[Mapping[str, Any]],
        *,
        request_id: str | None = None,
        timeout_seconds: float | None = None,
    ) -> Predictions:
        """Score rows by V1; a row is {field: JSON value}. `request_id` names the call in the prediction log, drawn when None;
        `timeout_seconds` is its deadline instead of the client's.

        Raises RequestError and RequestTooLarge (with `path`, `field` and `row`), UnknownModel, NotReady, Overloaded, DeadlinePassed,
        Unreachable.
        """
        return self._do(calls.predict(self.model_name, rows, request_id), timeout_seconds)

    def predict_tensors(
        self,
        raw: Mapping[str, np.ndarray],
        *,
        binary: bool = True,
        request_id: str | None = None,
        timeout_seconds: float | None = None,
    ) -> Predictions:
        """Score arrays by V2: (n,) a field, (n, L) for lists; object arrays of bytes, int64, float32 or bool. Raises as `predict`."""
        return self._do(calls.predict_tensors(self.model_name, raw, binary, request_id), timeout_seconds)

    def rank(
        self,
        candidates: Sequence[Mapping[str, Any]],
        *,
        user: Mapping[str, Any] | None = None,
        context: Mapping[str, Any] | None = None,
        slots: int | None = None,
        pricing: str | None = None,
        reserve: float | None = None,
        explain: bool = False,
        on_failure: Literal["fallback", "error"] | None = None,
        request_id: str | None = None,
        timeout_seconds: float | None = None,
    ) -> Ranked:
        """Rank the candidates of one request, each {field: JSON value} with its bid, and sell the slots. What is None is left to
        the endpoint; `on_failure` says whether it may rank without the model where it would have to refuse. Raises as `predict`."""
        parts = {"user": user, "context": context, "slots": slots, "pricing": pricing, "reserve": reserve}
        call = calls.rank(self.model_name, candidates, parts, explain, on_failure, request_id)
        return self._do(call, timeout_seconds)

    def _do(self, call: Call[T], timeout: float | None) -> T:
        def send(step: Send) -> Reply[T] | Failed:
            try:
                answer = self._http.request(
                    call.method,
                    call.path,
                    content=call.body,
                    headers=_with_deadline(call.headers, step.seconds),
                    timeout=step.seconds,
                )
            except httpx.TransportError as error:
                return calls.unreachable(self._url, error, step.seconds)
            return calls.outcome(call, answer)

        return self._conductor.run(send, timeout)


class AsyncClient:
    """REST client that is awaited: the calls of `Client`, hedged where the policy says so."""

    def __init__(
        self,
        url: str,
        *,
        model_name: str | None = None,
        timeout_seconds: float = 10.0,
        policy: RetryPolicy | None = None,
        most_connections: int = 100,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """As `Client`; calls beyond `most_connections` at a time wait for one, within their deadline."""
        limits = httpx.Limits(max_connections=most_connections, max_keepalive_connections=most_connections)
        self._http = httpx.AsyncClient(base_url=url, limits=limits, transport=transport, trust_env=False)
        self._url, self._name = url, model_name
        self._conductor = Conductor(policy or RetryPolicy(), timeout_seconds)

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *raised: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def model_name(self) -> str:
        """As `Client.model_name`."""
        if self._name is None:
            self._name = calls.only_name(self._url, await self._do(calls.names(), None))
        return self._name

    async def ready(self) -> bool:
        """As `Client.ready`."""
        try:
            answer = await self._http.get("/v2/health/ready", timeout=self._conductor.timeout)
        except httpx.TransportError:
            return False
        return answer.status_code == 200

    async def metadata(self) -> dict[str, Any]:
        """As `Client.metadata`."""
        return await self._do(calls.metadata(await self.model_name()), None)

    async def predict(
        self,
        rows: Sequence[Mapping[str, Any]],
        *,
        request_id: str | None = None,
        timeout_seconds: float | None = None,
    ) -> Predictions:
        """As `Client.predict`."""
        return await self._do(calls.predict(await self.model_name(), rows, request_id), timeout_seconds)

    async def predict_tensors(
        self,
        raw: Mapping[str, np.ndarray],
        *,
        binary: bool = True,
        request_id: str | None = None,
        timeout_seconds: float | None = None,
    ) -> Predictions:
        """As `Client.predict_tensors`."""
        call = calls.predict_tensors(await self.model_name(), raw, binary, request_id)
        return await self._do(call, timeout_seconds)

    async def rank(
        self,
        candidates: Sequence[Mapping[str, Any]],
        *,
        user: Mapping[str, Any] | None = None,
        context: Mapping[str, Any] | None = None,
        slots: int | None = None,
        pricing: str | None = None,
        reserve: float | None = None,
        explain: bool = False,
        on_failure: Literal["fallback", "error"] | None = None,
        request_id: str | None = None,
        timeout_seconds: float | None = None,
    ) -> Ranked:
        """As `Client.rank`."""
        parts = {"user": user, "context": context, "slots": slots, "pricing": pricing, "reserve": reserve}
        call = calls.rank(await self.model_name(), candidates, parts, explain, on_failure, request_id)
        return await self._do(call, timeout_seconds)

    async def _do(self, call: Call[T], timeout: float | None) -> T:
        async def send(seconds: float) -> Reply[T] | Failed:
            try:
                # httpx counts its timeouts from byte to byte; this one is for the whole answer
                async with asyncio.timeout(seconds):
                    answer = await self._http.request(
                        call.method,
                        call.path,
                        content=call.body,
                        headers=_with_deadline(call.headers, seconds),
                        timeout=seconds,
                    )
            except (httpx.TransportError, TimeoutError) as error:
                return calls.unreachable(self._url, error, seconds)
            return calls.outcome(call, answer)

        return await self._conductor.run_async(send, timeout)


def _with_deadline(headers: Mapping[str, str], seconds: float) -> dict[str, str]:
    # what nobody waits for any more shall not be scored: gRPC sends its deadline, HTTP has no word for it
    return {**headers, "x-request-timeout-ms": str(max(int(seconds * 1e3), 1))}
