"""One user and n candidates as tensors: what is shared is sent once, by V2 and gRPC as by the ranking route."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from prometheus_client import CollectorRegistry

from clickmill.bundle.requests import one_request
from clickmill.errors import RequestError
from clickmill.features.sides import by_rows, shared_fields
from serving.batcher import BatchSettings
from serving.client import infer_request, tensor_body
from serving.lanes import Lanes
from serving.limits import Limits
from serving.metrics import Metrics
from serving.named_tensor import NamedTensor, objects
from serving.predictor import BundleModel
from serving.ranked_tensors import Sides, is_ranking, to_request
from serving.refusals import UnknownSignature
from serving.scheduler import Scheduler
from tests.serving.small_bundle import CONTRACT, raw_rows

SIDES = Sides.of(CONTRACT)


@pytest.fixture
def model(small_scorer: Any) -> BundleModel:
    model = BundleModel("small", metrics=Metrics(CollectorRegistry()))
    model.swap(small_scorer, "3")
    return model


def named(name: str, datatype: str, values: Any) -> NamedTensor:
    array = objects(values) if datatype == "BYTES" else np.array(values)
    return NamedTensor(name, datatype, (len(values),), array)


def test_what_is_left_out_is_the_default_once_or_for_every_candidate() -> None:
    raw, rows = to_request([named("ad_id", "BYTES", [b"a1", b"a2", b"a1"])], SIDES, Limits())
    assert rows == 3
    assert {name: len(values) for name, values in raw.items()} == {
        name: 1 if name in shared_fields(CONTRACT) else 3 for name in CONTRACT.inputs
    }
    assert raw["device"].tolist() == [b"phone"]
    assert raw["position"].tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        ([named("user_id", "BYTES", [b"u"])], "`inputs` is empty; send at least one of: ad_id"),
        ([named("user_id", "BYTES", [b"u", b"v"]), named("ad_id", "BYTES", [b"a1", b"a2"])],
         r"field `user_id` is the same for all candidates: its shape must begin with 1; got \[2\]"),
        ([named("ad_id", "BYTES", [b"a1"]), named("nobody", "BYTES", [b"a1"])], "field `nobody` is unknown"),
        ([named("ad_id", "BYTES", [b"a1"]), named("device", "BYTES", [b"tv"])], "must be one of phone, desk"),
        ([named("price", "FP32", np.float32([1.0]))], "field `ad_id`: is required"),
    ],
)  # fmt: skip
def test_a_broken_request_is_refused_in_words(tensors: list[NamedTensor], words: str) -> None:
    with pytest.raises(RequestError, match=words):
        to_request(tensors, SIDES, Limits())


def test_a_signature_there_is_not_is_refused() -> None:
    assert [is_ranking(name) for name in (None, "", "serving_default", "ranking")] == [
        False,
        False,
        False,
        True,
    ]
    for odd in ("classify", 3, ["ranking"]):
        with pytest.raises(UnknownSignature, match="there are `serving_default` and `ranking`"):
            is_ranking(odd)


@pytest.mark.parametrize("protocol", ["json", "binary", "grpc"])
def test_a_request_answers_what_its_rows_answer(model: BundleModel, small_scorer: Any, protocol: str) -> None:
    request = one_request(raw_rows(12, seed=4), CONTRACT)
    expected = small_scorer.predict(by_rows(request, shared_fields(CONTRACT), 12))["pctr"]
    if protocol == "grpc":
        message = infer_request(request, "small")
        message.parameters["signature_name"].string_param = "ranking"
        question = model.ask_grpc(message)
        found = np.frombuffer(model.answer(question).raw_output_contents[0], np.float32)
    else:
        body, headers = tensor_body(request, binary=protocol == "binary")
        length = headers.get("inference-header-content-length")
        head = orjson.loads(body[: int(length)] if length else body)
        head["parameters"] = {"signature_name": "ranking", "binary_data_output": False}
        text = orjson.dumps(head)
        tail = body[int(length) :] if length else b""
        question = model.ask_v2(text + tail, len(text) if length else None)
        found = np.array(orjson.loads(model.answer(question).body)["outputs"][0]["data"], np.float32)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_requests_that_share_runs_leave_a_ranking_its_own(model: BundleModel, small_scorer: Any) -> None:
    """Micro-batching joins rows; joined with a ranking's one shared row, they would be scored for another user."""
    request = one_request(raw_rows(300, seed=4), CONTRACT)
    rows = raw_rows(300, seed=9)
    ranked = infer_request(request, "small")
    ranked.parameters["signature_name"].string_param = "ranking"
    asked = [ranked, infer_request(rows, "small")] * 4
    scheduler = Scheduler(model, Lanes(1), batch=BatchSettings(rows=5000, wait_us=20_000))

    async def all_at_once() -> list[Any]:
        return await asyncio.gather(
            *(scheduler.answer(message.ByteSize(), None, model.ask_grpc, message) for message in asked)
        )

    answers = [np.frombuffer(one.raw_output_contents[0], np.float32) for one in asyncio.run(all_at_once())]
    scheduler.close()
    for found, expected in zip(
        answers, [small_scorer.rank(request), small_scorer.predict(rows)] * 4, strict=True
    ):
        np.testing.assert_allclose(found, expected["pctr"], atol=1e-6)


def test_a_logged_ranking_has_a_row_for_each_candidate(model: BundleModel, tmp_path: Path) -> None:
    offered: list[Any] = []

    class Log:
        def wants(self, request_id: str) -> bool:
            return request_id != "skipped"

        def offer(self, answer: Any, contract: Any) -> None:
            offered.append(answer)

    model.log = Log()  # type: ignore[assignment]
    for identity in ("kept", "skipped"):
        message = infer_request(one_request(raw_rows(5), CONTRACT), "small")
        message.id, message.parameters["signature_name"].string_param = identity, "ranking"
        model.answer(model.ask_grpc(message))
    assert [answer.request_id for answer in offered] == ["kept"]
    assert {len(values) for values in offered[0].raw.values()} == {5}
