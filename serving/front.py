"""The ASGI front: answers the two prediction routes itself, bounds every body, and hands the rest to KServe's app.

KServe's own V2 route parses the body into pydantic models, turns each buffer into a Python list and back, and answers
500 for a buffer of the wrong length: here bytes become arrays once. Its V1 route is kept for CloudEvents.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Awaitable, Callable, MutableMapping
from functools import partial
from typing import Any
from urllib.parse import parse_qs, unquote

from clickmill.errors import RequestTooLarge
from serving.admission import timeout_of
from serving.fallback import wish_of
from serving.http_protocol import ARRIVED
from serving.limits import Limits
from serving.predictor import Answer, BundleModel
from serving.ranker import Ranker
from serving.refusals import (
    RETRY_AFTER_SECONDS,
    MalformedRequest,
    NotOffered,
    SlowRequest,
    UnknownModel,
    WrongContentType,
    body_of,
    is_fault,
    refusal_of,
)
from serving.scheduler import Scheduler
from serving.stages import failed, trace_context

log = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_PREDICT = re.compile(r"/v1/models/([^/:]+):predict\Z")
_RANK = re.compile(r"/v1/models/([^/:]+):rank\Z")
_INFER = re.compile(r"/v2/models/([^/]+)(?:/versions/([^/]+))?/infer\Z")
_REPOSITORY = re.compile(r"/v2/repository/models/[^/]+/(?:load|unload)\Z")
_JSON_LENGTH = b"inference-header-content-length"
_LONGEST_ID = 256
"""Characters of a request's id that are kept."""
_JSON = b"application/json"
_BINARY = b"application/octet-stream"


class Front:
    """ASGI application over `app`."""

    def __init__(
        self, app: App, model: BundleModel, scheduler: Scheduler, ranker: Ranker | None = None
    ) -> None:
        self.app, self.model, self.limits = app, model, model.limits
        self._scheduler, self._ranker = scheduler, ranker or Ranker(model, scheduler)
        metrics, name = model.metrics, model.name
        self._seconds = {p: metrics.request_seconds.labels(name, p) for p in ("v1", "v2", "rank")}
        self._late = {p: metrics.late.labels(name, p) for p in self._seconds}
        self._in_flight = metrics.in_flight.labels(name)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request or the lifespan."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if scope["method"] == "POST":
            path = scope["path"]
            if (v1 := _PREDICT.match(path)) and not _is_cloudevent(scope["headers"]):
                await self._timed("v1", scope, receive, send, v1[1], None)
                return
            if rank := _RANK.match(path):
                await self._timed("rank", scope, receive, send, rank[1], None)
                return
            if v2 := _INFER.match(path):
                await self._timed("v2", scope, receive, send, v2[1], v2[2])
                return
            if _REPOSITORY.match(path):
                error = NotOffered(
                    "bundles are loaded from the watched folder; deploy a bundle there instead"
                )
                await _refuse(send, error)
                return
        await self.app(scope, _bounded(scope, receive, self.limits), send)

    async def _timed(self, protocol: str, scope: Scope, *arguments: Any) -> None:
        headers = scope["headers"]
        with self._scheduler.stages.request(protocol, partial(trace_context, headers), _request_id(headers)):
            await self._predict(protocol, scope, *arguments)

    async def _predict(
        self, protocol: str, scope: Scope, receive: Receive, send: Send, name: str, version: str | None
    ) -> None:
        self._in_flight.inc()
        deadline = None
        try:
            headers = scope["headers"]
            # runs while the body comes in
            deadline = self._scheduler.admission.deadline(timeout_of(headers), scope.get(ARRIVED))
            body = await read_body(headers, receive, self.limits)
            start = time.perf_counter()
            if unquote(name) != self.model.name:
                raise UnknownModel(f"no model `{unquote(name)}` here; this server has `{self.model.name}`")
            if protocol != "v2":
                _check_content_type(headers, _JSON)
            size, schedule = len(body), self._scheduler
            if protocol == "v1":
                answer = await schedule.answer(size, deadline, self.model.ask_v1, body, _request_id(headers))
            elif protocol == "rank":
                explain = parse_qs(scope["query_string"].decode("latin-1")).get("explain") == ["1"]
                falls_back = wish_of(headers, self._ranker.settings.fallback)
                answer = await self._ranker.answer(body, deadline, explain=explain, falls_back=falls_back)
            else:
                length = _json_length(headers)
                _check_content_type(headers, _JSON if length is None else _BINARY)
                answer = await schedule.answer(size, deadline, self.model.ask_v2, body, length, version)
        except Exception as error:  # noqa: BLE001 - the edge: every error becomes an answer, bugs are logged
            await self._fail(protocol, send, error)
        else:
            await _send(send, 200, answer.body, self._headers(answer))
            self._seconds[protocol].observe(time.perf_counter() - start)
        finally:
            self._in_flight.dec()
            left = self._scheduler.admission.left(deadline)
            if left is not None and left < 0:
                self._late[protocol].inc()

    def _headers(self, answer: Answer) -> list[tuple[bytes, bytes]]:
        kind = _JSON if answer.json_length is None else _BINARY
        headers = [(b"content-type", kind), *((k.encode(), v.encode()) for k, v in answer.headers.items())]
        if answer.json_length is not None:
            headers.append((_JSON_LENGTH, str(answer.json_length).encode()))
        if self.model.draining:
            headers.append((b"connection", b"close"))  # the next request shall find another replica
        return headers

    async def _fail(self, protocol: str, send: Send, error: Exception) -> None:
        if isinstance(error, _Gone):
            return
        failed(error)
        refusal = refusal_of(error)
        if is_fault(error):
            log.error("%s request failed", protocol, exc_info=error)
        self.model.metrics.rejected.labels(self.model.name, protocol, refusal.reason).inc()
        await _refuse(send, error)


