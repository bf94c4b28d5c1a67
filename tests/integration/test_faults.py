"""What fails around a running endpoint, under load: no request without an answer, and none answered wrong.

One endpoint stands all of it, one trouble after the other, since its start costs more than the troubles do. Its graph takes 10 ms more a run, so that
on one thread no more than 100 requests a second can be scored, whatever the machine. A quarter of the requests are rankings, which fall back.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clickmill.bundle import Store
from clickmill.prediction_log import log_files
from serving.ports import claim
from serving.process import Endpoint, running_server
from tests.integration.endpoint_metrics import metric
from tests.integration.fault_server import RUN
from tests.integration.load_process import Plan, Report, Request, callers
from tests.serving.small_bundle import ADS, BIASES, CONTRACT, complete, logit_of
from tests.waiting import until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1200)]

SLOW_SECONDS = 0.01
RATE = 40.0
"""Requests a second that the endpoint can answer with ease."""
DEADLINE = 1.0


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder, where the machine allows it on a small disk of its own."""
    where = tmp_path_factory.mktemp("disk")
    command = ["mount", "-t", "tmpfs", "-o", "size=512k", "clickmill-test", str(where)]
    mounted = os.geteuid() == 0 and subprocess.run(command, capture_output=True, check=False).returncode == 0
    yield where
    if mounted:
        subprocess.run(["umount", "--lazy", str(where)], check=True)


def server(path: Path, **options: Any) -> contextlib.AbstractContextManager[Endpoint]:
    options = {"slow_seconds": SLOW_SECONDS, "threads": 1, "drain_seconds": 2.0, **options}
    return running_server(path, model_name="small", python=RUN, wait_seconds=500, **options)


@pytest.fixture(scope="module")
def endpoint(store: Store, disk: Path) -> Iterator[Endpoint]:
    options: dict[str, Any] = {
        "watch_seconds": 0.2,
        "limits": {"body_seconds": 3.0},
        "head_seconds": 3.0,
        "prediction_log": str(disk),
        "log": {"file_seconds": 0.3, "pending_rows": 600},
    }
    with server(store.root, **options) as endpoint:
        yield endpoint


def requests(**headers: str) -> list[Request]:
    """Forty requests, one in four a ranking, with what plain Python says is right for version 1 and 2."""
    rng = np.random.default_rng(3)

    def ad() -> dict[str, Any]:
        return {"ad_id": str(rng.choice(list(ADS))), "price": float(np.float32(rng.uniform(0, 10)))}

    def user() -> dict[str, Any]:
        return {"returning": bool(rng.random() < 0.5), "history": ["x"] * int(rng.integers(0, 5))}

    found = []
    for number in range(40):
        count = int(rng.integers(1, 9))
        if number % 4:
            rows = [ad() | user() | {"position": int(rng.integers(1, 21))} for _ in range(count)]
            path, body = "predict", {"instances": rows}
        else:
            ads, asking = [ad() for _ in range(count)], user()
            rows = [one | asking for one in ads]
            path = "rank"
            body = {"user": asking, "candidates": [one | {"bid": 1.0} for one in ads], "slots": count}
        logits = {str(n): [logit_of(row, bias) for row in rows] for n, bias in enumerate(BIASES, start=1)}
        found.append(Request(f"/v1/models/small:{path}", orjson.dumps(body).decode(), logits, headers))
    return found


def plan(
    *endpoints: Endpoint, rate: float = RATE, headers: dict[str, str] | None = None, **settings: Any
) -> Plan:
    targets = [endpoint.url.removeprefix("http://") for endpoint in endpoints]
    return Plan(targets, requests(**(headers or {})), rate, **settings)


def all_is_well(report: Report, least: int) -> None:
    """Every request has its answer, and it is right but for the few that a stall of the machine sheds or lets fall back, marked."""
    assert report.unanswered == []
    assert report.count("right", "shed", "marked") == len(report.records)
    assert report.count("right") > max(least, 0.8 * len(report.records))


