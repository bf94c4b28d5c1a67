"""Open and closed loops over kept-alive sockets, on one thread, with times to some tens of microseconds.

Open loop: a request is due at a time that was fixed before, and its latency counts from then, also while it waits for a free
connection: an endpoint that stalls for a second shows a second (coordinated omission avoided, Tene 2013). Closed loop: each client asks
again as soon as it has its answer, which finds the most the endpoint can do and says little about latency.

`select` and not asyncio: its timeouts are microseconds where epoll's are milliseconds, and there is less between a request and its
socket; on a small machine the generator's processor is the endpoint's.
"""

from __future__ import annotations

import gc
import select
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from clickmill.errors import UsageError
from serving.load.exchange import Answer, Exchange

Floats = npt.NDArray[np.float64]
Address = tuple[str, int]

MOST_CONNECTIONS = 500
"""`select` takes file descriptors below 1,024."""
_SHOWN_ERRORS = 5
_SWEEP_SECONDS = 0.05


@dataclass(frozen=True)
class Load:
    """What a run saw, by request in the order they were due."""

    latency_ms: Floats
    """(n,) from when the request was due to its last byte; NaN where it has no good answer."""
    service_ms: Floats
    """(n,) from its first byte sent to its last received: blind to what kept it from being sent."""
    late_ms: Floats
    """(n,) from due to first byte sent: a generator that cannot keep up, or no free connection."""
    status: npt.NDArray[np.int64]
    """(n,) HTTP or gRPC status; -1 where there was no answer."""
    ok: npt.NDArray[np.bool_]
    """(n,) whether a good answer came."""
    first_errors: tuple[str, ...]
    """The first few, in words."""
    seconds: float
    """From the start to the last answer."""

    @property
    def rate(self) -> float:
        """Good answers a second."""
        return float(self.ok.sum()) / self.seconds if self.seconds else 0.0

    def quantile_ms(self, q: float) -> float:
        """Latency at a quantile of the good answers, NaN when there are none."""
        return float(np.quantile(self.latency_ms[self.ok], q)) if self.ok.any() else float("nan")


def open_loop(
    address: Address,
    dial: Callable[[], Exchange],
    requests: Sequence[bytes],
    due: Floats,
    *,
    connections: int = 64,
    timeout_seconds: float = 10.0,
    on_answer: Callable[[int, Answer], None] | None = None,
    enough: Callable[[], bool] | None = None,
) -> Load:
    """Send request i (of `requests`, over and over) at due[i] seconds from now, and wait for every answer.

    Args:
        address: host and port.
        dial: makes the protocol of a new connection.
        requests: prepared bytes, as the protocol wants them.
        due: (n,) ascending, see `arrivals`.
        connections: the most requests in flight; those beyond wait here, and their latency runs.
        timeout_seconds: after which a request in flight has failed.
        on_answer: called with the number of the request and its answer, good or not, while the clock runs: keep it short.
        enough: nothing more is sent once it is true, and the load is that of what was.

    Raises UsageError for no requests, and for less than 1 or more than 500 connections.
    """
    return _Loop(address, dial, requests, connections, timeout_seconds, on_answer).open(due, enough)


def closed_loop(
    address: Address,
    dial: Callable[[], Exchange],
    requests: Sequence[bytes],
    *,
    clients: int,
    seconds: float,
    timeout_seconds: float = 10.0,
    on_answer: Callable[[int, Answer], None] | None = None,
) -> Load:
    """`clients` that ask without pause for `seconds`; the other arguments and errors are those of `open_loop`."""
    return _Loop(address, dial, requests, clients, timeout_seconds, on_answer).closed(seconds)


@dataclass(eq=False)
class _Connection:
    sock: socket.socket
    exchange: Exchange
    index: int = -1
    """Request in flight."""
    used: bool = False
    """Whether it has brought an answer before."""
    heard: bool = False
    """Whether a byte of the answer has come."""
    sent: float = 0.0
    unsent: memoryview = field(default_factory=lambda: memoryview(b""))

    def fileno(self) -> int:
        return self.sock.fileno()


