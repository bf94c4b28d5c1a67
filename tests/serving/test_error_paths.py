"""Every refusal says for programs where in the request the problem is, by the keys of the protocol it came by."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import orjson
import pytest
from prometheus_client import CollectorRegistry
from tensorflow_serving.apis import classification_pb2

from clickmill.auction import AuctionRules
from clickmill.bundle.warmup import predict_request
from clickmill.errors import RequestError
from serving import error_paths, ranking
from serving.client import infer_request
from serving.kserve_parts import pb
from serving.metrics import Metrics
from serving.predictor import BundleModel
from serving.refusals import MOST_WORDS, MalformedRequest, details_of, metadata_of
from serving.tensors import repeated
from serving.tf_protocol import TfProtocol
from serving.v2_grpc import tensors_of
from tests.serving.small_bundle import GOOD_ROW
from tests.serving.test_front import LIMITS


@pytest.fixture(scope="module")
def model(small_scorer: Any) -> BundleModel:
    model = BundleModel("small", limits=LIMITS, metrics=Metrics(CollectorRegistry()))
    model.swap(small_scorer, "1")
    return model


def refused(ask: Callable[[], Any]) -> RequestError:
    with pytest.raises(RequestError) as caught:
        ask()
    return caught.value


@pytest.mark.parametrize(
    ("body", "path", "field", "row"),
    [
        ({"instances": [GOOD_ROW, {**GOOD_ROW, "position": 0}]}, "instances[1].position", "position", 1),
        ({"instances": [{"ad_id": "a1", "history": ["x", 3]}]}, "instances[0].history[1]", "history", 0),
        ({"instances": [{"ad_id": "a1", "history": "x"}]}, "instances[0].history", "history", 0),
        ({"instances": [{}]}, "instances[0].ad_id", "ad_id", 0),
        ({"instances": [GOOD_ROW, {"no field": 1}]}, 'instances[1]["no field"]', "no field", 1),
        ({"instances": [{"ad_id": "a" * 65}]}, "instances[0].ad_id", "ad_id", 0),
        ({"instances": [GOOD_ROW] * 20 + [{"ad_id": 4}]}, "instances[20].ad_id", "ad_id", 20),
        ({"instances": [GOOD_ROW] * 301}, "instances", None, None),
        ({"instances": [3]}, "instances[0]", None, 0),
        ({"instances": [GOOD_ROW], "x": 1}, "x", None, None),
        ({"instances": []}, "instances", None, None),
    ],
)  # fmt: skip
def test_v1_names_the_instance_and_the_field(model, body, path, field, row):
    error = refused(lambda: model.ask_v1(orjson.dumps(body)))
    assert (error.path, error.field, error.row) == (path, field, row)


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"candidates": [{"ad_id": "a1", "bid": 1}, {"ad_id": "a1"}]}, "candidates[1].bid"),
        ({"candidates": [{"ad_id": "a1", "bid": 1}, {"ad_id": 3, "bid": 1}]}, "candidates[1].ad_id"),
        ({"candidates": [{"ad_id": "a1", "bid": 1, "user_id": "u"}]}, "candidates[0].user_id"),
        ({"candidates": [{"ad_id": "a1", "bid": 1, "categories": [1, "x"]}]}, "candidates[0].categories[1]"),
        ({"candidates": [{"ad_id": "a" * 65, "bid": 1}]}, "candidates[0].ad_id"),
        ({"candidates": [7]}, "candidates[0]"),
        ({"candidates": []}, "candidates"),
        ({"user": {"user_id": 3}}, "user.user_id"),
        ({"context": {"user_id": 3}}, "context.user_id"),
        ({"context": {"device": "tv"}}, "context.device"),
        ({"user": {"history": ["a", 3]}}, "user.history[1]"),
        ({"user": {"price": 3}}, "user.price"),
        ({"user": {"user_id": "a" * 65}}, "user.user_id"),
        ({"user": 3}, "user"),
        ({"slots": 0}, "slots"),
        ({"request_id": 3}, "request_id"),
    ],
)
def test_a_ranking_names_the_part_or_the_candidate(model, changes, path):
    body = {"candidates": [{"ad_id": "a1", "bid": 1}]} | changes
    form = model.in_service.ranking_form
    assert refused(lambda: ranking.parse(body, form, LIMITS, AuctionRules())).path == path


AD = {"name": "ad_id", "datatype": "BYTES", "shape": [2], "data": ["a1", "a2"]}


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({"inputs": [AD, {"name": "position", "datatype": "INT64", "shape": [2], "data": [1, 0]}]}, "inputs[1].data[1]"),
        ({"inputs": [AD, {"name": "position", "datatype": "INT64", "shape": [2], "data": [1, "x"]}]}, "inputs[1].data[1]"),
        ({"inputs": [AD, {"name": "price", "datatype": "INT64", "shape": [2], "data": [1, 1]}]}, "inputs[1]"),
        ({"inputs": [AD, AD]}, "inputs[1]"),
        ({"inputs": [AD, {"name": "x"}]}, "inputs[1]"),
        ({"inputs": []}, "inputs"),
        ({"inputs": [{"name": "price", "datatype": "FP32", "shape": [1], "data": [1]}]}, "inputs"),
        ({"inputs": [AD], "outputs": [{"name": "x"}]}, "outputs"),
        ({"inputs": [AD], "id": 3}, "id"),
    ],
)  # fmt: skip
def test_v2_names_the_tensor_and_the_row(model, body, path):
    assert refused(lambda: model.ask_v2(orjson.dumps(body), None)).path == path


RAW = {"ad_id": np.array([b"a1", b"a2"], object), "position": np.array([1, 0])}


def test_grpc_names_the_tensor_and_the_row_of_its_messages(model):
    assert refused(lambda: model.ask_grpc(infer_request(RAW, "small"))).path == "inputs[1][1]"
    tensorflow = TfProtocol(model)
    message = predict_request(RAW, model_name="small").SerializeToString()
    assert refused(lambda: tensorflow.ask_predict(message)).path == 'inputs["position"][1]'
    request = classification_pb2.ClassificationRequest()
    request.model_spec.name, request.model_spec.signature_name = "small", "classify"
    for price in (1.0, 5000.0):
        example = request.input.example_list.examples.add().features.feature
        example["ad_id"].bytes_list.value.append(b"a1")
        example["price"].float_list.value.append(price)
    found = refused(lambda: tensorflow.ask_classify(request.SerializeToString()))
    assert found.path == 'input.example_list.examples[1].features.feature["price"]'


def test_a_name_that_stands_twice_is_found_in_one_pass():
    """By counting each name it took a minute of the processor for one message of 4 MiB."""
    names = [str(number) for number in range(400_000)]
    assert repeated([*names, "7"]) == "7"
    request = pb.ModelInferRequest(model_name="small")
    for name in names[:10_001]:
        request.inputs.add(name=name)
    with pytest.raises(MalformedRequest, match="10,001 inputs"):
        tensors_of(request)


def test_the_head_of_a_grpc_answer_stays_small_and_ascii_whatever_was_sent():
    name = "ü\n" * 3_000_000
    error = MalformedRequest(
        f"field `{name}`", field=name, row=2, path=f"instances[2]{error_paths.step(name)}"
    )
    assert len(details_of(error).encode()) <= MOST_WORDS
    told = dict(metadata_of(error))
    assert (told["x-clickmill-reason"], told["x-clickmill-row"]) == ("malformed", "2")
    for value in told.values():
        assert len(value) < 1000
        assert value.isascii()
        assert value.isprintable()