def test_a_full_disk_under_the_log_costs_no_answer_and_every_row_is_written_or_counted(endpoint, store, disk):
    if not os.path.ismount(disk):
        pytest.skip("a small disk of its own takes the right to mount")

    def rows(outcome: str) -> float:
        return metric(endpoint, "clickmill_prediction_log_rows_total", outcome=outcome)

    ballast = disk / "ballast"
    with callers(plan(endpoint)) as report:
        until(lambda: rows("written") > 0)
        with ballast.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(disk).free)
        full = time.monotonic()
        until(lambda: rows("dropped") > 0)
        before, freed = rows("written"), time.monotonic()
        ballast.unlink()
        until(lambda: rows("written") > before)
    all_is_well(report, least=100)
    all_is_well(report.between(full, freed), least=50)

    def answered() -> float:  # every ranking shows all of its candidates
        series = ("clickmill_predictions_total", "clickmill_fallback_candidates_total")
        return sum(metric(endpoint, name) for name in series)

    until(lambda: rows("written") + rows("dropped") == answered())
    assert metric(endpoint, "clickmill_prediction_log_write_errors_total") > 0
    logged = pa.concat_tables(map(pq.read_table, log_files(disk)))
    assert len(logged) == rows("written")
    assert set(logged["bundle"].to_pylist()) == {store.verified(1).digest}


class Slowloris:
    """Connections that send a head or a body a byte now and then, and never end it."""

    def __init__(self, endpoint: Endpoint, connections: int) -> None:
        self._address = endpoint.url.removeprefix("http://").split(":")
        whole = b"POST /v1/models/small:predict HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n"
        self._starts = [
            whole if number % 2 else b"POST /v1/models/small:predict HTTP/1.1\r\nX-A: "
            for number in range(connections)
        ]
        self._open: list[tuple[socket.socket, bytes]] = []
        self.answers: list[bytes] = []

    def __enter__(self) -> Slowloris:
        for start in self._starts:
            connection = socket.create_connection((self._address[0], int(self._address[1])), timeout=10)
            connection.sendall(start)
            connection.setblocking(False)
            self._open.append((connection, b""))
        return self

    def trickle(self) -> None:
        """A byte on each connection that is still open, and what came back."""
        left = []
        for connection, said in self._open:
            try:
                said += connection.recv(65536) or b"\0"
            except BlockingIOError:
                pass
            except ConnectionError:
                said += b"\0"
            if said.endswith(b"\0"):
                self.answers.append(said.rstrip(b"\0"))
                connection.close()
                continue
            with contextlib.suppress(OSError):
                connection.send(b"x")
            left.append((connection, said))
        self._open = left

    @property
    def open(self) -> int:
        return len(self._open)

    def __exit__(self, *raised: object) -> None:
        for connection, _ in self._open:
            connection.close()


def test_two_hundred_slow_clients_occupy_nothing_and_are_answered_408(endpoint):
    with callers(plan(endpoint)) as report:
        time.sleep(2)
        began = time.monotonic()
        with Slowloris(endpoint, connections=200) as slow:
            inside = metric(endpoint, "clickmill_requests_waiting")

            def gone() -> bool:
                slow.trickle()
                return slow.open == 0

            until(gone)
        ended = time.monotonic()
    assert ended - began >= 3.0, "they have the time that the limits give"
    assert inside < 50, "a body that is not whole stands in no queue"
    assert len(slow.answers) == 200
    assert {answer[:12] for answer in slow.answers} == {b"HTTP/1.1 408"}
    all_is_well(report, least=100)


