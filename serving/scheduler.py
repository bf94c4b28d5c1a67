"""How the endpoint handles a request: admit it, read and check it, then score it alone or in a batch, unless its deadline has passed."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeVar

from serving.admission import Admission
from serving.batcher import Batcher, BatchSettings
from serving.concurrency import ShedPolicy
from serving.lanes import Lanes
from serving.predictor import BundleModel, Question, Reply
from serving.stages import Record, Stage, Stages, lap, timed

Result = TypeVar("Result")


class Scheduler:
    """Of one model."""

    def __init__(
        self,
        model: BundleModel,
        lanes: Lanes,
        *,
        batch: BatchSettings | None = None,
        shed: ShedPolicy | None = None,
        timeout_seconds: float | None = None,
        record: Record | None = None,
    ) -> None:
        """`record` gets the timeline of each finished request: traces, where they are on."""
        self._model, self._lanes = model, lanes
        self.stages = Stages(model.metrics, model.name, record)
        self.admission = Admission(model.metrics, model.name, shed, timeout_seconds)
        together = batch is not None and batch.rows > 0
        self._batcher = Batcher(model, batch, max(1, lanes.threads)) if batch and together else None

    async def answer(
        self, size: int, deadline: float | None, ask: Callable[..., Question[Reply]], *arguments: Any
    ) -> Reply:
        """Reply to the request of `size` bytes that `ask(*arguments)` reads; `deadline` is one of the admission's.

        Raises what `ask` raises, Overloaded, DeadlinePassed and NotFinite.
        """

        def asked() -> Question[Reply]:
            with timed(Stage.PARSE):
                return ask(*arguments)

        batcher = self._batcher
        if batcher is None:
            return await self.run(size, deadline, lambda: self._model.answer(asked()))
        with self.admission.admit(deadline) as begin:
            came = time.perf_counter()
            await asyncio.sleep(0)  # see `run`
            if self.admission.count == 1:  # nobody to share a run with, so no thread to change to

                def alone() -> Reply:
                    begin()
                    lap(Stage.WAIT, came, time.perf_counter())
                    return self._model.answer(asked())

                return await self._lanes.run(size, alone)
            question = await self._lanes.run(size, asked)
            return await batcher.answer(question, begin)

    @contextlib.asynccontextmanager
    async def inside(self, deadline: float | None) -> AsyncIterator[Callable[[], None]]:
        """For work in several steps, on their lanes by `first_step` and `step`: gives what is called where the first one begins.

        Raises Overloaded, and what it gives DeadlinePassed.
        """
        with self.admission.admit(deadline) as begin:
            came = time.perf_counter()

            def begun() -> None:
                begin()
                lap(Stage.WAIT, came, time.perf_counter())

            if self.admission.policy is not None:
                await asyncio.sleep(0)  # see `run`
            yield begun

    async def first_step(self, size: int, work: Callable[..., Result], *arguments: Any) -> Result:
        """`work(*arguments)`, which calls what `inside` gave, on the lane of a request of `size` bytes. Raises what it raises."""
        return await self._lanes.run(size, work, *arguments)

    async def step(self, size: int, work: Callable[..., Result], *arguments: Any) -> Result:
        """A further step. Its wait counts as that for the first one does: admission would not see a queue that stands before the second."""
        came = time.perf_counter()

        def begun() -> Result:
            now = time.perf_counter()
            self.admission.waited(now - came)
            lap(Stage.WAIT, came, now)
            return work(*arguments)

        return await self._lanes.run(size, begun)

    def on_the_loop(self, size: int) -> bool:
        """Whether a step of `size` bytes is made on the event loop."""
        return self._lanes.on_the_loop(size)

    async def run(
        self, size: int, deadline: float | None, work: Callable[..., Result], *arguments: Any
    ) -> Result:
        """`work(*arguments)` on its lane, alone. Raises what it raises, Overloaded and DeadlinePassed."""
        with self.admission.admit(deadline) as begin:
            came = time.perf_counter()

            def begun() -> Result:
                begin()
                lap(Stage.WAIT, came, time.perf_counter())
                return work(*arguments)

            if self.admission.policy is not None:
                # whoever came with this one gets inside first and is counted; else the loop would score them one by one, unseen
                await asyncio.sleep(0)
            return await self._lanes.run(size, begun)

    def close(self) -> None:
        """Take no more work and wait for none."""
        if self._batcher is not None:
            self._batcher.close()
        self._lanes.close()
