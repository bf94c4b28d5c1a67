"""The HTTP edge without a socket: good requests by every form, bad ones with their words, and the server goes on."""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import AsyncIterator
from typing import Any

import httpx
import numpy as np
import orjson
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from serving import app
from serving.client import tensor_body
from serving.front import Front
from serving.kserve_parts import kserve
from serving.lanes import Lanes
from serving.limits import Limits
from serving.metrics import Metrics
from serving.predictor import BundleModel
from serving.scheduler import Scheduler
from tests.serving.small_bundle import GOOD_ROW, logit_of, pctr_of, raw_rows

LIMITS = Limits(max_body_bytes=200_000, max_rows=300, max_string_bytes=64, body_seconds=0.3)
V1 = "/v1/models/small:predict"
V2 = "/v2/models/small/infer"
JSON = {"content-type": "application/json"}


class Edge:
    """The application, and one request at a time to it."""

    def __init__(self, scorer: Any) -> None:
        self.registry = CollectorRegistry()
        self.model = BundleModel("small", limits=LIMITS, metrics=Metrics(self.registry))
        if scorer is not None:
            self.model.swap(scorer, "7")
        models = kserve.ModelRepository()
        models.update(self.model)
        self.front = Front(
            app.build(app.BundleDataPlane(models)), self.model, Scheduler(self.model, Lanes(2))
        )

    def ask(
        self, method: str, path: str, content: Any = None, headers: dict[str, str] | None = None
    ) -> httpx.Response:
        return self.send(httpx.Request(method, f"http://edge{path}", content=content, headers=headers))

    def send(self, request: httpx.Request) -> httpx.Response:
        async def once() -> httpx.Response:
            transport = httpx.ASGITransport(self.front, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport) as client:
                return await client.send(request)

        return asyncio.run(once())

    def post(self, path: str, body: Any, headers: dict[str, str] | None = None) -> httpx.Response:
        content = body if isinstance(body, bytes) else orjson.dumps(body)
        return self.ask("POST", path, content, JSON if headers is None else headers)

    def metric(self, line_start: str) -> float:
        lines = generate_latest(self.registry).decode().splitlines()
        return next((float(line.split()[-1]) for line in lines if line.startswith(line_start)), 0.0)


@pytest.fixture(scope="module")
def edge(small_scorer: Any) -> Edge:
    return Edge(small_scorer)


def tensor(name: str, datatype: str, shape: list[int], data: list[Any]) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": shape, "data": data}


AD = tensor("ad_id", "BYTES", [1], ["a1"])


def test_v1_answers_the_formula_and_names_its_bundle(edge, small_scorer):
    rows = [GOOD_ROW, {"ad_id": "ü3"}, {"ad_id": "a2", "position": 20, "history": list("abcdef")}]
    answer = edge.post(V1, {"instances": rows})
    assert answer.status_code == 200
    found = answer.json()["predictions"]
    assert [p["logit"] for p in found] == pytest.approx([logit_of(row) for row in rows], abs=1e-5)
    assert [p["pctr"] for p in found] == pytest.approx([pctr_of(row) for row in rows], abs=1e-6)
    assert answer.headers["x-clickmill-bundle"] == small_scorer.digest
    assert answer.headers["x-clickmill-version"] == "7"


def test_v2_json_and_binary_answer_what_v1_answers(edge):
    raw = raw_rows(40, seed=3)
    rows = [
        {
            name: [v.decode() for v in value if v] if name == "history"
            else [int(value[0])] if name == "categories"
            else value.decode() if isinstance(value, bytes)
            else value.item()
            for name, value in ((name, raw[name][i]) for name in raw)
        }
        for i in range(40)
    ]  # fmt: skip
    expected = [p["pctr"] for p in edge.post(V1, {"instances": rows}).json()["predictions"]]
    assert expected == pytest.approx([pctr_of(row) for row in rows], abs=1e-6)

    body, headers = tensor_body(raw, binary=False)
    found = edge.post(V2, body, headers).json()
    assert [output["name"] for output in found["outputs"]] == ["pctr", "logit"]
    assert found["outputs"][0]["data"] == pytest.approx(expected, abs=1e-7)
    assert found["model_version"] == "7"

    body, headers = tensor_body(raw, binary=True)
    answer = edge.post(V2, body, headers)
    length = int(answer.headers["inference-header-content-length"])
    head = json.loads(answer.content[:length])
    assert [o["parameters"]["binary_data_size"] for o in head["outputs"]] == [160, 160]
    assert np.frombuffer(answer.content[length : length + 160], np.float32) == pytest.approx(
        expected, abs=1e-7
    )


