"""HTTP/1.1 and gRPC as the load generator speaks them, beside the real grpc server and bytes cut anywhere."""

from __future__ import annotations

import itertools
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.load import Answer, GrpcExchange, HttpExchange, constant, http_request, open_loop
from serving.load.http import header

ECHO, FAIL = "/test.Service/Echo", "/test.Service/Fail"


class Handler(grpc.GenericRpcHandler):
    def service(self, details):
        def echo(request: bytes, context: grpc.ServicerContext) -> bytes:
            return request[::-1]

        def fail(request: bytes, context: grpc.ServicerContext) -> bytes:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "w" * 200)

        work = {ECHO: echo, FAIL: fail}.get(details.method)
        return grpc.unary_unary_rpc_method_handler(work) if work else None


@pytest.fixture(scope="module")
def target() -> Iterator[tuple[str, int]]:
    server = grpc.server(ThreadPoolExecutor(4), options=[("grpc.max_receive_message_length", 1 << 24)])
    server.add_generic_rpc_handlers([Handler()])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield "127.0.0.1", port
    server.stop(None)


@pytest.mark.parametrize("size", [0, 1, 16_384, 65_535, 65_536, 3_000_000])
def test_a_message_of_any_size_goes_out_and_comes_back_through_the_servers_windows(target, size):
    message = np.random.default_rng(size).bytes(size)
    answers: dict[int, Answer] = {}
    load = open_loop(
        target,
        lambda: GrpcExchange(ECHO),
        [message],
        constant(1000, 5),
        connections=2,
        on_answer=answers.__setitem__,
    )
    assert load.ok.all(), load.first_errors
    assert [answers[i].body for i in range(5)] == [message[::-1]] * 5
    assert load.status.tolist() == [0] * 5


def test_a_refusal_brings_its_status_and_words_and_the_connection_goes_on(target):
    exchanges: list[GrpcExchange] = []

    def dial() -> GrpcExchange:
        exchanges.append(GrpcExchange(FAIL))
        return exchanges[-1]

    load = open_loop(target, dial, [b"x"], constant(1000, 3), connections=1)
    assert load.status.tolist() == [3, 3, 3]  # INVALID_ARGUMENT
    assert not load.ok.any()
    assert "w" * 200 in load.first_errors[0]
    assert len(exchanges) == 1


def test_an_unknown_method_is_unimplemented(target):
    load = open_loop(target, lambda: GrpcExchange("/test.Service/Nothing"), [b"x"], constant(1, 1))
    assert load.status.tolist() == [12]


def test_many_messages_keep_the_windows_open(target):
    """2,000 messages of 40 kB over one connection: more than any first window holds, both ways."""
    load = open_loop(
        target, lambda: GrpcExchange(ECHO), [b"a" * 40_000], constant(20_000, 2000), connections=1
    )
    assert load.ok.all(), load.first_errors


def test_frames_are_read_wherever_they_are_cut(target):
    with socket.create_connection(target, timeout=10) as sock:
        exchange = GrpcExchange(ECHO)
        sock.sendall(exchange.start(b"abc" * 10_000))
        answer = None
        while answer is None:
            data = sock.recv(7)  # no frame head fits
            answer, back = exchange.feed(data)
            sock.sendall(back)
    assert answer.body == b"cba" * 10_000


@given(
    body=st.binary(max_size=300),
    status=st.sampled_from([200, 400, 503]),
    cuts=st.lists(st.integers(0, 400), max_size=6),
    chunk=st.integers(0, 100),
)
def test_an_http_answer_is_read_wherever_it_is_cut(body, status, cuts, chunk):
    """With a content-length, or in chunks of `chunk` bytes."""
    head = b"HTTP/1.1 %d Words\r\nX-Version: 7\r\n" % status
    text = head + b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
    if chunk:
        pieces = [body[at : at + chunk] for at in range(0, len(body), chunk)]
        chunks = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in [*pieces, b""])
        text = head + b"Transfer-Encoding: chunked\r\n\r\n" + chunks
    exchange = HttpExchange()
    for _ in range(2):  # the second answer of a connection is read as the first
        ends = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
        found = [exchange.feed(text[start:end])[0] for start, end in itertools.pairwise(ends)]
        assert found[:-1] == [None] * (len(found) - 1)
        answer = found[-1]
        assert answer is not None
        assert (answer.ok, answer.status, answer.body) == (status == 200, status, body)
        assert header(answer.head, "x-version") == "7"


def test_an_answer_without_a_length_is_refused_and_close_is_heard():
    with pytest.raises(ConnectionError, match="content-length"):
        HttpExchange().feed(b"HTTP/1.0 200 OK\r\n\r\n")
    exchange = HttpExchange()
    exchange.feed(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
    assert not exchange.reusable


def test_a_request_is_whole():
    request = http_request("/p", b"{}", {"x-a": "b"}, host="h:1")
    assert request == (
        b"POST /p HTTP/1.1\r\nhost: h:1\r\ncontent-type: application/json\r\nx-a: b\r\ncontent-length: 2\r\n\r\n{}"
    )
