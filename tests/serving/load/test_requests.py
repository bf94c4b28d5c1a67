"""Prepared requests, read by the endpoint's own decoders: the rows come out as they went in, in every protocol."""

from __future__ import annotations

import numpy as np
import orjson
import pytest

from clickmill.auction import AuctionRules
from clickmill.features.raw import take
from clickmill.features.sides import shared_fields
from clickmill.features.tensors import from_rows
from serving import ranking, tensors, v2, v2_grpc
from serving.limits import Limits
from serving.load import Speech, prepare
from tests.serving.small_bundle import CONTRACT, raw_rows

RAW = raw_rows(64, seed=3)


def first(speech: Speech, candidates: int) -> tuple[dict[str, str], bytes]:
    """Headers and body of the first request."""
    head, _, body = (
        prepare(RAW, CONTRACT, speech, candidates, model_name="small").requests[0].partition(b"\r\n\r\n")
    )
    lines = head.decode().split("\r\n")
    fields = dict(line.split(": ", 1) for line in lines[1:])
    assert int(fields["content-length"]) == len(body)
    return {"": lines[0], **fields}, body


def same(found: dict[str, np.ndarray], rows: int) -> None:
    """Every field as it was, lists without their padding."""
    for name, values in take(RAW, slice(0, rows)).items():
        if values.ndim == 2:
            pad = b"" if values.dtype == object else np.iinfo(np.int64).min
            trimmed = [[[v for v in row if v != pad] for row in a.tolist()] for a in (found[name], values)]
            assert trimmed[0] == trimmed[1], name
        else:
            assert found[name].tolist() == values.tolist(), name


def test_v1_rows():
    head, body = first(Speech.V1, 5)
    assert head[""] == "POST /v1/models/small:predict HTTP/1.1"
    same(from_rows(orjson.loads(body)["instances"], CONTRACT), 5)


def test_v2_binary_tensors():
    head, body = first(Speech.V2, 5)
    assert head[""] == "POST /v2/models/small/infer HTTP/1.1"
    request = v2.parse(body, int(head["inference-header-content-length"]))
    raw, rows = tensors.to_raw(request.tensors, tensors.TensorForm.of(CONTRACT), Limits())
    assert rows == 5
    same(raw, 5)


def test_v2_over_grpc():
    from serving.kserve_parts import pb

    prepared = prepare(RAW, CONTRACT, Speech.GRPC, 5, model_name="small")
    message = pb.ModelInferRequest.FromString(prepared.requests[0])
    raw, _ = tensors.to_raw(v2_grpc.tensors_of(message), tensors.TensorForm.of(CONTRACT), Limits())
    assert (message.model_name, prepared.over_grpc) == ("small", True)
    same(raw, 5)


def test_predict_of_tensorflow_serving():
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2

    prepared = prepare(RAW, CONTRACT, Speech.TF, 5, model_name="small")
    request = predict_pb2.PredictRequest.FromString(prepared.requests[0])
    assert request.model_spec.name == "small"
    same({name: tf.make_ndarray(tensor) for name, tensor in request.inputs.items()}, 5)


def test_a_ranking_has_the_user_once_and_each_candidate_with_a_bid():
    head, body = first(Speech.RANK, 5)
    assert head[""] == "POST /v1/models/small:rank HTTP/1.1"
    form = ranking.RankingForm.of(CONTRACT)
    asked = ranking.parse(orjson.loads(body), form, Limits(), AuctionRules(slots=3))
    assert (asked.outline.bids > 0).all()
    assert len(asked.outline.bids) == 5
    for name in CONTRACT.inputs.keys() - {"position", "history", "categories"}:
        rows = 1 if name in shared_fields(CONTRACT) else 5
        assert asked.raw[name].tolist() == RAW[name][:rows].tolist(), name


@pytest.mark.parametrize(("candidates", "requests"), [(1, 64), (5, 12), (64, 1), (200, 1)])
def test_all_rows_are_used_and_repeat_where_there_are_too_few(candidates, requests):
    prepared = prepare(RAW, CONTRACT, Speech.V1, candidates, model_name="small")
    assert len(prepared.requests) == requests
    bodies = [orjson.loads(r.partition(b"\r\n\r\n")[2])["instances"] for r in prepared.requests]
    assert {len(rows) for rows in bodies} == {candidates}
    assert bodies[-1][0]["price"] == pytest.approx(float(RAW["price"][(requests - 1) * candidates % 64]))
