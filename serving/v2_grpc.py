"""KServe's V2 over gRPC: messages to named tensors and back, straight from the buffers."""

from __future__ import annotations

from typing import Any

import numpy as np

from serving.kserve_parts import pb
from serving.named_tensor import NamedTensor, from_buffers, objects
from serving.refusals import MalformedRequest
from serving.v2 import MOST_INPUTS, requested

_CONTENTS: dict[str, tuple[str, Any]] = {
    "BYTES": ("bytes_contents", None),
    "INT64": ("int64_contents", np.int64),
    "FP32": ("fp32_contents", np.float32),
    "BOOL": ("bool_contents", np.bool_),
}


def tensors_of(request: pb.ModelInferRequest) -> list[NamedTensor]:
    """The inputs of a request, not yet held to the contract.

    Raises MalformedRequest when buffers and typed contents are mixed or their number is not that of the inputs.
    """
    if len(request.inputs) > MOST_INPUTS:
        raise MalformedRequest(f"{len(request.inputs):,} inputs; the contract has far fewer", path="inputs")
    raw = request.raw_input_contents
    if raw and len(raw) != len(request.inputs):
        raise MalformedRequest(
            f"{len(raw)} raw_input_contents for {len(request.inputs)} inputs; send one for each"
        )
    if raw:
        for item in request.inputs:
            if item.HasField("contents"):
                raise MalformedRequest(
                    f"input `{item.name}` has contents beside raw_input_contents; send one of them"
                )
        return from_buffers(
            [
                (place, item.name, item.datatype, tuple(item.shape), buffer)
                for place, (item, buffer) in enumerate(zip(request.inputs, raw, strict=True))
            ]
        )
    tensors = []
    for item in request.inputs:
        attribute, dtype = _CONTENTS.get(item.datatype, ("bytes_contents", None))
        values = getattr(item.contents, attribute)
        array = objects(list(values)) if dtype is None else np.array(values, dtype=dtype)
        tensors.append(NamedTensor(item.name, item.datatype, tuple(item.shape), array))
    return tensors


def signature_of(request: pb.ModelInferRequest) -> str | None:
    """The parameter `signature_name`, None where it was not sent."""
    # asked by name alone, a protobuf map would add it
    sent = "signature_name" in request.parameters
    return str(request.parameters["signature_name"].string_param) if sent else None


def answer(
    request: pb.ModelInferRequest,
    scores: dict[str, np.ndarray],
    *,
    model_name: str,
    model_version: str,
    digest: str,
) -> pb.ModelInferResponse:
    """The message back: buffers for a request that came in buffers, typed contents for the other kind."""
    names = requested([output.name for output in request.outputs])
    response = pb.ModelInferResponse(id=request.id, model_name=model_name, model_version=model_version)
    response.parameters["bundle_digest"].string_param = digest
    for name in names:
        values = np.ascontiguousarray(scores[name], dtype=np.float32)
        output = response.outputs.add(name=name, datatype="FP32", shape=[len(values)])
        if request.raw_input_contents:
            response.raw_output_contents.append(values.tobytes())
        else:
            output.contents.fp32_contents.extend(values.tolist())
    return response
