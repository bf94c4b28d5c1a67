"""A contract's fields as JSON Schema (draft 2020-12): what one value of a request may be.

The schemas refuse what the endpoint refuses, but for what JSON Schema cannot say: a string is limited in characters here and in bytes of UTF-8
there, and 2.0 is an integer here and none there.
"""

from __future__ import annotations

import math
from typing import Any

from clickmill.contract import ContractField, Dtype, FeatureContract, Role
from clickmill.features.sides import shared_fields
from serving.limits import Limits
from serving.ranking import MOST_MONEY

Schema = dict[str, Any]

_INT64 = 2**63
_FLOAT32_MAX = 3.4028234663852886e38
_YEAR_10000 = 253_402_300_800


def value(field: ContractField, limits: Limits) -> Schema:
    """Schema of a field's value in a row of JSON; null too where it may be left out."""
    assert field.dtype is not None, "inputs are never derived"
    dtype = field.dtype
    found: Schema
    if dtype is Dtype.TIMESTAMP:
        seconds: Schema = {
            "type": "number",
            "exclusiveMinimum": -_YEAR_10000,
            "exclusiveMaximum": _YEAR_10000,
            "description": "Seconds since 1970 (UTC).",
        }
        text = {
            "type": "string",
            "format": "date-time",
            "description": "ISO 8601; UTC where it names no zone.",
        }
        found = {"anyOf": [seconds, text]}
    elif dtype.is_list:
        found = {
            "type": "array",
            "items": {"anyOf": [_scalar(field, _ITEM[dtype], limits), {"type": "null"}]},
        }
    else:
        found = _scalar(field, dtype, limits)
    if not field.required:
        found = {"anyOf": [found, {"type": "null"}]}
    words = [field.description] if field.description else []
    if dtype.is_list:
        words.append("The latest last; too long a list keeps its last items, nulls are left out.")
    if field.required:
        words.append("Required.")
    else:
        fill = field.fill
        if (
            field.allowed is None or fill in field.allowed
        ):  # else it says that the field is missing, and may not be sent itself
            found["default"] = list(fill) if isinstance(fill, tuple) else fill
    found["description"] = " ".join(words)
    return found


def tensor(name: str, field: ContractField, limits: Limits) -> Schema:
    """Schema of a field as a V2 tensor in JSON; that `data` has as many values as `shape` says cannot be said here."""
    from serving.tensors import DATATYPE

    assert field.dtype is not None, "inputs are never derived"
    datatype = DATATYPE[field.dtype]
    rows = {"type": "integer", "minimum": 1, "maximum": limits.max_rows}
    shape: Schema = {"type": "array", "prefixItems": [rows], "minItems": 1, "maxItems": 1, "items": False}
    if field.dtype.is_list:
        shape |= {"prefixItems": [rows, {"type": "integer", "minimum": 0}], "minItems": 2, "maxItems": 2}
    flat = {"type": "array", "items": _CELL[datatype]}
    data = {"anyOf": [flat, {"type": "array", "items": flat}]} if field.dtype.is_list else flat
    size = {"type": "object", "required": ["binary_data_size"], "properties": {"binary_data_size": _SIZE}}
    return {
        "type": "object",
        "description": field.description or f"{field.dtype} of role {field.role}.",
        "required": ["name", "datatype", "shape"],
        "properties": {
            "name": {"const": name},
            "datatype": {"const": datatype},
            "shape": shape,
            "data": data,
            "parameters": size,
        },
        "anyOf": [{"required": ["data"]}, {"required": ["parameters"]}],
    }


def row(contract: FeatureContract, limits: Limits) -> Schema:
    """Schema of one row: the inputs, and the contract's other columns, which a request may carry and nobody looks at."""
    inputs = contract.inputs
    others = [name for name in contract.columns if name not in inputs]
    return _object(
        {name: value(field, limits) for name, field in inputs.items()}
        | {name: {"description": "Not used by the model; may be sent and is ignored."} for name in others},
        required=[name for name, field in inputs.items() if field.required],
    )


def ranked_parts(contract: FeatureContract, limits: Limits) -> dict[str, Schema]:
    """Schemas of the parts of a ranking: `user`, `context` and one candidate, whose bid is money per click."""
    inputs = contract.inputs
    shared = shared_fields(contract)
    position, bid = contract.of_role(Role.POSITION), contract.of_role(Role.BID) or "bid"
    user = {n: f for n, f in inputs.items() if n in shared and f.role in (Role.USER, Role.SEQUENCE)}
    context = {n: f for n, f in inputs.items() if n in shared and n not in user}
    own = {n: f for n, f in inputs.items() if n not in shared and n != position}
    money = {
        "type": "number",
        "minimum": 0,
        "maximum": MOST_MONEY,
        "description": "What a click is worth to it, in currency.",
    }
    name = {"type": ["string", "null"], "description": "What the caller calls it; comes back with its place."}
    candidate = {n: value(f, limits) for n, f in own.items()} | {"id": name, bid: money}
    needed = [bid, *(n for n, f in own.items() if f.required)]
    return {
        "user": _part(user, limits),
        "context": _part(context, limits),
        "candidate": _object(candidate, required=needed),
    }


_ITEM = {Dtype.STRING_LIST: Dtype.STRING, Dtype.INT64_LIST: Dtype.INT64}
_SIZE: Schema = {"type": "integer", "minimum": 0, "description": "Bytes of its buffer, after the JSON."}
_CELL: dict[str, Schema] = {
    "BYTES": {"type": "string"},
    "INT64": {"type": "integer", "minimum": -_INT64, "maximum": _INT64 - 1},
    "FP32": {"type": "number", "minimum": -_FLOAT32_MAX, "maximum": _FLOAT32_MAX},
    "BOOL": {"type": "boolean"},
}


def _part(fields: dict[str, ContractField], limits: Limits) -> Schema:
    properties = {name: value(field, limits) for name, field in fields.items()}
    return _object(properties, required=[name for name, field in fields.items() if field.required])


def _object(properties: dict[str, Schema], required: list[str]) -> Schema:
    found: Schema = {"type": "object", "properties": properties, "additionalProperties": False}
    return found | {"required": required} if required else found


def _scalar(field: ContractField, dtype: Dtype, limits: Limits) -> Schema:
    if field.allowed is not None:
        legal = field.allowed if field.range is None else filter(field.range.holds, field.allowed)  # type: ignore[arg-type]
        return {"enum": list(legal)}
    if dtype is Dtype.STRING:
        return {"type": "string", "maxLength": limits.max_string_bytes}
    if dtype is Dtype.BOOL:
        return {"type": "boolean"}
    low, high = (-_INT64, _INT64 - 1) if dtype is Dtype.INT64 else (-_FLOAT32_MAX, _FLOAT32_MAX)
    if field.range is not None:
        low = low if field.range.min is None else max(low, field.range.min)
        high = high if field.range.max is None else min(high, field.range.max)
    if dtype is Dtype.INT64:
        return {"type": "integer", "minimum": math.ceil(low), "maximum": math.floor(high)}
    return {"type": "number", "format": "float", "minimum": low, "maximum": high}
