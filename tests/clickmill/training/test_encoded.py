"""Splits encoded once, and the order in which training reads them."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clickmill.errors import TrainingError, UnreadableData
from clickmill.features import Encoder, tensors
from clickmill.training.encoded import BLOCK_ROWS, EncodedSplit, encode


def _numbered(rows: int) -> EncodedSplit:
    """A split whose rows know their number."""
    return EncodedSplit(
        {"slots": np.arange(rows, dtype=np.int32)[:, None], "label": np.arange(rows, dtype=np.float32)}
    )


def _order(split: EncodedSplit, **options) -> list[list[int]]:
    batches = list(split.shuffled(**options))
    assert all((b["slots"][:, 0] == b["label"]).all() for b in batches)  # rows stay whole
    return [b["label"].astype(int).tolist() for b in batches]


@given(
    rows=st.integers(1, 9000),
    size=st.integers(1, 3000),
    memory=st.sampled_from([1, 8 * BLOCK_ROWS, 24 * BLOCK_ROWS, 1 << 20]),
    first=st.integers(0, 12),
    epoch=st.integers(0, 3),
)
@settings(max_examples=80)
def test_every_row_comes_once_in_full_batches_and_a_late_start_goes_on_alike(
    rows, size, memory, first, epoch
):
    split = _numbered(rows)
    whole = _order(split, size=size, seed=7, epoch=epoch, memory=memory)
    assert sorted(row for batch in whole for row in batch) == list(range(rows))
    assert all(len(batch) == size for batch in whole[:-1])
    assert _order(split, size=size, seed=7, epoch=epoch, memory=memory, first=first) == whole[first:]


def test_epochs_and_seeds_have_orders_of_their_own():
    split, options = _numbered(500), {"size": 500, "memory": 1 << 20}
    orders = [_order(split, seed=s, epoch=e, **options)[0] for s, e in ((0, 0), (0, 1), (1, 0), (0, 0))]
    assert orders[0] == orders[3]
    assert orders[0] != orders[1]
    assert orders[0] != orders[2]


def test_a_split_larger_than_the_memory_is_mixed_across_time():
    rows = 20 * BLOCK_ROWS
    first = _order(_numbered(rows), size=4096, seed=0, epoch=0, memory=8 * 5 * BLOCK_ROWS)[0]
    assert len({row // BLOCK_ROWS for row in first}) == 5  # a window of five blocks, all in the first batch
    assert first != sorted(first)


def test_encoded_arrays_hold_what_the_encoder_says(dataset, space, tmp_path):
    encoder = Encoder(space)
    split = encode(dataset, "test", encoder, tmp_path)
    whole = dataset.columns("test", list(space.contract.columns))
    expected = encoder.encode(tensors.from_arrow(whole, space.contract))
    assert set(split.inputs) == set(expected)
    for key, value in expected.items():
        np.testing.assert_array_equal(split.arrays[key], value.numpy())
    np.testing.assert_array_equal(split.arrays["label"], whole["label"].to_numpy())
    np.testing.assert_array_equal(split.arrays["weight"], whole["importance"].to_numpy())


def test_an_encoded_split_is_used_again_only_for_the_same_rows_and_space(
    dataset, space, tmp_path, market, write, rows
):
    encoder = Encoder(space)
    encode(dataset, "test", encoder, tmp_path)
    stamp = (tmp_path / "00.npy").stat().st_mtime_ns
    encode(dataset, "test", encoder, tmp_path)
    assert (tmp_path / "00.npy").stat().st_mtime_ns == stamp
    other = write(market, {"test": rows(100, 9)})
    assert encode(other, "test", encoder, tmp_path).rows == 100


def test_a_split_without_rows_is_refused(market, write, rows, space, tmp_path):
    empty = write(market, {"train": rows(4, 0).slice(0, 0)})
    with pytest.raises(UnreadableData, match="the train split has no rows"):
        encode(empty, "train", Encoder(space), tmp_path / "encoded")


def test_a_missing_label_is_refused(market, write, rows, space, tmp_path):
    table = rows(4, 0)
    holed = table.set_column(
        table.column_names.index("label"), "label", pa.array([1, 0, 1, None], pa.int64())
    )
    broken = write(market, {"calibration": table.slice(0, 0), "train": table})
    import pyarrow.parquet as pq

    pq.write_table(holed, broken.parts("train")[0])
    with pytest.raises(TrainingError, match="field `label`: 1 rows have no label"):
        encode(broken, "train", Encoder(space), tmp_path / "encoded")
