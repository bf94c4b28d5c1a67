"""Where a request is scored: small ones on the event loop, large ones on threads beside it.

Handing a request to a thread and back costs about as much as scoring one row, and a row scored on the loop delays nobody by more
than a millisecond. A large one on the loop delays everybody, health checks included, and leaves the other cores idle. Measured
(DCN-v2, 2 busy cores, 4 clients without pause, requests a second on the loop / on 2 threads): 1 row 730 / 778, 32 rows 574 / 599,
256 rows 66 / 102; processor time of a request 5 to 10 % more on threads.

Between the small ones the loop looks at its sockets. Were all that wait scored in one turn of the loop, the turn would take as long as their number
says, and libuv accepts one connection a turn (libuv#3696): under a flood, health checks and scrapes then stood minutes before the door.
"""

from __future__ import annotations

import asyncio
import contextvars
import os
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

Result = TypeVar("Result")

SMALL_BYTES = 8 * 1024
"""Size of a request up to which it is scored on the loop: about 8 rows of JSON with 40 fields. At -1 nothing is."""

TURN_SECONDS = 0.001
"""What is scored in one turn of the event loop, roughly; at least one request."""


class _Turns:
    """Lets so many requests pass in a turn of the loop as take `TURN_SECONDS`, in the order they came."""

    def __init__(self) -> None:
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._spent, self._cost = 0.0, TURN_SECONDS
        self._renewed = False

    async def wait(self) -> None:
        """Until it is this request's turn."""
        if self._waiting or self._spent >= TURN_SECONDS:
            ticket = asyncio.get_running_loop().create_future()
            self._waiting.append(ticket)
            await ticket

    def spend(self, seconds: float) -> None:
        """A request has been scored."""
        self._spent += seconds
        self._cost += 0.1 * (seconds - self._cost)
        if not self._renewed:
            self._renewed = True
            asyncio.get_running_loop().call_soon(self._renew)

    def _renew(self) -> None:
        """Of another turn of the loop: those that get a ticket run in the next one, before this is called again."""
        self._spent = 0.0
        left = max(1, int(TURN_SECONDS / max(self._cost, 1e-6)))
        self._renewed = bool(self._waiting)
        while self._waiting and left:
            ticket = self._waiting.popleft()
            if not ticket.done():  # its caller has not gone
                ticket.set_result(None)
                left -= 1
        if self._renewed:
            asyncio.get_running_loop().call_soon(self._renew)


class Lanes:
    """`threads` 0 scores everything on the loop; None takes one thread for each core this process may use.
    Requests up to `small_bytes` are scored on the loop all the same."""

    def __init__(self, threads: int | None = None, *, small_bytes: int = SMALL_BYTES) -> None:
        count = len(os.sched_getaffinity(0)) if threads is None else threads
        self.threads, self._small = count, small_bytes
        self._executor = ThreadPoolExecutor(count, thread_name_prefix="score") if count else None
        self._turns = _Turns()

    async def run(self, size: int, function: Callable[..., Result], *arguments: Any) -> Result:
        """`function(*arguments)` in the lane for a request of `size` bytes. Raises what it raises."""
        if self._executor is None or self.on_the_loop(size):
            await self._turns.wait()
            start = time.perf_counter()
            try:
                return function(*arguments)
            finally:
                self._turns.spend(time.perf_counter() - start)
        context = contextvars.copy_context()  # the request's timeline goes with it
        return await asyncio.get_running_loop().run_in_executor(
            self._executor, context.run, function, *arguments
        )

    def on_the_loop(self, size: int) -> bool:
        """Whether a request of `size` bytes is scored there."""
        return self._executor is None or size <= self._small

    def close(self) -> None:
        """Take no more work and wait for none."""
        if self._executor is not None:
            self._executor.shutdown(wait=False, cancel_futures=True)
