"""Rubbish over real sockets, thousands of times: no 5xx, no crash, no memory that grows; and the document holds over HTTP."""

from __future__ import annotations

import http.client
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import CHECKS, load_all_checks

from serving import openapi
from serving.client import Client
from serving.limits import Limits
from serving.process import Endpoint, running_server
from tests.serving import rubbish
from tests.serving.small_bundle import CONTRACT, GOOD_ROW, pctr_of
from tests.serving.test_fuzz import classification_requests, infer_requests, predict_requests

pytestmark = pytest.mark.integration

ROUNDS, EACH = 10, 200
GROWTH_MIB = 24
"""10 rounds are 16,000 requests: 1.5 KB kept of each would be seen."""


@pytest.fixture(scope="module")
def endpoint(bundles: list[Path]) -> Iterator[Endpoint]:
    with running_server(bundles[0], model_name="small", wait_seconds=400) as endpoint:
        yield endpoint
        with Client(endpoint.url, model_name="small") as client:
            assert client.predict([GOOD_ROW]).pctr.tolist() == pytest.approx([pctr_of(GOOD_ROW)], abs=1e-6)
        assert "Traceback" not in endpoint.log, endpoint.log


def made(strategy: st.SearchStrategy[Any]) -> list[Any]:
    """The same examples at each run."""
    found: list[Any] = []

    @settings(
        max_examples=EACH,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def collect(value: Any) -> None:
        found.append(value)

    collect()
    return found


JSON = {"content-type": "application/json"}
EVENT = {**JSON, "ce-specversion": "1.0", "ce-id": "1", "ce-source": "test", "ce-type": "ad.request"}


def over_http() -> list[tuple[str, bytes, dict[str, str]]]:
    v1, v2 = "/v1/models/small:predict", "/v2/models/small/infer"
    binary = {"content-type": "application/octet-stream"}
    bodies = made(rubbish.v1_bodies(CONTRACT))
    return [
        *((v1, body, JSON) for body in bodies),
        *((v1, body, EVENT) for body in bodies),
        *(("/v1/models/small:rank?explain=1", body, JSON) for body in made(rubbish.rank_bodies(CONTRACT))),
        *((v2, body, JSON) for body in made(rubbish.v2_bodies(CONTRACT))),
        *(
            (v2, body, {**binary, "inference-header-content-length": length})
            for body, length in made(rubbish.v2_binaries(CONTRACT))
            if length.isascii()
        ),
    ]


def over_grpc() -> list[tuple[str, bytes]]:
    tf = "/tensorflow.serving.PredictionService"
    v2 = infer_requests().map(lambda request: request.SerializeToString())
    return [
        *(("/inference.GRPCInferenceService/ModelInfer", data) for data in made(rubbish.mangled(v2))),
        *((f"{tf}/Predict", data) for data in made(rubbish.mangled(predict_requests()))),
        *((f"{tf}/Classify", data) for data in made(rubbish.mangled(classification_requests()))),
    ]


def memory_mib(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096 / 2**20


def test_thousands_of_bad_requests_are_refused_and_leave_nothing_behind(endpoint):
    requests, messages = over_http(), over_grpc()
    host, port = endpoint.url.removeprefix("http://").split(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=60)
    seen: Counter[Any] = Counter()
    with grpc.insecure_channel(endpoint.grpc_target) as channel:
        calls = {path: channel.unary_unary(path) for path, _ in messages}

        def round_() -> None:
            for path, body, headers in requests:
                connection.request("POST", path, body, headers)
                answer = connection.getresponse()
                answer.read()
                seen[answer.status] += 1
            for path, data in messages:
                try:
                    calls[path](data, timeout=60)
                    seen["OK"] += 1
                except grpc.RpcError as error:
                    seen[error.code().name] += 1

        for _ in range(2):  # pools, metrics and caches have their size after that
            round_()
        before = memory_mib(endpoint.process.pid)
        for _ in range(ROUNDS):
            round_()
        after = memory_mib(endpoint.process.pid)
    connection.close()
    allowed = {
        200,
        400,
        404,
        413,
        415,
        "OK",
        "INVALID_ARGUMENT",
        "NOT_FOUND",
        "FAILED_PRECONDITION",
        "RESOURCE_EXHAUSTED",
    }
    assert set(seen) <= allowed, seen
    assert min(seen[200], seen[400], seen["OK"], seen["INVALID_ARGUMENT"]) > 100, seen
    assert after - before < GROWTH_MIB, (
        f"{before:.0f} MiB before, {after:.0f} after {sum(seen.values()):,} requests"
    )
    assert endpoint.process.poll() is None


# a character of 4 bytes counts four times at the endpoint
LIMITS = Limits(max_string_bytes=Limits().max_string_bytes // 4)
SCHEMA = schemathesis.openapi.from_dict(openapi.describe(CONTRACT, limits=LIMITS))
LEFT_OUT = {
    "unsupported_method": "GET /v1/models/small:predict is a question about a model of that name, and answered 404",
    "positive_data_acceptance": "V2's shape and data must agree, which no schema says; what it can say is held in test_openapi",
    "negative_data_rejection": "a header that is unknown or too long is nobody's fault; bodies are held in test_openapi",
}
load_all_checks()
HELD = [CHECKS.get_one(name) for name in CHECKS.get_all_names() if name not in LEFT_OUT]
# what has no body and no parameter cannot be asked wrongly
OPERATIONS = [
    (path, method, mode)
    for path, verbs in openapi.describe(CONTRACT)["paths"].items()
    for method in verbs
    for mode in GenerationMode
    if mode is GenerationMode.POSITIVE or method == "post"
]


@pytest.mark.parametrize(("path", "method", "mode"), OPERATIONS)
def test_every_operation_answers_over_http_as_the_document_says(endpoint, path, method, mode):
    operation = SCHEMA[path][method.upper()]

    @settings(max_examples=30, suppress_health_check=list(HealthCheck), phases=[Phase.generate])
    @given(case=operation.as_strategy(generation_mode=mode))
    def holds(case: Any) -> None:
        if (case.headers or {}).get("x-request-timeout-ms", "").isdigit():
            case.headers["x-request-timeout-ms"] = (
                "60000"  # one that is drawn may pass before the answer: a 504, rightly
            )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            case.call_and_validate(base_url=endpoint.url, checks=HELD)

    holds()
