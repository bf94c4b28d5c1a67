"""Carries the steps of a call out: the same steps on a thread and on an event loop."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Generator
from queue import Empty, SimpleQueue
from typing import Any, Protocol, TypeVar

from serving.client.retry import Budget, Failed, Latencies, Pause, Reply, RetryPolicy, Send, Steps, call_steps

T = TypeVar("T")


class Conductor:
    """What the calls of one client share: policy, budget, latencies."""

    def __init__(self, policy: RetryPolicy, timeout_seconds: float) -> None:
        self.policy, self.timeout = policy, timeout_seconds
        self.budget = Budget(policy)
        self._latencies = Latencies(policy.hedge_quantile, policy.hedge_least_seconds)

    def run(self, send: Callable[[Send], Reply[T] | Failed], timeout: float | None = None) -> T:
        """A call whose requests `send` makes. Raises what the last of them failed with."""
        steps, began = self._steps(timeout), time.monotonic()
        try:
            step = next(steps)
            while True:
                outcome: Any = None
                if isinstance(step, Pause):
                    time.sleep(step.seconds)
                else:
                    outcome = send(step)
                step = steps.send((outcome, time.monotonic() - began))
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]

    async def run_async(
        self, send: Callable[[float], Awaitable[Reply[T] | Failed]], timeout: float | None = None
    ) -> T:
        """As `run`; `send` gets the seconds of its request, and is called twice where a request is hedged."""
        steps, began = self._steps(timeout), time.monotonic()
        try:
            step = next(steps)
            while True:
                outcome: Any = None
                if isinstance(step, Pause):
                    await asyncio.sleep(step.seconds)
                elif step.hedge_after is None:
                    outcome = await send(step.seconds)
                else:
                    outcome = await _hedged(send, step, step.hedge_after, self.budget)
                step = steps.send((outcome, time.monotonic() - began))
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]

    def _steps(self, timeout: float | None) -> Steps[Any]:
        seconds = self.timeout if timeout is None else timeout
        return call_steps(self.policy, self.budget, self._latencies, seconds, _chances())


def _chances() -> Generator[float, None, None]:
    while True:
        yield random.random()


async def _hedged(
    send: Callable[[float], Awaitable[Reply[T] | Failed]], step: Send, delay: float, budget: Budget
) -> Reply[T] | Failed:
    tasks: set[asyncio.Future[Reply[T] | Failed]] = {asyncio.ensure_future(send(step.seconds))}
    try:
        done, waiting = await asyncio.wait(tasks, timeout=delay)
        if not done and delay < step.seconds and budget.withdraw():
            tasks.add(asyncio.ensure_future(send(step.seconds - delay)))
        waiting = tasks - done
        while waiting:
            found, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            done = done | found
            if any(isinstance(task.result(), Reply) for task in found):
                break  # a request that failed has lost to one that is still under way
        results = [task.result() for task in done]
        return next((result for result in results if isinstance(result, Reply)), results[-1])
    finally:
        for task in tasks:
            task.cancel()
        # a cancelled request gives its connection back before the call ends
        await asyncio.gather(*tasks, return_exceptions=True)


class Future(Protocol):
    """What is asked of a gRPC call under way."""

    def add_done_callback(self, callback: Callable[[Any], None]) -> None: ...
    def cancel(self) -> Any: ...


F = TypeVar("F", bound=Future)


def hedged(
    start: Callable[[float], F], read: Callable[[F], Reply[T] | Failed], step: Send, budget: Budget
) -> Reply[T] | Failed:
    """One request, or two, on threads that are not ours: `start` begins one that has some seconds, `read` takes its outcome."""
    done: SimpleQueue[Any] = SimpleQueue()
    delay = step.hedge_after or 0.0
    under_way = [start(step.seconds)]
    under_way[0].add_done_callback(done.put)
    try:
        try:
            outcome = read(done.get(timeout=delay))
        except Empty:
            if delay < step.seconds and budget.withdraw():
                under_way.append(start(step.seconds - delay))
                under_way[1].add_done_callback(done.put)
            outcome = read(done.get())
            if isinstance(outcome, Failed) and len(under_way) > 1:
                outcome = read(done.get())  # a request that failed has lost to one that is still under way
        return outcome
    finally:
        for call in under_way:
            call.cancel()
