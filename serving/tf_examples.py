"""tf.Example, the row of TensorFlow's Classify and Regress, to raw arrays by the contract.

    contract             feature
    string               bytes_list, 1 value, UTF-8
    int64, timestamp     int64_list, 1 value (timestamp: epoch seconds)
    float32              float_list, 1 value
    bool                 int64_list, 1 value, 0 or 1
    string_list          bytes_list, any length
    int64_list           int64_list, any length

A feature that is absent, or present without a value, takes the contract's default, unless the field is required. Every other rule is
that of the rows of V1: the values go through the same readers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from clickmill.contract import Dtype, FeatureContract
from clickmill.errors import RequestError, RequestTooLarge
from clickmill.features.tensors import from_columns
from serving.limits import Limits
from serving.v1 import check_strings

LIST_OF: dict[Dtype, str] = {
    Dtype.STRING: "bytes_list",
    Dtype.INT64: "int64_list",
    Dtype.TIMESTAMP: "int64_list",
    Dtype.FLOAT32: "float_list",
    Dtype.BOOL: "int64_list",
    Dtype.STRING_LIST: "bytes_list",
    Dtype.INT64_LIST: "int64_list",
}
"""The list of a Feature that carries a field."""


def examples_of(source: Any) -> list[Any]:
    """Feature maps of an Input message, a row each; a shared context is laid under each of its examples.

    Raises RequestError when there are none.
    """
    kind = source.WhichOneof("kind")
    if kind == "example_list":
        rows = [dict(example.features.feature) for example in source.example_list.examples]
    elif kind == "example_list_with_context":
        shared = dict(source.example_list_with_context.context.features.feature)
        examples = source.example_list_with_context.examples
        rows = [{**shared, **example.features.feature} for example in examples]
    else:
        rows = []
    if not rows:
        raise RequestError("`input` holds no examples; send at least one in example_list")
    return rows


def to_raw(
    rows: Sequence[dict[str, Any]], contract: FeatureContract, limits: Limits
) -> dict[str, np.ndarray]:
    """Arrays for `Bundle.predict`. Raises RequestError (as V1 does, and for a value in the wrong list) or RequestTooLarge."""
    if len(rows) > limits.max_rows:
        raise RequestTooLarge(f"{len(rows):,} examples, the limit is {limits.max_rows:,} a request; split it")
    inputs, known = contract.inputs, contract.columns
    for number, row in enumerate(rows):
        for name in row:
            if name not in known:
                raise RequestError(
                    f"row {number}, field `{name:.100}` is unknown; fields of a request: {', '.join(inputs)}",
                    field=name,
                    row=number,
                )
    columns = {}
    for name, field in inputs.items():
        assert field.dtype is not None, "inputs are never derived"
        columns[name] = [_value(row.get(name), field.dtype, number, name) for number, row in enumerate(rows)]
    raw = from_columns(columns, contract, len(rows))
    check_strings(raw, limits)
    return raw


def _value(feature: Any, dtype: Dtype, number: int, name: str) -> Any:
    kind = None if feature is None else feature.WhichOneof("kind")
    if kind is None:
        return None
    where = f"row {number}, field `{name}`"
    place: dict[str, Any] = {"field": name, "row": number}
    if kind != LIST_OF[dtype]:
        raise RequestError(f"{where}: must be in a {LIST_OF[dtype]} ({dtype}); got a {kind}", **place)
    values: list[Any] = list(getattr(feature, kind).value)
    if kind == "bytes_list":
        try:
            values = [text.decode() for text in values]
        except UnicodeDecodeError:
            raise RequestError(f"{where}: is not UTF-8; encode the text before sending it", **place) from None
    if dtype.is_list:
        return values
    if len(values) > 1:
        raise RequestError(f"{where}: must be one value; got {len(values)}", **place)
    if not values:
        return None
    if dtype is Dtype.BOOL:
        if values[0] not in (0, 1):
            raise RequestError(f"{where}: must be 0 or 1 (bool); got {values[0]}", **place)
        return values[0] == 1
    return values[0]
