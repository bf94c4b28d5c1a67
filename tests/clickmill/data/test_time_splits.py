"""Splits by time and the sampling of non-clicks, as laws over any log."""

import itertools

import ibis
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from clickmill.data import CutTimes, Fractions, connect
from clickmill.data.sampling import keep_negatives
from clickmill.data.splits import starts_by_share
from clickmill.errors import DataError

CON = connect()
SHARES = {"train": 0.6, "validation": 0.1, "calibration": 0.1, "test": 0.2}


def table(**columns):
    return CON.create_table(ibis.util.gen_name("rows"), ibis.memtable(pa.table(columns)), temp=True)


def cut(times):
    """Rows per split, by the starts."""
    starts = starts_by_share(table(t=pa.array(times, pa.int64())), "t", SHARES)
    edges = [-(10**9), *starts.values(), 10**9]
    return [[t for t in times if low <= t < high] for low, high in itertools.pairwise(edges)]


def test_distinct_times_are_cut_exactly_at_the_shares():
    assert [len(split) for split in cut(list(range(100)))] == [60, 10, 10, 20]


def test_rows_of_one_instant_stay_together_on_the_nearer_side():
    # 60 % falls inside the block of fives: 55 rows are before it and 75 until its end; 55 is nearer.
    times = [*range(-55, 0), *[5] * 20, *range(10, 35)]
    train, validation, calibration, test = cut(times)
    assert len(train) == 55
    assert set(validation) == {5}
    assert len(calibration) + len(test) == 25


@settings(max_examples=20)
@given(st.lists(st.integers(0, 30), min_size=4, max_size=60).filter(lambda times: len(set(times)) >= 4))
def test_every_split_has_rows_and_none_reaches_into_the_next(times):
    parts = cut(times)
    assert all(parts)
    assert sum(map(len, parts)) == len(times)
    for earlier, later in itertools.pairwise(parts):
        assert max(earlier) < min(later)


def test_too_few_instants_for_the_splits_are_told():
    with pytest.raises(
        DataError, match="5 rows at 3 distinct instants can't be split by time into train, validation"
    ):
        cut([1, 1, 2, 3, 3])


def test_fractions_and_cut_times_are_checked_when_they_are_given():
    with pytest.raises(ValidationError, match=r"must add up to 1\. Got 1\.1 instead"):
        Fractions(train=0.7)
    with pytest.raises(ValidationError, match="must ascend"):
        CutTimes(validation="2026-01-02", calibration="2026-01-01", test="2026-01-03")


def kept(share, seed=0, n=20_000):
    rows = table(
        i=pa.array(range(n), pa.int64()), y=pa.array([i % 50 == 0 for i in range(n)]).cast(pa.int64())
    )
    return keep_negatives(rows, "y", rows.i, share, seed).to_pyarrow()


def test_all_clicks_and_about_the_asked_share_of_the_rest_are_kept():
    rows = kept(0.1)
    assert pc.sum(rows["y"]).as_py() == 400
    # 19,600 non-clicks: the standard deviation of the count is 42.
    assert abs(rows.num_rows - 400 - 1960) < 5 * 42


def test_the_same_seed_keeps_the_same_rows_and_a_smaller_share_a_subset():
    wide, narrow, again = kept(0.3), kept(0.1), kept(0.1)
    assert set(narrow["i"].to_pylist()) == set(again["i"].to_pylist())
    assert set(narrow["i"].to_pylist()) < set(wide["i"].to_pylist())
    assert set(kept(0.1, seed=1)["i"].to_pylist()) != set(narrow["i"].to_pylist())


def test_which_rows_are_kept_is_worked_out_by_md5_alone():
    import hashlib

    def lower(i):
        return int.from_bytes(hashlib.md5(f"7:{i}".encode()).digest()[8:], "little")

    rows = kept(0.1, seed=7, n=1000)
    expected = {i for i in range(1000) if i % 50 == 0 or lower(i) < 0.1 * 2**64}
    assert set(rows["i"].to_pylist()) == expected
