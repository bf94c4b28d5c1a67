"""What a demo has done: everything its report is made of."""

from __future__ import annotations

from dataclasses import dataclass

from clickmill.bundle import Bundle
from clickmill.data.world import WorldReport
from pipelines.local import RunResult
from serving.traffic import Traffic


@dataclass(frozen=True)
class Replay:
    """Traffic with one number of candidates per request."""

    candidates: int
    traffic: Traffic


@dataclass(frozen=True)
class DemoRun:
    """Everything the report is made of."""

    world: WorldReport
    result: RunResult
    bundles: dict[str, Bundle]
    replays: tuple[Replay, ...]
    largest_difference: float
    """Between the endpoint's pctr and the bundle's, over all replayed rows."""
    replayed_rows: int
    seconds: dict[str, float]
    """Wall time of each stage."""

    @property
    def best(self) -> Bundle:
        """The bundle that is served."""
        return self.bundles[self.result.best_model]
