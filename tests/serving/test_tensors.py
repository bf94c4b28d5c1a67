"""Named tensors obey the rules rows obey: the oracle is `from_rows`, the words are checked by hand."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clickmill import contract as contracts
from clickmill.errors import RequestError, RequestTooLarge
from clickmill.features.tensors import from_rows
from serving.limits import Limits
from serving.named_tensor import NamedTensor, from_buffers, from_list, objects
from serving.refusals import MalformedRequest
from serving.tensors import TensorForm, to_raw
from tests.serving.small_bundle import CONTRACT

FORM = TensorForm.of(CONTRACT)
LIMITS = Limits(max_rows=50, max_string_bytes=32)
PAD = np.iinfo(np.int64).min

ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "user_id": st.text(st.characters(codec="utf-8"), max_size=8),
            "ad_id": st.sampled_from(["a1", "a2", "ü3"]),
            "price": st.floats(0, 1000, width=32),
            "device": st.sampled_from(["phone", "desk"]),
            "returning": st.booleans(),
            "history": st.lists(st.sampled_from(["", "x", "y", "z"]), min_size=6, max_size=6),
            "categories": st.lists(st.sampled_from([PAD, 1, 2]), min_size=2, max_size=2),
            "shown_at": st.integers(-(10**9), 10**9),
            "position": st.integers(1, 20),
        }
    ),
    min_size=1,
    max_size=5,
)
DATATYPES = {
    "user_id": "BYTES",
    "ad_id": "BYTES",
    "price": "FP32",
    "device": "BYTES",
    "returning": "BOOL",
    "history": "BYTES",
    "categories": "INT64",
    "shown_at": "INT64",
    "position": "INT64",
}


def column(rows: list[dict], name: str) -> NamedTensor:
    data = [row[name] for row in rows]
    shape = [len(rows), len(data[0])] if isinstance(data[0], list) else [len(rows)]
    return from_list(name, DATATYPES[name], shape, data)


def buffer_of(tensor: NamedTensor) -> bytes:
    if tensor.datatype != "BYTES":
        return tensor.values.tobytes()
    return b"".join(len(text).to_bytes(4, "little") + text for text in tensor.values)


@pytest.mark.parametrize("binary", [False, True])
@given(ROWS, st.sets(st.sampled_from(sorted(set(DATATYPES) - {"ad_id"}))))
def test_tensors_and_rows_of_the_same_values_become_the_same_arrays(binary, rows, left_out):
    kept = [name for name in DATATYPES if name not in left_out]
    sent = [column(rows, name) for name in kept]
    if binary:
        sent = from_buffers([(i, t.name, t.datatype, t.shape, buffer_of(t)) for i, t in enumerate(sent)])
    raw, n = to_raw(sent, FORM, LIMITS)
    expected = from_rows([{name: row[name] for name in kept} for row in rows], CONTRACT)
    assert n == len(rows)
    assert raw.keys() == expected.keys()
    for name, values in expected.items():
        assert raw[name].dtype == values.dtype, name
        assert raw[name].tolist() == values.tolist(), name


def ad(n: int = 1) -> NamedTensor:
    return from_list("ad_id", "BYTES", [n], ["a1"] * n)


@pytest.mark.parametrize(
    ("tensor", "words"),
    [
        (
            ("nonsense", "BYTES", [1], ["x"]),
            "field `nonsense` is unknown; fields of a request: user_id, ad_id",
        ),
        (("price", "FP64", [1], [1.0]), "field `price`: datatype must be FP32 (float32); got FP64"),
        (("price", "FP32", [1, 1], [1.0]), "field `price`: shape must be [n]; got [1, 1]"),
        (("history", "BYTES", [1], ["x"]), "field `history`: shape must be [n, L]; got [1]"),
        (("price", "FP32", [2], [1.0, 2.0]), "field `price` has 2 rows, `ad_id` has 1"),
        (("price", "FP32", [1], [1.0, 2.0]), "field `price`: shape [1] needs 1 values; got 2"),
        (("history", "BYTES", [1, 2**62], []), "field `history`: shape [1, 4611686018427387904] needs"),
        (("price", "FP32", [-1], [1.0]), "field `price`: shape [-1] has no rows"),
        (("price", "FP32", [], [1.0]), "field `price`: shape [] has no rows"),
        (("price", "FP32", [1], [1e39]), "row 0, field `price`: must be a finite number; got inf"),
        (("price", "FP32", [1], [1001.0]), "row 0, field `price`: must lie in 0 to 1000; got 1001.0"),
        (("position", "INT64", [1], [0]), "row 0, field `position`: must lie in 1 to 20; got 0"),
        (
            ("device", "BYTES", [1], ["fridge"]),
            "row 0, field `device`: must be one of phone, desk; got 'fridge'",
        ),
        (("shown_at", "INT64", [1], [1_700_000_000_000]), "lies beyond the year 9999; send seconds"),
        (("returning", "BOOL", [1], [1]), "row 0, field `returning`: must be BOOL; got 1"),
        (("position", "INT64", [1], [True]), "row 0, field `position`: must be INT64; got True"),
        (("position", "INT64", [1], [2**63]), "field `position`: holds a number beyond 64 bits"),
        (
            ("price", "FP32", [1], [None]),
            "row 0, field `price`: must be FP32; got None. A tensor has no null",
        ),
        (("price", "FP32", [1], [[[1.0]]]), "row 0, field `price`: must be FP32; got [[1.0]]"),
        (("ad_id", "BYTES", [1], ["a1"]), "field `ad_id` is given twice; keep one"),
    ],
)
def test_a_broken_rule_names_field_row_and_rule(tensor, words):
    with pytest.raises(RequestError) as caught:
        to_raw([ad(), from_list(*tensor)], FORM, LIMITS)
    assert words in str(caught.value)


def test_the_row_named_is_the_first_broken_one():
    price = from_list("price", "FP32", [3], [1.0, -1.0, -2.0])
    with pytest.raises(RequestError, match="row 1, field `price`"):
        to_raw([ad(3), price], FORM, LIMITS)


def test_a_required_input_may_not_be_left_out_and_no_input_is_an_error():
    with pytest.raises(RequestError, match="field `ad_id`: is required and has no default"):
        to_raw([from_list("price", "FP32", [1], [1.0])], FORM, LIMITS)
    with pytest.raises(RequestError, match="`inputs` is empty"):
        to_raw([], FORM, LIMITS)


def test_other_columns_of_the_contract_are_ignored():
    raw, _ = to_raw([ad(), from_list("clicked", "INT64", [1], [1])], FORM, LIMITS)
    assert "clicked" not in raw


def test_text_that_is_not_utf8_is_refused_even_when_neighbours_would_complete_it():
    halves = NamedTensor("user_id", "BYTES", (2,), objects(["ü".encode()[:1], "ü".encode()[1:]]))
    with pytest.raises(RequestError, match="row 0, field `user_id`: is not UTF-8"):
        to_raw([ad(2), halves], FORM, LIMITS)


def test_sizes_have_limits_of_their_own_class():
    with pytest.raises(RequestTooLarge, match="51 rows, the limit is 50"):
        to_raw([ad(51)], FORM, LIMITS)
    with pytest.raises(RequestTooLarge, match="row 0, field `ad_id`: a string of 33 bytes, the limit is 32"):
        to_raw([from_list("ad_id", "BYTES", [1], ["x" * 33])], FORM, LIMITS)


def test_buffers_are_read_as_the_binary_extension_lays_them_out():
    texts = b"".join(struct.pack("<I", len(t)) + t for t in (b"a1", b"", "ü3".encode()))
    assert from_buffer("ad_id", "BYTES", [3], texts).values.tolist() == [b"a1", b"", "ü3".encode()]
    assert from_buffer("position", "INT64", [2], struct.pack("<2q", 1, -2)).values.tolist() == [1, -2]
    assert from_buffer("returning", "BOOL", [2], b"\x02\x00").values.tolist() == [True, False]


def from_buffer(name, datatype, shape, buffer):
    return from_buffers([(0, name, datatype, tuple(shape), buffer)])[0]


@pytest.mark.parametrize("cut", [1, 3, 5])
def test_a_cut_buffer_is_malformed(cut):
    text = struct.pack("<I", 2) + b"a1"
    with pytest.raises(MalformedRequest, match="runs past the end"):
        from_buffer("ad_id", "BYTES", [1], text[:cut])
    with pytest.raises(MalformedRequest, match=f"{cut} bytes are no whole number of INT64"):
        from_buffer("position", "INT64", [1], b"x" * cut)


def test_bytes_with_a_trailing_zero_keep_it():
    raw, _ = to_raw([from_buffer("ad_id", "BYTES", [1], struct.pack("<I", 3) + b"a1\0")], FORM, LIMITS)
    assert raw["ad_id"].tolist() == [b"a1\0"]


def test_the_fill_of_a_field_says_that_a_row_lacks_it_even_outside_range_and_allowed_set():
    contract = contracts.loads(
        """
