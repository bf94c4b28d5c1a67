"""The log behind the endpoint: nothing waits for it, nothing is lost unseen, a full disk is waited out."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args, get_type_hints

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from prometheus_client import CollectorRegistry

from clickmill.command.serve import serve
from clickmill.contract import ContractField, Dtype, Role
from clickmill.features.tensors import from_rows
from clickmill.prediction_log import Answered, Kept, LogFolder, log_files
from serving.lanes import Lanes
from serving.metrics import Metrics
from serving.prediction_log import LogSettings, PredictionLog
from serving.predictor import BundleModel
from serving.ranker import Ranker
from serving.scheduler import Scheduler
from tests.serving.small_bundle import CONTRACT, GOOD_ROW
from tests.waiting import until

NOON = 1_764_000_000_000_000


def answer(rows: int = 2, *, request: str = "r", bundle: str = "a" * 64, time_us: int = NOON) -> Answered:
    return Answered(
        request_id=request,
        time_us=time_us,
        model="small",
        bundle=bundle,
        raw=from_rows([GOOD_ROW] * rows, CONTRACT),
        pctr=np.full(rows, 0.1, np.float32),
        logit=np.zeros(rows, np.float32),
    )


class Logged:
    """A log, its folder and its counters."""

    def __init__(self, folder: Any, **settings: Any) -> None:
        self.registry = CollectorRegistry()
        self.log = PredictionLog(
            folder,
            "small",
            settings=LogSettings(features=Kept.NOTHING, **settings),
            salt=None,
            metrics=Metrics(self.registry),
        )
        self.log.start()

    def rows(self, outcome: str) -> float:
        labels = {"model_name": "small", "outcome": outcome}
        return self.registry.get_sample_value("clickmill_prediction_log_rows_total", labels) or 0.0

    def value(self, name: str) -> float:
        return self.registry.get_sample_value(name, {"model_name": "small"}) or 0.0


def requests_in(folder: Path) -> list[str]:
    return [r for file in log_files(folder) for r in pq.read_table(file)["request_id"].to_pylist()]


def test_a_file_is_closed_when_it_is_old_enough(tmp_path: Path) -> None:
    logged = Logged(LogFolder(tmp_path, "w"), file_seconds=0.01)
    logged.log.offer(answer(), CONTRACT)
    until(lambda: logged.rows("written") == 2)
    assert requests_in(tmp_path) == ["r", "r"]
    assert logged.value("clickmill_prediction_log_pending_rows") == 0
    logged.log.close(10)


def test_a_file_is_closed_when_it_is_large_enough(tmp_path: Path) -> None:
    logged = Logged(LogFolder(tmp_path, "w"), file_rows=4, file_seconds=3600)
    logged.log.offer(answer(), CONTRACT)
    logged.log.offer(answer(), CONTRACT)
    until(lambda: logged.rows("written") == 4)
    logged.log.close(10)


def test_the_end_writes_what_waits_a_file_per_bundle_and_day(tmp_path: Path) -> None:
    logged = Logged(LogFolder(tmp_path, "w"), file_seconds=3600)
    for bundle, time_us in (("a", NOON), ("b", NOON), ("a", NOON + 86_400_000_000), ("a", NOON)):
        logged.log.offer(answer(1, bundle=bundle * 64, time_us=time_us), CONTRACT)
    logged.log.close(10)
    assert logged.rows("written") == 4
    tables = [pq.read_table(file) for file in log_files(tmp_path)]
    assert sorted(len(table) for table in tables) == [1, 1, 2]
    assert all(len(set(table["bundle"].to_pylist())) == 1 for table in tables)


def test_a_share_of_the_requests_is_logged(tmp_path: Path) -> None:
    logged = Logged(LogFolder(tmp_path, "w"), share=0.5)
    for number in range(200):
        logged.log.offer(answer(1, request=f"r{number}"), CONTRACT)
    logged.log.close(10)
    assert 60 < logged.rows("written") < 140
    assert logged.rows("dropped") == 0


class Hung:
    """A disk that never answers until it is let go."""

    def __init__(self) -> None:
        self.let_go = threading.Event()
        self.tables: list[pa.Table] = []

    def write(self, table: pa.Table) -> None:
        self.let_go.wait(30)
        self.tables.append(table)


def test_a_hung_disk_holds_up_no_answer_and_drops_are_counted() -> None:
    disk = Hung()
    logged = Logged(disk, file_seconds=0.01, pending_rows=100)
    began = time.monotonic()
    for _ in range(500):
        logged.log.offer(answer(), CONTRACT)
    assert time.monotonic() - began < 10, "offers returned while the disk hung for up to 30 s"
    assert logged.rows("dropped") == 900
    disk.let_go.set()
    logged.log.close(20)
    assert logged.rows("written") == 100 == sum(map(len, disk.tables))


def test_what_a_hung_disk_keeps_from_being_written_is_counted_at_the_end() -> None:
    disk = Hung()
    logged = Logged(disk)
    logged.log.offer(answer(), CONTRACT)
    logged.log.close(0.5)
    assert logged.rows("dropped") == 2
    disk.let_go.set()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    where = tmp_path / "disk"
    where.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "clickmill-test", str(where)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("a small disk of its own takes the right to mount")
    yield where
    subprocess.run(["umount", str(where)], check=True)


def test_a_full_disk_is_waited_out(small_disk: Path) -> None:
    logged = Logged(LogFolder(small_disk, "w"), file_seconds=0.01)
    ballast = small_disk / "ballast"
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(small_disk).free)
    logged.log.offer(answer(), CONTRACT)
    until(lambda: logged.value("clickmill_prediction_log_write_errors_total") >= 1)
    assert log_files(small_disk) == []
    assert logged.value("clickmill_prediction_log_pending_rows") == 2
    ballast.unlink()
    logged.log.offer(answer(request="later"), CONTRACT)
    until(lambda: logged.rows("written") == 4)
    assert requests_in(small_disk) == ["r", "r", "later", "later"]
    assert not list(small_disk.rglob("*.partial"))
    logged.log.close(10)


def test_rows_that_a_bug_spoils_are_counted_and_the_log_goes_on(tmp_path: Path) -> None:
    logged = Logged(LogFolder(tmp_path, "w"))
    spoilt = answer()
    spoilt.raw["position"] = np.array(["not a number"] * 2, dtype=object)
    logged.log.offer(spoilt, CONTRACT)
    until(lambda: logged.rows("lost") == 2)
    logged.log.offer(answer(), CONTRACT)
    logged.log.close(10)
    assert logged.rows("written") == 2


def served_with_log(scorer: Any, folder: Path) -> BundleModel:
    registry = CollectorRegistry()
    model = BundleModel("small", metrics=Metrics(registry))
    model.swap(scorer, "7")
    model.log = PredictionLog(
        LogFolder(folder, "w"), "small", settings=LogSettings(), salt=None, metrics=model.metrics
    )
    model.log.start()
    return model


def logged_rows(model: BundleModel, folder: Path) -> list[dict[str, Any]]:
    assert model.log is not None
    model.log.close(20)
    rows: list[dict[str, Any]] = pa.concat_tables(map(pq.read_table, log_files(folder))).to_pylist()
    return rows


def test_what_the_endpoint_answers_is_what_is_logged(small_scorer: Any, tmp_path: Path) -> None:
    model = served_with_log(small_scorer, tmp_path)
    body = orjson.dumps({"instances": [GOOD_ROW, {"ad_id": "a2"}]})
    told = orjson.loads(model.answer(model.ask_v1(body, "request 7")).body)["predictions"]
    first, second = logged_rows(model, tmp_path)
    assert [row["request_id"] for row in (first, second)] == ["request 7"] * 2
    assert [row["pctr"] for row in (first, second)] == [one["pctr"] for one in told]
    assert {row["bundle"] for row in (first, second)} == {small_scorer.digest}
    assert (first["position"], second["position"]) == (2, 1)
    assert first["features"]["history"] == ["a", "b"]
    assert second["features"]["price"] == 2.0, "the default, as the model saw it"


def test_a_v2_request_is_logged_under_its_own_id_and_one_without_gets_one(
    small_scorer: Any, tmp_path: Path
) -> None:
    model = served_with_log(small_scorer, tmp_path)
    tensor = {"name": "ad_id", "datatype": "BYTES", "shape": [1], "data": ["a1"]}
    for request in ({"id": "mine", "inputs": [tensor]}, {"inputs": [tensor]}):
        model.answer(model.ask_v2(orjson.dumps(request), None))
    named, drawn = logged_rows(model, tmp_path)
    assert named["request_id"] == "mine"
    assert len(drawn["request_id"]) == 32


def test_a_ranking_is_logged_candidate_by_candidate(small_scorer: Any, tmp_path: Path) -> None:
    model = served_with_log(small_scorer, tmp_path)
    body = {
        "request_id": "r9",
        "user": {"user_id": "u1"},
        "candidates": [{"ad_id": "a1", "bid": 1}, {"ad_id": "a2", "bid": 9}],
        "slots": 1,
    }
    ranker = Ranker(model, Scheduler(model, Lanes(0)))
    asyncio.run(ranker.answer(orjson.dumps(body), None, explain=True))
    rows = logged_rows(model, tmp_path)
    assert [row["candidate"] for row in rows] == [0, 1], "all that were scored, and no row of the explanation"
    assert [row["features"]["ad_id"] for row in rows] == ["a1", "a2"]
    assert {row["features"]["user_id"] for row in rows} == {"u1"}


def test_the_impressions_own_id_is_logged_where_the_contract_names_it(
    small_scorer: Any, tmp_path: Path
) -> None:
    fields = {"impression": ContractField(role=Role.IMPRESSION_ID, dtype=Dtype.INT64), **CONTRACT.fields}
    scorer = SimpleNamespace(
        contract=CONTRACT.model_copy(update={"fields": fields}),
        digest=small_scorer.digest,
        predict=small_scorer.predict,
    )
    model = served_with_log(scorer, tmp_path)
    body = orjson.dumps({"instances": [{"ad_id": "a1", "impression": 41}, {"ad_id": "a1"}]})
    model.answer(model.ask_v1(body))
    named = [
        {"name": "ad_id", "datatype": "BYTES", "shape": [1], "data": ["a1"]},
        {"name": "impression", "datatype": "INT64", "shape": [1], "data": [42]},
    ]
    model.answer(model.ask_v2(orjson.dumps({"inputs": named}), None))
    assert [row["impression_id"] for row in logged_rows(model, tmp_path)] == ["41", None, "42"]


def test_the_commands_choices_are_those_of_the_log() -> None:
    choices = get_args(get_args(get_type_hints(serve, include_extras=True)["log_features"])[0])
    assert list(choices) == [kept.value for kept in Kept]
