"""Whatever is sent, in whatever protocol: an answer or a refusal that says why, no 5xx, and the endpoint answers on as before."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tensorflow.core.framework import types_pb2
from tensorflow_serving.apis import classification_pb2, predict_pb2

from serving.kserve_parts import pb
from serving.refusals import details_of, metadata_of, refusal_of
from serving.tf_protocol import TfProtocol
from tests.serving import rubbish
from tests.serving.small_bundle import CONTRACT, GOOD_ROW, pctr_of
from tests.serving.test_front import JSON, V1, V2, Edge

RANK = "/v1/models/small:rank"
# the same at each run; the tests over sockets draw anew
MANY = settings(max_examples=200, derandomize=True, suppress_health_check=list(HealthCheck))


class Door:
    """The application on one event loop: a request in, status and body out, in a fraction of a millisecond."""

    def __init__(self, edge: Edge) -> None:
        self.edge, self.loop = edge, asyncio.new_event_loop()

    def post(
        self, path: str, body: bytes, headers: dict[str, str] = JSON, query: bytes = b""
    ) -> tuple[int, bytes]:
        return self.loop.run_until_complete(self._post(path, body, headers, query))

    async def _post(self, path: str, body: bytes, headers: dict[str, str], query: bytes) -> tuple[int, bytes]:
        sent: list[Any] = []
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "POST",
            "path": path,
            "raw_path": path.encode(),
            "root_path": "",
            "scheme": "http",
            "query_string": query,
            "headers": [(k.lower().encode(), v.encode("utf-8", "replace")) for k, v in headers.items()],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 80),
        }
        messages = iter([{"type": "http.request", "body": body, "more_body": False}])

        async def receive() -> Any:
            return next(messages, {"type": "http.disconnect"})

        async def send(message: Any) -> None:
            sent.append(message)

        await self.edge.front(scope, receive, send)
        text = b"".join(message.get("body", b"") for message in sent)
        return sent[0]["status"], text

    def holds(self, path: str, body: bytes, headers: dict[str, str] = JSON, query: bytes = b"") -> int:
        status, text = self.post(path, body, headers, query)
        assert status in (200, 400, 404, 413, 415), (status, text[:500])
        if status != 200:
            told = orjson.loads(text)
            assert told["error"], told
            assert told["reason"]
        return status


@pytest.fixture(scope="module")
def door(small_scorer: Any) -> Iterator[Door]:
    door = Door(Edge(small_scorer))
    yield door
    status, text = door.post(V1, orjson.dumps({"instances": [GOOD_ROW]}))
    assert status == 200
    assert orjson.loads(text)["predictions"][0]["pctr"] == pytest.approx(pctr_of(GOOD_ROW), abs=1e-6)
    assert door.edge.metric('clickmill_requests_in_flight{model_name="small"}') == 0
    door.loop.close()


@pytest.mark.parametrize(
    ("path", "bodies"),
    [
        (V1, rubbish.v1_bodies(CONTRACT)),
        (RANK, rubbish.rank_bodies(CONTRACT)),
        (V2, rubbish.v2_bodies(CONTRACT)),
    ],
    ids=["v1", "rank", "v2"],
)
def test_no_body_of_json_brings_the_endpoint_down(door, path, bodies):
    seen = set()

    @MANY
    @given(body=bodies)
    def holds(body: bytes) -> None:
        seen.add(door.holds(path, body, query=b"explain=1"))

    holds()
    assert {200, 400} <= seen, "the bodies were all alike"


def test_no_lie_about_buffers_brings_the_endpoint_down(door):
    seen = set()

    @MANY
    @given(binary=rubbish.v2_binaries(CONTRACT))
    def holds(binary: tuple[bytes, str]) -> None:
        body, length = binary
        headers = {"content-type": "application/octet-stream", "inference-header-content-length": length}
        seen.add(door.holds(V2, body, headers))

    holds()
    assert {200, 400} <= seen


@MANY
@given(
    body=rubbish.v1_bodies(CONTRACT),
    structured=st.booleans(),
    version=st.sampled_from(["1.0", "0.3", "", "x"]),
    kind=st.sampled_from(
        ["application/json", "application/cloudevents+json", "text/plain", "application/avro"]
    ),
)
def test_no_cloud_event_brings_the_endpoint_down(door, body, structured, version, kind):
    event = {"ce-specversion": version, "ce-id": "1", "ce-source": "test", "ce-type": "ad.request"}
    headers = (
        {"content-type": "application/cloudevents+json"} if structured else {"content-type": kind, **event}
    )
    if structured:
        body = b'{"specversion": "1.0", "id": "1", "source": "s", "type": "t", "data": ' + body + b"}"
    door.holds(V1, body, headers)


@MANY
@given(
    path=st.sampled_from([V1, V2, RANK, "/v1/models/small:explain", "/v2/models/x/infer", "/v2/models/small/versions/٣/infer"]),
    headers=st.dictionaries(
        st.sampled_from(
            ["content-type", "x-request-timeout-ms", "x-request-id", "x-clickmill-on-failure", "traceparent",
             "inference-header-content-length", "expect", "accept-encoding"]
        ),
        st.sampled_from(["application/json", "100-continue", "fallback", "99999", "-1", "", "\x7f"]) | st.text(max_size=9),
    ),
    query=st.binary(max_size=12),
)  # fmt: skip
def test_no_header_or_query_brings_the_endpoint_down(door, path, headers, query):
    headers.setdefault("content-type", "application/json")
    status, text = door.post(path, b'{"instances": [{"ad_id": "a1"}]}', headers, query)
    # a legal time of a few milliseconds may be over before it is scored
    assert status in (200, 400, 404, 405, 413, 415) or (
        status == 504 and headers["x-request-timeout-ms"].isdigit()
    ), text


def survives(ask: Callable[[], Any]) -> str:
    """The status a gRPC caller would see."""
    refused: Exception | None = None
    try:
        ask()
    except Exception as error:  # noqa: BLE001 - the edge catches all; what matters is what it makes of it
        refused = error
    if refused is None:
        return "OK"
    status = refusal_of(refused).grpc
    assert status in ("INVALID_ARGUMENT", "RESOURCE_EXHAUSTED", "NOT_FOUND", "FAILED_PRECONDITION"), refused
    assert len(details_of(refused).encode()) + sum(len(k) + len(v) for k, v in metadata_of(refused)) < 4096
    return status


sides = st.integers(-2, 4) | st.sampled_from([2**40, -(2**63), 2**63 - 1, 300])
FEW_BYTES = st.binary(max_size=24)


@st.composite
def infer_requests(draw: Any) -> Any:
    request = pb.ModelInferRequest(model_name="small", id=draw(st.sampled_from(["", "r"])))
    raw = draw(st.booleans())
    for _ in range(draw(st.integers(0, 3))):
        item = request.inputs.add(
            name=draw(st.sampled_from([*CONTRACT.columns, "x", "ü" * 3000])),
            datatype=draw(st.sampled_from(["BYTES", "INT64", "FP32", "BOOL", "FP16", ""])),
            shape=draw(st.lists(sides, max_size=3)),
        )
        if raw:
            request.raw_input_contents.append(draw(FEW_BYTES | st.just(b"\x02\x00\x00\x00a1")))
        else:
            item.contents.bytes_contents.extend(draw(st.lists(st.sampled_from([b"a1", b"\xff"]), max_size=3)))
            item.contents.int64_contents.extend(draw(st.lists(st.integers(-(2**63), 2**63 - 1), max_size=3)))
            item.contents.fp32_contents.extend(draw(st.lists(st.floats(width=32), max_size=3)))
    if draw(st.booleans()):
        request.inputs.add(name="ad_id", datatype="BYTES", shape=[1]).contents.bytes_contents.append(b"a1")
    if draw(st.integers(0, 4)) == 0:
        request.outputs.add(name=draw(st.sampled_from(["pctr", "ctr", ""])))
    return request


def test_no_v2_message_brings_the_endpoint_down(door):
    model = door.edge.model
    seen = set()

    @MANY
    @given(request=infer_requests())
    def holds(request: Any) -> None:
        seen.add(survives(lambda: model.answer(model.ask_grpc(request)).SerializeToString()))

    holds()
    assert {"OK", "INVALID_ARGUMENT"} <= seen


@st.composite
def predict_requests(draw: Any) -> bytes:
    request = predict_pb2.PredictRequest()
    request.model_spec.name = draw(st.sampled_from(["small"] * 5 + ["other"]))
    if draw(st.integers(0, 5)) == 0:
        request.model_spec.signature_name = draw(st.sampled_from(["classify", "x", "ranking"]))
    for _ in range(draw(st.integers(0, 3))):
        proto = request.inputs[draw(st.sampled_from([*CONTRACT.columns, "x"]))]
        proto.dtype = draw(st.sampled_from([types_pb2.DT_STRING, types_pb2.DT_INT64, types_pb2.DT_FLOAT, types_pb2.DT_BOOL, types_pb2.DT_VARIANT]))  # fmt: skip
        for side in draw(st.lists(sides, max_size=3)):
            proto.tensor_shape.dim.add(size=side)
        proto.tensor_shape.unknown_rank = draw(st.booleans())
        proto.tensor_content = draw(st.just(b"") | FEW_BYTES)
        proto.string_val.extend(draw(st.lists(st.sampled_from([b"a1", b"\xff"]), max_size=3)))
        proto.int64_val.extend(draw(st.lists(st.integers(-(2**63), 2**63 - 1), max_size=3)))
        proto.float_val.extend(draw(st.lists(st.floats(width=32), max_size=3)))
        proto.bool_val.extend(draw(st.lists(st.booleans(), max_size=3)))
    if draw(st.booleans()):
        request.inputs["ad_id"].Clear()
        request.inputs["ad_id"].dtype = types_pb2.DT_STRING
        request.inputs["ad_id"].tensor_shape.dim.add(size=draw(st.integers(1, 3)))
        request.inputs["ad_id"].string_val.append(b"a1")
    request.output_filter.extend(draw(st.lists(st.sampled_from(["pctr", "x"]), max_size=2)))
    return request.SerializeToString()


@st.composite
def classification_requests(draw: Any) -> bytes:
    request = classification_pb2.ClassificationRequest()
    request.model_spec.name = "small"
    request.model_spec.signature_name = draw(st.sampled_from(["classify"] * 5 + ["regress", ""]))
    for _ in range(draw(st.integers(0, 2))):
        with_context = draw(st.booleans())
        source = request.input.example_list_with_context if with_context else request.input.example_list
        example = source.examples.add().features.feature
        example["ad_id"].bytes_list.value.append(b"a1")
        for _ in range(draw(st.integers(0, 3))):
            feature = example[draw(st.sampled_from([*CONTRACT.columns, "x"]))]
            kind = draw(st.sampled_from(["bytes_list", "int64_list", "float_list"]))
            some = {"bytes_list": st.sampled_from([b"a", b"\xff"]), "int64_list": st.integers(-(2**63), 2**63 - 1), "float_list": st.floats(width=32)}  # fmt: skip
            getattr(feature, kind).value.extend(draw(st.lists(some[kind], max_size=3)))
    return request.SerializeToString()


@pytest.mark.parametrize(
    ("method", "messages"),
    [
        ("ask_predict", predict_requests()),
        ("ask_classify", classification_requests()),
        ("ask_regress", classification_requests()),
    ],
)
def test_no_message_of_tf_serving_brings_the_endpoint_down(door, method, messages):
    model = door.edge.model
    ask = getattr(TfProtocol(model), method)
    seen = set()

    @MANY
    @given(data=rubbish.mangled(messages) | FEW_BYTES)
    def holds(data: bytes) -> None:
        seen.add(survives(lambda: model.answer(ask(data))))

    holds()
    assert {"OK", "INVALID_ARGUMENT"} <= seen or method == "ask_regress"


def test_of_two_equal_keys_the_last_one_counts(door):
    """RFC 8259 leaves it open; it is what every parser on the way is likely to do, and costs nothing."""
    status, text = door.post(V1, b'{"instances": [{"ad_id": "a2", "ad_id": "a1"}]}')
    assert status == 200
    found = orjson.loads(text)["predictions"][0]["pctr"]
    assert found == pytest.approx(pctr_of({"ad_id": "a1"}), abs=1e-6)
    assert not math.isclose(found, pctr_of({"ad_id": "a2"}), abs_tol=1e-3)
    assert np.isfinite(found)