def test_v2_gives_the_outputs_asked_for_in_the_form_asked_for(edge):
    wish = [{"name": "logit", "parameters": {"binary_data": True}}]
    answer = edge.post(V2, {"id": "r1", "inputs": [AD], "outputs": wish})
    length = int(answer.headers["inference-header-content-length"])
    head = json.loads(answer.content[:length])
    assert head["id"] == "r1"
    assert [output["name"] for output in head["outputs"]] == ["logit"]
    assert struct.unpack("<f", answer.content[length:])[0] == pytest.approx(
        logit_of({"ad_id": "a1"}), abs=1e-5
    )


def test_v2_takes_a_version_it_serves_and_knows_no_other(edge, small_scorer):
    for version in ("7", small_scorer.digest):
        assert edge.post(f"/v2/models/small/versions/{version}/infer", {"inputs": [AD]}).status_code == 200
    answer = edge.post("/v2/models/small/versions/8/infer", {"inputs": [AD]})
    assert (answer.status_code, answer.json()["error"]) == (404, "model small serves version 7 now, not 8")


def test_health_metadata_and_metrics(edge):
    assert edge.ask("GET", "/").json() == {"status": "alive"}
    assert edge.ask("GET", "/v2/health/live").json() == {"live": True}
    assert edge.ask("GET", "/v2/health/ready").json() == {"ready": True}
    assert edge.ask("GET", "/v1/models/small").json() == {"name": "small", "ready": True}
    assert edge.ask("GET", "/v2/models/small/ready").json() == {"name": "small", "ready": True}
    found = edge.ask("GET", "/v2/models/small").json()
    assert found["versions"] == ["7"]
    assert {"name": "history", "datatype": "BYTES", "shape": [-1, -1]} in found["inputs"]
    assert found["outputs"][0] == {"name": "pctr", "datatype": "FP32", "shape": [-1]}
    assert "hour" not in [item["name"] for item in found["inputs"]]
    assert edge.ask("GET", "/metrics").status_code == 200


def test_live_but_not_ready_before_a_bundle_and_while_draining(small_scorer):
    edge = Edge(None)
    assert edge.ask("GET", "/v2/health/live").status_code == 200
    for path in ("/v2/health/ready", "/v1/models/small", "/v2/models/small/ready", "/v2/models/small"):
        answer = edge.ask("GET", path)
        assert (path, answer.status_code, answer.json()["reason"]) == (path, 503, "not_ready")
    answer = edge.post(V1, {"instances": [GOOD_ROW]})
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert "still being loaded" in answer.json()["error"]
    edge.model.swap(small_scorer, "1")
    assert edge.ask("GET", "/v2/health/ready").status_code == 200
    edge.model.drain()
    assert edge.ask("GET", "/v2/health/ready").status_code == 503
    answer = edge.post(V1, {"instances": [GOOD_ROW]})
    assert (answer.status_code, answer.headers["connection"]) == (200, "close")


