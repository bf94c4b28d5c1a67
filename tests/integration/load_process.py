"""Callers as a process of their own: requests at fixed times over kept-alive connections, every answer judged.

    python -m tests.integration.load_process PLAN.json > report.json        until a line, or the end, comes on stdin

A caller is what an ad server's is: it asks a replica that says ready (and looks again every 50 ms), a connection that breaks is tried once more
elsewhere until the request's patience is over, and it takes a refusal as an answer. What it never takes is a wrong number.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import orjson

TOLERANCE = 1e-5
_LOOK_SECONDS = 0.05


@dataclass(frozen=True)
class Request:
    """A request and what is right: the logits of its rows, or candidates, by the version that answers."""

    path: str
    body: str
    logits: dict[str, list[float]]
    headers: dict[str, str] = field(default_factory=dict)
    defaulted: dict[str, list[float]] = field(default_factory=dict)
    """What is right where the answer says that the feature store was not heard."""


@dataclass(frozen=True)
class Plan:
    """What to ask, whom, how often."""

    targets: list[str]
    """host:port of each replica."""
    requests: list[Request]
    rate: float
    """Requests a second; each is due at its own time, and its latency counts from then."""
    patience_seconds: float = 0.0
    """For how long a request whose connection breaks, or that is told `not_ready`, is tried again."""
    timeout_seconds: float = 30.0
    connections: int = 400
    """The most requests in flight."""


@dataclass(frozen=True)
class Record:
    """One request: when it was due and done, in seconds of the machine's monotonic clock, and how it ended."""

    due: float
    done: float
    kind: str
    """`right`; `marked` (a fallback's answer); `defaulted` (marked, and right by the contract's defaults); `shed`, `late` (503, 504); `wrong`; `failed`."""
    words: str = ""
    tries: int = 1
    version: str = ""

    @property
    def seconds(self) -> float:
        return self.done - self.due