name: gaps
fields:
  kind: {role: ad, dtype: string, allowed: [x, y], encoding: {kind: vocabulary}}
  size: {role: ad, dtype: int64, range: {min: 5, max: 9}, encoding: {kind: log1p}}
  must: {role: ad, dtype: int64, range: {min: 5, max: 9}, required: true, encoding: {kind: log1p}}
"""
    )
    kind = from_list("kind", "BYTES", [2], ["x", ""])
    size = from_list("size", "INT64", [2], [0, 7])
    raw, _ = to_raw([kind, size, from_list("must", "INT64", [2], [5, 9])], TensorForm.of(contract), LIMITS)
    missing = from_rows([{"kind": "x", "must": 5}, {"size": 7, "must": 9}], contract)
    assert {name: values.tolist() for name, values in raw.items()} == {
        n: v.tolist() for n, v in missing.items()
    }
    with pytest.raises(RequestError, match="row 1, field `must`: must lie in 5 to 9; got 0"):
        to_raw([from_list("must", "INT64", [2], [5, 0])], TensorForm.of(contract), LIMITS)
    with pytest.raises(RequestError, match="row 0, field `size`: must lie in 5 to 9; got 1"):
        to_raw(
            [from_list("size", "INT64", [1], [1]), from_list("must", "INT64", [1], [5])],
            TensorForm.of(contract),
            LIMITS,
        )


def test_defaults_fill_what_is_left_out():
    contract = contracts.loads(
        """