def test_five_times_too_many_requests_for_30_s_are_shed_and_the_others_answered_in_time(endpoint):
    headers = {"x-request-timeout-ms": str(int(DEADLINE * 1e3))}
    with callers(plan(endpoint, headers=headers)) as before:
        time.sleep(4)
    with callers(plan(endpoint, rate=5 / SLOW_SECONDS, headers=headers)) as flood:
        time.sleep(30)
    over = time.monotonic()
    with callers(plan(endpoint, headers=headers)) as after:
        time.sleep(10)
    all_is_well(before, least=100)
    for report in (flood, after):
        assert report.unanswered == []
    assert flood.count("shed", "marked") > 0.5 * len(flood.records), "four in five are too many"
    assert flood.count("right") > 0.02 * len(flood.records), "and the endpoint still works"
    # A second's stall of the machine makes one answer in thirty late: a bench says the 99th of a hundred, a test says nine in ten.
    assert flood.quantile(0.9, "right", "marked") <= DEADLINE
    recovered = after.between(over + 5)
    all_is_well(recovered, least=50)
    assert recovered.quantile(0.5, "right") <= DEADLINE


def spoilt(bundle: Path, where: Path, how: Callable[[Path], Any]) -> Path:
    shutil.copytree(bundle, where)
    how(where)
    return where


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def weights(folder: Path) -> Path:
    return next((folder / "model" / "1" / "variables").glob("variables.data*"))


def of_another_contract(folder: Path) -> None:
    other = CONTRACT.model_copy(update={"name": "other"})
    text = (folder / "contract.yaml").read_text().replace("name: small", "name: other")
    (folder / "contract.yaml").write_text(text)
    complete(folder, other)


def empty_graph(folder: Path) -> None:
    """Sound by its manifest, and no SavedModel."""
    (folder / "model" / "1" / "saved_model.pb").write_bytes(b"")
    complete(folder, CONTRACT)


SPOILT: dict[str, Callable[[Path], Any]] = {
    "a flipped bit": lambda folder: flip(weights(folder)),
    "a cut file": lambda folder: os.truncate(weights(folder), 1),
    "a missing file": lambda folder: (folder / "golden.parquet").unlink(),
    "a foreign file": lambda folder: (folder / "model" / "x.py").write_text("x"),
    "no manifest": lambda folder: (folder / "manifest.json").unlink(),
    "half a manifest": lambda folder: os.truncate(folder / "manifest.json", 100),
    "an empty graph under a true manifest": empty_graph,
    "another contract": of_another_contract,
}


def test_no_kind_of_broken_bundle_takes_over_and_the_next_good_one_does(endpoint, store, bundles, tmp_path):
    with callers(plan(endpoint)) as report:
        for number, (name, how) in enumerate(SPOILT.items(), start=10):
            folder = spoilt(bundles[1], tmp_path / name.replace(" ", "-"), how)
            folder.rename(store.path(number))
            until(lambda number=number: metric(endpoint, "clickmill_bundle_refused_total") >= number - 9)
        shutil.copytree(bundles[1], tmp_path / "good")
        (tmp_path / "good").rename(store.path(2))
        until(lambda: metric(endpoint, "clickmill_bundle_info", version="2") == 1)
        served = time.monotonic()
        time.sleep(1)
    all_is_well(report, least=100)
    assert {record.version for record in report.of("right")} == {"1", "2"}
    assert {record.version for record in report.between(served).of("right")} == {"2"}
    for number in range(10, 10 + len(SPOILT)):
        shutil.rmtree(store.path(number))


def test_a_replica_that_is_told_to_stop_costs_nothing_and_one_that_is_killed_a_second_try(endpoint, store):
    ports = {"http_port": claim("127.0.0.1", 0, ""), "grpc_port": claim("127.0.0.1", 0, "")}
    with contextlib.ExitStack() as stack:
        other = stack.enter_context(server(store.root, **ports))
        with callers(plan(endpoint, other, patience_seconds=60)) as report:
            time.sleep(3)
            killed = time.monotonic()
            other.process.kill()
            again = stack.enter_context(server(store.root, **ports))
            until(lambda: metric(again, "clickmill_predictions_total") > 0)
            told = time.monotonic()
            endpoint.process.terminate()
            assert endpoint.process.wait(60) == 0
            ended = time.monotonic()
            time.sleep(2)
    all_is_well(report, least=200)
    assert {record.tries for record in report.between(0, killed - 1).records} == {1}
    assert {record.tries for record in report.between(told).records} == {1}, "a drain costs no second try"
    assert ended - told >= 2.0
