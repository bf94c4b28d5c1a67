"""The model as KServe's own server would call it: stock data plane, stock decoding, stock encoding."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow.parquet as pq
import pytest
from prometheus_client import CollectorRegistry

from clickmill.errors import UsageError
from clickmill.features.tensors import from_arrow
from serving.client import tensor_body
from serving.kserve_parts import DataPlane, InferRequest, InvalidInput, kserve, pb
from serving.metrics import ArrayHistogram, Metrics
from serving.predictor import BundleModel
from serving.server import serve
from serving.v2_grpc import tensors_of
from tests.serving.small_bundle import CONTRACT, GOOD_ROW, pctr_of


@pytest.fixture
def model(small_scorer: Any) -> BundleModel:
    model = BundleModel("small", metrics=Metrics(CollectorRegistry()))
    model.swap(small_scorer, "3")
    return model


@pytest.fixture
def plane(model: BundleModel) -> DataPlane:
    models = kserve.ModelRepository()
    models.update(model)
    return DataPlane(models)


def infer(plane: DataPlane, request: Any, headers: dict[str, str] | None = None) -> Any:
    answer, answer_headers = asyncio.run(plane.infer("small", request, headers))
    return plane.encode("small", answer, headers or {}, {})[0], answer_headers


def test_a_stock_server_gets_v1_answers_with_the_bundle_in_the_headers(plane, small_scorer):
    answer, headers = infer(plane, {"instances": [GOOD_ROW]})
    assert answer["predictions"][0]["pctr"] == pytest.approx(pctr_of(GOOD_ROW), abs=1e-6)
    assert headers == {"x-clickmill-bundle": small_scorer.digest, "x-clickmill-version": "3"}


@pytest.mark.parametrize("binary", [True, False])
def test_a_stock_server_gets_v2_answers(plane, binary):
    raw = {"ad_id": np.array([b"a1", "ü3".encode()], object), "price": np.array([1, 2], np.float32)}
    body, headers = tensor_body(raw, binary=binary)
    if binary:
        request = InferRequest.from_bytes(body, int(headers["inference-header-content-length"]), "small")
    else:
        request = plane.decode(orjson.loads(body), {}, "v2")[0]
        request = InferRequest("small", [kserve.InferInput(**item) for item in request["inputs"]])
    answer, _ = infer(plane, request)
    if isinstance(answer, bytes):
        found = np.frombuffer(answer[-16:-8], np.float32)
    else:
        found = answer["outputs"][0]["data"]
    rows = [{"ad_id": "a1", "price": 1.0}, {"ad_id": "ü3", "price": 2.0}]
    assert list(found) == pytest.approx([pctr_of(row) for row in rows], abs=1e-6)


def test_a_stock_grpc_server_gets_answers(plane):
    message = pb.ModelInferRequest(model_name="small")
    message.inputs.add(name="ad_id", datatype="BYTES", shape=[1]).contents.bytes_contents.append(b"a2")
    answer, _ = asyncio.run(plane.infer("small", InferRequest.from_grpc(message)))
    message = answer.to_grpc()
    assert message.model_version == "3"
    assert np.frombuffer(message.raw_output_contents[0], np.float32)[0] == pytest.approx(
        pctr_of({"ad_id": "a2"}), abs=1e-6
    )


def test_a_stock_server_is_told_invalid_input_which_it_answers_400(plane):
    with pytest.raises(InvalidInput) as caught:
        infer(plane, {"instances": [{**GOOD_ROW, "position": 0}]})
    assert "row 0, field `position`: must lie in 1 to 20; got 0" in str(caught.value)


def test_golden_predictions_come_back_equal_by_v2(model, small_bundle: Path):
    golden = pq.read_table(small_bundle / "golden.parquet")
    raw = from_arrow(golden.select(list(CONTRACT.inputs)), CONTRACT)
    for binary in (True, False):
        body, headers = tensor_body(raw, binary=binary)
        length = headers.get("inference-header-content-length")
        answer = model.answer(model.ask_v2(body, int(length) if length else None))
        found = orjson.loads(answer.body[: answer.json_length])["outputs"][0]
        start = answer.json_length or 0
        pctr = (
            found["data"] if "data" in found else np.frombuffer(answer.body[start : start + 64], np.float32)
        )
        assert np.abs(np.array(pctr) - golden["pctr"].to_numpy()).max() <= 1e-6


def test_grpc_tensors_of_a_datatype_no_field_has_are_left_to_the_contract_to_refuse():
    request = pb.ModelInferRequest()
    request.inputs.add(name="price", datatype="FP64", shape=[1]).contents.fp64_contents.append(1.0)
    (tensor,) = tensors_of(request)
    assert (tensor.name, tensor.datatype) == ("price", "FP64")


def test_array_histograms_count_as_prometheus_does():
    """The oracle is prometheus_client's own Histogram, fed value by value."""
    from prometheus_client import Histogram

    registry, stock_registry = CollectorRegistry(), CollectorRegistry()
    edges = (0.001, 0.01, 0.1)
    ours = ArrayHistogram("h", "words", edges, ("model",))
    registry.register(ours)
    stock = Histogram("h", "words", ["model"], buckets=edges, registry=stock_registry)
    values = np.array([0.0, 0.001, 0.0011, 0.01, 0.5, 0.1])
    for part in (values[:2], values[2:]):
        ours.observe(part, "m")
    for value in values:
        stock.labels("m").observe(value)
    for name in ("h_bucket", "h_count", "h_sum"):
        for le in ("0.001", "0.01", "0.1", "+Inf") if name == "h_bucket" else (None,):
            labels = {"model": "m"} | ({"le": le} if le else {})
            assert registry.get_sample_value(name, labels) == pytest.approx(
                stock_registry.get_sample_value(name, labels)
            )


def test_array_histograms_keep_the_last_three_bundles_only():
    registry = CollectorRegistry()
    ours = ArrayHistogram("h", "words", (0.1,), ("bundle",))
    registry.register(ours)
    for bundle in ("a", "b", "c", "a", "d"):
        ours.observe(np.array([0.05]), bundle)
    counts = {b: registry.get_sample_value("h_count", {"bundle": b}) for b in "abcd"}
    assert counts == {"a": 2, "b": None, "c": 1, "d": 1}


def test_serving_an_empty_store_needs_a_name(tmp_path: Path):
    with pytest.raises(UsageError, match="give --model-name, or deploy a bundle first"):
        serve(tmp_path, http_port=0, grpc_port=0)
