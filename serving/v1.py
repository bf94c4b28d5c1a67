"""KServe's V1 protocol: `{"instances": [{field: value, ...}, ...]}` in, `{"predictions": [{"pctr", "logit"}, ...]}` out."""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson

from clickmill.contract import FeatureContract
from clickmill.errors import RequestError, RequestTooLarge
from clickmill.features.requests import columns_of_rows
from clickmill.features.texts import Column, Texts
from serving import error_paths
from serving.limits import Limits
from serving.refusals import MalformedRequest

_KEYS = {"instances", "signature_name"}
_SIGNATURE = "serving_default"
_EXAMPLE = '{"instances": [{"field": "value"}]}'


def parse_json(body: bytes | memoryview) -> Any:
    """JSON of a request. Raises MalformedRequest with the parser's line and column."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise MalformedRequest(f"the body is not valid JSON: {error}") from None


def rows_of(payload: Any, limits: Limits) -> list[dict[str, Any]]:
    """The instances of a parsed body, each a dict; their fields are not looked at yet.

    Raises MalformedRequest for another shape, RequestError for no instances, RequestTooLarge for too many.
    """
    if not isinstance(payload, dict) or "instances" not in payload:
        raise MalformedRequest(f"the body must be an object with `instances`: {_EXAMPLE}")
    unknown = payload.keys() - _KEYS
    if unknown:
        first = min(unknown)
        raise MalformedRequest(
            f"unknown key `{first:.100}` beside `instances`; remove it",
            path=error_paths.step(first).removeprefix("."),
        )
    if payload.get("signature_name", _SIGNATURE) != _SIGNATURE:
        raise MalformedRequest(
            f"`signature_name` must be `{_SIGNATURE}` or absent; the bundle has no other",
            path="signature_name",
        )
    rows = payload["instances"]
    if not isinstance(rows, list):
        raise MalformedRequest(
            f"`instances` must be a list of objects; got {type(rows).__name__}: {_EXAMPLE}", path="instances"
        )
    if not rows:
        raise RequestError("`instances` is empty; send at least one", path="instances")
    if len(rows) > limits.max_rows:
        raise RequestTooLarge(
            f"{len(rows):,} instances, the limit is {limits.max_rows:,} a request; split it", path="instances"
        )
    for index, row in enumerate(rows):
        if type(row) is not dict:
            raise RequestError(
                f"row {index}: must be an object of fields; got {type(row).__name__}: {_EXAMPLE}",
                row=index,
                path=f"instances[{index}]",
            )
    return rows


def read(
    payload: Any, contract: FeatureContract, limits: Limits
) -> tuple[list[dict[str, Any]], dict[str, Column]]:
    """The instances of a parsed body, and their inputs as raw tensors held to the contract.

    Raises MalformedRequest, RequestError and RequestTooLarge, each with its path in the body.
    """
    rows = rows_of(payload, limits)
    try:
        raw = columns_of_rows(rows, contract)
        check_strings(raw, limits)
    except RequestError as error:
        error.path = error_paths.of_row("instances", error)
        raise
    return rows, raw


def check_strings(raw: dict[str, Column], limits: Limits) -> None:
    """Hold the strings of checked rows to the length limit. Raises RequestTooLarge naming field and row."""
    for name, values in raw.items():
        if isinstance(values, Texts):
            if values.lengths.max(initial=0) <= limits.max_string_bytes:
                continue
        elif values.dtype != object:
            continue
        texts: list[bytes] = values.ravel().tolist()
        # joined they are short in nearly every request, which is quicker to know than the longest
        if len(b"".join(texts)) <= limits.max_string_bytes:
            continue
        lengths = list(map(len, texts))
        longest = max(lengths)
        if longest > limits.max_string_bytes:
            row = lengths.index(longest) // (len(texts) // len(values))
            raise RequestTooLarge(
                f"row {row}, field `{name}`: a string of {longest:,} bytes, the limit is {limits.max_string_bytes:,}",
                field=name,
                row=row,
            )


def predictions(pctr: np.ndarray, logit: np.ndarray) -> dict[str, Any]:
    """The answer as KServe has it; floats are exact doubles of the float32 outputs."""
    pairs = zip(pctr.tolist(), logit.tolist(), strict=True)
    return {"predictions": [{"pctr": p, "logit": z} for p, z in pairs]}
