"""Where a request is scored: small ones on the event loop, large ones on threads beside it.

Handing a request to a thread and back costs about as much as scoring one row, and a row scored on the loop delays nobody by more
than a millisecond. A large one on the loop delays everybody, health checks included, and leaves the other cores idle. Measured
(DCN-v2, 2 busy cores, 4 clients without pause, requests a second on the loop / on 2 threads): 1 row 730 / 778, 32 rows 574 / 599,
256 rows 66 / 102; processor time of a request 5 to 10 % more on threads.
"""

from __future__ import annotations

import asyncio
import contextvars
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

Result = TypeVar("Result")

SMALL_BYTES = 8 * 1024
"""Size of a request up to which it is scored on the loop: about 8 rows of JSON with 40 fields. At -1 nothing is."""


class Lanes:
    """`threads` 0 scores everything on the loop; None takes one thread for each core this process may use.
    Requests up to `small_bytes` are scored on the loop all the same."""

    def __init__(self, threads: int | None = None, *, small_bytes: int = SMALL_BYTES) -> None:
        count = len(os.sched_getaffinity(0)) if threads is None else threads
        self.threads, self._small = count, small_bytes
        self._executor = ThreadPoolExecutor(count, thread_name_prefix="score") if count else None

    async def run(self, size: int, function: Callable[..., Result], *arguments: Any) -> Result:
        """`function(*arguments)` in the lane for a request of `size` bytes. Raises what it raises."""
        if self._executor is None or size <= self._small:
            return function(*arguments)
        context = contextvars.copy_context()  # the request's timeline goes with it
        return await asyncio.get_running_loop().run_in_executor(
            self._executor, context.run, function, *arguments
        )

    def close(self) -> None:
        """Take no more work and wait for none."""
        if self._executor is not None:
            self._executor.shutdown(wait=False, cancel_futures=True)
