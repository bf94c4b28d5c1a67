"""When a call is tried again, hedged, or given up. No clock, socket or log here: times and chance are arguments.

Asking again is safe, for a prediction changes nothing. What it must not do is multiply the load on an endpoint that is in trouble
already, so that all extra requests of a client come out of one budget: each call puts a share of a token in, each extra request takes a
whole one out (as in Finagle's RetryBudget; gRPC's retry throttling is the same idea). And no call is tried beyond its deadline.

Dean and Barroso, "The Tail at Scale", CACM 2013 (hedged requests); Brooker, "Exponential Backoff and Jitter", AWS 2015 (full jitter).
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Generator
from dataclasses import dataclass
from typing import Generic, TypeVar

from pydantic import BaseModel, Field

from clickmill.errors import ClickmillError
from serving.refusals import DeadlinePassed

T = TypeVar("T")


class Unreachable(ClickmillError):
    """No answer from the endpoint, after all tries or within the time."""


class RetryPolicy(BaseModel, frozen=True, extra="forbid", use_attribute_docstrings=True):
    """How a client goes on after a failure, and whether it waits for the slow."""

    retries: int = Field(default=2, ge=0)
    """Most further tries of one call."""
    pause_seconds: float = Field(default=0.05, gt=0)
    """Longest pause before the first further try; doubled for each one more. The pause is drawn between 0 and that, so that clients
    that failed together do not come back together, and begins when the server's Retry-After ends where it named one."""
    most_pause_seconds: float = Field(default=2.0, gt=0)
    """Where the doubling ends."""
    budget_share: float = Field(default=0.1, ge=0, le=1)
    """Extra requests (retries and hedges) per call, in the long run. At 0.1 an endpoint that fails everything gets 1.1 times its load,
    and not three times."""
    budget_reserve: float = Field(default=10.0, ge=0)
    """Extra requests a client may make at once; also those of one that has only begun."""
    hedge_quantile: float | None = Field(default=None, gt=0, lt=1)
    """Send a call a second time when it takes longer than this quantile of the latest ones, and take the first answer; 0.95 costs 5 % more
    requests and cuts the tail of a replica that stalls. None for never: it pays only behind several replicas."""
    hedge_least_seconds: float = Field(default=0.001, gt=0)
    """Never hedge sooner."""


class Budget:
    """Tokens for extra requests, shared by all calls of a client. Safe from any thread."""

    def __init__(self, policy: RetryPolicy) -> None:
        self._share, self._most = policy.budget_share, policy.budget_reserve
        self._tokens = policy.budget_reserve
        self._lock = threading.Lock()

    def deposit(self) -> None:
        """A call begins."""
        with self._lock:
            self._tokens = min(self._tokens + self._share, self._most)

    def withdraw(self) -> bool:
        """Whether an extra request may be made now; if so it is paid for."""
        with self._lock:
            # a share of 0.1 added ten times is not quite a whole token
            if self._tokens < 1 - 1e-9:
                return False
            self._tokens -= 1
            return True


class Latencies:
    """The latest calls' times, for the delay of a hedge. Safe from any thread."""

    LEAST = 32
    """Calls before a quantile means anything."""

    def __init__(self, quantile: float | None, least_seconds: float) -> None:
        self._quantile, self._least = quantile, least_seconds
        self._seconds: deque[float] = deque(maxlen=512)
        self._lock = threading.Lock()
        self._delay: float | None = None
        self._new = 0

    def add(self, seconds: float) -> None:
        """A call was answered, hedged or not, so long after its first request went out."""
        if self._quantile is None:
            return
        with self._lock:
            self._seconds.append(seconds)
            self._new += 1
            if len(self._seconds) >= self.LEAST and (self._new >= self.LEAST or self._delay is None):
                ordered = sorted(self._seconds)
                self._delay = max(ordered[int(self._quantile * (len(ordered) - 1))], self._least)
                self._new = 0

    @property
    def hedge_after(self) -> float | None:
        """Seconds to wait for an answer before asking again; None while nothing is known, or for never."""
        return self._delay


@dataclass(frozen=True)
class Failed:
    """How one request of a call came to nothing. `again`: whether another might do better; `after`: seconds the server asks to wait."""

    error: ClickmillError
    again: bool = False
    after: float | None = None


@dataclass(frozen=True)
class Send:
    """Make a request, which has `seconds`, and one more after `hedge_after` of silence if the budget has it."""

    seconds: float
    hedge_after: float | None


@dataclass(frozen=True)
class Pause:
    """Wait."""

    seconds: float


@dataclass(frozen=True)
class Reply(Generic[T]):
    """The answer to a request."""

    value: T


Steps = Generator[Send | Pause, "tuple[Reply[T] | Failed | None, float]", T]
"""A call as steps to carry out. Each is sent back its outcome (None for a pause) and the seconds since the call began."""


def pause_before(policy: RetryPolicy, tries: int, failed: Failed, left: float, chance: float) -> float | None:
    """Seconds until the next try after `tries` of them, None when there is none.

    left: seconds to the deadline. chance: drawn from 0 to 1, which makes the jitter.
    """
    if not failed.again or tries > policy.retries:
        return None
    longest = min(policy.pause_seconds * 2 ** (tries - 1), policy.most_pause_seconds)
    wait = (failed.after or 0.0) + chance * longest
    return wait if wait < left else None


def call_steps(
    policy: RetryPolicy,
    budget: Budget,
    latencies: Latencies,
    timeout: float,
    chances: Generator[float, None, None],
) -> Steps[T]:
    """One call of at most `timeout` seconds. Returns the answer; raises the error of the last request, or DeadlinePassed for a call
    that has no time from the start."""
    if timeout <= 0:
        raise DeadlinePassed(f"the call has {timeout:g} s, so that nothing was sent")
    budget.deposit()
    now, tries = 0.0, 0
    while True:
        tries += 1
        began = now
        outcome, now = yield Send(timeout - now, latencies.hedge_after)
        if isinstance(outcome, Reply):
            latencies.add(now - began)
            return outcome.value
        assert isinstance(outcome, Failed)
        wait = pause_before(policy, tries, outcome, timeout - now, next(chances))
        if wait is None or not budget.withdraw():
            if isinstance(outcome.error, Unreachable) and tries > 1:
                raise Unreachable(f"after {tries} tries: {outcome.error}") from outcome.error.__cause__
            raise outcome.error
        _, now = yield Pause(wait)
        if now >= timeout:  # a sleep lasts as long as it is told to, and often longer
            raise outcome.error
