"""Settings on their way through a pipeline's JSON parameters."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clickmill.errors import UsageError
from clickmill.release import GatePolicy
from components.typed_settings import portable, restored, typed_settings

values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text("abc", max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(values)
def test_null_comes_back_from_where_it_cannot_travel(value: object) -> None:
    assert "null" not in json.dumps(portable(value)).replace('"null"', "")
    assert restored(portable(value)) == value


def test_a_check_of_the_gate_can_be_switched_off_and_whole_floats_are_integers() -> None:
    policy = typed_settings("gate", GatePolicy, {"max_ece": "null", "min_clicks": 30.0})
    assert policy.max_ece is None
    assert policy.min_clicks == 30


def test_every_wrong_key_is_named() -> None:
    with pytest.raises(UsageError) as caught:
        typed_settings("gate", GatePolicy, {"max_ecee": 1, "min_clicks": 0})
    words = str(caught.value)
    assert words.startswith("gate: 2 settings are wrong; known are max_ne, max_ece,")
    assert "gate.max_ecee: Extra inputs are not permitted; got 1" in words
    assert "gate.min_clicks: Input should be greater than or equal to 1; got 0" in words


def test_what_the_pipeline_has_as_a_parameter_is_not_taken_twice() -> None:
    with pytest.raises(UsageError, match="min_clicks is a parameter of the pipeline itself"):
        typed_settings("gate", GatePolicy, {"min_clicks": 3}, {"min_clicks": 5})
    with pytest.raises(UsageError, match="min_clicks is a parameter of the pipeline itself"):
        typed_settings("gate", GatePolicy, {"min_clicks": 3}, {"min_clicks": None})