BAD_V1 = {
    "not json": (b"{", 400, "malformed", "not valid JSON"),
    "not utf-8": (b'{"instances": [{"ad_id": "\xff"}]}', 400, "malformed", "not valid JSON"),
    "nan": (b'{"instances": [{"ad_id": "a1", "price": NaN}]}', 400, "malformed", "not valid JSON"),
    "infinite": (b'{"instances": [{"ad_id": "a1", "price": 1e999}]}', 400, None, None),
    "empty body": (b"", 400, "malformed", "not valid JSON"),
    "a list": ([GOOD_ROW], 400, "malformed", "must be an object with `instances`"),
    "no instances": ({"rows": []}, 400, "malformed", "must be an object with `instances`"),
    "another key": ({"instances": [GOOD_ROW], "x": 1}, 400, "malformed", "unknown key `x`"),
    "instances a dict": ({"instances": GOOD_ROW}, 400, "malformed", "must be a list of objects; got dict"),
    "empty instances": ({"instances": []}, 400, "invalid", "`instances` is empty"),
    "a row that is a number": ({"instances": [GOOD_ROW, 3]}, 400, "invalid", "row 1: must be an object"),
    "unknown field": ({"instances": [{"ad_id": "a1", "pric": 1.0}]}, 400, "invalid", "field `pric` is unknown"),
    "wrong type": ({"instances": [{"ad_id": 7}]}, 400, "invalid", "row 0, field `ad_id`: must be a string; got 7"),
    "position 0": ({"instances": [{"ad_id": "a1", "position": 0}]}, 400, "invalid", "row 0, field `position`: must lie in 1 to 20; got 0"),
    "position 2.5": ({"instances": [{"ad_id": "a1", "position": 2.5}]}, 400, "invalid", "field `position`: must be an integer"),
    "not allowed": ({"instances": [GOOD_ROW, {"ad_id": "a1", "device": "tv"}]}, 400, "invalid", "row 1, field `device`: must be one of phone, desk"),
    "required missing": ({"instances": [{"price": 1.0}]}, 400, "invalid", "row 0, field `ad_id`: is required"),
    "required null": ({"instances": [{"ad_id": None}]}, 400, "invalid", "row 0, field `ad_id`: is required"),
    "nested value": ({"instances": [{"ad_id": {"x": [1]}}]}, 400, "invalid", "row 0, field `ad_id`: must be a string"),
    "deep": (b'{"instances": ' + b"[" * 90_000 + b"]" * 90_000 + b"}", 400, "malformed", "not valid JSON"),
    "deep but parsed": (b'{"instances": ' + b"[" * 900 + b"]" * 900 + b"}", 400, "invalid", "row 0: must be an object"),
    "too many": ({"instances": [{"ad_id": "a1"}] * 301}, 413, "too_large", "301 instances, the limit is 300"),
    "long string in a list": (
        {"instances": [{"ad_id": "a1"}, {"ad_id": "a1", "history": ["x", "y" * 70]}]},
        413,
        "too_large",
        "row 1, field `history`: a string of 70 bytes",
    ),
    "long string": ({"instances": [{"ad_id": "a" * 65}]}, 413, "too_large", "row 0, field `ad_id`: a string of 65 bytes"),
    "large body": (b'{"instances": [' + b" " * 200_000 + b"]}", 413, "too_large", "the body exceeds 200,000 bytes"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_V1)
def test_a_bad_v1_request_is_refused_with_its_reason_and_a_good_one_follows(edge, case):
    body, status, reason, words = BAD_V1[case]
    answer = edge.post(V1, body)
    assert answer.status_code == status, answer.text
    if reason is not None:
        assert answer.json()["reason"] == reason
        assert words in answer.json()["error"]
    assert edge.post(V1, {"instances": [GOOD_ROW]}).status_code == 200


def binary(head: Any, tail: bytes = b"", length: str | None = None) -> tuple[bytes, dict[str, str]]:
    text = orjson.dumps(head)
    headers = {
        "content-type": "application/octet-stream",
        "inference-header-content-length": length or str(len(text)),
    }
    return text + tail, headers


def buffered(name: str, datatype: str, shape: list[int], size: Any) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": shape, "parameters": {"binary_data_size": size}}


BAD_V2 = {
    "not json": ((b"{", JSON), 400, "malformed", "not valid JSON"),
    "no inputs": ((b"{}", JSON), 400, "malformed", "a list `inputs`"),
    "empty inputs": ((b'{"inputs": []}', JSON), 400, "invalid", "`inputs` is empty"),
    "input a string": ((b'{"inputs": ["x"]}', JSON), 400, "malformed", "inputs[0] must be an object; got str"),
    "no name": ((b'{"inputs": [{"shape": [1]}]}', JSON), 400, "malformed", "inputs[0] needs the strings"),
    "shape a word": ((orjson.dumps({"inputs": [{**AD, "shape": "x"}]}), JSON), 400, "malformed", "`shape` must be a list of integers"),
    "no data": ((orjson.dumps({"inputs": [buffered("ad_id", "BYTES", [1], None)]}), JSON), 400, "malformed", "neither `data` nor a `binary_data_size`"),
    "wrong dtype": ((orjson.dumps({"inputs": [AD, tensor("price", "INT64", [1], [1])]}), JSON), 400, "invalid", "field `price`: datatype must be FP32"),
    "unknown datatype": ((orjson.dumps({"inputs": [AD, tensor("price", "COMPLEX", [1], [1])]}), JSON), 400, "invalid", "datatype must be FP32 (float32); got COMPLEX"),
    "wrong shape": ((orjson.dumps({"inputs": [{**AD, "shape": [2]}]}), JSON), 400, "invalid", "shape [2] needs 2 values; got 1"),
    "wrong name": ((orjson.dumps({"inputs": [AD, tensor("prize", "FP32", [1], [1.0])]}), JSON), 400, "invalid", "field `prize` is unknown"),
    "required": ((orjson.dumps({"inputs": [tensor("price", "FP32", [1], [1.0])]}), JSON), 400, "invalid", "field `ad_id`: is required"),
    "output unknown": ((orjson.dumps({"inputs": [AD], "outputs": [{"name": "ctr"}]}), JSON), 400, "invalid", "output `ctr` is unknown; the bundle gives: pctr, logit"),
    "id a number": ((orjson.dumps({"inputs": [AD], "id": 3}), JSON), 400, "malformed", "`id` must be a string"),
    "nan buffer": (binary({"inputs": [AD, buffered("price", "FP32", [1], 4)]}, struct.pack("<f", float("nan"))), 400, "invalid", "row 0, field `price`: must be a finite number; got nan"),
    "not utf-8": (binary({"inputs": [buffered("ad_id", "BYTES", [1], 5)]}, struct.pack("<I", 1) + b"\xff"), 400, "invalid", "row 0, field `ad_id`: is not UTF-8"),
    "string past the end": (binary({"inputs": [buffered("ad_id", "BYTES", [1], 5)]}, struct.pack("<I", 9) + b"a"), 400, "malformed", "runs past the end of its 5 bytes"),
    "buffer past the end": (binary({"inputs": [buffered("ad_id", "BYTES", [1], 99)]}, b"abc"), 400, "malformed", "runs past the end of the body"),
    "bytes left over": (binary({"inputs": [AD]}, b"abc"), 400, "malformed", "3 bytes follow the last buffer"),
    "negative size": (binary({"inputs": [buffered("ad_id", "BYTES", [1], -4)]}), 400, "malformed", "neither `data` nor"),
    "length too long": (binary({"inputs": [AD]}, length="99999"), 400, "malformed", "Inference-Header-Content-Length is 99999"),
    "length a word": (binary({"inputs": [AD]}, length="x"), 400, "malformed", "must be the number of JSON bytes"),
    "too many rows": ((orjson.dumps({"inputs": [tensor("ad_id", "BYTES", [301], ["a1"] * 301)]}), JSON), 413, "too_large", "301 rows, the limit is 300"),
    "claimed rows": ((orjson.dumps({"inputs": [{**AD, "shape": [10**12]}]}), JSON), 413, "too_large", "rows, the limit is 300"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_V2)
def test_a_bad_v2_request_is_refused_with_its_reason_and_a_good_one_follows(edge, case):
    (body, headers), status, reason, words = BAD_V2[case]
    answer = edge.post(V2, body, headers)
    assert (answer.status_code, answer.json()["reason"]) == (status, reason), answer.text
    assert words in answer.json()["error"]
    assert edge.post(V2, {"inputs": [AD]}).status_code == 200


def test_a_wrong_content_type_is_told_what_to_send(edge):
    form = {"content-type": "application/x-www-form-urlencoded"}  # what curl -d sends by itself
    for path in (V1, V2):
        answer = edge.post(path, {"instances": [GOOD_ROW]}, form)
        assert (answer.status_code, answer.json()["reason"]) == (415, "content_type")
        assert "curl: -H 'Content-Type: application/json'" in answer.json()["error"]
    assert edge.post(V1, {"instances": [GOOD_ROW]}, {}).status_code == 200
    assert (
        edge.post(
            V1, {"instances": [GOOD_ROW]}, {"content-type": "application/json; charset=utf-8"}
        ).status_code
        == 200
    )


def test_another_model_and_another_path_are_not_found(edge):
    answer = edge.post("/v1/models/other:predict", {"instances": [GOOD_ROW]})
    assert (answer.status_code, answer.json()["error"]) == (
        404,
        "no model `other` here; this server has `small`",
    )
    assert edge.ask("GET", "/v2/models/other").status_code == 404
    assert edge.ask("GET", "/v2/models/other/ready").status_code == 404
    assert edge.ask("GET", "/nothing").status_code == 404


def test_nobody_can_unload_the_model_from_outside(edge):
    answer = edge.post("/v2/repository/models/small/unload", {})
    assert (answer.status_code, answer.json()["reason"]) == (501, "not_offered")
    assert edge.ask("GET", "/v2/health/ready").status_code == 200


def test_an_endless_body_is_cut_off_and_never_held(edge):
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 65536
            yield b" " * 65536

    answer = edge.ask("POST", V1, endless(), JSON)
    assert (answer.status_code, answer.headers["connection"]) == (413, "close")
    assert sent <= LIMITS.max_body_bytes + LIMITS.drain_bytes + 2 * 65536


def test_a_body_that_never_ends_is_given_up(edge):
    async def stalls() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.sleep(5)

    answer = edge.ask("POST", V1, stalls(), JSON)
    assert (answer.status_code, answer.json()["reason"]) == (408, "slow_body")


def test_a_cloudevent_takes_kserves_own_way(edge):
    headers = {**JSON, "ce-specversion": "1.0", "ce-id": "1", "ce-source": "test", "ce-type": "ad.request"}
    answer = edge.post(V1, {"instances": [GOOD_ROW]}, headers)
    assert answer.status_code == 200
    assert answer.headers["ce-type"] == "io.kserve.inference.response"
    assert answer.json()["predictions"][0]["pctr"] == pytest.approx(pctr_of(GOOD_ROW), abs=1e-6)
    answer = edge.post(V1, {"instances": [{"ad_id": 3}]}, headers)
    assert (answer.status_code, "row 0, field `ad_id`" in answer.json()["error"]) == (400, True)


class Broken:
    """A bundle whose graph gives no number."""

    digest = "f" * 64

    def __init__(self, scorer: Any) -> None:
        self.contract = scorer.contract

    def predict(self, raw: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        nan = np.full(len(raw["ad_id"]), np.nan, np.float32)
        return {"pctr": nan, "logit": nan}


def test_a_graph_that_gives_nan_is_an_error_and_is_counted(small_scorer):
    edge = Edge(Broken(small_scorer))
    answer = edge.post(V1, {"instances": [GOOD_ROW, GOOD_ROW]})
    assert (answer.status_code, answer.json()["reason"]) == (500, "not_finite")
    assert edge.metric("clickmill_not_finite_predictions_total") == 2


def test_a_bug_is_a_500_without_its_words(small_scorer):
    class Bug(Broken):
        def predict(self, raw):
            raise ZeroDivisionError("secret path /etc/model")

    answer = Edge(Bug(small_scorer)).post(V1, {"instances": [GOOD_ROW]})
    assert (answer.status_code, answer.json()["reason"]) == (500, "internal")
    assert "secret" not in answer.text


def test_metrics_count_rows_rejections_and_pctr(small_scorer):
    edge = Edge(small_scorer)
    rows = [GOOD_ROW, {"ad_id": "a2"}, {"ad_id": "a1"}]
    edge.post(V1, {"instances": rows})
    edge.post(V1, b"{")
    label = 'model_name="small"'
    assert edge.metric(f"clickmill_predictions_total{{{label}}}") == 3
    assert edge.metric(f'clickmill_request_candidates_bucket{{le="2.0",{label}}}') == 0
    assert edge.metric(f'clickmill_request_candidates_bucket{{le="4.0",{label}}}') == 1
    assert edge.metric(f'clickmill_requests_rejected_total{{{label},protocol="v1",reason="malformed"}}') == 1
    assert edge.metric(f'clickmill_request_seconds_count{{{label},protocol="v1"}}') == 1
    bundle = f'bundle="{small_scorer.digest[:12]}"'
    below = sum(pctr_of(row) <= 0.05 for row in rows)
    assert edge.metric(f'clickmill_pctr_bucket{{{bundle},le="0.05",{label}}}') == below
    assert edge.metric(f"clickmill_pctr_sum{{{bundle},{label}}}") == pytest.approx(
        sum(map(pctr_of, rows)), abs=1e-6
    )
    assert edge.metric(f'clickmill_bundle_info{{digest="{small_scorer.digest}",{label},version="7"}}') == 1


def test_a_ranking_goes_through_the_same_door(edge):
    body = {
        "user": {"user_id": "u1", "returning": True},
        "candidates": [{"ad_id": "a1", "bid": 1.0}, {"ad_id": "a2", "bid": 5.0}],
    }
    answer = edge.post("/v1/models/small:rank?explain=1", body)
    assert answer.status_code == 200
    assert answer.headers["x-clickmill-version"] == "7"
    shown = answer.json()["ranked"]
    p = [pctr_of({"ad_id": ad, "returning": True}) for ad in ("a1", "a2")]
    assert [one["candidate"] for one in shown] == [1, 0]
    assert [one["ecpm"] for one in shown] == pytest.approx([5000 * p[1], 1000 * p[0]], rel=1e-5)
    assert shown[0]["logit_by_field"]["returning"] == pytest.approx(0.5, abs=1e-5)
    refused = edge.post("/v1/models/small:rank", {"candidates": [{"ad_id": "a1"}]})
    assert (refused.status_code, refused.json()["reason"]) == (400, "invalid")
    assert "candidate 0: `bid` is missing" in refused.json()["error"]
    assert edge.post("/v1/models/large:rank", body).status_code == 404
