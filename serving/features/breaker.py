"""Not asking a store that does not answer: a few failures, a pause, one request that tries again."""

from __future__ import annotations

from pydantic import BaseModel, Field


class BreakerPolicy(BaseModel, frozen=True, extra="forbid", use_attribute_docstrings=True):
    """When to leave a store alone."""

    failures: int = Field(default=3, ge=1)
    """Reads in a row that failed or came late, before the store is left alone. One may be chance."""
    pause_s: float = Field(default=0.5, gt=0)
    """How long it is left alone, in seconds, between tries: a store that is back is used again within this time, and a store that
    hangs costs one request in this time its deadline."""


class Breaker:
    """Counts; the clock is an argument (seconds, monotonic)."""

    def __init__(self, policy: BreakerPolicy) -> None:
        self._policy = policy
        self._failures = 0
        self._closed_until = 0.0

    def allows(self, now: float) -> bool:
        """Whether to ask at `now`. After a pause the first who asks may; the others wait for what comes of it."""
        if self._failures < self._policy.failures:
            return True
        if now < self._closed_until:
            return False
        self._closed_until = now + self._policy.pause_s
        return True

    def succeeded(self) -> None:
        """The store answered in time."""
        self._failures = 0

    def failed(self, now: float) -> None:
        """It did not."""
        self._failures += 1
        if self._failures >= self._policy.failures:
            self._closed_until = now + self._policy.pause_s
