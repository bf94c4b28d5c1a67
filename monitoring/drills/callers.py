"""Callers: a small ad server. Requests at fixed times, users who click with the true probability, and a click log.

The rows are the bundle's own reference sample, and the truth of each is what the good bundle predicts for it: by construction that
bundle is right, and what goes wrong in a drill is the drill's doing.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from clickmill.contract import Dtype, FeatureContract, Role
from clickmill.errors import UsageError
from monitoring.drills.timeline import Answer, Timeline

PER_SECOND = 40.0
"""Requests a second: 1,000 answers in half a minute, which is what BundleSlow asks for, at a third of a core for all that is asked."""
ROWS = 12
"""Impressions in a request: some 60 clicks a second at a click rate of 12 %, so that half a minute settles calibration."""
PATIENCE_SECONDS = 90.0
"""How long a caller that finds no open door knocks again, or is asked to come later. What is not answered by then is lost."""
LATER = 503
"""What an endpoint without room answers: come again, as every client of ours does."""
FLUSH_SECONDS = 0.5
"""Between two files of the click log."""
MEAN_DELAY_SECONDS = 0.8
"""From an impression to its click."""
USERS = 5_000

Row = dict[str, Any]


@dataclass
class World:
    """What callers send and how users click; a fault changes it while they run. Assignments are seen from the next request on."""

    change: Callable[[Row], Row] = field(default=lambda row: row)
    """Done to each row before it is sent."""
    click_odds: float = 1.0
    """By how much the odds of each click are multiplied: another world."""
    clicks_arrive: bool = True
    """Whether the click log is written."""


class Callers:
    """On a thread of their own, from `start` to `stop`."""

    def __init__(
        self,
        url: str,
        bundle: Path,
        contract: FeatureContract,
        clicks: Path,
        timeline: Timeline,
        seed: int = 0,
    ) -> None:
        """url: of the door. clicks: folder of the click log. Raises UsageError where the contract has no impression id."""
        self.world = World()
        self._url, self._clicks, self._timeline = f"{url}/v1/models/{contract.name}:predict", clicks, timeline
        self._key, self._numbered = _impression_id(contract)
        table = pq.read_table(bundle / "reference.parquet")
        self._rows = json_rows(table, contract)
        self._truth = table["pctr"].to_numpy().astype(np.float64)
        self._rng = np.random.default_rng(seed)
        self._waiting: list[tuple[float, int]] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="callers", daemon=True)

    def start(self) -> None:
        """Begin to ask."""
        self._thread.start()

    def stop(self) -> None:
        """Ask no more, and wait for what is under way."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()

    async def _run(self) -> None:
        first = int(time.time()) * 1_000_000  # a restart in the same folder numbers on
        connector = aiohttp.TCPConnector(limit=0)
        tasks: set[asyncio.Task[None]] = set()
        async with aiohttp.ClientSession(connector=connector) as session:
            flushing = asyncio.create_task(self._write_clicks())
            start, number = time.time(), 0
            while not self._stop.is_set():
                due = start + number / PER_SECOND
                await asyncio.sleep(max(due - time.time(), 0))
                task = asyncio.create_task(self._ask(session, due, first + number * ROWS))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
                number += 1
            if tasks:
                await asyncio.wait(tasks, timeout=PATIENCE_SECONDS)
            flushing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await flushing

    async def _ask(self, session: aiohttp.ClientSession, due: float, first: int) -> None:
        chosen = self._rng.integers(0, len(self._rows), ROWS)
        odds = self._truth[chosen] / (1 - self._truth[chosen]) * self.world.click_odds
        truth = odds / (1 + odds)
        instances = [
            self.world.change(self._rows[row]) | {self._key: key if self._numbered else str(key)}
            for key, row in enumerate(chosen, first)
        ]
        body = orjson.dumps({"instances": instances})
        headers = {"content-type": "application/json", "x-clickmill-user": f"u{first % USERS}"}
        status, bundle, answer, tries = 0, "", b"", 0
        while True:
            tries += 1
            try:
                async with session.post(
                    self._url, data=body, headers=headers, timeout=aiohttp.ClientTimeout(20)
                ) as response:
                    answer = await response.read()
                    status, bundle = response.status, response.headers.get("x-clickmill-routed-to", "")
            except (aiohttp.ClientError, TimeoutError, OSError):
                status, bundle = 0, ""
            if status not in (0, LATER) or time.time() - due > PATIENCE_SECONDS or self._stop.is_set():
                break
            await asyncio.sleep(0.1)
        predicted = 0.0
        if status == 200:
            predicted = sum(row["pctr"] for row in orjson.loads(answer)["predictions"])
            at = time.time()
            clicked = first + np.flatnonzero(self._rng.random(ROWS) < truth)
            self._waiting += [
                (at + delay, int(key))
                for key, delay in zip(
                    clicked, self._rng.exponential(MEAN_DELAY_SECONDS, len(clicked)), strict=True
                )
            ]
        done = Answer(due, time.time(), status, bundle, tries, ROWS, predicted, float(truth.sum()))
        self._timeline.answers.append(done)

    async def _write_clicks(self) -> None:
        """Clicks whose time has come, a file every half second; while the log is stalled they are lost."""
        number = time.time_ns()
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            now = time.time()
            ripe = [click for click in self._waiting if click[0] <= now]
            self._waiting = [click for click in self._waiting if click[0] > now]
            if not ripe or not self.world.clicks_arrive:
                continue
            times, keys = zip(*ripe, strict=True)
            table = pa.table({
                "impression_id": pa.array([str(key) for key in keys]),
                "click_time": pa.array([datetime.fromtimestamp(at, UTC) for at in times], pa.timestamp("us", "UTC")),
            })  # fmt: skip
            partial = self._clicks / f".{number}.partial"
            pq.write_table(table, partial)
            partial.rename(self._clicks / f"{number}.parquet")
            number += 1


def json_rows(table: pa.Table, contract: FeatureContract) -> list[Row]:
    """Rows as requests carry them: timestamps in whole seconds, nulls left out."""
    names = [name for name in contract.inputs if name in table.column_names]
    times = {name for name in names if contract.inputs[name].dtype is Dtype.TIMESTAMP}
    return [
        {
            name: int(value.timestamp()) if name in times else value
            for name, value in row.items()
            if value is not None
        }
        for row in table.select(names).to_pylist()
    ]


def _impression_id(contract: FeatureContract) -> tuple[str, bool]:
    name = contract.of_role(Role.IMPRESSION_ID)
    if name is None:
        raise UsageError(
            f"the contract {contract.name} has no field of role impression_id, so clicks cannot be joined with predictions; "
            "add one, or drill with the bundle that `clickmill drill` makes itself"
        )
    return name, contract.fields[name].dtype is Dtype.INT64


__all__ = ["PER_SECOND", "ROWS", "Callers", "Row", "World", "json_rows"]
