"""The two loops against a server of plain sockets whose delays are set; lower bounds only, machines are noisy."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clickmill.errors import UsageError
from serving.load import HttpExchange, closed_loop, constant, http_request, open_loop, poisson

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
REQUEST = http_request("/", b"{}")


class Server:
    """Each connection on its thread; `serve(nth connection, socket)` is the whole of its manners."""

    def __init__(self, serve: Callable[[int, socket.socket], None]) -> None:
        self.sock = socket.create_server(("127.0.0.1", 0))
        self.address = self.sock.getsockname()
        self.accepted = 0
        self._threads: list[threading.Thread] = []
        self._serve = serve
        self._main = threading.Thread(target=self._accept)
        self._main.start()

    def _accept(self) -> None:
        while True:
            try:
                peer, _ = self.sock.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._one, args=(self.accepted, peer))
            self.accepted += 1
            self._threads.append(thread)
            thread.start()

    def _one(self, number: int, peer: socket.socket) -> None:
        with peer:
            self._serve(number, peer)

    def close(self) -> None:
        self.sock.shutdown(socket.SHUT_RDWR)
        self.sock.close()
        self._main.join()
        for thread in self._threads:
            thread.join()


@pytest.fixture
def server() -> Iterator[Callable[[Callable[[int, socket.socket], None]], Server]]:
    made: list[Server] = []

    def make(serve: Callable[[int, socket.socket], None]) -> Server:
        made.append(Server(serve))
        return made[-1]

    yield make
    for one in made:
        one.close()


def patient(seconds: float) -> Callable[[int, socket.socket], None]:
    def serve(number: int, peer: socket.socket) -> None:
        while peer.recv(1 << 16):
            time.sleep(seconds)
            peer.sendall(OK)

    return serve


def test_a_request_that_waits_for_a_connection_is_as_late_as_it_is(server):
    """10 requests due at once over one connection of 20 ms a request: the k-th cannot be done before 20 (k + 1) ms."""
    found = open_loop(
        server(patient(0.02)).address, HttpExchange, [REQUEST], constant(1e9, 10), connections=1
    )
    assert found.ok.all()
    assert (found.latency_ms >= 20 * (np.arange(10) + 1) - 0.1).all()
    assert (found.late_ms[1:] >= 20 * np.arange(1, 10) - 0.1).all()
    assert (np.abs(found.latency_ms - found.late_ms - found.service_ms) < 1e-6).all()


def test_requests_go_out_when_they_are_due_and_not_before(server):
    due = poisson(200, 60, seed=1)
    found = open_loop(server(patient(0.0)).address, HttpExchange, [REQUEST], due, connections=20)
    assert found.ok.all()
    assert (found.late_ms >= 0).all()
    assert found.seconds >= due[-1]


def test_an_open_loop_ends_early_when_there_is_enough(server):
    answers: list[int] = []
    found = open_loop(
        server(patient(0.0)).address,
        HttpExchange,
        [REQUEST],
        constant(200, 10_000),
        on_answer=lambda i, _: answers.append(i),
        enough=lambda: len(answers) >= 5,
    )
    assert found.ok.all()
    assert 5 <= len(found.ok) == len(answers) < 1000


def test_a_closed_loop_keeps_each_client_at_one_request(server):
    one = server(patient(0.01))
    found = closed_loop(one.address, HttpExchange, [REQUEST], clients=3, seconds=0.3)
    assert one.accepted == 3
    assert found.ok.all()
    assert found.rate <= 3 / 0.01
    assert found.seconds >= 0.3


def test_a_connection_closed_while_idle_costs_no_request(server):
    def once(number: int, peer: socket.socket) -> None:
        if peer.recv(1 << 16):
            peer.sendall(OK)  # and closes, without a word

    found = open_loop(server(once).address, HttpExchange, [REQUEST], constant(20, 4))
    assert found.ok.all(), found.first_errors


def test_a_server_that_hangs_up_before_it_ever_answered_is_a_failure(server):
    def never(number: int, peer: socket.socket) -> None:
        peer.recv(1 << 16)

    found = open_loop(server(never).address, HttpExchange, [REQUEST], constant(100, 2))
    assert found.status.tolist() == [-1, -1]
    assert np.isnan(found.latency_ms).all()
    assert "ConnectionError" in found.first_errors[0] or "ConnectionReset" in found.first_errors[0]


def test_silence_ends_with_the_timeout_and_the_next_request_gets_a_fresh_connection(server):
    def first_hangs(number: int, peer: socket.socket) -> None:
        if number == 0:
            peer.recv(1 << 16)
            peer.recv(1)  # until the client gives up
        else:
            patient(0.0)(number, peer)

    found = open_loop(
        server(first_hangs).address,
        HttpExchange,
        [REQUEST],
        constant(1000, 2),
        connections=1,
        timeout_seconds=0.2,
    )
    assert found.ok.tolist() == [False, True]
    assert "no answer within 0.2 s" in found.first_errors[0]


def test_a_request_larger_than_the_sockets_buffers_is_sent_in_pieces(server):
    size = 8 << 20
    request = http_request("/", b"x" * size)

    def slow(number: int, peer: socket.socket) -> None:
        time.sleep(0.05)
        left = len(request)
        while left and (data := peer.recv(1 << 20)):
            left -= len(data)
        peer.sendall(OK)

    found = open_loop(server(slow).address, HttpExchange, [request], constant(1, 1))
    assert found.ok.all(), found.first_errors


def test_nothing_to_send_and_impossible_numbers_of_connections_are_refused():
    with pytest.raises(UsageError, match="no request"):
        open_loop(("127.0.0.1", 1), HttpExchange, [], constant(1, 1))
    for connections in (0, 501):
        with pytest.raises(UsageError, match="at most 500"):
            open_loop(("127.0.0.1", 1), HttpExchange, [REQUEST], constant(1, 1), connections=connections)
    with pytest.raises(UsageError, match="must be positive"):
        poisson(0, 3, seed=0)


@given(rate=st.floats(0.1, 1e5), seed=st.integers(0, 100))
def test_poisson_arrivals_ascend_and_scale_with_the_rate(rate, seed):
    times = poisson(rate, 50, seed=seed)
    assert (np.diff(times) >= 0).all()
    assert times * rate == pytest.approx(poisson(1.0, 50, seed=seed))


def test_poisson_gaps_have_mean_and_deviation_of_an_exponential():
    gaps = np.diff(poisson(100, 20_001, seed=0))
    assert gaps.mean() == pytest.approx(0.01, rel=0.03)
    assert gaps.std() == pytest.approx(0.01, rel=0.03)