async def read_body(headers: list[tuple[bytes, bytes]], receive: Receive, limits: Limits) -> bytes:
    """The whole body, never more than `max_body_bytes` of it in memory.

    Raises RequestTooLarge, SlowRequest and, for a client that hung up, an error nobody is told.
    """
    declared = next((value for key, value in headers if key == b"content-length"), None)
    # a client that waits for "100 Continue" has sent nothing: refuse at once, so that it never does
    waits = any(key == b"expect" for key, _ in headers)
    too_large = declared is not None and int(declared) > limits.max_body_bytes
    if too_large and waits:
        raise _too_large(limits)
    chunks: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(limits.body_seconds):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise _Gone
                chunk = message.get("body", b"")
                size += len(chunk)
                if not too_large and size > limits.max_body_bytes:
                    too_large = True
                    chunks.clear()
                if not too_large:
                    chunks.append(chunk)
                elif size > limits.max_body_bytes + limits.drain_bytes:
                    break
                if not message.get("more_body", False):
                    break
    except TimeoutError:
        raise SlowRequest(
            f"the body did not arrive within {limits.body_seconds:g} s; send it again"
        ) from None
    if too_large:
        raise _too_large(limits)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


class _Gone(Exception):
    """The client hung up before its body was whole."""


def _too_large(limits: Limits) -> RequestTooLarge:
    return RequestTooLarge(
        f"the body exceeds {limits.max_body_bytes:,} bytes; send fewer instances a request, or the binary tensors of V2"
    )


def _bounded(scope: Scope, receive: Receive, limits: Limits) -> Receive:
    """Receive of KServe's own routes, cut off above the limit."""
    size = 0

    async def bounded() -> MutableMapping[str, Any]:
        nonlocal size
        message = await receive()
        if message["type"] == "http.request":
            size += len(message.get("body", b""))
            if size > limits.max_body_bytes:
                raise _too_large(limits)
        return message

    return bounded


def _check_content_type(headers: list[tuple[bytes, bytes]], expected: bytes) -> None:
    given = next((value for key, value in headers if key == b"content-type"), expected)
    kind = given.split(b";", 1)[0].strip().lower()
    if kind != expected and not (expected == _BINARY and kind == _JSON):
        raise WrongContentType(
            f"content-type is {kind.decode(errors='replace')}; send `Content-Type: {expected.decode()}` "
            "(curl: -H 'Content-Type: application/json')"
        )


def _json_length(headers: list[tuple[bytes, bytes]]) -> int | None:
    given = next((value for key, value in headers if key == _JSON_LENGTH), None)
    if given is None:
        return None
    if not given.isdigit() or len(given) > 12:
        raise MalformedRequest(
            "Inference-Header-Content-Length must be the number of JSON bytes before the buffers"
        )
    return int(given)


def _request_id(headers: list[tuple[bytes, bytes]]) -> str | None:
    given = next((value for key, value in headers if key == b"x-request-id"), b"")
    return given.decode("latin-1")[:_LONGEST_ID] or None


def _is_cloudevent(headers: list[tuple[bytes, bytes]]) -> bool:
    return any(
        key == b"ce-specversion" or (key == b"content-type" and value.startswith(b"application/cloudevents"))
        for key, value in headers
    )


async def _refuse(send: Send, error: Exception) -> None:
    refusal = refusal_of(error)
    headers = [(b"content-type", _JSON)]
    if refusal.http in (408, 413):
        headers.append((b"connection", b"close"))  # the rest of the body is not wanted
    if refusal.http == 503:
        headers.append((b"retry-after", str(RETRY_AFTER_SECONDS).encode()))
    await _send(send, refusal.http, body_of(error), headers)


async def _send(send: Send, status: int, body: bytes, headers: list[tuple[bytes, bytes]]) -> None:
    headers = [*headers, (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
