"""Rows and tables to raw tensors: the same result, and every rule refused in words."""

import datetime as dt
import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clickmill.contract import loads
from clickmill.errors import RequestError, SchemaMismatch
from clickmill.features import tensors

ROW = {"page": "p1"}
CONTRACT = loads("""
name: toy
fields:
  event_time: {role: event_time, dtype: timestamp}
  user: {role: user, dtype: string, encoding: {kind: hash, buckets: 9}}
  age: {role: user, dtype: int64, encoding: {kind: standardize}, range: {min: 0, max: 120}, default: 40}
  premium: {role: ad, dtype: bool, encoding: {kind: vocabulary}}
  price: {role: ad, dtype: float32, encoding: {kind: log1p}}
  page: {role: context, dtype: string, encoding: {kind: hash, buckets: 50}, required: true}
  format: {role: context, dtype: string, encoding: {kind: vocabulary}, allowed: [banner, video], default: banner}
  hour: {role: context, encoding: {kind: hour, of: event_time}}
  history: {role: sequence, dtype: int64_list, encoding: {kind: list, items: {kind: hash, buckets: 9}, max_length: 3}}
  tags: {role: ad, dtype: string_list, default: [x, y], encoding: {kind: list, items: {kind: hash, buckets: 9}, max_length: 2}}
  position: {role: position, dtype: int64}
  label: {role: label, dtype: int64}
""")

_moments = st.datetimes(dt.datetime(1900, 1, 1), dt.datetime(2200, 1, 1), timezones=st.just(dt.UTC))
_int64 = st.integers(-(2**63), 2**63 - 1)
_rows = st.fixed_dictionaries(
    {"page": st.text(max_size=5)},
    optional={
        "event_time": st.none() | _moments,
        "user": st.none() | st.text(max_size=5),
        "age": st.none() | st.integers(0, 120),
        "premium": st.none() | st.booleans(),
        "price": st.none() | st.floats(width=32, allow_nan=False, allow_infinity=False),
        "format": st.none() | st.sampled_from(["banner", "video"]),
        "history": st.none() | st.lists(st.none() | _int64, max_size=6),
        "tags": st.none() | st.lists(st.none() | st.text(max_size=2), max_size=6),
        "position": st.none() | st.integers(1, 20),
    },
)
_SCHEMA = pa.schema(
    {
        "event_time": pa.timestamp("us", "UTC"),
        "user": pa.string(),
        "age": pa.int64(),
        "premium": pa.bool_(),
        "price": pa.float32(),
        "page": pa.string(),
        "format": pa.string(),
        "history": pa.list_(pa.int64()),
        "tags": pa.list_(pa.string()),
        "position": pa.int64(),
    }
)


@given(st.lists(_rows, max_size=6))
@settings(max_examples=150)
def test_requests_and_tables_with_the_same_rows_give_the_same_tensors(rows):
    table = pa.Table.from_pylist([{**dict.fromkeys(_SCHEMA.names), **row} for row in rows], schema=_SCHEMA)
    from_table = tensors.from_arrow(table, CONTRACT)
    json_like = [
        {k: v.isoformat() if isinstance(v, dt.datetime) else v for k, v in row.items()} for row in rows
    ]
    from_request = tensors.from_rows(json_like, CONTRACT)
    columns = {name: [row.get(name) for row in json_like] for name in _SCHEMA.names}
    from_columns = tensors.from_columns(columns, CONTRACT, len(rows))
    assert from_table.keys() == from_request.keys() == CONTRACT.inputs.keys()
    for name, expected in from_table.items():
        for got in (from_request[name], from_columns[name]):
            assert got.dtype == expected.dtype, name
            np.testing.assert_array_equal(got, expected, err_msg=name)


def test_missing_values_take_the_defaults_of_the_contract():
    raw = tensors.from_rows([ROW], CONTRACT)
    pad = tensors.PAD_INT64
    assert {name: value.tolist() for name, value in raw.items()} == {
        "event_time": [0],
        "user": [b""],
        "age": [40],
        "premium": [False],
        "price": [0.0],
        "page": [b"p1"],
        "format": [b"banner"],
        "history": [[pad, pad, pad]],
        "tags": [[b"x", b"y"]],
        "position": [1],
    }


def test_long_lists_keep_their_last_items():
    raw = tensors.from_rows([{**ROW, "history": [1, 2, 3, 4, 5]}], CONTRACT)
    assert raw["history"].tolist() == [[3, 4, 5]]


@pytest.mark.parametrize(
    ("given_time", "seconds"),
    [
        ("1970-01-02T00:00:00Z", 86_400),
        ("1970-01-02T05:30:00+05:30", 86_400),
        ("1970-01-02", 86_400),  # without a zone it is UTC
        (86_400, 86_400),
        (86_400.9, 86_400),
        (-0.5, -1),
        ("1969-12-31T23:59:59.5Z", -1),
    ],
)
def test_timestamps_come_as_iso_8601_or_epoch_seconds(given_time, seconds):
    assert tensors.from_rows([{**ROW, "event_time": given_time}], CONTRACT)["event_time"].tolist() == [
        seconds
    ]


