"""The encoder without TensorFlow against the one with it: every encoding of the contract, over requests nobody would think of."""

from __future__ import annotations

from functools import cache

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from clickmill.contract import Role, loads
from clickmill.contract.encoding import NUMERIC_KINDS, SLOT_KINDS
from clickmill.errors import UnreadableData
from clickmill.features import Encoder, FeatureSpace, Moments, tensors
from clickmill.features.fingerprint import fingerprint64
from clickmill.features.row_encoder import RowEncoder
from clickmill.features.row_index import RowIndex, keys_of, mix64, salt
from clickmill.features.sides import shared_fields
from clickmill.features.texts import Texts

EVERYTHING = """
name: everything
fields:
  t: {{role: event_time, dtype: timestamp}}
  user: {{role: user, dtype: string, encoding: {{kind: vocabulary}}, default: nobody}}
  city: {{role: user, dtype: string, encoding: {{kind: vocabulary, unseen: {{buckets: 7}}}}}}
  ad: {{role: ad, dtype: int64, encoding: {{kind: vocabulary, unseen: {{buckets: 9, like: [maker, premium]}}}}}}
  maker: {{role: ad, dtype: string, encoding: {{kind: vocabulary}}}}
  premium: {{role: ad, dtype: bool, encoding: {{kind: vocabulary}}}}
  code: {{role: ad, dtype: int64, encoding: {{kind: vocabulary, unseen: {{buckets: 5}}}}}}
  next_ad: {{role: ad, dtype: int64, encoding: {{kind: vocabulary, shares: ad}}}}
  page: {{role: context, dtype: string, encoding: {{kind: hash, buckets: 100000000}}}}
  size: {{role: ad, dtype: int64, encoding: {{kind: hash, buckets: 11}}}}
  vast: {{role: ad, dtype: string, encoding: {{kind: compositional, buckets: 1000000000}}}}
  wide: {{role: user, dtype: int64, encoding: {{kind: compositional, buckets: 97}}}}
  heat: {{role: context, dtype: float32, encoding: {{kind: bucketize, boundaries: [-1.5, 0.1, 0.7]}}}}
  age: {{role: user, dtype: int64, encoding: {{kind: bucketize, quantiles: 4}}}}
  price: {{role: ad, dtype: float32, encoding: {{kind: log1p}}}}
  seen: {{role: cross, dtype: int64, encoding: {{kind: log1p}}}}
  score: {{role: user, dtype: float32, encoding: {{kind: standardize}}}}
  stock: {{role: ad, dtype: int64, encoding: {{kind: standardize}}}}
  user_page: {{role: cross, encoding: {{kind: cross, of: [user, page], buckets: 50}}}}
  all_of_it: {{role: cross, encoding: {{kind: cross, of: [user, ad, premium, price], buckets: 100000000}}}}
  hour: {{role: context, encoding: {{kind: hour, of: t, utc_offset_hours: 5.5}}}}
  weekday: {{role: context, encoding: {{kind: weekday, of: t, utc_offset_hours: -3}}}}
  history: {{role: sequence, dtype: int64_list, encoding: {{kind: list, items: {{kind: vocabulary, shares: ad}}, max_length: 5}}}}
  tags: {{role: sequence, dtype: string_list, encoding: {{kind: list, items: {{kind: vocabulary, unseen: {{buckets: 3}}}}, max_length: 3}}}}
  words: {{role: ad, dtype: string_list, encoding: {{kind: list, items: {{kind: hash, buckets: 40}}, max_length: 2}}}}
  numbers: {{role: ad, dtype: int64_list, encoding: {{kind: list, items: {{kind: hash, buckets: 40}}, max_length: 2}}}}
  position: {{role: position, dtype: int64, at_inference: {position}}}
  label: {{role: label, dtype: int64}}
"""
TEXTS = ["", "a", "ad", "Zoë", "\x00", "☃ never", "user-000017", "x" * 17, "y" * 40, "z" * 200, "true"]
INTEGERS = [0, 1, 7, -1, 10**12, -987_654_321_012_345, 2**62, np.iinfo(np.int64).max, np.iinfo(np.int64).min]
FLOATS = [0.0, -0.0, 0.1, 0.7, -1.5, 1e-30, 3.4e38, -3.4e38, 41.5]