class _Replica:
    def __init__(self, target: str) -> None:
        host, port = target.rsplit(":", 1)
        self.host, self.port, self.ready = host, int(port), False
        self.idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def exchange(self, request: bytes) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body. Raises OSError and EOFError for a connection that breaks."""
        stale = bool(self.idle)
        reader, writer = self.idle.pop() if self.idle else await asyncio.open_connection(self.host, self.port)
        try:
            writer.write(request)
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in head[1:] if line)}
            body = await reader.readexactly(int(headers["content-length"]))
        except BaseException as error:
            writer.close()
            broken = isinstance(error, OSError | EOFError)
            if broken and stale and not getattr(error, "partial", b""):
                # closed between two requests, before a byte was answered: HTTP's own rule is to ask again at once
                while self.idle:
                    self.idle.pop()[1].close()
                return await self.exchange(request)
            raise
        if headers.get("connection") == "close":
            writer.close()
        else:
            self.idle.append((reader, writer))
        return int(head[0].split()[1]), headers, body

    async def look(self) -> None:
        request = b"GET /v2/health/ready HTTP/1.1\r\nhost: load\r\n\r\n"
        while True:
            try:
                async with asyncio.timeout(5):
                    self.ready = (await self.exchange(request))[0] == 200
            except (OSError, EOFError, TimeoutError):
                self.ready = False
            await asyncio.sleep(_LOOK_SECONDS)


class _Callers:
    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._replicas = [_Replica(target) for target in plan.targets]
        self._turn = itertools.count()
        self._places = asyncio.Semaphore(plan.connections)
        self.records: list[Record] = []

    async def run(self, stop: asyncio.Event) -> None:
        looks = [asyncio.create_task(replica.look()) for replica in self._replicas]
        prepared = [(request, _bytes_of(request)) for request in self._plan.requests]
        asked: set[asyncio.Task[None]] = set()
        while not any(replica.ready for replica in self._replicas):
            await asyncio.sleep(0.01)
        start = time.monotonic()
        for number in itertools.count():
            due = start + number / self._plan.rate
            while (left := due - time.monotonic()) > 0 and not stop.is_set():
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), left)
            if stop.is_set():
                break
            task = asyncio.create_task(self._ask(due, *prepared[number % len(prepared)]))
            asked.add(task)
            task.add_done_callback(asked.discard)
        await asyncio.gather(*asked)
        for look in looks:
            look.cancel()

    async def _ask(self, due: float, request: Request, data: bytes) -> None:
        async with self._places:
            words, tries = "no replica was ready", 0
            while True:
                ready = [replica for replica in self._replicas if replica.ready] or self._replicas
                replica = ready[next(self._turn) % len(ready)]
                tries += 1
                try:
                    async with asyncio.timeout(self._plan.timeout_seconds):
                        status, headers, body = await replica.exchange(data)
                except TimeoutError:
                    self._note(due, "failed", f"no answer within {self._plan.timeout_seconds:g} s", tries)
                    return
                except (OSError, EOFError) as error:
                    replica.ready = False
                    words = repr(error)
                else:
                    kind, words = _judge(request, status, headers, body)
                    if kind != "not_ready":
                        self._note(due, kind, words, tries, headers.get("x-clickmill-version", ""))
                        return
                if time.monotonic() > due + self._plan.patience_seconds:
                    self._note(due, "failed", words, tries)
                    return
                await asyncio.sleep(0.02)

    def _note(self, due: float, kind: str, words: str, tries: int, version: str = "") -> None:
        self.records.append(Record(due, time.monotonic(), kind, words, tries, version))


def _judge(request: Request, status: int, headers: dict[str, str], body: bytes) -> tuple[str, str]:
    told = orjson.loads(body)
    if status != 200:
        kinds = {(503, "overload"): "shed", (504, "deadline"): "late", (503, "not_ready"): "not_ready"}
        kind = kinds.get((status, told.get("reason")), "failed")
        return kind, "" if kind == "shed" and headers.get("retry-after") else f"{status} {told}"
    if "x-clickmill-fallback" in headers:
        return "marked", headers["x-clickmill-fallback"]
    version = headers["x-clickmill-version"]
    unheard = "x-clickmill-features" in headers
    right = (request.defaulted if unheard else request.logits).get(version)
    if right is None:
        return "wrong", f"version {version} is none that could have answered"
    if "ranked" in told:
        found = {row["candidate"]: row["logit"] for row in told["ranked"]}
        pairs = [(found[place], right[place]) for place in found]
    else:
        pairs = list(zip((row["logit"] for row in told["predictions"]), right, strict=True))
    off = max(abs(logit - expected) for logit, expected in pairs)
    kind = "defaulted" if unheard else "right"
    return (kind, "") if off <= TOLERANCE else ("wrong", f"version {version}: off by {off:.3g}")


def _bytes_of(request: Request) -> bytes:
    body = request.body.encode()
    headers = {"host": "load", "content-type": "application/json", "content-length": str(len(body))}
    lines = "".join(f"{name}: {value}\r\n" for name, value in (headers | request.headers).items())
    return f"POST {request.path} HTTP/1.1\r\n{lines}\r\n".encode() + body


class Report:
    """What the callers saw."""

    def __init__(self, records: list[Record]) -> None:
        self.records = sorted(records, key=lambda record: record.due)

    def between(self, start: float, end: float = float("inf")) -> Report:
        """Requests due in a span of the monotonic clock."""
        return Report([record for record in self.records if start <= record.due < end])

    def count(self, *kinds: str) -> int:
        return sum(record.kind in kinds for record in self.records)

    def of(self, *kinds: str) -> list[Record]:
        return [record for record in self.records if record.kind in kinds]

    @property
    def unanswered(self) -> list[str]:
        """Of requests that failed or were answered wrong, in words: to be empty in every test."""
        return [f"{r.kind} after {r.seconds:.3f} s: {r.words}" for r in self.of("failed", "wrong")]

    def quantile(self, q: float, *kinds: str) -> float:
        """Seconds from due to done; the value that a share q of the requests of these kinds does not exceed."""
        times = sorted(record.seconds for record in self.of(*kinds))
        return times[min(len(times) - 1, int(q * len(times)))]


@contextmanager
def callers(plan: Plan) -> Iterator[Report]:
    """The process for the length of a `with`; the report is filled in at its end."""
    import subprocess
    import tempfile

    report = Report([])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "plan.json"
        path.write_text(json.dumps(asdict(plan)))
        with (Path(folder) / "report.json").open("w+") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.integration.load_process", str(path)],
                stdin=subprocess.PIPE,
                stdout=out,
                cwd=Path(__file__).parents[2],
            )
            try:
                yield report
            finally:
                process.communicate(b"stop\n", timeout=plan.patience_seconds + plan.timeout_seconds + 60)
            assert process.returncode == 0, "the load process fell over; its trace is above"
            out.seek(0)
            report.records[:] = [Record(**record) for record in json.load(out)]


async def _main(plan: dict[str, Any]) -> list[Record]:
    requests = [Request(**request) for request in plan.pop("requests")]
    crowd = _Callers(Plan(requests=requests, **plan))
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    loop.add_reader(sys.stdin.fileno(), stop.set)
    await crowd.run(stop)
    return crowd.records


if __name__ == "__main__":
    found = asyncio.run(_main(json.loads(Path(sys.argv[1]).read_text())))
    print(json.dumps([asdict(record) for record in found]))