def test_columns_of_the_contract_that_no_model_sees_are_ignored():
    assert "label" not in tensors.from_rows([{**ROW, "label": 1}], CONTRACT)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"user": "u"}, "row 1, field `page`: is required"),
        ({**ROW, "page": None}, "row 1, field `page`: is required"),
        ({**ROW, "usr": "u"}, "row 1, field `usr` is unknown; did you mean `user`"),
        ({**ROW, "age": "40"}, "row 1, field `age`: must be an integer; got '40'"),
        ({**ROW, "age": True}, "row 1, field `age`: must be an integer; got true"),
        ({**ROW, "age": 40.0}, "field `age`: must be an integer; got 40.0; send 40"),
        ({**ROW, "age": 121}, "field `age`: must lie in 0 to 120; got 121"),
        ({**ROW, "position": 2**63}, "field `position`: must fit in 64 bits"),
        ({**ROW, "premium": 1}, "field `premium`: must be true or false; got 1"),
        ({**ROW, "price": "1.5"}, "field `price`: must be a number; got '1.5'"),
        ({**ROW, "price": False}, "field `price`: must be a number; got false"),
        ({**ROW, "price": math.nan}, "field `price`: must be finite; got nan"),
        ({**ROW, "price": -math.inf}, "field `price`: must be finite; got -inf"),
        ({**ROW, "price": 1e39}, "field `price`: is too large for float32"),
        ({**ROW, "price": 10**400}, "field `price`: is too large for float32"),
        ({**ROW, "user": 7}, "field `user`: must be a string; got 7"),
        ({**ROW, "user": ["a"]}, "field `user`: must be a string"),
        ({**ROW, "user": "\ud800"}, "field `user`: holds a lone surrogate"),
        ({**ROW, "format": "audio"}, "field `format`: must be one of banner, video; got 'audio'"),
        ({**ROW, "history": 3}, "field `history`: must be a list; got 3"),
        ({**ROW, "history": "12"}, "field `history`: must be a list; got '12'"),
        ({**ROW, "history": [1, "2"]}, "field `history`, item 1: must be an integer; got '2'"),
        ({**ROW, "tags": {"a": 1}}, "field `tags`: must be a list"),
        ({**ROW, "event_time": "yesterday"}, "field `event_time`: must be an ISO 8601 time"),
        ({**ROW, "event_time": 1.7e15}, "send seconds, not milli- or microseconds"),
        ({**ROW, "event_time": math.inf}, "field `event_time`: must be finite"),
        ({**ROW, "event_time": True}, "field `event_time`: must be an ISO 8601 time"),
        (7, "row 1: must be an object of fields; got 7"),
    ],
)
def test_a_broken_rule_is_named_with_its_row_and_field(row, words):
    with pytest.raises(RequestError) as caught:
        tensors.from_rows([ROW, row], CONTRACT)
    assert words in str(caught.value)


def test_columns_of_unequal_length_are_refused():
    with pytest.raises(RequestError, match="field `user`: has 1 values, the request has 2 rows"):
        tensors.from_columns({"page": ["a", "b"], "user": ["u"]}, CONTRACT, 2)


def test_no_rows_give_empty_tensors():
    raw = tensors.from_rows([], CONTRACT)
    assert raw["user"].shape == (0,)
    assert raw["history"].shape == (0, 3)


def test_tables_may_come_sliced_chunked_and_dictionary_encoded(market, impressions):
    table = impressions(30)
    odd = pa.concat_tables([table.slice(0, 7), table.slice(7, 13), table.slice(20)])
    odd = odd.set_column(odd.column_names.index("user"), "user", odd["user"].dictionary_encode())
    whole, parts = tensors.from_arrow(table, market), tensors.from_arrow(odd, market)
    middle = tensors.from_arrow(table.slice(5, 10), market)
    for name in whole:
        np.testing.assert_array_equal(parts[name], whole[name])
        np.testing.assert_array_equal(middle[name], whole[name][5:15])


def test_a_table_without_a_column_is_refused(market, impressions):
    with pytest.raises(SchemaMismatch, match="the table lacks user"):
        tensors.from_arrow(impressions(3).drop_columns(["user"]), market)


def test_a_column_of_another_type_is_refused(market, impressions):
    table = impressions(3).drop_columns(["ad"]).append_column("ad", pa.array(["x", "y", "z"]))
    with pytest.raises(SchemaMismatch, match="field `ad`: the table's string can't be read as int64"):
        tensors.from_arrow(table, market)


def test_the_signature_names_every_input():
    signature = tensors.signature(CONTRACT)
    assert list(signature) == list(CONTRACT.inputs)
    raw = tensors.from_rows([ROW], CONTRACT)
    for name, spec in signature.items():
        assert spec.shape.rank == raw[name].ndim
        assert spec.dtype == ("string" if raw[name].dtype == object else raw[name].dtype)
