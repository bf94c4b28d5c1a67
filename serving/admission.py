"""Admission control: counts the requests in flight, refuses those that would only queue, and keeps the deadline of each.

The policy is `concurrency`; here are the clock, the counters and their lock (requests begin to be scored on threads).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from serving.concurrency import ShedPolicy, Window, adapted
from serving.metrics import Metrics
from serving.refusals import DeadlinePassed, MalformedRequest, Overloaded

HEADER_TIMEOUT = b"x-request-timeout-ms"


class Admission:
    """Admits requests up to a concurrency limit. `policy` None refuses nobody; `default_seconds` is the deadline of a request that names none
    (None: no deadline)."""

    def __init__(
        self,
        metrics: Metrics,
        model_name: str,
        policy: ShedPolicy | None,
        default_seconds: float | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.policy, self._default, self._clock = policy, default_seconds, clock
        self._limit = float(policy.first) if policy else float("inf")
        self._inside = self._waiting = 0
        self._lock = threading.Lock()
        self._since = clock()
        self._started, self._waited, self._peak, self._shed = 0, 0.0, 0, 0
        self._limit_gauge = metrics.concurrency_limit.labels(model_name)
        self._wait_seconds = metrics.wait_seconds.labels(model_name)
        self._limit_gauge.set(self._limit)
        metrics.waiting.labels(model_name).set_function(lambda: self._waiting)

    @property
    def limit(self) -> float:
        """How many may be inside now, rounded down."""
        return self._limit

    @property
    def count(self) -> int:
        """How many are inside now."""
        return self._inside

    def deadline(self, timeout_seconds: float | None = None, since: float | None = None) -> float | None:
        """When a request that arrives now, or came at `since`, must have begun to be scored, on this clock; None for never."""
        seconds = self._default if timeout_seconds is None else timeout_seconds
        return None if seconds is None else (self._clock() if since is None else since) + seconds

    def left(self, deadline: float | None) -> float | None:
        """Seconds until a deadline, below 0 when it is over; None for never."""
        return None if deadline is None else deadline - self._clock()

    @contextmanager
    def admit(self, deadline: float | None) -> Iterator[Callable[[], None]]:
        """The time from a whole request to its answer. What it gives is called where scoring begins, on any thread: it notes
        the wait, and raises DeadlinePassed when the deadline is over.

        Raises Overloaded when as many are inside as the limit allows.
        """
        came = self._enter()
        begun = left = False

        def begin() -> None:
            nonlocal begun
            now = self._clock()
            with self._lock:
                if left:
                    raise DeadlinePassed("the caller has gone; the request was not scored")
                begun = True
                self._waiting -= 1
                self._started += 1
                self._waited += now - came
            self._wait_seconds.observe(now - came)
            if deadline is not None and now >= deadline:
                raise DeadlinePassed(
                    f"the request's time was over {(now - deadline) * 1e3:.0f} ms before it could be scored; "
                    f"it waited {(now - came) * 1e3:.0f} ms here"
                )

        try:
            yield begin
        finally:
            with self._lock:
                left = True
                self._inside -= 1
                self._waiting -= not begun

    def waited(self, seconds: float) -> None:
        """Note that a request which had begun has waited again, on any thread: who is scored in several steps queues for each of them."""
        with self._lock:
            self._waited += seconds

    def _enter(self) -> float:
        with self._lock:
            now = self._clock()
            if self.policy is not None and now >= self._since + self.policy.window_seconds:
                self._turn(now, self.policy)
            if self._inside + 1 > self._limit:
                self._shed += 1
                raise Overloaded(
                    f"{self._inside} requests are being answered and one more would only wait; try again, or another replica"
                )
            self._inside += 1
            self._waiting += 1
            self._peak = max(self._peak, self._inside)
            return now

    def _turn(self, now: float, policy: ShedPolicy) -> None:
        seen = Window(self._started, self._waited, self._peak, self._shed)
        self._limit = adapted(self._limit, seen, policy)
        self._limit_gauge.set(self._limit)
        self._since = now
        self._started, self._waited, self._peak, self._shed = 0, 0.0, self._inside, 0


def timeout_of(headers: list[tuple[bytes, bytes]]) -> float | None:
    """Seconds of the header `x-request-timeout-ms`, None when it is not there. Raises MalformedRequest."""
    given = next((value for key, value in headers if key == HEADER_TIMEOUT), None)
    if given is None:
        return None
    if not given.isdigit() or len(given) > 9 or int(given) == 0:
        raise MalformedRequest(
            f"x-request-timeout-ms must be a whole number of milliseconds above 0; got {given[:20].decode(errors='replace')}"
        )
    return int(given) / 1e3