@cache
def both(position: str) -> tuple[FeatureSpace, Encoder, RowEncoder]:
    known = {
        "user": pa.array(["", "ad", "Zoë", "user-000017"]),
        "city": pa.array(["a", "z" * 200]),
        "ad": pa.array([7, -1, 2**62], pa.int64()),
        "maker": pa.array(["a", "ad"]),
        "premium": pa.array(["true"]),
        "code": pa.array([], pa.int64()),
        "tags": pa.array(["a", "x" * 17]),
    }
    space = FeatureSpace(
        loads(EVERYTHING.format(position=position)),
        known,
        edges={"heat": (-1.5, 0.1, 0.7), "age": (18.0, 30.0)},
        moments={
            "price": Moments(0.5, 2.0),
            "seen": Moments(1.0, 0.3),
            "score": Moments(-3.0, 0.25),
            "stock": Moments(2.0**40, 1.0),
        },
        positions=4,
    )
    return space, Encoder(space), RowEncoder(space)


def test_the_contract_of_these_tests_has_every_encoding_there_is() -> None:
    space, _, _ = both("first")
    kinds = {f.encoding.kind for f in space.contract.features.values() if f.encoding is not None}
    assert kinds == SLOT_KINDS | NUMERIC_KINDS | {"list"}


VALUES = {
    "string": st.one_of(st.sampled_from(TEXTS), st.text(st.characters(codec="utf-8"), max_size=80)),
    "int64": st.one_of(st.sampled_from(INTEGERS), st.integers(-(2**63), 2**63 - 1)),
    "float32": st.one_of(st.sampled_from(FLOATS), st.floats(width=32, allow_nan=False, allow_infinity=False)),
    "bool": st.booleans(),
    "timestamp": st.integers(-(10**11), 10**11),
}


@st.composite
def rows_of(draw: st.DrawFn, most: int = 4) -> list[dict[str, object]]:
    """Rows as a client may send them: any field left out, or null."""
    space, _, _ = both("first")
    fields: dict[str, st.SearchStrategy[object]] = {}
    for name, field in space.contract.inputs.items():
        kind = str(field.dtype)
        if field.role is Role.POSITION:
            values: st.SearchStrategy[object] = st.integers(-3, 30)
        elif kind.endswith("_list"):
            values = st.lists(st.one_of(st.none(), VALUES[kind.removesuffix("_list")]), max_size=12)
        else:
            values = VALUES[kind]
        fields[name] = st.one_of(st.none(), values)
    return draw(st.lists(st.fixed_dictionaries({}, optional=fields), min_size=1, max_size=most))


def _assert_equal(got: dict[str, np.ndarray], expected: dict[str, tf.Tensor]) -> None:
    assert got.keys() == expected.keys()
    for key, tensor in expected.items():
        want = tensor.numpy()
        assert got[key].dtype == want.dtype, key
        if (
            want.dtype == np.float32
        ):  # log1p of two libraries: the last bit of a float64 may differ, and round either way
            np.testing.assert_array_max_ulp(got[key], want, maxulp=1)
        else:
            np.testing.assert_array_equal(got[key], want, err_msg=key)


def in_one_buffer(raw: dict[str, np.ndarray]) -> dict[str, np.ndarray | Texts]:
    """The same rows, their strings as places in one buffer."""
    strings = {name: values for name, values in raw.items() if values.dtype == object}
    whole, end = Texts.of([text for values in strings.values() for text in values.ravel()]), 0
    packed: dict[str, np.ndarray | Texts] = dict(raw)
    for name, values in strings.items():
        packed[name] = whole[end : end + values.size].reshape(*values.shape)
        end += values.size
    return packed


