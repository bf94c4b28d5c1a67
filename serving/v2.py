"""KServe's V2 (Open Inference Protocol) over REST: JSON tensors and the binary tensor extension.

A binary request is JSON followed by the buffers of the inputs that carry `binary_data_size`, in their order; the
header `Inference-Header-Content-Length` says where the JSON ends. The answer uses buffers where the request asks
for them (`binary_data` of an output, or `binary_data_output` of the request).

https://github.com/kserve/open-inference-protocol
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from clickmill.contract import FeatureContract
from clickmill.errors import RequestError
from serving import error_paths
from serving.limits import Limits
from serving.named_tensor import NamedTensor, from_buffers, from_list
from serving.ranked_tensors import Sides, to_request
from serving.refusals import MalformedRequest
from serving.tensors import DATATYPE, TensorForm, to_raw
from serving.v1 import parse_json

OUTPUTS = ("pctr", "logit")
_INTEGERS = {int}
MOST_INPUTS = 10_000
"""Tensors of one request; a contract has far fewer fields, a message of a few bytes each could have hundreds of thousands."""


@dataclass(frozen=True)
class Inference:
    """A parsed request: tensors not yet held to the contract; `outputs` are (name, as a buffer?)."""

    id: str | None
    tensors: list[NamedTensor]
    outputs: tuple[tuple[str, bool], ...]
    signature: object = None
    """As it was sent under `parameters.signature_name`."""


def parse(body: bytes, json_length: int | None) -> Inference:
    """Read a REST body. Raises MalformedRequest for the form, RequestError for values and names."""
    if json_length is not None and not 0 < json_length <= len(body):
        raise MalformedRequest(
            f"Inference-Header-Content-Length is {json_length}, the body has {len(body):,} bytes"
        )
    view = memoryview(body)
    payload = parse_json(view if json_length is None else view[:json_length])
    if not isinstance(payload, dict) or not isinstance(payload.get("inputs"), list):
        raise MalformedRequest("the body must be an object with a list `inputs` of tensors", path="inputs")
    if len(payload["inputs"]) > MOST_INPUTS:
        raise MalformedRequest(
            f"{len(payload['inputs']):,} inputs; the contract has far fewer", path="inputs"
        )
    at = len(body) if json_length is None else json_length
    tensors: list[Any] = []
    binary: list[tuple[int, str, str, tuple[int, ...], memoryview]] = []
    for index, item in enumerate(payload["inputs"]):
        try:
            name, datatype, shape, data = _header(item, index)
            if data is not None:
                tensors.append(from_list(name, datatype, shape, data))
                continue
            size = _size(item, name, len(body) - at)
        except RequestError as error:
            error.path = f"inputs[{index}]" + ("" if error.row is None else f".data[{error.row}]")
            raise
        tensors.append(None)
        binary.append((index, name, datatype, shape, view[at : at + size]))
        at += size
    for (index, *_), tensor in zip(binary, from_buffers(binary), strict=True):
        tensors[index] = tensor
    if at != len(body):
        raise MalformedRequest(
            f"{len(body) - at:,} bytes follow the last buffer; each needs its `binary_data_size`"
        )
    identity = payload.get("id")
    if identity is not None and not isinstance(identity, str):
        raise MalformedRequest(f"`id` must be a string; got {type(identity).__name__}", path="id")
    parameters = _parameters(payload, "the request")
    binary = parameters.get("binary_data_output", False) is True
    requested = _requested(payload.get("outputs"), binary)
    return Inference(identity, tensors, requested, parameters.get("signature_name"))


def checked(
    tensors: list[NamedTensor], form: TensorForm | Sides, limits: Limits, *, data: str = ""
) -> tuple[dict[str, np.ndarray], int]:
    """Raw tensors and the number of rows, by `tensors.to_raw`, or of candidates, by `to_request`; what they raise gets its path in the
    request.

    `data` is the key of a tensor's values there, ".data" where they are JSON.
    """
    try:
        if isinstance(form, Sides):
            return to_request(tensors, form, limits)
        return to_raw(tensors, form, limits)
    except RequestError as error:
        error.path = error_paths.of_tensor([tensor.name for tensor in tensors], error, data)
        raise


def requested(names: list[str]) -> tuple[str, ...]:
    """Names of the outputs asked for, all when none are named. Raises RequestError for an unknown one."""
    for name in names:
        if name not in OUTPUTS:
            raise RequestError(
                f"output `{name:.100}` is unknown; the bundle gives: {', '.join(OUTPUTS)}", path="outputs"
            )
    return tuple(dict.fromkeys(names)) or OUTPUTS


def answer(
    request: Inference, scores: dict[str, np.ndarray], *, model_name: str, model_version: str, digest: str
) -> tuple[bytes, int | None]:
    """Body of the answer and the length of its JSON part, None when there are no buffers."""
    outputs, buffers = [], []
    for name, binary in request.outputs:
        values = np.ascontiguousarray(scores[name], dtype=np.float32)
        tensor: dict[str, Any] = {"name": name, "shape": [len(values)], "datatype": "FP32"}
        if binary:
            buffers.append(values.tobytes())
            tensor["parameters"] = {"binary_data_size": len(buffers[-1])}
        else:
            tensor["data"] = values
        outputs.append(tensor)
    head = {
        "model_name": model_name,
        "model_version": model_version,
        "id": request.id or "",
        "parameters": {"bundle_digest": digest},
        "outputs": outputs,
    }
    text = orjson.dumps(head, option=orjson.OPT_SERIALIZE_NUMPY)
    return (b"".join([text, *buffers]), len(text)) if buffers else (text, None)


def input_types(contract: FeatureContract) -> list[dict[str, Any]]:
    """Metadata of the inputs, from the contract; -1 is any number of rows."""
    return [
        {
            "name": name,
            "datatype": DATATYPE[field.dtype],
            "shape": [-1, -1] if field.dtype.is_list else [-1],
        }
        for name, field in contract.inputs.items()
        if field.dtype is not None
    ]


def output_types() -> list[dict[str, Any]]:
    """Metadata of the outputs."""
    return [{"name": name, "datatype": "FP32", "shape": [-1]} for name in OUTPUTS]


def _header(item: Any, index: int) -> tuple[str, str, tuple[int, ...], list[Any] | None]:
    """Name, datatype and shape of an input, and its values where they are JSON."""
    if not isinstance(item, dict):
        raise MalformedRequest(f"inputs[{index}] must be an object; got {type(item).__name__}")
    name, datatype, shape = item.get("name"), item.get("datatype"), item.get("shape")
    if not isinstance(name, str) or not isinstance(datatype, str):
        raise MalformedRequest(f"inputs[{index}] needs the strings `name` and `datatype`")
    if not isinstance(shape, list) or set(map(type, shape)) - _INTEGERS:
        raise MalformedRequest(
            f"input `{name:.100}`: `shape` must be a list of integers; got {str(shape)[:60]}"
        )
    data = item.get("data")
    if data is not None and not isinstance(data, list):
        raise MalformedRequest(f"input `{name:.100}`: `data` must be a list; got {type(data).__name__}")
    return name, datatype, tuple(shape), data


def _size(item: dict[str, Any], name: str, left: int) -> int:
    """Bytes of an input's buffer; `left` follow in the body."""
    parameters = item.get("parameters")
    # by its own words only where it is needed: there are as many inputs as fields
    own = parameters if type(parameters) is dict else _parameters(item, f"input `{name}`")
    size = own.get("binary_data_size")
    if type(size) is not int or size < 0:
        raise MalformedRequest(
            f"input `{name:.100}` has neither `data` nor a `binary_data_size`; send one of them"
        )
    if size > left:
        raise MalformedRequest(
            f"input `{name:.100}`: its buffer of {size:,} bytes runs past the end of the body; "
            "does Inference-Header-Content-Length fit the JSON?"
        )
    return size


def _parameters(item: dict[str, Any], of: str) -> dict[str, Any]:
    parameters = item.get("parameters")
    if parameters is None:
        return {}
    if not isinstance(parameters, dict):
        raise MalformedRequest(f"`parameters` of {of} must be an object; got {type(parameters).__name__}")
    return parameters


def _requested(items: Any, binary: bool) -> tuple[tuple[str, bool], ...]:
    if items is None:
        return tuple((name, binary) for name in OUTPUTS)
    if not isinstance(items, list) or not all(
        isinstance(item, dict) and isinstance(item.get("name"), str) for item in items
    ):
        raise MalformedRequest("`outputs` must be a list of objects with a `name`", path="outputs")
    wish = {
        item["name"]: _parameters(item, f"output `{item['name']}`").get("binary_data", binary) is True
        for item in items
    }
    return tuple((name, wish.get(name, binary)) for name in requested(list(wish)))