name: filled
fields:
  a: {role: ad, dtype: string, encoding: {kind: vocabulary}}
  tags: {role: user, dtype: string_list, default: [p, q, r], encoding: {kind: list, max_length: 2, items: {kind: hash, buckets: 9}}}
  position: {role: position, dtype: int64}
"""
    )
    raw, _ = to_raw([from_list("a", "BYTES", [2], ["x", "y"])], TensorForm.of(contract), LIMITS)
    assert raw["tags"].tolist() == [[b"q", b"r"], [b"q", b"r"]]
    assert raw["position"].tolist() == [1, 1]


@settings(max_examples=100)
@given(
    st.one_of(
        st.lists(st.binary(max_size=20), min_size=20, max_size=80),
        st.lists(st.text("abcdefgh", min_size=1, max_size=20).map(str.encode), min_size=60, max_size=90),
        st.lists(st.binary(min_size=9, max_size=9), min_size=25, max_size=60),
        st.lists(st.binary(min_size=250, max_size=270), min_size=1, max_size=5),
    )
)
def test_many_strings_of_a_buffer_are_those_that_were_put_in(texts):
    buffer = b"".join(len(text).to_bytes(4, "little") + text for text in texts)
    found = from_buffer("x", "BYTES", [len(texts)], buffer)
    assert found.values.tolist() == texts


@pytest.mark.parametrize("cut", [1, 3, 5])
def test_a_long_buffer_cut_short_is_refused(cut):
    buffer = b"".join(len(text).to_bytes(4, "little") + text for text in [b"one", b"fifteen"] * 40)
    with pytest.raises(MalformedRequest, match="runs past the end"):
        from_buffer("x", "BYTES", [80], buffer[:-cut])


@pytest.mark.parametrize("text", [b"", b"a", b"abc"])
def test_many_strings_of_one_length_are_all_there(text):
    buffer = (len(text).to_bytes(4, "little") + text) * 200
    assert from_buffer("x", "BYTES", [200], buffer).values.tolist() == [text] * 200
