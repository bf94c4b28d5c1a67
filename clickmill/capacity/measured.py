"""What was measured of one replica, and what follows for numbers of candidates in between."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Self

import numpy as np
from pydantic import BaseModel, Field, PositiveFloat, model_validator

from clickmill.capacity.queueing import Replica
from clickmill.errors import UsageError

Z99 = 2.3263478740408408
"""Quantile 0.99 of the standard normal."""
_LEVELS = (np.arange(200) + 0.5) / 200


class Loaded(BaseModel, frozen=True, extra="forbid", use_attribute_docstrings=True):
    """What was measured under Poisson arrivals."""

    per_second: PositiveFloat
    """Requests a second."""
    p99_ms: PositiveFloat


class Point(BaseModel, frozen=True, extra="forbid", use_attribute_docstrings=True):
    """One replica at one number of candidates."""

    candidates: int = Field(ge=1)
    """Candidates a request."""
    saturation_per_second: PositiveFloat
    """Requests a second at most."""
    idle_ms: tuple[PositiveFloat, ...] = Field(min_length=1)
    """Latencies at a rate so low that nobody waits, in milliseconds: quantiles at even steps, ascending; those of one file are as many."""

    loaded: tuple[Loaded, ...] = ()
    """Loads below saturation. The model's variation is the median of what each of them shows: one stall of the machine shall not decide."""

    @model_validator(mode="after")
    def _ascending(self) -> Self:
        if any(later < earlier for earlier, later in zip(self.idle_ms[:-1], self.idle_ms[1:], strict=True)):
            raise ValueError("idle_ms must ascend")
        return self

    @classmethod
    def of_sample(
        cls, candidates: int, saturation: float, latency_ms: np.ndarray, loaded: tuple[Loaded, ...] = ()
    ) -> Self:
        """From latencies (n,) in milliseconds of an idle replica."""
        found = np.quantile(latency_ms, _LEVELS)
        return cls(
            candidates=candidates,
            saturation_per_second=saturation,
            idle_ms=tuple(np.round(found, 4).tolist()),
            loaded=loaded,
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
        upper = self._queue(self.points[above])
        if sizes[above] == candidates:
            return upper
        lower = self._queue(self.points[above - 1])
        if len(lower.idle_seconds) != len(upper.idle_seconds):
            raise UsageError("the points have different numbers of latencies; measure them again in one run")
        share = (candidates - sizes[above - 1]) / (sizes[above] - sizes[above - 1])

        def between(a: Any, b: Any) -> Any:
            return (1 - share) * a + share * b

        return Replica(
            between(lower.idle_seconds, upper.idle_seconds),
            1 / between(1 / lower.saturation, 1 / upper.saturation),
            self.cores,
            between(lower.variation, upper.variation),
        )

    def _queue(self, point: Point) -> Replica:
        idle = Replica(np.array(point.idle_ms) / 1e3, point.saturation_per_second, self.cores)
        if not point.loaded:
            return idle
        shown = [idle.fitted_to(load.per_second, load.p99_ms / 1e3).variation for load in point.loaded]
        return replace(idle, fitted=float(np.median(shown)))
