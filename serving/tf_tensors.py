"""TensorProto, TensorFlow's tensor on the wire, to named tensors and back, by the rules of TensorFlow's own reader.

A proto carries its values in `tensor_content` (little endian; strings as all lengths in varints, then all bytes) or in the list of
its type (`string_val`, `int64_val`, `float_val`, `bool_val`). A list shorter than the shape repeats its last value, an empty
one means zeros or empty strings. Unlike TensorFlow we refuse a list longer than the shape instead of cutting it.

https://github.com/tensorflow/tensorflow/blob/master/tensorflow/core/framework/tensor.proto
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from clickmill.errors import RequestTooLarge
from clickmill.features.texts import Column
from serving.limits import Limits
from serving.named_tensor import NamedTensor, objects
from serving.refusals import MalformedRequest
from serving.tf_messages import predict_pb2, tensor_pb2, types_pb2

DT_NAME: dict[str, str] = {"BYTES": "DT_STRING", "INT64": "DT_INT64", "FP32": "DT_FLOAT", "BOOL": "DT_BOOL"}
"""What V2's datatypes are called here."""

DT: dict[str, int] = {kind: types_pb2.DataType.Value(name) for kind, name in DT_NAME.items()}

_DATATYPE = {"O": "BYTES", "S": "BYTES", "i": "INT64", "f": "FP32", "b": "BOOL"}
"""By the kind of a numpy type."""

_READ: dict[int, tuple[str, str, Any]] = {
    DT["BYTES"]: ("BYTES", "string_val", None),
    DT["INT64"]: ("INT64", "int64_val", np.dtype("<i8")),
    DT["FP32"]: ("FP32", "float_val", np.dtype("<f4")),
    DT["BOOL"]: ("BOOL", "bool_val", np.dtype("?")),
}


def from_protos(inputs: Mapping[str, Any], limits: Limits) -> list[NamedTensor]:
    """The named inputs of a request, not yet held to the contract.

    Raises MalformedRequest for content that does not fit its shape, and RequestTooLarge when shapes ask for more values than a
    message can carry: repetition makes gigabytes out of a few bytes.
    """
    values = 0
    for name, proto in inputs.items():
        shape = _shape(proto)
        values += max(math.prod(max(side, 0) for side in shape), 1)
        if values > limits.max_body_bytes:
            raise RequestTooLarge(
                f"input `{name}`: shape {list(shape)} repeats its values beyond {limits.max_body_bytes:,} in one request; split it",
                field=name,
            )
    return [_tensor(name, proto) for name, proto in inputs.items()]


def to_array(proto: Any) -> np.ndarray:
    """The values of one proto, in its shape: object arrays of bytes for DT_STRING. Raises MalformedRequest as `from_protos`."""
    tensor = _tensor("", proto)
    return np.asarray(tensor.values).reshape(tensor.shape)


def to_proto(values: Column) -> Any:
    """An array of any datatype of a contract as a proto; DT_FLOAT in `float_val` as TF Serving writes its scores, which clients read
    without decoding."""
    array = np.asarray(values)
    datatype = _DATATYPE[array.dtype.kind]
    proto = tensor_pb2.TensorProto(dtype=DT[datatype])
    for side in array.shape:
        proto.tensor_shape.dim.add(size=side)
    _, attribute, dtype = _READ[DT[datatype]]
    flat = array.ravel() if dtype is None else array.ravel().astype(dtype, copy=False)
    getattr(proto, attribute).extend(flat.tolist())
    return proto


def predict_request(raw: Mapping[str, Column], *, model_name: str, signature: str) -> Any:
    """A PredictRequest over raw tensors."""
    request = predict_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = model_name, signature
    for name, values in raw.items():
        request.inputs[name].CopyFrom(to_proto(values))
    return request


def _shape(proto: Any) -> tuple[int, ...]:
    return tuple(dim.size for dim in proto.tensor_shape.dim)


def _tensor(name: str, proto: Any) -> NamedTensor:
    shape = _shape(proto)
    if proto.dtype not in _READ:
        kind = (
            types_pb2.DataType.Name(proto.dtype) if proto.dtype in types_pb2.DataType.values() else "no type"
        )
        return NamedTensor(
            name, kind, shape, np.zeros(0, np.int8)
        )  # refused by the contract, which knows what it wants
    datatype, attribute, dtype = _READ[proto.dtype]
    size = math.prod(max(side, 0) for side in shape)
    content = proto.tensor_content
    if content:
        values = _strings(name, content, size) if dtype is None else _numbers(name, content, size, dtype)
        return NamedTensor(name, datatype, shape, values)
    given = getattr(proto, attribute)
    values = objects(list(given)) if dtype is None else np.array(given, dtype=dtype)
    if len(values) < size:
        last: Any = values[-1:] if len(values) else (objects([b""]) if dtype is None else np.zeros(1, dtype))
        values = np.concatenate([values, np.broadcast_to(last, size - len(values))])
    return NamedTensor(name, datatype, shape, values)


def _numbers(name: str, content: bytes, size: int, dtype: Any) -> np.ndarray:
    if len(content) != size * dtype.itemsize:
        raise MalformedRequest(
            f"input `{name}`: {len(content):,} bytes of tensor_content, its shape needs {size * dtype.itemsize:,}",
            field=name,
        )
    if dtype.kind == "b":
        return np.frombuffer(content, np.uint8) != 0  # numpy would keep a 2 as a bool that is neither
    return np.frombuffer(content, dtype)


def _strings(name: str, content: bytes, size: int) -> np.ndarray:
    lengths, at = [], 0
    for _ in range(size):
        length, shift = 0, 0
        while True:
            if at >= len(content) or shift > 28:
                raise MalformedRequest(
                    f"input `{name}`: tensor_content does not begin with {size:,} lengths", field=name
                )
            byte = content[at]
            at += 1
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        lengths.append(length)
    if at + sum(lengths) != len(content):
        raise MalformedRequest(
            f"input `{name}`: the strings of tensor_content take {at + sum(lengths):,} bytes; it has {len(content):,}",
            field=name,
        )
    texts = []
    for length in lengths:
        texts.append(content[at : at + length])
        at += length
    return objects(texts)
