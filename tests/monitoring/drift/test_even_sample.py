"""The sample of a stream: bounded, even, and no row more likely than another."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.drift.even_sample import EvenSample


def sampled(batches, limit, seed=0):
    sample, begin = EvenSample(limit, seed), 0
    for count in batches:
        sample.add(count, lambda at, begin=begin: pa.table({"row": at + begin}))
        begin += count
    return np.array([], int) if sample.rows is None else sample.rows.column("row").to_numpy()


@given(st.lists(st.integers(0, 70), max_size=12), st.integers(2, 20), st.integers(0, 5))
def test_it_is_bounded_and_holds_one_row_of_each_stretch(batches, limit, seed):
    total, limit = sum(batches), limit - limit % 2
    rows = sampled(batches, limit, seed)
    assert len(rows) <= limit
    assert len(rows) >= min(total, limit // 2)
    stride = 1
    while stride * limit < total:
        stride *= 2
    assert sorted(set(rows // stride)) == list(rows // stride)  # one of each block, in order
    assert set(range(total // stride)) <= set(rows // stride)  # and no whole block without


def test_a_stream_shorter_than_the_limit_is_kept_whole():
    assert list(sampled([3, 4], 10)) == list(range(7))


def test_every_row_is_equally_likely_whatever_the_period_of_the_stream():
    # 512 rows in requests of 8: a fixed step of a power of two would always meet the same candidate.
    hits = np.zeros(8)
    for seed in range(300):
        hits += np.bincount(sampled([100, 412], 64, seed) % 8, minlength=8)
    assert hits.sum() == 300 * 64
    assert hits == pytest.approx(np.full(8, 300 * 8), rel=0.08)  # 4.5 standard deviations
