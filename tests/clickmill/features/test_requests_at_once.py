"""Many rows are read a column at once, few value by value: both ways give the same arrays and the same refusals."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clickmill.contract import loads
from clickmill.errors import RequestError
from clickmill.features.tensors import from_rows

CONTRACT = loads(
    """
name: columns
fields:
  text: {role: user, dtype: string, encoding: {kind: vocabulary}}
  kind: {role: ad, dtype: string, allowed: [x, y], encoding: {kind: vocabulary}}
  must: {role: ad, dtype: int64, required: true, range: {min: -5, max: 9}, encoding: {kind: log1p}}
  code: {role: ad, dtype: int64, allowed: [1, 2], encoding: {kind: vocabulary}}
  ratio: {role: user, dtype: float32, range: {min: 0, max: 0.1}, default: 0.05, encoding: {kind: standardize}}
  free: {role: user, dtype: float32, encoding: {kind: standardize}}
  flag: {role: user, dtype: bool, encoding: {kind: vocabulary}}
"""
)

ODD: dict[str, list[Any]] = {
    "text": ["\ud800", 3, b"bytes", ""],
    "kind": ["z", "", 1],
    "must": [10, -6, 2.0, True, 2**63, None],
    "code": [3, True, 1.0],
    "ratio": [0.10000000149011612, -1e-9, math.nan, math.inf, "0.05", True, 10**400],
    "free": [1e39, -math.inf, None, 2**70, np.float32(1)],
    "flag": [0, 1, "true"],
}
ROW = st.fixed_dictionaries(
    {"must": st.integers(-5, 9)},
    optional={
        "text": st.none() | st.text(st.characters(codec="utf-8"), max_size=4),
        "kind": st.none() | st.sampled_from(["x", "y"]),
        "code": st.none() | st.sampled_from([1, 2]),
        "ratio": st.none() | st.floats(0, 0.1) | st.just(0),
        "free": st.none() | st.floats(-1e30, 1e30) | st.integers(-(2**60), 2**60),
        "flag": st.none() | st.booleans(),
    },
)


def one_by_one(rows: list[dict[str, Any]]) -> dict[str, np.ndarray] | str:
    """The oracle: single rows never take the quick way."""
    parts = []
    for number, row in enumerate(rows):
        try:
            parts.append(from_rows([row], CONTRACT))
        except RequestError as error:
            return str(error).replace("row 0", f"row {number}", 1)
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


@given(st.lists(ROW, min_size=16, max_size=40))
def test_legal_rows_become_the_arrays_of_single_rows(rows):
    expected, found = one_by_one(rows), from_rows(rows, CONTRACT)
    assert isinstance(expected, dict)
    for name, values in expected.items():
        assert found[name].dtype == values.dtype
        assert found[name].tolist() == values.tolist(), name


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in ODD.items() for value in values]
)
def test_an_odd_value_among_many_is_told_as_it_is_alone(name, value):
    rows = [{"must": 1, name: {"must": 1}.get(name)} for _ in range(30)]
    rows = [{key: v for key, v in row.items() if v is not None} for row in rows]
    rows[17][name] = value
    expected = one_by_one(rows)
    if isinstance(expected, str):
        with pytest.raises(RequestError) as caught:
            from_rows(rows, CONTRACT)
        assert str(caught.value) == expected
    else:
        found = from_rows(rows, CONTRACT)
        assert {n: v.tolist() for n, v in found.items()} == {n: v.tolist() for n, v in expected.items()}


@settings(max_examples=40)
@given(st.lists(ROW, min_size=16, max_size=24), st.permutations(["must", "text", "ratio", "flag", "free"]))
def test_rows_that_all_name_the_same_fields_are_read_alike(rows, names):
    alike = [{name: row.get(name) for name in names} for row in rows]
    got, expected = from_rows(alike, CONTRACT), one_by_one(alike)
    assert isinstance(expected, dict)
    for name, values in expected.items():
        assert got[name].dtype == values.dtype
        assert got[name].tolist() == values.tolist()
    some = from_rows(alike, CONTRACT, only={"must", "kind"})
    assert some.keys() == {"must", "kind"}


def test_rows_that_all_name_the_same_unknown_field_are_refused():
    with pytest.raises(RequestError, match="row 0, field `mist` is unknown; did you mean `must`"):
        from_rows([{"mist": 1}] * 20, CONTRACT)
