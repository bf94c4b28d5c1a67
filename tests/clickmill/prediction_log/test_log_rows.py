"""Answers become rows that say what was answered, and that name nobody."""

import hashlib
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clickmill import contract as contracts
from clickmill.errors import UsageError
from clickmill.features.tensors import from_rows
from clickmill.prediction_log import Answered, Chances, Kept, Salt, is_kept, to_table

CONTRACT = contracts.loads(
    """
name: logged
fields:
  user_id: {role: user, dtype: string, personal: true, encoding: {kind: hash, buckets: 10}}
  age: {role: user, dtype: int64, personal: true, encoding: {kind: bucketize, boundaries: [30]}}
  visited: {role: sequence, dtype: string_list, personal: true,
            encoding: {kind: list, max_length: 3, items: {kind: hash, buckets: 10}}}
  ad_id: {role: ad, dtype: string, encoding: {kind: hash, buckets: 10}}
  tags: {role: ad, dtype: int64_list, encoding: {kind: list, max_length: 3, items: {kind: hash, buckets: 10}}}
  price: {role: ad, dtype: float32, encoding: {kind: log1p}, default: 2.0}
  returning: {role: context, dtype: bool, encoding: {kind: vocabulary}}
  shown_at: {role: event_time, dtype: timestamp}
  hour: {role: context, encoding: {kind: hour, of: shown_at}}
  position: {role: position, dtype: int64}
  clicked: {role: label, dtype: int64}
"""
)
SALT = Salt(b"sixteen bytes ..")
ROWS = [
    {"user_id": "u1", "age": 44, "visited": ["x", "y"], "ad_id": "ä", "tags": [7, 8], "price": 3.5,
     "returning": True, "shown_at": 1_700_000_000, "position": 2},
    {"user_id": "u1", "ad_id": "b"},
]  # fmt: skip


def answered(rows, request_id="r1", **more):
    n = len(rows)
    return Answered(
        request_id=request_id,
        time_us=1_700_000_000_000_001,
        model="logged",
        bundle="d" * 64,
        raw=from_rows(rows, CONTRACT),
        pctr=np.linspace(0.1, 0.2, n, dtype=np.float32),
        logit=np.linspace(-2, -1, n, dtype=np.float32),
        **more,
    )


def keyed(value):
    return hashlib.blake2b(value.encode(), key=SALT.secret, digest_size=16).hexdigest()


def test_a_row_per_candidate_with_what_was_answered():
    answers = [answered(ROWS, impression_ids=["i1", None], arm="b"), answered(ROWS[:1], "r2")]
    table = to_table(answers, CONTRACT, Kept.NOTHING, None).to_pydict()
    assert table["request_id"] == ["r1", "r1", "r2"]
    assert table["candidate"] == [0, 1, 0]
    assert table["time"] == [datetime(2023, 11, 14, 22, 13, 20, 1, UTC)] * 3
    assert table["bundle"] == ["d" * 64] * 3
    assert table["arm"] == ["b", "b", None]
    assert table["fallback"] == [None] * 3
    assert table["impression_id"] == ["i1", None, None]
    assert table["position"] == [2, 1, 2]
    np.testing.assert_allclose(table["pctr"], [0.1, 0.2, 0.1], rtol=1e-6)
    assert "features" not in table


def test_a_fallback_is_marked_and_its_rows_keep_their_places():
    answers = [answered(ROWS, fallback="overload", candidates=[7, 3]), answered(ROWS[:1])]
    table = to_table(answers, CONTRACT, Kept.NOTHING, None).to_pydict()
    assert table["candidate"] == [7, 3, 0]
    assert table["fallback"] == ["overload", "overload", None]


def test_chances_are_those_of_what_was_shown_and_null_for_the_rest():
    chances = Chances(np.array([0, 1]), np.array([np.nan, 0.25]), np.array([np.nan, 0.0]))
    table = to_table([answered(ROWS, chances=chances), answered(ROWS[:1])], CONTRACT, Kept.NOTHING, None)
    assert table["slot"].to_pylist() == [None, 1, None]
    assert table["propensity"].to_pylist() == [None, 0.25, None]
    assert table["greedy"].to_pylist() == [None, 0.0, None]


def test_features_are_what_the_model_saw_and_personal_ones_are_hashed():
    first, second = to_table([answered(ROWS)], CONTRACT, Kept.VALUES, SALT)["features"].to_pylist()
    assert first["user_id"] == second["user_id"] == keyed("u1")
    assert first["age"] == keyed("44")
    assert first["visited"] == [keyed("x"), keyed("y")]
    assert second["visited"] == []
    assert first["ad_id"] == "ä"
    assert first["tags"] == [7, 8]
    assert (first["price"], second["price"]) == (3.5, 2.0)
    assert first["returning"] is True
    assert first["shown_at"] == datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)


def test_a_digest_tells_equal_features_and_no_value():
    table = to_table([answered([*ROWS, ROWS[0]])], CONTRACT, Kept.DIGEST, SALT)
    digests = table["features_md5"].to_pylist()
    assert digests[0] == digests[2] != digests[1]
    assert all(len(digest) == 32 for digest in digests)
    assert "features" not in table.column_names


@pytest.mark.parametrize("kept", [Kept.VALUES, Kept.DIGEST])
def test_personal_values_are_never_logged_without_a_salt(kept):
    with pytest.raises(UsageError, match=r"personal data \(user_id, age, visited\) unhashed; give a salt"):
        to_table([answered(ROWS)], CONTRACT, kept, None)


@pytest.mark.parametrize("secret", [b"short", b"x" * 65])
def test_a_salt_that_can_be_guessed_is_refused(secret):
    with pytest.raises(UsageError, match=f"has {len(secret)} bytes"):
        Salt(secret)


def test_a_salt_does_not_show_itself():
    assert "sixteen" not in repr(SALT)


@given(st.text(), st.floats(0, 1), st.floats(0, 1))
def test_a_smaller_share_logs_a_subset(request_id, share, other):
    low, high = sorted((share, other))
    assert is_kept(request_id, high) or not is_kept(request_id, low)


def test_the_share_is_kept_on_the_whole():
    kept = sum(is_kept(f"request {i}", 0.1) for i in range(20_000))
    assert abs(kept - 2000) < 4 * np.sqrt(20_000 * 0.1 * 0.9)
