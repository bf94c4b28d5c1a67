"""The bound on the head of a request, with uvicorn and a trivial application on a real socket."""

from __future__ import annotations

import asyncio
import http.client
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn

from serving import http_protocol
from serving.http_protocol import MAX_HEAD_BYTES, BoundedHead
from serving.ports import listen


async def count_bytes(scope: Any, receive: Any, send: Any) -> None:
    """Answer with the length of the body."""
    size, more = 0, True
    while more:
        message = await receive()
        size += len(message.get("body", b""))
        more = message.get("more_body", False)
    body = str(size).encode()
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    sock = listen("127.0.0.1", 0, "--http-port")
    config = uvicorn.Config(count_bytes, http=BoundedHead, ws="none", lifespan="off", log_config=None)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[sock])))
    thread.start()
    yield sock.getsockname()[1]
    server.should_exit = True
    thread.join()


def ask(port: int, *parts: bytes) -> bytes:
    """Send the parts, then read until the server hangs up or answers."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as raw:
        try:
            for part in parts:
                raw.sendall(part)
        except OSError:
            pass  # it has hung up already
        try:
            return raw.recv(65536)
        except ConnectionResetError:
            return b""


@pytest.mark.parametrize("size", [MAX_HEAD_BYTES + 1, 200_000, 5_000_000])
def test_a_large_body_is_no_large_head(port, size):
    """Sent at once, so that the end of the body and nothing else comes in the last read, and again in chunks."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    expected = str(size).encode()
    for _ in range(10):
        connection.request("POST", "/", b"x" * size)
        answer = connection.getresponse()
        assert (answer.status, answer.read()) == (200, expected)
        connection.request(
            "POST", "/", iter([b"y" * size]), {"Transfer-Encoding": "chunked"}, encode_chunked=True
        )
        answer = connection.getresponse()
        assert (answer.status, answer.read()) == (200, expected)
    connection.close()


def test_a_head_that_does_not_end_is_refused(port):
    received = ask(port, b"GET / HTTP/1.1\r\nX-Endless: ", *[b"x" * 10_000] * 10)
    assert not received or received.startswith(b"HTTP/1.1 400 Bad Request")
    received = ask(port, b"GET /" + b"x" * (MAX_HEAD_BYTES + 10))
    assert f"exceeds {MAX_HEAD_BYTES} bytes".encode() in received


def test_heads_of_many_requests_do_not_add_up(port):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    for _ in range(40):
        connection.request("GET", "/", headers={"X-Padding": "x" * 4000})
        assert connection.getresponse().read() == b"0"
    connection.close()


def test_pipelined_requests_are_all_answered(port):
    one = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"
    with socket.create_connection(("127.0.0.1", port), timeout=10) as raw:
        raw.sendall(one * 5)
        received = b""
        while received.count(b"\r\n\r\n3") < 5:
            part = raw.recv(65536)
            assert part, received
            received += part
    assert received.count(b"HTTP/1.1 200") == 5


def trickle(port: int, data: bytes, answer_to: bytes = b"") -> bytes:
    """Everything the server says to a client that sends `data` a byte at a time, after a first request."""
    said = b""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as raw:
        if answer_to:
            raw.sendall(answer_to)
            said += raw.recv(65536)
        raw.settimeout(0.05)
        for byte in data:
            try:
                raw.sendall(bytes([byte]))
                if not (part := raw.recv(65536)):
                    return said
                said += part
            except TimeoutError:
                continue
            except OSError:
                return said
    raise AssertionError(f"the server listened to all of it and said {said!r}")


@pytest.mark.parametrize("first", [b"", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi"])
def test_a_head_that_trickles_in_is_answered_408_on_a_new_and_on_a_used_connection(port, first, monkeypatch):
    monkeypatch.setattr(http_protocol, "HEAD_SECONDS", 0.3)
    said = trickle(port, b"GET / HTTP/1.1\r\nX-Slow: " + b"x" * 200, first)
    assert b"HTTP/1.1 408 " in said
    assert said.count(b"HTTP/1.1 200 ") == bool(first)


def test_a_connection_that_says_nothing_is_hung_up_on(port, monkeypatch):
    monkeypatch.setattr(http_protocol, "HEAD_SECONDS", 0.3)
    with socket.create_connection(("127.0.0.1", port), timeout=10) as raw:
        assert raw.recv(100) == b""


def test_a_slow_body_after_a_whole_head_is_not_taken_for_a_slow_head(port, monkeypatch):
    monkeypatch.setattr(http_protocol, "HEAD_SECONDS", 0.2)
    with socket.create_connection(("127.0.0.1", port), timeout=10) as raw:
        raw.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 2\r\n\r\n")
        time.sleep(0.6)
        raw.sendall(b"hi")
        said = b"".join(iter(lambda: raw.recv(65536), b""))
    assert said.startswith(b"HTTP/1.1 200 ")
    assert said.endswith(b"\r\n\r\n2")
