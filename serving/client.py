"""Clients of the endpoint: REST (V1 rows, V2 tensors) over httpx, and V2 over gRPC. Answers are arrays.

Asking again is safe, a prediction changes nothing: connections that fail are tried again with a growing pause. Answers that
say no are not: they are raised as the library's own errors, with the server's words.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx
import numpy as np
import orjson

from clickmill.errors import ClickmillError, RequestError, RequestTooLarge
from serving.refusals import DeadlinePassed, NotReady, Overloaded, UnknownModel, UnknownSignature

_DATATYPE = {"object": "BYTES", "int64": "INT64", "float32": "FP32", "bool": "BOOL"}
_ERRORS: dict[int, type[ClickmillError]] = {
    400: RequestError,
    404: UnknownModel,
    413: RequestTooLarge,
    415: RequestError,
    503: NotReady,
    504: DeadlinePassed,
}


class Unreachable(ClickmillError):
    """No answer from the endpoint, after all tries."""


@dataclass(frozen=True)
class Predictions:
    """Scores of the rows of one request, in order: (n,) float64 from V1, (n,) float32 from V2."""

    pctr: np.ndarray
    logit: np.ndarray
    version: str
    digest: str


class Client:
    """REST client of one model. A context manager; keeps its connections."""

    def __init__(
        self,
        url: str,
        *,
        model_name: str | None = None,
        timeout_seconds: float = 10.0,
        retries: int = 2,
        pause_seconds: float = 0.1,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        """`url` is that of the server (http://127.0.0.1:8080). Without `model_name` the server is asked for its only one."""
        self._http = httpx.Client(base_url=url, timeout=timeout_seconds, transport=transport, trust_env=False)
        self._url, self._retries, self._pause = url, retries, pause_seconds
        # what nobody waits for any more shall not be scored: gRPC sends its deadline, HTTP has no word for it
        self._http.headers["x-request-timeout-ms"] = str(max(int(timeout_seconds * 1e3), 1))
        self._name = model_name

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    @property
    def model_name(self) -> str:
        """Name in the URLs. Raises UnknownModel when the server has none or several and none was given."""
        if self._name is None:
            found = self._ask("GET", "/v1/models").json()["models"]
            if len(found) != 1:
                raise UnknownModel(f"{self._url} serves {', '.join(found) or 'no model'}; name one")
            self._name = str(found[0])
        return self._name

    def ready(self) -> bool:
        """Whether the server would answer a prediction now; False when it cannot be reached."""
        try:
            return self._http.get("/v2/health/ready").status_code == 200
        except httpx.TransportError:
            return False

    def metadata(self) -> dict[str, Any]:
        """V2 metadata: inputs and outputs with datatypes and shapes, the version in service."""
        found: dict[str, Any] = self._ask("GET", f"/v2/models/{self.model_name}").json()
        return found

    def predict(self, rows: Sequence[Mapping[str, Any]]) -> Predictions:
        """Score rows by V1; a row is {field: JSON value}.

        Raises RequestError and RequestTooLarge (the server's words), UnknownModel, NotReady, Overloaded, DeadlinePassed, Unreachable.
        """
        body = orjson.dumps({"instances": rows}, option=orjson.OPT_SERIALIZE_NUMPY)
        answer = self._ask(
            "POST", f"/v1/models/{self.model_name}:predict", body, {"content-type": "application/json"}
        )
        found = answer.json()["predictions"]
        return Predictions(
            np.array([item["pctr"] for item in found]),
            np.array([item["logit"] for item in found]),
            *_bundle_of(answer.headers),
        )

    def predict_tensors(self, raw: Mapping[str, np.ndarray], *, binary: bool = True) -> Predictions:
        """Score arrays by V2: (n,) a field, (n, L) for lists; object arrays of bytes, int64, float32 or bool."""
        body, headers = tensor_body(raw, binary=binary)
        answer = self._ask("POST", f"/v2/models/{self.model_name}/infer", body, headers)
        length = answer.headers.get("inference-header-content-length")
        head = json.loads(answer.content[: int(length)] if length else answer.content)
        found, at = {}, int(length or 0)
        for output in head["outputs"]:
            size = output.get("parameters", {}).get("binary_data_size")
            if size is None:
                found[output["name"]] = np.array(output["data"], np.float32)
            else:
                found[output["name"]] = np.frombuffer(answer.content[at : at + size], np.float32)
                at += size
        return Predictions(found["pctr"], found["logit"], *_bundle_of(answer.headers))

    def _ask(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> httpx.Response:
        for attempt in range(self._retries + 1):
            try:
                answer = self._http.request(method, path, content=body, headers=headers)
                break
            except httpx.TransportError as error:
                if attempt == self._retries:
                    raise Unreachable(
                        f"{self._url}: no answer after {attempt + 1} tries ({error or type(error).__name__}); "
                        "is the endpoint running? Start one with `clickmill serve BUNDLE`."
                    ) from error
                # the jitter keeps clients that failed together from coming back together
                time.sleep(self._pause * 2**attempt * random.uniform(0.5, 1.5))
        if answer.status_code != 200:
            raise _error_of(answer)
        return answer


class GrpcClient:
    """V2 gRPC client of one model. A context manager."""

    def __init__(self, target: str, *, model_name: str, timeout_seconds: float = 10.0) -> None:
        """`target` is host:port."""
        import grpc

        from serving.kserve_parts import pb_grpc

        self._channel = grpc.insecure_channel(target)
        self._stub = pb_grpc.GRPCInferenceServiceStub(self._channel)
        self._target, self._name, self._timeout = target, model_name, timeout_seconds

    def __enter__(self) -> GrpcClient:
        return self

    def __exit__(self, *raised: object) -> None:
        self._channel.close()

    def ready(self) -> bool:
        """Whether the model is ready; False when the server cannot be reached."""
        import grpc

        from serving.kserve_parts import pb

        try:
            answer = self._stub.ModelReady(pb.ModelReadyRequest(name=self._name), timeout=self._timeout)
        except grpc.RpcError:
            return False
        return bool(answer.ready)

    def predict_tensors(self, raw: Mapping[str, np.ndarray]) -> Predictions:
        """Score arrays, as `Client.predict_tensors`. Raises the same errors."""
        import grpc

        request = infer_request(raw, self._name)
        try:
            answer = self._stub.ModelInfer(request, timeout=self._timeout, wait_for_ready=True)
        except grpc.RpcError as error:
            raise error_of(error, self._target) from error
        found = {
            output.name: np.frombuffer(answer.raw_output_contents[index], np.float32)
            for index, output in enumerate(answer.outputs)
        }
        digest = answer.parameters["bundle_digest"].string_param
        return Predictions(found["pctr"], found["logit"], answer.model_version, digest)


def error_of(error: Any, target: str) -> ClickmillError:
    """The library's error for a grpc.RpcError of a server."""
    import grpc

    status = grpc.StatusCode
    kinds: dict[Any, type[ClickmillError]] = {
        status.INVALID_ARGUMENT: RequestError,
        status.FAILED_PRECONDITION: UnknownSignature,
        status.RESOURCE_EXHAUSTED: RequestTooLarge,
        status.NOT_FOUND: UnknownModel,
        status.UNAVAILABLE: NotReady,
        status.DEADLINE_EXCEEDED: Unreachable,
    }
    return kinds.get(error.code(), ClickmillError)(f"{target}: {error.details()}")


def tensor_body(raw: Mapping[str, np.ndarray], *, binary: bool) -> tuple[bytes, dict[str, str]]:
    """Body and headers of a V2 REST request over arrays. Raises RequestError for an array of a type V2 has no name for."""
    inputs, buffers = [], []
    for name, values in raw.items():
        tensor: dict[str, Any] = {
            "name": name,
            "datatype": _datatype(name, values),
            "shape": list(values.shape),
        }
        if binary:
            buffers.append(_buffer(values))
            tensor["parameters"] = {"binary_data_size": len(buffers[-1])}
        elif values.dtype == object:
            tensor["data"] = [text.decode() for text in values.ravel().tolist()]
        else:
            tensor["data"] = values.ravel().tolist()
        inputs.append(tensor)
    if not binary:
        return orjson.dumps({"inputs": inputs}), {"content-type": "application/json"}
    head = orjson.dumps({"inputs": inputs, "parameters": {"binary_data_output": True}})
    headers = {"content-type": "application/octet-stream", "inference-header-content-length": str(len(head))}
    return b"".join([head, *buffers]), headers


def infer_request(raw: Mapping[str, np.ndarray], model_name: str) -> Any:
    """A V2 gRPC ModelInferRequest over arrays. Raises RequestError for an array of a type V2 has no name for."""
    from serving.kserve_parts import pb

    request = pb.ModelInferRequest(model_name=model_name)
    for name, values in raw.items():
        request.inputs.add(name=name, datatype=_datatype(name, values), shape=values.shape)
        request.raw_input_contents.append(_buffer(values))
    return request


def _buffer(values: np.ndarray) -> bytes:
    if values.dtype != object:
        return np.ascontiguousarray(values).tobytes()
    texts = values.ravel().tolist()
    return b"".join(part for text in texts for part in (len(text).to_bytes(4, "little"), text))


def _datatype(name: str, values: np.ndarray) -> str:
    found = _DATATYPE.get(str(values.dtype))
    if found is None:
        raise RequestError(f"field `{name}`: an array of {values.dtype}; give one of {', '.join(_DATATYPE)}")
    return found


def _bundle_of(headers: httpx.Headers) -> tuple[str, str]:
    return headers.get("x-clickmill-version", ""), headers.get("x-clickmill-bundle", "")


def _error_of(answer: httpx.Response) -> ClickmillError:
    words, reason = _words(answer)
    kind = Overloaded if reason == "overload" else _ERRORS.get(answer.status_code, ClickmillError)
    return kind(words)


def _words(answer: httpx.Response) -> tuple[str, str]:
    """What a refusal says, and its reason."""
    try:
        told = answer.json()
        return str(told["error"]), str(told.get("reason", ""))
    except (ValueError, KeyError, TypeError):
        return f"HTTP {answer.status_code}: {answer.text[:200]}", ""
