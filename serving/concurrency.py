"""How many requests may be inside at once: a limit that learns from how long they wait before they are scored.

Additive increase, multiplicative decrease (Chiu and Jain 1989, as in TCP), once per window of time:

    mean wait > target                   limit <- decrease * min(limit, most that were inside)
    else, when the limit was felt        limit <- limit + 1
    else                                 limit

The wait, and not the duration, is judged: a request of 1,000 rows takes long on an idle machine, but only a queue makes it wait.
With c threads that take s seconds a request, the limit settles where the queue is `target` long: about c (1 + target / s).
"""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import BaseModel, Field, model_validator


class ShedPolicy(BaseModel, frozen=True, extra="forbid", use_attribute_docstrings=True):
    """When a request is turned away at once instead of queueing."""

    target_wait_seconds: float = Field(default=0.025, gt=0)
    """Mean wait before scoring above which the limit falls. An ad server gives some tens of milliseconds for the whole answer."""
    window_seconds: float = Field(default=0.1, gt=0)
    """Time over which waits are averaged before the limit moves: long enough that one burst is no verdict."""
    decrease: float = Field(default=0.8, gt=0, lt=1)
    """What is kept of the limit when waits are too long. TCP's half would turn away twice what is needed."""
    least: int = Field(default=16, ge=1)
    """Never fewer: a handful of clients that ask one after another shall not be turned away on a slow machine."""
    most: int = Field(default=1000, ge=1)
    """Never more: each request inside holds its body, up to 4 MiB."""
    first: int = Field(default=64, ge=1)
    """Before anything was learned."""

    @model_validator(mode="after")
    def _ordered(self) -> ShedPolicy:
        if not self.least <= self.first <= self.most:
            raise ValueError(f"least {self.least} <= first {self.first} <= most {self.most} does not hold")
        return self


@dataclass(frozen=True)
class Window:
    """What was seen in one window: `started` requests began to be scored after `waited` seconds together; `peak` were inside at
    most, and `shed` were turned away."""

    started: int = 0
    waited: float = 0.0
    peak: int = 0
    shed: int = 0


def adapted(limit: float, seen: Window, policy: ShedPolicy) -> float:
    """The limit for the next window. Same arguments, same answer."""
    if seen.started and seen.waited / seen.started > policy.target_wait_seconds:
        return max(policy.least, policy.decrease * min(limit, seen.peak))
    if seen.shed or seen.peak >= int(limit):
        return min(policy.most, limit + 1)
    return limit
