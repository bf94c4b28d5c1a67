"""Arms are even, sticky, independent between layers, and nobody is moved by a ramp."""

from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2_contingency, chisquare, kstest

from clickmill.errors import DataError, UsageError
from clickmill.experiment import ExperimentSpec, Place, assign
from clickmill.experiment.assignment import assign_all, uniform
from clickmill.experiment.spec import check_layers, dumps, load

USERS = [f"u{i:06d}" for i in range(40_000)]


def spec(**changed):
    given = {
        "name": "one",
        "arms": {"a": {"weight": 1}, "b": {"weight": 2}, "c": {"weight": 1}},
        "control": "a",
    }
    return ExperimentSpec.model_validate(given | changed)


def arms_of(found):
    return np.array(found["arm"].to_pylist(), object)


def test_arms_get_their_weights_and_the_hash_is_uniform():
    arms = arms_of(assign_all(spec(), USERS))
    counts = [int((arms == name).sum()) for name in "abc"]
    assert chisquare(counts, [10_000, 20_000, 10_000]).pvalue > 1e-3
    assert kstest([uniform("one/arm", user) for user in USERS], "uniform").pvalue > 1e-3


def test_running_numbers_and_common_prefixes_do_not_show_in_the_arm():
    arms = arms_of(assign_all(spec(arms={"a": {}, "b": {}}), USERS))
    parity = np.arange(len(USERS)) % 2
    table = [[int(((arms == arm) & (parity == p)).sum()) for p in (0, 1)] for arm in "ab"]
    assert chi2_contingency(table).pvalue > 1e-3


def test_layers_are_orthogonal():
    one = arms_of(assign_all(spec(layer="ranking"), USERS))
    other = arms_of(assign_all(spec(name="two", layer="price"), USERS))
    table = [[int(((one == x) & (other == y)).sum()) for y in "abc"] for x in "abc"]
    assert chi2_contingency(table).pvalue > 1e-3


def test_experiments_of_one_layer_share_no_user():
    first = assign_all(spec(share=(0.0, 0.4)), USERS)["place"].to_pylist()
    second = assign_all(spec(name="two", share=(0.4, 1.0)), USERS)["place"].to_pylist()
    assert all((x == "in") != (y == "in") for x, y in zip(first, second, strict=True))
    assert abs(first.count("in") / len(USERS) - 0.4) < 0.01


def test_the_holdout_is_the_same_for_all_and_in_none():
    held = [
        [
            place == "holdout"
            for place in assign_all(spec(name=name, layer=name, holdout=0.05), USERS)["place"].to_pylist()
        ]
        for name in ("one", "two")
    ]
    assert held[0] == held[1]
    assert abs(np.mean(held[0]) - 0.05) < 0.005


@given(st.text(min_size=1, max_size=20), st.floats(0, 1), st.floats(0, 1))
@settings(deadline=None)
def test_a_growing_ramp_lets_users_in_and_moves_nobody(user, one, other):
    low, high = sorted((one, other))
    before, after = assign(spec(ramp=low), user), assign(spec(ramp=high), user)
    if before.place is Place.IN:
        assert after == before
    if after.place is not Place.IN:
        assert before.place is not Place.IN


def test_those_who_come_late_are_split_like_those_who_came_first():
    first = arms_of(assign_all(spec(ramp=0.1), USERS))
    late = arms_of(assign_all(spec(ramp=1.0), USERS))[first == None]  # noqa: E711  elementwise
    counts = [int((late == name).sum()) for name in "abc"]
    assert chisquare(counts, np.array([0.25, 0.5, 0.25]) * len(late)).pvalue > 1e-3


@given(
    st.lists(st.text(min_size=1, max_size=12), min_size=1, max_size=20), st.floats(0, 0.5), st.floats(0, 1)
)
@settings(deadline=None, max_examples=30)
def test_duckdb_and_python_assign_alike(users, holdout, ramp):
    chosen = spec(holdout=holdout, ramp=ramp, share=(0.1, 0.9), salt="it's a salt")
    users = [user for user in users if "\0" not in user] or ["u"]
    found = assign_all(chosen, users).to_pylist()
    assert [(row["place"], row["arm"]) for row in found] == [
        (one.place, one.arm) for one in (assign(chosen, user) for user in users)
    ]


def test_nobody_is_assigned_before_the_start_or_from_the_end_on():
    chosen = spec(start="2026-03-02T00:00:00Z", end="2026-03-09T00:00:00Z")
    assert assign(chosen, "u1", datetime(2026, 3, 1, 23, tzinfo=UTC)).place is Place.NOT_NOW
    assert assign(chosen, "u1", datetime(2026, 3, 2, tzinfo=UTC)).place is Place.IN
    assert assign(chosen, "u1", datetime(2026, 3, 9, tzinfo=UTC)).place is Place.NOT_NOW


def test_a_user_without_an_id_is_refused():
    with pytest.raises(DataError, match="`user_id`: a user without an id"):
        assign(spec(), "")
    with pytest.raises(DataError, match="`user_id`, row 1: a user without an id"):
        assign_all(spec(), ["u1", "", None])


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (
            {"name": "two", "share": (0.5, 1.0)},
            r"one \[0.0, 1.0\] and two \[0.5, 1.0\] overlap in layer 'default'",
        ),
        ({"name": "two", "salt": "one", "layer": "x"}, "the same salt"),
        ({"name": "two", "layer": "x", "holdout": 0.1}, "holdout is one for all"),
    ],
)
def test_experiments_that_would_meet_are_refused(other, words):
    check_layers([spec(), spec(name="two", layer="other")])
    with pytest.raises(UsageError, match=words):
        check_layers([spec(), spec(**other)])


def test_a_spec_survives_its_file_and_a_wrong_one_names_field_and_rule(tmp_path):
    path = tmp_path / "experiment.yaml"
    path.write_text(dumps(spec(guardrails={"rpm": 0.01}, start="2026-03-02T00:00:00Z")))
    assert load(path) == spec(guardrails={"rpm": 0.01}, start="2026-03-02T00:00:00Z")
    for text, words in {
        "name: x\narms: {a: {}}\ncontrol: a": "arms: .*at least two arms; got a",
        "name: x\narms: {a: {}, b: {weight: 0}}\ncontrol: a": r"arms.b.weight: .*greater than 0 \(got 0\)",
        "name: x\narms: {a: {}, b: {}}\ncontrol: z": "control: no arm 'z'; arms: a, b",
        "name: x\narms: {a: {}, b: {}}\ncontrol: a\nprimary: crt": "metric 'crt': there is none",
        "name: x\narms: {a: {}, b: {}}\ncontrol: a\nstart: 2026-03-02T00:00:00": "start: .*timezone",
        "name: x\narms: {a: {}, b: {}}\ncontrol: a\npre_days: 7": "pre_days: needs a start",
        "name: x\narms: {a: {}, b: {}}\ncontrol: a\nrampp: 1": "rampp: Extra inputs",
    }.items():
        path.write_text(text)
        with pytest.raises(UsageError, match=words):
            load(path)
