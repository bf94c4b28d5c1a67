"""What hypothesis sends to an endpoint: nearly right requests of every protocol, and bytes that are none."""

from __future__ import annotations

import json
import struct
from typing import Any

from hypothesis import strategies as st

from clickmill.contract import FeatureContract
from serving.tensors import DATATYPE

texts = st.text(max_size=12) | st.sampled_from(
    ["", "a1", "ü3", "phone", "\ud800", "x" * 100, "2026-01-01", "\x00"]
)
numbers = (
    st.integers(-3, 25)
    | st.sampled_from(
        [2**31, -(2**63), 2**63, 10**30, 1e308, -1e-320, 0.1, 1_700_000_000, float("nan"), float("inf")]
    )
    | st.floats()
)
leaves = st.none() | st.booleans() | numbers | texts
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)


def written(value: Any) -> bytes:
    """JSON with NaN, Infinity and lone surrogates where the value has them."""
    return json.dumps(value).encode()


def rows(contract: FeatureContract) -> st.SearchStrategy[dict[str, Any]]:
    """Rows of known fields with any values, now and then of unknown ones."""
    names = st.sampled_from([*contract.columns, "bid", "id"]) | texts
    return st.dictionaries(names, values, max_size=6).map(lambda row: {"ad_id": "a1", **row})


def mangled(body: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    """The bytes as they are, cut, doubled, or with some of them changed."""

    @st.composite
    def one(draw: Any) -> bytes:
        data = bytearray(draw(body))
        how = draw(st.sampled_from(["whole", "whole", "cut", "twice", "changed"]))
        if how == "cut":
            return bytes(data[: draw(st.integers(0, len(data)))])
        if how == "twice":
            return bytes(data + data)
        if how == "changed" and data:
            for _ in range(draw(st.integers(1, 3))):
                data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
        return bytes(data)

    return one()


def v1_bodies(contract: FeatureContract) -> st.SearchStrategy[bytes]:
    """Bodies of `:predict`."""
    good = st.fixed_dictionaries(
        {"instances": st.lists(rows(contract), max_size=3) | values},
        optional={"signature_name": values, "parameters": values},
    )
    deep = st.integers(1, 5000).map(lambda n: b'{"instances": ' + b"[" * n + b"]" * n + b"}")
    twice = st.just(b'{"instances": [{"ad_id": "a1"}], "instances": [{"ad_id": "a2", "ad_id": "a1"}]}')
    return mangled((good | values).map(written)) | deep | twice | st.binary(max_size=60)


def rank_bodies(contract: FeatureContract) -> st.SearchStrategy[bytes]:
    """Bodies of `:rank`."""
    part = st.dictionaries(st.sampled_from(list(contract.columns)) | texts, values, max_size=4) | values
    fair = st.fixed_dictionaries({"ad_id": st.sampled_from(["a1", "a2"]), "bid": st.integers(0, 3)})
    candidate = st.fixed_dictionaries(
        {"bid": numbers}, optional={"ad_id": values, "price": values, "id": values}
    )
    keys = {"user": part, "context": part, "slots": values, "pricing": values, "reserve": values}
    good = st.fixed_dictionaries(
        {
            "candidates": st.lists(fair, min_size=1, max_size=4)
            | st.lists(candidate | rows(contract), max_size=4)
            | values
        },
        optional={**keys, "request_id": values, "other": values},
    )
    return mangled((good | values).map(written)) | st.binary(max_size=60)


def tensors(contract: FeatureContract) -> st.SearchStrategy[dict[str, Any]]:
    """Inputs of V2 as JSON: names, datatypes, shapes and values that do not go together."""
    sides = st.integers(-2, 4) | st.sampled_from([2**40, -(2**63), 10**20, 0])
    return st.fixed_dictionaries(
        {
            "name": st.sampled_from(list(contract.columns)) | texts,
            "datatype": st.sampled_from([*DATATYPE.values(), "FP64", "UINT8", "bytes"]) | values,
            "shape": st.lists(sides, max_size=3) | values,
        },
        optional={
            "data": st.lists(values, max_size=4) | values,
            "parameters": st.fixed_dictionaries({"binary_data_size": sides | values}) | values,
        },
    )


def v2_bodies(contract: FeatureContract) -> st.SearchStrategy[bytes]:
    """Bodies of `infer` as JSON."""
    ad = st.just({"name": "ad_id", "datatype": "BYTES", "shape": [2], "data": ["a1", "a2"]})
    keys = {"id": values, "outputs": values, "parameters": values}
    fair = st.fixed_dictionaries({"inputs": st.lists(ad, min_size=1, max_size=1)}, optional={"id": texts})
    good = st.fixed_dictionaries(
        {"inputs": st.lists(ad | tensors(contract), max_size=4) | values}, optional=keys
    )
    return mangled((fair | good | values).map(written)) | st.binary(max_size=60)


@st.composite
def v2_binaries(draw: Any, contract: FeatureContract) -> tuple[bytes, str]:
    """A body of `infer` with buffers, and a header that says where its JSON ends, both of which may lie."""
    strings = b"".join(
        struct.pack("<I", draw(st.sampled_from([2, 2, 2, 3, 2**31, 0]))) + b"a1" for _ in range(2)
    )
    price = draw(st.binary(min_size=8, max_size=8))
    inputs: list[Any] = [
        {
            "name": "ad_id",
            "datatype": "BYTES",
            "shape": [2],
            "parameters": {"binary_data_size": len(strings)},
        },
        {"name": "price", "datatype": "FP32", "shape": [2], "parameters": {"binary_data_size": 8}},
    ]
    if draw(st.booleans()):
        inputs.insert(draw(st.integers(0, 2)), draw(tensors(contract)))
    head = written({"inputs": inputs, "parameters": {"binary_data_output": draw(st.booleans())}})
    said = draw(st.just(len(head)) | st.integers(-5, len(head) + 100) | st.sampled_from([10**11, 10**30, 0]))
    length = draw(st.just(str(said)) | st.sampled_from(["", "x", "1e3", "٣", " 7"]))
    return head + draw(mangled(st.just(strings + price))), length
