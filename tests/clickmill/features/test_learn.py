"""What the train split teaches, against counting by hand and numpy."""

import collections
import math

import numpy as np
import pyarrow as pa
import pytest

from clickmill.contract import loads
from clickmill.errors import UnreadableData
from clickmill.features import fit


def _contract(field: str, label: str = "  y: {role: label, dtype: int64}\n"):
    return loads(f"name: one\nfields:\n  x: {field}\n{label}")


def _fit(prepared, contract, column: pa.Array):
    return fit(prepared(contract, pa.table({"x": column, "y": pa.array([0] * len(column), pa.int64())})))


def test_vocabulary_keeps_frequent_values_first_and_breaks_ties_by_value(prepared):
    contract = _contract("{role: ad, dtype: string, encoding: {kind: vocabulary, min_count: 2}}")
    space = _fit(prepared, contract, pa.array(["b", "b", "a", "a", "c", "c", "c", "rare"]))
    assert space.vocabularies["x"].to_pylist() == ["c", "a", "b"]
    assert space.slots[0].rows == 4  # the unknown and three values
    assert space.table_rows == 5  # and the padding


def test_vocabulary_is_capped_at_the_most_frequent(prepared):
    contract = _contract("{role: ad, dtype: int64, encoding: {kind: vocabulary, min_count: 1, max_size: 2}}")
    space = _fit(prepared, contract, pa.array([5, 5, 5, -7, -7, 9], pa.int64()))
    assert space.vocabularies["x"].to_pylist() == [5, -7]


def test_missing_values_count_as_the_default(prepared):
    contract = _contract("{role: ad, dtype: string, default: a, encoding: {kind: vocabulary, min_count: 3}}")
    space = _fit(prepared, contract, pa.array(["a", None, None, "b", "b"]))
    assert space.vocabularies["x"].to_pylist() == ["a"]


def test_a_missing_string_without_default_gets_a_row_of_its_own(prepared):
    contract = _contract("{role: ad, dtype: string, encoding: {kind: vocabulary, min_count: 2}}")
    assert _fit(prepared, contract, pa.array([None, None, "b", "b", "b"])).vocabularies["x"].to_pylist() == [
        "b",
        "",
    ]


def test_values_that_would_break_the_lines_of_the_file_stay_unknown(prepared):
    contract = _contract("{role: ad, dtype: string, encoding: {kind: vocabulary, min_count: 1}}")
    space = _fit(prepared, contract, pa.array(["two\nlines", "cr\r", "\x00", "it's ok", "tab\t", "é"]))
    assert sorted(space.vocabularies["x"].to_pylist()) == ["it's ok", "tab\t", "é"]


def test_vocabulary_of_a_list_counts_only_the_items_that_are_kept(prepared):
    encoding = "{kind: list, max_length: 2, items: {kind: vocabulary, min_count: 2}}"
    contract = _contract(f"{{role: ad, dtype: string_list, encoding: {encoding}}}")
    lists = pa.array(
        [["old", "a", "b"], ["old", "b", "a"], ["c"], None, [None, "", "c"]], pa.list_(pa.string())
    )
    assert _fit(prepared, contract, lists).vocabularies["x"].to_pylist() == ["a", "b", "c"]


def test_moments_equal_numpys(prepared):
    rng = np.random.default_rng(1)
    x = rng.lognormal(3, 2, 500).astype(np.float32) * rng.choice([-1, 1], 500).astype(np.float32)
    contract = _contract("{role: ad, dtype: float32, encoding: {kind: log1p}}")
    moments = _fit(prepared, contract, pa.array(x)).moments["x"]
    logs = np.sign(x.astype(float)) * np.log1p(np.abs(x.astype(float)))
    assert moments.mean == pytest.approx(logs.mean(), rel=1e-9)
    assert moments.deviation == pytest.approx(logs.std(), rel=1e-9)


def test_a_constant_column_has_deviation_one(prepared):
    contract = _contract("{role: ad, dtype: float32, encoding: {kind: standardize}}")
    assert _fit(prepared, contract, pa.array([0.1] * 7, pa.float32())).moments["x"] == (
        pytest.approx(0.1),
        1.0,
    )


def test_quantile_edges_make_buckets_of_equal_mass(prepared):
    contract = _contract("{role: ad, dtype: int64, encoding: {kind: bucketize, quantiles: 4}}")
    edges = _fit(prepared, contract, pa.array(range(100), pa.int64())).edges["x"]
    counts = collections.Counter(np.searchsorted(edges, np.arange(100), side="right").tolist())
    assert len(counts) == 4
    assert all(abs(n - 25) <= 1 for n in counts.values())


def test_a_heavy_value_leaves_fewer_buckets_and_none_of_them_empty(prepared):
    contract = _contract("{role: ad, dtype: int64, encoding: {kind: bucketize, quantiles: 4}}")
    values = np.array([0] * 80 + list(range(1, 21)))
    edges = _fit(prepared, contract, pa.array(values)).edges["x"]
    space_rows = len(edges) + 1
    assert set(np.searchsorted(edges, values, side="right").tolist()) == set(range(space_rows))


def test_order_and_file_layout_of_the_rows_change_nothing(prepared, market, impressions):
    table = impressions(400)
    shuffled = table.take(pa.array(np.random.default_rng(0).permutation(400)))
    assert fit(prepared(market, shuffled)).digest == fit(prepared(market, table)).digest


def test_positions_reach_as_deep_as_the_train_split(prepared, market, impressions):
    assert fit(prepared(market, impressions(300))).positions == 5


def test_rows_of_the_fused_table_do_not_overlap_and_leave_no_hole(prepared, market, impressions):
    space = fit(prepared(market, impressions(300)))
    owned = {(s.offset, s.rows) for s in space.slots} | {(s.offset, s.rows) for s in space.lists}
    end = 1
    for offset, rows in sorted(owned):
        assert offset == end
        end += rows
    assert end == space.table_rows
    by_name = {s.name: s for s in (*space.slots, *space.lists)}
    assert by_name["next_ad"].offset == by_name["history"].offset == by_name["ad"].offset
    assert by_name["next_ad"].rows_of == "ad"


def test_an_empty_train_split_is_refused(prepared):
    contract = _contract("{role: ad, dtype: float32, encoding: {kind: standardize}}")
    with pytest.raises(UnreadableData, match="the train split has no rows"):
        _fit(prepared, contract, pa.array([], pa.float32()))


def test_moments_hold_on_large_offsets(prepared):
    x = np.array([1e9 + k for k in range(5)])
    contract = _contract("{role: ad, dtype: int64, encoding: {kind: standardize}}")
    moments = _fit(prepared, contract, pa.array(x.astype(np.int64))).moments["x"]
    assert moments.deviation == pytest.approx(math.sqrt(2))