class _Loop:
    def __init__(
        self,
        address: Address,
        dial: Callable[[], Exchange],
        requests: Sequence[bytes],
        connections: int,
        timeout: float,
        on_answer: Callable[[int, Answer], None] | None,
    ) -> None:
        if not requests:
            raise UsageError("no request to send")
        if not 1 <= connections <= MOST_CONNECTIONS:
            raise UsageError(
                f"rate, concurrency and rows per request must be positive, and there are at most {MOST_CONNECTIONS} "
                f"connections; got {connections}"
            )
        self._address, self._dial, self._requests = address, dial, requests
        self._most, self._timeout, self._on_answer = connections, timeout, on_answer
        self._idle: list[_Connection] = []
        self._busy: set[_Connection] = set()
        self._blocked: set[_Connection] = set()
        self._due: list[float] = []
        self._sent: list[float] = []
        self._done: list[float] = []
        self._status: list[int] = []
        self._ok: list[bool] = []
        self._errors: list[str] = []
        self._swept = 0.0

    def open(self, due: Floats, enough: Callable[[], bool] | None) -> Load:
        times = [float(value) for value in due]
        start = time.perf_counter()

        def dues(i: int, now: float) -> float | None:
            return start + times[i] if i < len(times) and not (enough and enough()) else None

        return self._run(dues, start)

    def closed(self, seconds: float) -> Load:
        start = time.perf_counter()
        end = start + seconds
        return self._run(lambda i, now: now if now < end else None, start)

    def _run(self, dues: Callable[[int, float], float | None], start: float) -> Load:
        collects = gc.isenabled()
        gc.disable()  # a collection would be measured as latency
        try:
            self._pump(dues)
        finally:
            if collects:
                gc.enable()
            for connection in [*self._idle, *self._busy]:
                connection.sock.close()
        due, sent, done = (np.array(values, np.float64) for values in (self._due, self._sent, self._done))
        ok = np.array(self._ok, np.bool_)
        return Load(
            latency_ms=np.where(ok, (done - due) * 1e3, np.nan),
            service_ms=np.where(ok, (done - sent) * 1e3, np.nan),
            late_ms=(sent - due) * 1e3,
            status=np.array(self._status, np.int64),
            ok=ok,
            first_errors=tuple(self._errors),
            seconds=float(done.max() - start) if len(done) else 0.0,
        )

    def _pump(self, dues: Callable[[int, float], float | None]) -> None:
        while True:
            now = time.perf_counter()
            while (due := dues(len(self._due), now)) is not None and due <= now:
                if len(self._busy) >= self._most:
                    break
                self._begin(due)
                now = time.perf_counter()
            if due is None and not self._busy:
                return
            wait = self._timeout
            if due is not None and len(self._busy) < self._most:
                wait = max(0.0, due - now)
            readable, writable, _ = select.select(
                self._busy, self._blocked, [], min(wait, _SWEEP_SECONDS) if self._busy else wait
            )
            for connection in writable:
                self._write(connection)
            for connection in readable:
                if connection.index >= 0:
                    self._read(connection)
            self._sweep()

    def _begin(self, due: float) -> None:
        index = len(self._due)
        self._due.append(due)
        self._sent.append(time.perf_counter())
        for values, value in ((self._done, 0.0), (self._status, -1), (self._ok, False)):
            values.append(value)  # type: ignore[attr-defined]
        self._send(index)

    def _send(self, index: int) -> None:
        if self._idle:
            connection = self._idle.pop()
        else:
            try:
                sock = socket.create_connection(self._address, self._timeout)
            except OSError as error:
                self._failed(index, f"{type(error).__name__}: {error}")
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setblocking(False)
            connection = _Connection(sock, self._dial())
        connection.index, connection.heard = index, False
        connection.sent = self._sent[index] = time.perf_counter()
        connection.unsent = memoryview(connection.exchange.start(self._requests[index % len(self._requests)]))
        self._busy.add(connection)
        self._write(connection)

    def _write(self, connection: _Connection) -> None:
        try:
            while connection.unsent:
                connection.unsent = connection.unsent[connection.sock.send(connection.unsent) :]
        except BlockingIOError:
            self._blocked.add(connection)
            return
        except OSError as error:
            self._lost(connection, error)
            return
        self._blocked.discard(connection)

    def _read(self, connection: _Connection) -> None:
        try:
            data = connection.sock.recv(1 << 18)
            if not data:
                raise ConnectionError("the server closed the connection")
            connection.heard = True
            answer, back = connection.exchange.feed(data)
        except BlockingIOError:
            return
        except OSError as error:
            self._lost(connection, error)
            return
        if back:
            connection.unsent = memoryview(bytes(connection.unsent) + back)
            self._write(connection)
        if answer is not None and connection.index >= 0:
            self._answered(connection, answer)

    def _answered(self, connection: _Connection, answer: Answer) -> None:
        index = connection.index
        self._done[index] = time.perf_counter()
        self._status[index], self._ok[index] = answer.status, answer.ok
        if not answer.ok:
            self._told(index, f"status {answer.status}: {answer.body[:200].decode(errors='replace')}")
        connection.index, connection.used = -1, True
        self._busy.discard(connection)
        self._blocked.discard(connection)
        if connection.exchange.reusable and not connection.unsent:
            self._idle.append(connection)
        else:
            connection.sock.close()
        if self._on_answer is not None:
            self._on_answer(index, answer)

    def _lost(self, connection: _Connection, error: OSError) -> None:
        index = connection.index
        self._drop(connection)
        # a server may close an idle connection as we write to it: that is once more, on a new one
        if connection.used and not connection.heard and not isinstance(error, TimeoutError):
            for stale in self._idle:
                stale.sock.close()
            self._idle.clear()
            self._send(index)
        else:
            self._failed(index, f"{type(error).__name__}: {error}")

    def _drop(self, connection: _Connection) -> None:
        connection.sock.close()
        connection.index = -1
        self._busy.discard(connection)
        self._blocked.discard(connection)

    def _failed(self, index: int, words: str) -> None:
        self._done[index] = time.perf_counter()
        self._told(index, words)

    def _told(self, index: int, words: str) -> None:
        if len(self._errors) < _SHOWN_ERRORS:
            self._errors.append(f"request {index}: {words}")

    def _sweep(self) -> None:
        now = time.perf_counter()
        if now < self._swept + _SWEEP_SECONDS:
            return
        self._swept = now
        for connection in [c for c in self._busy if now - c.sent > self._timeout]:
            index = connection.index
            self._drop(connection)
            self._failed(index, f"TimeoutError: no answer within {self._timeout:g} s")