@pytest.mark.parametrize("position", ["first", "average"])
@settings(max_examples=60)
@given(rows=rows_of())
def test_rows_are_encoded_as_tensorflow_encodes_them(position: str, rows: list[dict[str, object]]) -> None:
    space, encoder, ours = both(position)
    raw = tensors.from_rows(rows, space.contract)
    expected = encoder.encode(raw)
    _assert_equal(ours(raw), expected)
    _assert_equal(ours(in_one_buffer(raw)), expected)


@settings(max_examples=60)
@given(rows=rows_of(most=5))
def test_a_request_is_encoded_as_tensorflow_encodes_it(rows: list[dict[str, object]]) -> None:
    space, encoder, ours = both("first")
    shared = shared_fields(space.contract)
    raw = {n: v[:1] if n in shared else v for n, v in tensors.from_rows(rows, space.contract).items()}
    given_raw = {name: tf.constant(values) for name, values in raw.items()}
    expected = encoder.request(given_raw)
    _assert_equal(ours.request(raw), expected)
    _assert_equal(ours.request(in_one_buffer(raw)), expected)


def test_many_rows_at_once_and_lists_of_any_width() -> None:
    space, encoder, ours = both("first")
    rng = np.random.default_rng(3)
    n = 500
    rows = [
        {
            "user": str(rng.choice(TEXTS)),
            "ad": int(rng.choice([7, -1, 12])),
            "page": f"page-{rng.integers(10 ** rng.integers(1, 12))}",
            "vast": f"{rng.integers(10**9)}",
            "history": rng.choice([7, -1, 5], rng.integers(0, 9)).tolist(),
        }
        for _ in range(n)
    ]
    raw = tensors.from_rows(rows, space.contract)
    _assert_equal(ours(raw), encoder.encode(raw))
    for width in (0, 2, 11):
        tags = rng.choice(np.array([b"", b"a", b"other"], object), (n, width))
        numbers = rng.choice(np.array([np.iinfo(np.int64).min, 3, 4]), (n, width))
        odd = {**raw, "tags": tags, "numbers": numbers}
        expected = encoder.encode(odd)
        _assert_equal(ours(odd), expected)
        _assert_equal(ours(in_one_buffer(odd)), expected)


def test_an_index_finds_each_of_many_values_and_no_other() -> None:
    rng = np.random.default_rng(0)
    numbers = np.unique(rng.integers(-(2**63), 2**63 - 1, 20_000))
    texts = [f"value {i}" for i in range(30_000)]
    index = RowIndex.over({"n": pa.array(numbers), "t": pa.array(texts)})
    np.testing.assert_array_equal(index.find(mix64(numbers) + salt(0)), np.arange(len(numbers)))
    found = index.find(fingerprint64([text.encode() for text in texts]) + salt(1))
    np.testing.assert_array_equal(found, np.arange(len(texts)))
    strangers = fingerprint64([f"stranger {i}".encode() for i in range(30_000)])
    for number in (0, 1):
        assert (index.find(strangers + salt(number)) == -1).all()
    # a value of one vocabulary is unknown to the other
    assert (index.find(fingerprint64([text.encode() for text in texts]) + salt(0)) == -1).all()


@pytest.mark.parametrize("values", [0, 1, 2, 3, 5])
def test_the_smallest_indices_work(values: int) -> None:
    known = pa.array([f"v{i}" for i in range(values)], pa.string())
    index = RowIndex.over({"t": known})
    keys = keys_of(pa.array([f"v{i}" for i in range(8)]), salt(0))
    assert index.find(keys).tolist() == [i if i < values else -1 for i in range(8)]


def test_a_saved_index_is_mapped_and_finds_the_same(tmp_path) -> None:
    index = RowIndex.over({"t": pa.array(["a", "b"])})
    index.save(tmp_path)
    keys = keys_of(pa.array(["b", "c", "a"]), salt(0))
    assert RowIndex.load(tmp_path).find(keys).tolist() == [1, -1, 0]
    (tmp_path / "places.npy").write_bytes(b"")
    with pytest.raises(UnreadableData, match="write the bundle again"):
        RowIndex.load(tmp_path)


def test_two_equal_values_are_refused() -> None:
    with pytest.raises(UnreadableData, match="one key"):
        RowIndex.over({"t": pa.array(["a", "a"])})
