"""The endpoint as a process on loopback: every protocol, bad input over real sockets, reloads under load, drain."""

from __future__ import annotations

import http.client
import json
import shlex
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pyarrow as pa
import pytest
from tensorflow_serving.apis import (
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from clickmill.bundle import Store
from clickmill.bundle.warmup import predict_request
from clickmill.errors import BundleCorrupt, RequestError, RequestTooLarge, UsageError
from serving.client import Client, GrpcClient, RetryPolicy, tensor_body
from serving.client.tensorflow import PredictionClient
from serving.kserve_parts import pb, pb_grpc
from serving.ports import listen
from serving.process import Endpoint, running_server
from serving.refusals import UnknownModel
from serving.server import serve
from serving.traffic import replay
from tests.serving.small_bundle import BIASES, CONTRACT, GOOD_ROW, logit_of, pctr_of, write_small_bundle
from tests.waiting import until

pytestmark = pytest.mark.integration

JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def endpoint(store: Store) -> Iterator[Endpoint]:
    """One server for the module. Before it is ready it must have been live and honest about not being ready."""
    with running_server(store.root, model_name="small", wait=False, watch_seconds=0.2) as endpoint:
        seen = set()
        while not seen or ("refused" in seen and len(seen) == 1):
            assert endpoint.process.poll() is None, endpoint.log
            try:
                live = httpx.get(f"{endpoint.url}/v2/health/live").status_code
                seen.add((live, httpx.get(f"{endpoint.url}/v2/health/ready").status_code))
            except httpx.ConnectError:
                seen.add("refused")
            time.sleep(0.02)
        assert (200, 503) in seen, "the server should be live before its bundle is warm"
        endpoint.wait_until_ready()
        yield endpoint


@pytest.fixture
def client(endpoint: Endpoint) -> Iterator[Client]:
    with Client(endpoint.url, model_name="small") as client:
        yield client


@pytest.fixture
def stub(endpoint: Endpoint) -> Iterator[Any]:
    with grpc.insecure_channel(endpoint.grpc_target) as channel:
        yield pb_grpc.GRPCInferenceServiceStub(channel)


def test_the_startup_lines_hold_a_curl_command_that_works(endpoint):
    lines = endpoint.log.splitlines()
    assert any(line.startswith("small is ready: version 1, digest ") for line in lines), endpoint.log
    command = next(line.strip() for line in lines if line.strip().startswith("curl "))
    arguments = shlex.split(command)
    row = json.loads(arguments[arguments.index("-d") + 1])["instances"][0]
    if shutil.which("curl") is None:
        pytest.skip("no curl on this machine")
    answer = subprocess.run(arguments, capture_output=True, check=True, timeout=20).stdout
    assert json.loads(answer)["predictions"][0]["pctr"] == pytest.approx(pctr_of(row), abs=1e-6)


def test_all_protocols_give_the_formula_and_name_the_bundle(endpoint, client, store):
    row = {key: value for key, value in GOOD_ROW.items() if key not in ("history", "categories")}
    tensors = {
        name: np.array([value.encode()], object) if isinstance(value, str)
        else np.array([value], np.float32) if isinstance(value, float)
        else np.array([value])
        for name, value in row.items()
    }  # fmt: skip
    with (
        GrpcClient(endpoint.grpc_target, model_name="small") as rpc,
        PredictionClient(endpoint.grpc_target, model_name="small", contract=CONTRACT) as tf_client,
    ):
        assert rpc.ready()
        assert tf_client.ready()
        answers = [
            client.predict([row]),
            client.predict_tensors(tensors, binary=False),
            client.predict_tensors(tensors, binary=True),
            rpc.predict_tensors(tensors),
            tf_client.predict([row]),
            tf_client.predict_tensors(tensors, version=1),
        ]
        for pctr in (tf_client.classify([row]), tf_client.regress([row])):
            assert pctr.tolist() == pytest.approx([pctr_of(row)], abs=1e-6)
        assert set(tf_client.signatures()) == {"serving_default", "classify", "regress", "ranking"}
        with pytest.raises(RequestError, match="field `ad_id`: is required"):
            tf_client.predict([{"price": 1.0}])
        with pytest.raises(UnknownModel, match="serves version 1 now, not 7"):
            tf_client.predict([row], version=7)
    digest = store.verified(1).digest
    for answer in answers:
        assert answer.logit.tolist() == pytest.approx([logit_of(row)], abs=1e-5)
        assert answer.pctr.tolist() == pytest.approx([pctr_of(row)], abs=1e-6)
        assert (answer.version, answer.digest) == ("1", digest)


def test_the_metadata_of_both_protocols_is_the_contract(client, stub):
    rest = client.metadata()
    rpc = stub.ModelMetadata(pb.ModelMetadataRequest(name="small"))
    expected = [
        ("user_id", "BYTES", [-1]),
        ("ad_id", "BYTES", [-1]),
        ("price", "FP32", [-1]),
        ("device", "BYTES", [-1]),
    ]
    assert [(i["name"], i["datatype"], i["shape"]) for i in rest["inputs"]][:4] == expected
    assert [(i.name, i.datatype, list(i.shape)) for i in rpc.inputs][:4] == expected
    assert [o.name for o in rpc.outputs] == ["pctr", "logit"]
    assert stub.ServerLive(pb.ServerLiveRequest()).live
    assert stub.ServerReady(pb.ServerReadyRequest()).ready


def ad_request(**changes: Any) -> pb.ModelInferRequest:
    request = pb.ModelInferRequest(model_name="small", id="r1")
    item = request.inputs.add(name="ad_id", datatype="BYTES", shape=[1])
    item.contents.bytes_contents.append(b"a1")
    for name, value in changes.items():
        setattr(request, name, value)
    return request


def test_typed_grpc_contents_come_back_typed(stub):
    answer = stub.ModelInfer(ad_request())
    assert (answer.id, answer.model_name, answer.model_version) == ("r1", "small", "1")
    assert answer.outputs[0].contents.fp32_contents[0] == pytest.approx(pctr_of({"ad_id": "a1"}), abs=1e-6)
    assert not answer.raw_output_contents


def test_grpc_refuses_with_the_status_of_the_problem_and_goes_on(stub):
    unknown = ad_request()
    unknown.inputs.add(name="x", datatype="FP32", shape=[1])
    position = ad_request()
    position.inputs.add(name="position", datatype="INT64", shape=[1]).contents.int64_contents.append(21)
    mixed = ad_request()
    mixed.raw_input_contents.append(b"x")
    large = ad_request()
    large.inputs[0].contents.bytes_contents[0] = b"x" * 5_000_000
    status = grpc.StatusCode
    cases = [
        (stub.ModelInfer, ad_request(model_name="other"), status.NOT_FOUND, "no model `other` here"),
        (stub.ModelInfer, ad_request(model_version="9"), status.NOT_FOUND, "serves version 1 now, not 9"),
        (
            stub.ModelInfer,
            pb.ModelInferRequest(model_name="small"),
            status.INVALID_ARGUMENT,
            "`inputs` is empty",
        ),
        (stub.ModelInfer, unknown, status.INVALID_ARGUMENT, "field `x` is unknown"),
        (
            stub.ModelInfer,
            position,
            status.INVALID_ARGUMENT,
            "row 0, field `position`: must lie in 1 to 20; got 21",
        ),
        (stub.ModelInfer, mixed, status.INVALID_ARGUMENT, "contents beside raw_input_contents"),
        (stub.ModelInfer, large, status.RESOURCE_EXHAUSTED, "larger than max"),
        (stub.ModelMetadata, pb.ModelMetadataRequest(name="other"), status.NOT_FOUND, "other"),
        (
            stub.RepositoryModelUnload,
            pb.RepositoryModelUnloadRequest(model_name="small"),
            status.UNIMPLEMENTED,
            "deploy",
        ),
    ]
    for call, request, code, words in cases:
        with pytest.raises(grpc.RpcError) as caught:
            call(request)
        assert (caught.value.code(), words in caught.value.details()) == (code, True), caught.value.details()
        assert stub.ModelInfer(ad_request()).model_version == "1"


def test_tf_serving_calls_are_refused_with_its_status_and_it_goes_on(endpoint):
    raw = {"ad_id": np.array([b"a1"], object)}

    def predict(**changes: Any) -> predict_pb2.PredictRequest:
        request = predict_request(raw, model_name=changes.pop("model_name", "small"))
        for name, value in changes.items():
            setattr(request.model_spec, name, value)
        return request

    wrong = predict()
    wrong.inputs["price"].dtype = 2
    wrong.inputs["price"].tensor_shape.dim.add(size=1)
    management = model_management_pb2.ReloadConfigRequest()
    status = grpc.StatusCode
    with grpc.insecure_channel(endpoint.grpc_target) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        model = model_service_pb2_grpc.ModelServiceStub(channel)
        cases = [
            (stub.Predict, predict(model_name="other"), status.NOT_FOUND, "no model `other` here"),
            (stub.Predict, predict(version_label="stable"), status.INVALID_ARGUMENT, "has no labels"),
            (stub.Predict, predict(signature_name="x"), status.FAILED_PRECONDITION, "not `x`"),
            (stub.Predict, wrong, status.INVALID_ARGUMENT, "datatype must be DT_FLOAT"),
            (
                stub.MultiInference,
                inference_pb2.MultiInferenceRequest(),
                status.UNIMPLEMENTED,
                "call Classify and Regress",
            ),
            (model.HandleReloadConfigRequest, management, status.UNIMPLEMENTED, "deploy a bundle there"),
        ]
        for call, request, code, words in cases:
            with pytest.raises(grpc.RpcError) as caught:
                call(request)
            found = caught.value
            assert (found.code(), words in found.details()) == (code, True), found.details()
            assert stub.Predict(predict()).model_spec.version.value == 1
        request = get_model_status_pb2.GetModelStatusRequest()
        request.model_spec.name = "small"
        (only,) = model.GetModelStatus(request).model_version_status
        assert (only.version, only.state) == (1, get_model_status_pb2.ModelVersionStatus.AVAILABLE)
    metrics = httpx.get(f"{endpoint.url}/metrics").text
    assert (
        'clickmill_requests_rejected_total{model_name="small",protocol="tf",reason="unknown_signature"} 1.0'
        in metrics
    )


def memory_mib(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * 4096 / 2**20


def test_an_oversized_body_is_refused_without_being_held(endpoint, client):
    before = memory_mib(endpoint.process.pid)

    def body() -> Iterator[bytes]:
        for _ in range(60):
            yield b" " * 2**20

    answer = httpx.post(f"{endpoint.url}/v1/models/small:predict", content=body(), headers=JSON, timeout=30)
    assert (answer.status_code, answer.json()["reason"]) == (413, "too_large")
    assert memory_mib(endpoint.process.pid) - before < 40
    with pytest.raises(RequestTooLarge, match="the body exceeds 4,194,304 bytes"):
        client.predict([{"ad_id": "a" * 5_000_000}])
    assert client.predict([GOOD_ROW]).version == "1"


def test_a_head_without_end_is_refused_without_being_held(endpoint, client):
    host, port = endpoint.url.removeprefix("http://").split(":")
    before = memory_mib(endpoint.process.pid)
    received = b""
    with socket.create_connection((host, int(port)), timeout=10) as raw:
        raw.sendall(b"GET / HTTP/1.1\r\nX-Endless: ")
        try:
            for _ in range(500):
                raw.sendall(b"x" * 100_000)
        except OSError:
            pass  # the server has hung up, as it should
        else:
            received = raw.recv(65536)
    assert not received.startswith(b"HTTP/1.1 200")
    assert memory_mib(endpoint.process.pid) - before < 20
    assert client.predict([GOOD_ROW]).version == "1"


def test_many_requests_on_one_connection_do_not_add_up_to_a_large_head(endpoint):
    host, port = endpoint.url.removeprefix("http://").split(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=10)
    for _ in range(40):
        connection.request("GET", "/v2/health/live", headers={"X-Padding": "x" * 4000})
        assert connection.getresponse().read() == b'{"live":true}'
    connection.close()


def test_rubbish_on_the_socket_leaves_the_server_alive(endpoint, client):
    target = endpoint.url.removeprefix("http://").split(":")
    for rubbish in (
        b"\x00\xff\x00\xff\r\n\r\n",
        b"POST /v1/models/small:predict HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
        b"POST /v1/models/small:predict HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nshort",
        b"POST /v1/models/small:predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST /v1/models/%00:predict HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}",
    ):
        with socket.create_connection((target[0], int(target[1])), timeout=5) as raw:
            raw.sendall(rubbish)
            raw.shutdown(socket.SHUT_WR)
            received = raw.recv(65536)
        assert not received.startswith(b"HTTP/1.1 5"), received
        assert client.predict([GOOD_ROW]).version == "1"
    with pytest.raises(RequestError, match="field `nonsense` is unknown"):
        client.predict([{"ad_id": "a1", "nonsense": 1}])
    with Client(endpoint.url, model_name="nobody") as other, pytest.raises(UnknownModel):
        other.predict([GOOD_ROW])


def test_replayed_traffic_brings_its_predictions_back(endpoint):
    rows = [{**GOOD_ROW, "position": 1 + i % 20} for i in range(100)]
    found = replay(
        pa.Table.from_pylist(rows), endpoint.url, model_name="small", rate_per_second=200, concurrency=4
    )
    assert (found.count, found.errors) == (100, 0), found.load.first_errors
    assert found.pctr.tolist() == pytest.approx([pctr_of(row) for row in rows], abs=1e-6)
    assert 0 < found.p50_ms <= found.p99_ms


class Load:
    """Threads that ask without pause until told to stop, and keep each answer with the version it names."""

    def __init__(self, endpoint: Endpoint, clients: int) -> None:
        self.answers: list[tuple[str, float]] = []
        self.failures: list[str] = []
        self._endpoint = endpoint
        self._stop = threading.Event()
        kinds = [self._v1, self._binary, self._rpc, self._tf]
        self._threads = [threading.Thread(target=kinds[i % 4], daemon=True) for i in range(clients)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _v1(self) -> None:
        self._post("/v1/models/small:predict", json.dumps({"instances": [GOOD_ROW]}).encode(), JSON)

    def _binary(self) -> None:
        body, headers = tensor_body({"ad_id": np.array([b"a1"], object)}, binary=False)
        self._post("/v2/models/small/infer", body, headers)

    def _post(self, path: str, body: bytes, headers: dict[str, str]) -> None:
        connection = http.client.HTTPConnection(
            *self._endpoint.url.removeprefix("http://").split(":"), timeout=20
        )
        while not self._stop.is_set():
            try:
                connection.request("POST", path, body, headers)
                answer = connection.getresponse()
                data = json.loads(answer.read())
                if answer.status != 200:
                    self.failures.append(f"{answer.status} {data}")
                elif "predictions" in data:
                    self.answers.append(
                        (answer.headers["x-clickmill-version"], data["predictions"][0]["logit"])
                    )
                else:
                    shift = logit_of(GOOD_ROW) - logit_of({"ad_id": "a1"})
                    self.answers.append((data["model_version"], data["outputs"][1]["data"][0] + shift))
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(repr(error))
                connection.close()
        connection.close()

    def _rpc(self) -> None:
        shift = logit_of(GOOD_ROW) - logit_of({"ad_id": "a1"})
        with grpc.insecure_channel(self._endpoint.grpc_target) as channel:
            stub = pb_grpc.GRPCInferenceServiceStub(channel)
            while not self._stop.is_set():
                try:
                    answer = stub.ModelInfer(ad_request(), timeout=20)
                    logit = answer.outputs[1].contents.fp32_contents[0]
                    self.answers.append((answer.model_version, logit + shift))
                except grpc.RpcError as error:
                    self.failures.append(str(error))

    def _tf(self) -> None:
        shift = logit_of(GOOD_ROW) - logit_of({"ad_id": "a1"})
        request = predict_request({"ad_id": np.array([b"a1"], object)}, model_name="small")
        with grpc.insecure_channel(self._endpoint.grpc_target) as channel:
            stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
            while not self._stop.is_set():
                try:
                    answer = stub.Predict(request, timeout=20)
                    logit = answer.outputs["logit"].float_val[0] + shift
                    self.answers.append((str(answer.model_spec.version.value), logit))
                except grpc.RpcError as error:
                    self.failures.append(str(error))


def test_three_reloads_and_two_refusals_under_load_fail_no_request(
    endpoint, client, store, bundles, tmp_path
):
    """Each answer is that of the bundle it names: version v has the bias of bundle v."""
    lying = write_small_bundle(tmp_path / "lying", bias=5.0, golden_shift=0.01)
    with Load(endpoint, clients=8) as load:
        for number, bundle in enumerate(bundles[1:], start=2):
            assert store.add(bundle) == number
            until(lambda number=number: client.predict([GOOD_ROW]).version == str(number))
        # version 5: a flipped byte in the weights, brought in past the store; version 6: golden predictions that lie
        partial = store.root / ".5.partial"
        shutil.copytree(bundles[1], partial)
        weights = next((partial / "model" / "1" / "variables").glob("variables.data*"))
        flipped = bytearray(weights.read_bytes())
        flipped[0] ^= 1
        weights.write_bytes(flipped)
        partial.rename(store.path(5))
        assert store.add(lying) == 6
        until(lambda: 'reason="golden"} 1' in httpx.get(f"{endpoint.url}/metrics").text)
        time.sleep(0.5)
    assert load.failures == []
    assert {version for version, _ in load.answers} == {"1", "2", "3", "4"}
    for version, logit in load.answers:
        assert logit == pytest.approx(logit_of(GOOD_ROW, BIASES[int(version) - 1]), abs=1e-4), version
    assert client.predict([GOOD_ROW]).version == "4"
    metrics = httpx.get(f"{endpoint.url}/metrics").text
    refused = [line for line in metrics.splitlines() if line.startswith("clickmill_bundle_refused_total{")]
    assert sorted(refused) == [
        'clickmill_bundle_refused_total{model_name="small",reason="corrupt"} 1.0',
        'clickmill_bundle_refused_total{model_name="small",reason="golden"} 1.0',
    ]
    assert 'clickmill_bundle_reloads_total{model_name="small"} 4.0' in metrics
    assert "variables.data-00000-of-00001: altered" in endpoint.log


def test_sigterm_says_not_ready_answers_on_and_ends_clean(bundles):
    with running_server(bundles[0], model_name="small", drain_seconds=5.0) as endpoint:
        with Client(endpoint.url, model_name="small", policy=RetryPolicy(retries=0)) as client:
            before = client.predict([GOOD_ROW])
            assert before.version == before.digest[:12]
            endpoint.process.terminate()
            until(lambda: not client.ready())
            assert endpoint.process.poll() is None
            for _ in range(5):
                assert client.predict([GOOD_ROW]).pctr.tolist() == before.pctr.tolist()
        assert endpoint.process.wait(60) == 0
        assert "draining: not ready any more" in endpoint.log


def test_what_cannot_be_served_is_refused_at_once_with_a_remedy(bundles, tmp_path):
    with listen("127.0.0.1", 0, "--http-port") as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match=f"port {port} on 127.0.0.1 is in use.*--http-port 0"):
            serve(bundles[0], http_port=port, grpc_port=0)
        with pytest.raises(UsageError, match=f"port {port} on 127.0.0.1 is in use.*--grpc-port 0"):
            serve(bundles[0], http_port=0, grpc_port=port)
    with pytest.raises(UsageError, match="no such folder; give a bundle"):
        serve(tmp_path / "nothing")
    with pytest.raises(UsageError, match="holds no bundle yet, so the model has no name; give --model-name"):
        serve(tmp_path, http_port=0, grpc_port=0)
    broken = tmp_path / "broken"
    shutil.copytree(bundles[0], broken)
    (broken / "foreign").write_text("x")
    with pytest.raises(BundleCorrupt, match="foreign: not in the manifest"):
        serve(broken, http_port=0, grpc_port=0)
