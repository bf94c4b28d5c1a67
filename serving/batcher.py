"""Micro-batching: requests that wait for a scoring thread at the same moment are scored by one run of the graph.

A request comes here when it has been read and checked, so a bad one is refused before it has neighbours. Each keeps the bundle it was
checked against: only requests of one bundle share a run, and after a reload those of the former one finish on it. What goes wrong in a
shared run is settled alone: the run is repeated request by request, and each gets its own answer or its own error.
"""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from pydantic import BaseModel, Field

from serving.grouping import Grouping
from serving.predictor import BundleModel, Question, Raw, Reply, Scores
from serving.stages import Stage, lap


class BatchSettings(BaseModel, frozen=True, extra="forbid", use_attribute_docstrings=True):
    """When requests share a run of the graph."""

    rows: int = Field(default=0, ge=0)
    """Rows up to which requests are scored together; 0 scores each alone: company pays for many clients and costs two a little."""
    wait_us: float = Field(default=0.0, ge=0)
    """Microseconds a request waits for company while a thread is free; at 0 only those that queue anyway share a run."""


@dataclass(frozen=True)
class _Asked:
    """A question in the queue, and where its reply goes. `begin` raises when it is too late to score it."""

    question: Question[Any]
    begin: Callable[[], None]
    future: asyncio.Future[Any]
    context: contextvars.Context
    """Of the request: what is done for it on a thread runs in it, so that it is noted on its timeline."""
    came: float
    """When it was put into the queue, in seconds of `time.perf_counter`."""


class Batcher:
    """Lives on the event loop; scores on `workers` threads of its own."""

    def __init__(self, model: BundleModel, settings: BatchSettings, workers: int) -> None:
        self._model, self._workers = model, workers
        self._grouping: Grouping[_Asked] = Grouping(settings.rows, settings.wait_us / 1e6)
        self._executor = ThreadPoolExecutor(workers, thread_name_prefix="batch")
        self._busy = 0
        self._called = False
        self._timer: asyncio.TimerHandle | None = None
        metrics, name = model.metrics, model.name
        self._rows, self._requests = metrics.batch_rows.labels(name), metrics.batch_requests.labels(name)

    async def answer(self, question: Question[Reply], begin: Callable[[], None]) -> Reply:
        """The reply to a question, scored with whoever else waits. `begin` is called on the thread that is about to score.

        Raises what `begin` raises, and NotFinite.
        """
        loop = asyncio.get_running_loop()
        asked = _Asked(question, begin, loop.create_future(), contextvars.copy_context(), time.perf_counter())
        # a request of shared fields and candidates is one run of its own
        alike = id(question) if question.ranks else id(question.served)
        self._grouping.add(asked, alike, question.rows, loop.time())
        if not self._called:
            # not at once: whoever else came in this turn of the loop joins first
            self._called = True
            loop.call_soon(self._pump, loop)
        reply: Reply = await asked.future
        return reply

    def close(self) -> None:
        """Take no more work and wait for none."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _pump(self, loop: asyncio.AbstractEventLoop) -> None:
        """Give groups to free threads; when the next group had better wait, look again when its wait is over."""
        self._called = False
        while self._busy < self._workers and (group := self._grouping.take(loop.time())):
            self._busy += 1
            run = loop.run_in_executor(self._executor, self._score, group)
            run.add_done_callback(partial(self._settle, loop, group))
        due = self._grouping.due()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if due is not None and self._busy < self._workers:
            self._timer = loop.call_at(due, self._pump, loop)

    def _settle(
        self, loop: asyncio.AbstractEventLoop, group: list[_Asked], done: asyncio.Future[list[Any]]
    ) -> None:
        self._busy -= 1
        fault = asyncio.CancelledError() if done.cancelled() else done.exception()
        outcomes = [fault] * len(group) if fault is not None else done.result()
        for asked, outcome in zip(group, outcomes, strict=True):
            if asked.future.done():  # its caller has gone
                continue
            if isinstance(outcome, asyncio.CancelledError):  # the endpoint has closed
                asked.future.cancel()
            elif isinstance(outcome, BaseException):
                asked.future.set_exception(outcome)
            else:
                asked.future.set_result(outcome)
        self._pump(loop)

    def _score(self, group: list[_Asked]) -> list[Any]:
        """On a thread: the reply, or the error, of each of a group."""
        outcomes: dict[int, Any] = {}
        for place, asked in enumerate(group):
            try:
                asked.begin()
                asked.context.run(lap, Stage.WAIT, asked.came, time.perf_counter())
            except Exception as error:  # noqa: BLE001 - it is the answer of this request
                outcomes[place] = error
        started = [place for place in range(len(group)) if place not in outcomes]
        if started:
            begun = [group[place] for place in started]
            self._rows.observe(sum(asked.question.rows for asked in begun))
            self._requests.observe(len(begun))
            for place, outcome in zip(started, self._answers(begun), strict=True):
                outcomes[place] = outcome
        return [outcomes[place] for place in range(len(group))]

    def _answers(self, group: list[_Asked]) -> list[Any]:
        questions = [asked.question for asked in group]
        if len(group) > 1:
            try:
                start = time.perf_counter()
                whole = questions[0].served.scorer.predict(
                    _together([question.raw for question in questions])
                )
                end = time.perf_counter()
                self._model.observe_run(end - start)
            except Exception:  # noqa: BLE001 - whose fault it is shows when each is asked alone
                return [_outcome(asked, self._model.answer) for asked in group]
            for asked in group:
                asked.context.run(lap, Stage.SCORE, start, end)
            return [
                _outcome(asked, self._model.reply, scores)
                for asked, scores in zip(group, _apart(whole, questions), strict=True)
            ]
        return [_outcome(asked, self._model.answer) for asked in group]


def _outcome(asked: _Asked, work: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return asked.context.run(work, asked.question, *arguments)
    except Exception as error:  # noqa: BLE001 - the future of the request raises it
        return error


def _together(raws: list[Raw]) -> Raw:
    return {name: np.concatenate([raw[name] for raw in raws]) for name in raws[0]}


def _apart(whole: Scores, questions: list[Question[Any]]) -> list[Scores]:
    ends = np.cumsum([question.rows for question in questions])
    parts = {name: np.split(values, ends[:-1]) for name, values in whole.items()}
    return [{name: part[place] for name, part in parts.items()} for place in range(len(questions))]
