"""Prepared requests in every protocol the endpoint speaks, from raw rows: made before the clock starts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import orjson

from clickmill.bundle.export import SIGNATURE
from clickmill.contract import FeatureContract, Role
from clickmill.features.raw import Raw, length, take, to_arrow
from clickmill.features.sides import shared_fields
from serving.load.exchange import Exchange
from serving.load.grpc import GrpcExchange
from serving.load.http import HttpExchange, http_request
from serving.rows import json_rows


class Speech(StrEnum):
    """How a request is put."""

    V1 = "v1"  # REST, rows of JSON
    V2 = "v2"  # REST, binary tensors
    GRPC = "grpc"  # V2 over gRPC, raw tensors
    TF = "tf"  # TensorFlow Serving's Predict
    RANK = "rank"  # REST, one user and its candidates


METHODS = {
    Speech.GRPC: "/inference.GRPCInferenceService/ModelInfer",
    Speech.TF: "/tensorflow.serving.PredictionService/Predict",
}


@dataclass(frozen=True)
class Prepared:
    """What the generator needs to speak to an endpoint."""

    dial: Callable[[], Exchange]
    requests: list[bytes]
    over_grpc: bool
    """Which of the endpoint's ports."""


def prepare(
    raw: Mapping[str, np.ndarray],
    contract: FeatureContract,
    speech: Speech,
    candidates: int,
    *,
    model_name: str,
    most: int = 64,
) -> Prepared:
    """Requests of `candidates` rows each, from all of `raw` but at most `most` of them; rows repeat where there are too few."""
    rows = length(raw)
    count = max(1, min(most, rows // candidates))
    parts = [take(raw, (start * candidates + np.arange(candidates)) % rows) for start in range(count)]
    write = _WRITERS[speech]
    requests = [write(part, contract, model_name) for part in parts]
    method = METHODS.get(speech)
    if method is None:
        return Prepared(HttpExchange, requests, False)
    return Prepared(lambda: GrpcExchange(method), requests, True)


def _v1(raw: Raw, contract: FeatureContract, name: str) -> bytes:
    body = orjson.dumps({"instances": json_rows(to_arrow(raw, contract))})
    return http_request(f"/v1/models/{name}:predict", body)


def _v2(raw: Raw, contract: FeatureContract, name: str) -> bytes:
    from serving.client import tensor_body

    body, headers = tensor_body(raw, binary=True)
    return http_request(f"/v2/models/{name}/infer", body, headers)


def _grpc(raw: Raw, contract: FeatureContract, name: str) -> bytes:
    from serving.client import infer_request

    return bytes(infer_request(raw, name).SerializeToString())


def _tf(raw: Raw, contract: FeatureContract, name: str) -> bytes:
    from serving.tf_tensors import predict_request

    return bytes(predict_request(raw, model_name=name, signature=SIGNATURE).SerializeToString())


def _rank(raw: Raw, contract: FeatureContract, name: str) -> bytes:
    shared = shared_fields(contract)
    rows = json_rows(to_arrow(raw, contract))
    position, bid = contract.of_role(Role.POSITION), contract.of_role(Role.BID) or "bid"
    own = [key for key in contract.inputs if key not in shared and key != position]
    candidates: Sequence[dict[str, Any]] = [
        {bid: 1.0 + i % 7, **{key: row[key] for key in own if key in row}} for i, row in enumerate(rows)
    ]
    user = {key: value for key, value in rows[0].items() if key in shared}
    return http_request(f"/v1/models/{name}:rank", orjson.dumps({"user": user, "candidates": candidates}))


_WRITERS: dict[Speech, Callable[[Raw, FeatureContract, str], bytes]] = {
    Speech.V1: _v1,
    Speech.V2: _v2,
    Speech.GRPC: _grpc,
    Speech.TF: _tf,
    Speech.RANK: _rank,
}
