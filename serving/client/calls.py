"""What a call sends and how its answer is read: functions without a connection, for the clients that wait and those that await."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar
from urllib.parse import quote

import httpx
import numpy as np
import orjson

from clickmill.errors import ClickmillError, RequestError, RequestTooLarge
from serving.client.retry import Failed, Reply, Unreachable
from serving.refusals import PREFIX, DeadlinePassed, NotReady, UnknownModel, UnknownSignature, refusals

T = TypeVar("T")

_DATATYPE = {"object": "BYTES", "int64": "INT64", "float32": "FP32", "bool": "BOOL"}
_JSON = {"content-type": "application/json"}
_KINDS: dict[str, Any] = {refusal.reason: kind for kind, refusal in refusals()}
"""Our endpoint's reasons; what stands in front of it, and TF Serving, have only a status."""
_BY_STATUS: dict[int, type[ClickmillError]] = {
    400: RequestError,
    404: UnknownModel,
    413: RequestTooLarge,
    415: RequestError,
    503: NotReady,
    504: DeadlinePassed,
}
_AGAIN = frozenset({429, 502, 503})
"""HTTP statuses after which another request may do better: 504 and the like say that the time is over."""


@dataclass(frozen=True)
class Predictions:
    """Scores of the rows of one request, in order: (n,) float64 from V1, (n,) float32 from V2."""

    pctr: np.ndarray
    logit: np.ndarray
    version: str
    digest: str


@dataclass(frozen=True)
class RankedAd:
    """A candidate that is shown. `ecpm` in currency per thousand impressions, `price` in currency per click."""

    candidate: int
    """Its place among the candidates sent."""
    id: str | None
    pctr: float
    logit: float
    ecpm: float
    price: float
    source: str = "model"
    """Where the probability comes from: `model`, or what stood in for it."""
    logit_by_field: Mapping[str, float] = field(default_factory=dict)
    """With `explain`: what each field added to the logit."""


@dataclass(frozen=True)
class Ranked:
    """The slots sold, best first, by the bundle named."""

    ads: tuple[RankedAd, ...]
    request_id: str
    version: str
    digest: str
    fallback: str | None
    """Why the model was not asked, None where it was."""
    body: Mapping[str, Any]
    """The answer as it came."""


@dataclass(frozen=True)
class Call(Generic[T]):
    """A REST call: what is sent, and how the answer 200 is read."""

    method: str
    path: str
    read: Callable[[httpx.Response], T]
    body: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


def names() -> Call[list[str]]:
    """Names of the models of a server."""
    return Call("GET", "/v1/models", lambda answer: [str(name) for name in answer.json()["models"]])


def only_name(url: str, found: list[str]) -> str:
    """The one model of a server. Raises UnknownModel when it has none or several."""
    if len(found) != 1:
        raise UnknownModel(f"{url} serves {', '.join(found) or 'no model'}; name one")
    return found[0]


def metadata(name: str) -> Call[dict[str, Any]]:
    """V2 metadata."""
    return Call("GET", f"/v2/models/{quote(name)}", lambda answer: dict(answer.json()))


def predict(name: str, rows: Sequence[Mapping[str, Any]], request_id: str | None) -> Call[Predictions]:
    """Rows by V1. All requests of a call carry one id, so that the prediction log shows a retry as one."""
    body = orjson.dumps({"instances": rows}, option=orjson.OPT_SERIALIZE_NUMPY)
    headers = {**_JSON, "x-request-id": request_id or uuid.uuid4().hex}

    def read(answer: httpx.Response) -> Predictions:
        found = orjson.loads(answer.content)["predictions"]
        pctr, logit = (np.array([item[key] for item in found]) for key in ("pctr", "logit"))
        return Predictions(pctr, logit, *_bundle_of(answer.headers))

    return Call("POST", f"/v1/models/{quote(name)}:predict", read, body, headers)


def predict_tensors(
    name: str, raw: Mapping[str, np.ndarray], binary: bool, request_id: str | None
) -> Call[Predictions]:
    """Arrays by V2."""
    body, headers = tensor_body(raw, binary=binary, request_id=request_id or uuid.uuid4().hex)

    def read(answer: httpx.Response) -> Predictions:
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

    return Call("POST", f"/v2/models/{quote(name)}/infer", read, body, headers)


def rank(
    name: str,
    candidates: Sequence[Mapping[str, Any]],
    parts: Mapping[str, Any],
    explain: bool,
    on_failure: str | None,
    request_id: str | None,
) -> Call[Ranked]:
    """A ranking; `parts` are the other keys of its body, those that are None left out."""
    told = {key: value for key, value in parts.items() if value is not None}
    named = request_id or uuid.uuid4().hex
    body = orjson.dumps(
        {"request_id": named, **told, "candidates": candidates}, option=orjson.OPT_SERIALIZE_NUMPY
    )

    def read(answer: httpx.Response) -> Ranked:
        found = orjson.loads(answer.content)
        known = RankedAd.__dataclass_fields__.keys()
        ads = tuple(RankedAd(**{k: v for k, v in ad.items() if k in known}) for ad in found["ranked"])
        return Ranked(ads, named, *_bundle_of(answer.headers), found.get("fallback"), found)

    query = "?explain=1" if explain else ""
    headers = _JSON if on_failure is None else {**_JSON, "x-clickmill-on-failure": on_failure}
    return Call("POST", f"/v1/models/{quote(name)}:rank{query}", read, body, headers)


