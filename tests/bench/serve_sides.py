"""Who is measured: our endpoint and a stock kserve.Model over one SavedModel, by every protocol, and the calls without a server."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from serve_bundle import NAME, of_one_request, raw_rows

from clickmill.bundle import Bundle
from clickmill.features.sides import by_rows, shared_fields
from serving.load import Address, Answer, Load, Prepared, Speech, closed_loop, open_loop, prepare
from serving.load.http import header
from serving.process import Endpoint, running_server

STOCK = """
import json, sys
options = json.loads(sys.argv[1])
sys.argv = sys.argv[:1]
import kserve, numpy as np, tensorflow as tf
from kserve import InferOutput, InferRequest, InferResponse

class Stock(kserve.Model):
    def load(self):
        self.graph = tf.saved_model.load(options["path"] + "/model/1").signatures["serving_default"]
        self.ready = True

    def predict(self, payload, headers=None):
        if isinstance(payload, InferRequest):
            answers = self.graph(**{item.name: tf.constant(item.as_numpy()) for item in payload.inputs})
            outputs = []
            for name in ("pctr", "logit"):
                values = answers[name].numpy()
                outputs.append(InferOutput(name, list(values.shape), "FP32"))
                outputs[-1].set_data_from_numpy(values, binary_data=True)
            return InferResponse(
                payload.id or "0", self.name, outputs,
                requested_outputs=payload.request_outputs, use_binary_outputs=payload.use_binary_outputs,
            )
        rows = payload["instances"]
        answers = self.graph(**{name: tf.constant([row[name] for row in rows]) for name in rows[0]})
        pairs = zip(answers["pctr"].numpy().tolist(), answers["logit"].numpy().tolist())
        return {"predictions": [{"pctr": p, "logit": z} for p, z in pairs]}

model = Stock("bench")
model.load()
kserve.ModelServer(http_port=options["http_port"], enable_grpc=False, enable_latency_logging=False).start([model])
"""

SPOKEN: dict[str, tuple[Speech, bool]] = {
    "V1 JSON": (Speech.V1, True),
    "V2 binary": (Speech.V2, True),
    "V2 gRPC": (Speech.GRPC, False),
    "TF Predict": (Speech.TF, False),
}
"""By the name in the table: how it is put, and whether the stock server is asked so."""


@dataclass(frozen=True)
class Side:
    """One way to an endpoint."""

    name: str
    address: Address
    prepared: Prepared
    pid: int

    def closed(self, seconds: float, clients: int = 1) -> Load:
        """Clients without pause. Raises RuntimeError when an answer is no good one."""
        return _good(
            self.name,
            closed_loop(
                self.address, self.prepared.dial, self.prepared.requests, clients=clients, seconds=seconds
            ),
        )

    def open(
        self,
        due: np.ndarray,
        on_answer: Callable[[int, Answer], None] | None = None,
        enough: Callable[[], bool] | None = None,
    ) -> Load:
        """Requests at their times; those that are turned away are told by the load."""
        return open_loop(
            self.address,
            self.prepared.dial,
            self.prepared.requests,
            due,
            connections=128,
            on_answer=on_answer,
            enough=enough,
        )

    def first_logit(self) -> float:
        """Of the first row of the first request: sides that do not agree are not compared."""
        found: list[Answer] = []
        due = np.zeros(1)
        one = Prepared(self.prepared.dial, self.prepared.requests[:1], self.prepared.over_grpc)
        load = Side(self.name, self.address, one, self.pid).open(due, lambda _, answer: found.append(answer))
        _good(self.name, load)
        return _logit(self.name, found[0])


def _good(name: str, load: Load) -> Load:
    if not load.ok.all():
        raise RuntimeError(f"{name}: {int((~load.ok).sum())} of {len(load.ok)} failed: {load.first_errors}")
    return load


def _logit(name: str, answer: Answer) -> float:
    body = answer.body
    if "V1" in name:
        return float(orjson.loads(body)["predictions"][0]["logit"])
    if "TF" in name:
        import tensorflow as tf
        from tensorflow_serving.apis import predict_pb2

        return float(tf.make_ndarray(predict_pb2.PredictResponse.FromString(body).outputs["logit"])[0])
    if "gRPC" in name:
        from serving.kserve_parts import pb

        return float(
            np.frombuffer(pb.ModelInferResponse.FromString(body).raw_output_contents[1], np.float32)[0]
        )
    values = np.frombuffer(body[int(header(answer.head, "inference-header-content-length")) :], np.float32)
    return float(values[len(values) // 2])


def endpoint_sides(bundle: Bundle, ours: Endpoint, stock: Endpoint | None, n: int) -> dict[str, Side]:
    """Every way to either server with n candidates a request."""
    raw = raw_rows(n)
    found = {}
    for spoken, (speech, by_stock) in SPOKEN.items():
        prepared = prepare(raw, bundle.contract, speech, n, model_name=NAME)
        for side, endpoint in (("ours", ours), ("stock", stock if by_stock else None)):
            if endpoint is not None:
                name = f"{side} {spoken}"
                found[name] = Side(name, address_of(endpoint, prepared), prepared, endpoint.process.pid)
    return found


def ranking_side(bundle: Bundle, ours: Endpoint, n: int) -> Side:
    """`:rank`: one user and n candidates."""
    prepared = prepare(raw_rows(n), bundle.contract, Speech.RANK, n, model_name=NAME)
    return Side("ours :rank", address_of(ours, prepared), prepared, ours.process.pid)


def address_of(endpoint: Endpoint, prepared: Prepared) -> Address:
    """Host and port of the protocol's side."""
    text = endpoint.grpc_target if prepared.over_grpc else endpoint.url.removeprefix("http://")
    host, port = text.rsplit(":", 1)
    return host, int(port)


Call = Callable[[], Any]


def in_process(bundle: Bundle, n: int) -> dict[str, Call]:
    """The calls without a server, on ready arrays: what no endpoint can beat by much. n rows each."""
    raw = raw_rows(n)
    return {
        "in-process TensorFlow": partial(bundle.graph, raw),
        "in-process ONNX twin": partial(bundle.twin, raw),
    }


def repeated_rows(bundle: Bundle, n: int) -> Call:
    """In-process on one user's rows repeated for n candidates, as whoever has no ranker would."""
    shared = shared_fields(bundle.contract)
    raw = by_rows(of_one_request(raw_rows(n), shared), shared, n)
    return partial(bundle.predict, raw)


@contextlib.contextmanager
def on_core(core: int | None) -> Iterator[None]:
    """Child processes started meanwhile run on this core only, as does the caller; None leaves all as it is."""
    if core is None:
        yield
        return
    former = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, former)


@contextlib.contextmanager
def stock_server(path: Path) -> Iterator[Endpoint]:
    """A plain kserve.ModelServer over the bundle's SavedModel, started and not waited for."""
    with running_server(path, model_name=NAME, python=STOCK, wait=False) as endpoint:
        yield endpoint
