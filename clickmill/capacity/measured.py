"""What was measured of one replica, and what follows for numbers of candidates in between."""

from __future__ import annotations

from typing import Self

import numpy as np
from pydantic import BaseModel, Field, PositiveFloat, model_validator

from clickmill.capacity.queueing import Replica
from clickmill.errors import UsageError

Z99 = 2.3263478740408408
"""Quantile 0.99 of the standard normal."""
_LEVELS = (np.arange(200) + 0.5) / 200


class Point(BaseModel, frozen=True, extra="forbid", use_attribute_docstrings=True):
    """One replica at one number of candidates."""

    candidates: int = Field(ge=1)
    """Candidates a request."""
    saturation_per_second: PositiveFloat
    """Requests a second at most."""
    idle_ms: tuple[PositiveFloat, ...] = Field(min_length=1)
    """Latencies at a rate so low that nobody waits, in milliseconds: quantiles at even steps, ascending; those of one file are as many."""

    @model_validator(mode="after")
    def _ascending(self) -> Self:
        if any(later < earlier for earlier, later in zip(self.idle_ms[:-1], self.idle_ms[1:], strict=True)):
            raise ValueError("idle_ms must ascend")
        return self

    @classmethod
    def of_sample(cls, candidates: int, saturation: float, latency_ms: np.ndarray) -> Self:
        """From latencies (n,) in milliseconds."""
        found = np.quantile(latency_ms, _LEVELS)
        return cls(
            candidates=candidates,
            saturation_per_second=saturation,
            idle_ms=tuple(np.round(found, 4).tolist()),
        )

    @classmethod
    def of_figures(cls, candidates: int, saturation: float, p50_ms: float, p99_ms: float) -> Self:
        """From a median and a p99, by a log-normal between them. Raises UsageError unless 0 < p50 <= p99."""
        if not 0 < p50_ms <= p99_ms:
            raise UsageError(f"0 < p50 <= p99 must hold; got p50 {p50_ms:g} ms and p99 {p99_ms:g} ms")
        from scipy.special import ndtri  # type: ignore[import-untyped]

        sigma = np.log(p99_ms / p50_ms) / Z99
        idle = p50_ms * np.exp(sigma * ndtri(_LEVELS))
        return cls(candidates=candidates, saturation_per_second=saturation, idle_ms=tuple(idle.tolist()))


class Measured(BaseModel, frozen=True, extra="forbid", use_attribute_docstrings=True):
    """One replica, as `clickmill serve --tune` or the bench measured it."""

    cores: PositiveFloat
    """Cores the replica had."""
    memory_mib: PositiveFloat
    """Resident memory of the replica under load."""
    points: tuple[Point, ...] = Field(min_length=1)
    """By number of candidates, ascending."""
    bundle: str = ""
    """Name and digest of what was served."""
    machine: str = ""
    """Processor and versions."""
    protocol: str = ""
    """How it was asked."""

    @model_validator(mode="after")
    def _ascending(self) -> Self:
        sizes = [point.candidates for point in self.points]
        if sizes != sorted(set(sizes)):
            raise ValueError("points must ascend in candidates, each once")
        return self

    def replica(self, candidates: int) -> Replica:
        """The queue for so many candidates a request. Between two measured numbers time goes on a straight line: reading, checking and
        scoring are all linear in rows, above what a request costs. Raises UsageError outside of what was measured."""
        sizes = [point.candidates for point in self.points]
        if not sizes[0] <= candidates <= sizes[-1]:
            raise UsageError(
                f"{candidates} candidates a request: measured were {', '.join(map(str, sizes))}, and beyond them nothing is known; "
                f"measure with `clickmill serve BUNDLE --tune --tune-candidates {candidates}`"
            )
        above = next(i for i, size in enumerate(sizes) if size >= candidates)
        upper = self.points[above]
        if upper.candidates == candidates:
            return self._queue(np.array(upper.idle_ms), 1 / upper.saturation_per_second)
        lower = self.points[above - 1]
        share = (candidates - lower.candidates) / (upper.candidates - lower.candidates)
        if len(lower.idle_ms) != len(upper.idle_ms):
            raise UsageError("the points have different numbers of latencies; measure them again in one run")
        idle = (1 - share) * np.array(lower.idle_ms) + share * np.array(upper.idle_ms)
        seconds = (1 - share) / lower.saturation_per_second + share / upper.saturation_per_second
        return self._queue(idle, seconds)

    def _queue(self, idle_ms: np.ndarray, seconds_a_request: float) -> Replica:
        return Replica(idle_ms / 1e3, 1 / seconds_a_request, self.cores)