def outcome(call: Call[T], answer: httpx.Response) -> Reply[T] | Failed:
    """What an answer means."""
    if answer.status_code == 200:
        return Reply(call.read(answer))
    again = answer.status_code in _AGAIN
    after = answer.headers.get("retry-after", "")
    return Failed(_error_of(answer), again, float(after) if again and after.isdigit() else None)


def unreachable(url: str, error: Exception, seconds: float) -> Failed:
    """What a request without an answer means: worth another try, unless its time is over."""
    late = isinstance(error, httpx.TimeoutException | TimeoutError)
    told = f"within {seconds:g} s" if late else f"({error or type(error).__name__})"
    failed = Unreachable(
        f"{url}: no answer {told}; is the endpoint running? Start one with `clickmill serve BUNDLE`."
    )
    failed.__cause__ = error
    return Failed(failed, again=not late)


def error_of(error: Any, target: str) -> ClickmillError:
    """The library's error for a grpc.RpcError of a server, with its place in the request where our endpoint named one."""
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
    told = {
        key.removeprefix(PREFIX): value
        for key, value in error.trailing_metadata() or ()
        if key.startswith(PREFIX)
    }
    kind = _KINDS.get(told.get("reason", ""), kinds.get(error.code(), ClickmillError))
    return _made(kind, f"{target}: {error.details()}", told)


def rpc_failed(error: Any, target: str) -> Failed:
    """What a failed gRPC call means."""
    import grpc

    waits = dict(error.trailing_metadata() or ()).get("grpc-retry-pushback-ms", "")
    after = int(waits) / 1e3 if waits.isdigit() else None
    failed = error_of(error, target)
    failed.__cause__ = error
    return Failed(failed, error.code() is grpc.StatusCode.UNAVAILABLE, after)


def tensor_body(
    raw: Mapping[str, np.ndarray], *, binary: bool, request_id: str | None = None
) -> tuple[bytes, dict[str, str]]:
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
    named: dict[str, Any] = {"inputs": inputs} if request_id is None else {"id": request_id, "inputs": inputs}
    if not binary:
        return orjson.dumps(named), dict(_JSON)
    head = orjson.dumps({**named, "parameters": {"binary_data_output": True}})
    headers = {"content-type": "application/octet-stream", "inference-header-content-length": str(len(head))}
    return b"".join([head, *buffers]), headers


def infer_request(raw: Mapping[str, np.ndarray], model_name: str, request_id: str = "") -> Any:
    """A V2 gRPC ModelInferRequest over arrays. Raises RequestError for an array of a type V2 has no name for."""
    from serving.kserve_parts import pb

    request = pb.ModelInferRequest(model_name=model_name, id=request_id)
    for name, values in raw.items():
        request.inputs.add(name=name, datatype=_datatype(name, values), shape=values.shape)
        request.raw_input_contents.append(_buffer(values))
    return request


def infer_answer(answer: Any) -> Predictions:
    """Scores of a V2 gRPC ModelInferResponse that came in buffers."""
    found = {
        output.name: np.frombuffer(answer.raw_output_contents[index], np.float32)
        for index, output in enumerate(answer.outputs)
    }
    digest = answer.parameters["bundle_digest"].string_param
    return Predictions(found["pctr"], found["logit"], answer.model_version, digest)


def _buffer(values: np.ndarray) -> bytes:
    if values.dtype != object:
        return np.ascontiguousarray(values).tobytes()
    texts = values.ravel().tolist()
    return b"".join(part for text in texts for part in (len(text).to_bytes(4, "little"), text))


def _datatype(name: str, values: np.ndarray) -> str:
    found = _DATATYPE.get(str(values.dtype))
    if found is None:
        raise RequestError(
            f"field `{name}`: an array of {values.dtype}; give one of {', '.join(_DATATYPE)}", field=name
        )
    return found


def _bundle_of(headers: httpx.Headers) -> tuple[str, str]:
    return headers.get("x-clickmill-version", ""), headers.get("x-clickmill-bundle", "")


def _error_of(answer: httpx.Response) -> ClickmillError:
    try:
        told = answer.json()
        words = str(told["error"])
    except (ValueError, KeyError, TypeError):
        told, words = {}, f"HTTP {answer.status_code}: {answer.text[:200]}"
    kind = _KINDS.get(told.get("reason", ""), _BY_STATUS.get(answer.status_code, ClickmillError))
    return _made(kind, words, told)


def _made(kind: type[ClickmillError], words: str, told: Mapping[str, Any]) -> ClickmillError:
    if not issubclass(kind, RequestError):
        return kind(words)
    row = told.get("row")
    return kind(words, field=told.get("field"), row=None if row is None else int(row), path=told.get("path"))
