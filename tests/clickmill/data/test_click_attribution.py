"""Which click belongs to which impression, against a few lines of plain Python."""

from collections import Counter
from datetime import UTC, datetime, timedelta

import ibis
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clickmill.contract import loads
from clickmill.data import connect, join_clicks, read_clicks, read_truth
from clickmill.errors import ContractError, SchemaMismatch

CONTRACT = loads(
    """
name: t
fields:
  key: {role: impression_id, dtype: int64, column: impression}
  at: {role: event_time, dtype: timestamp}
  label: {role: label, dtype: bool}
  clicked_at: {role: click_time, dtype: timestamp}
  p: {role: truth, dtype: float32, column: true_pctr}
  site: {role: context, dtype: string, encoding: {kind: vocabulary}}
"""
)
START = datetime(2026, 1, 5, tzinfo=UTC)
TIME = pa.timestamp("us", "UTC")
CON = connect()


def seconds(*values):
    return pa.array([None if v is None else START + timedelta(seconds=v) for v in values], TIME)


def impressions(rows):
    table = pa.table(
        {
            "key": pa.array([key for key, _ in rows], pa.int64()),
            "at": seconds(*(at for _, at in rows)),
            "site": pa.array(["s"] * len(rows), pa.string()),
        }
    )
    return CON.create_table(ibis.util.gen_name("shown"), ibis.memtable(table), temp=True)


def clicks(rows):
    table = pa.table(
        {
            "key": pa.array([key for key, _ in rows], pa.int64()),
            "clicked_at": seconds(*(at for _, at in rows)),
        }
    )
    return CON.create_table(ibis.util.gen_name("clicks"), ibis.memtable(table), temp=True)


def join(shown, log, window=10, as_of=None):
    table, report = join_clicks(
        impressions(shown),
        clicks(log),
        contract=CONTRACT,
        window=timedelta(seconds=window),
        as_of=None if as_of is None else START + timedelta(seconds=as_of),
    )
    return table.order_by("key").to_pyarrow().to_pylist(), report


def test_each_click_of_the_log_has_one_fate():
    shown = [(1, 0), (2, 0), (3, 0), (4, 100)]
    log = [(1, 5), (1, 6), (2, 10), (3, 11), (4, 99), (9, 5), (None, 5), (2, None)]
    rows, report = join(shown, log)
    assert [row["label"] for row in rows] == [True, True, False, False]
    assert rows[0]["clicked_at"] == START + timedelta(seconds=5)
    assert rows[2]["clicked_at"] is None
    assert report.model_dump(exclude={"click_log_end", "as_of"}) == {
        "window_s": 10.0,
        "clicks": 8,
        "joined": 2,
        "duplicate": 1,
        "late": 1,
        "before_impression": 1,
        "orphan": 1,
        "incomplete": 2,
        "unknown_yet": 0,
        "immature": 1,
    }
    assert report.click_log_end == report.as_of == START + timedelta(seconds=99)
    assert "2 of 8 clicks found their impression within 10 seconds" in report.message


def test_a_click_at_the_very_end_of_the_window_counts_and_a_microsecond_later_does_not():
    assert join([(1, 0)], [(1, 10)])[0][0]["label"] is True
    rows, report = join([(1, 0)], [(1, 10.000001)])
    assert rows[0]["label"] is False
    assert report.late == 1


def test_an_early_click_does_not_hide_the_valid_one_after_it():
    rows, report = join([(1, 50)], [(1, 40), (1, 55)])
    assert rows[0]["clicked_at"] == START + timedelta(seconds=55)
    assert (report.joined, report.duplicate, report.before_impression) == (1, 0, 1)


def test_as_of_a_moment_later_clicks_on_earlier_impressions_are_not_known():
    # as of second 20: the click at 20 on the impression of second 12 comes too late to be known, that on the impression of 20 counts
    rows, report = join([(1, 0), (2, 12), (3, 20)], [(1, 19), (2, 20), (3, 25)], window=30, as_of=20)
    assert [row["label"] for row in rows] == [True, False, True]
    assert (report.joined, report.unknown_yet, report.immature) == (2, 1, 2)
    assert report.as_of == START + timedelta(seconds=20)
    assert "1 were not known by" in report.message


def test_without_clicks_every_label_is_false():
    rows, report = join([(1, 0), (2, 0)], [])
    assert [row["label"] for row in rows] == [False, False]
    assert (report.clicks, report.immature, report.click_log_end) == (0, 0, None)


def oracle(shown, log, window):
    times = dict(shown)
    first, fates = {}, Counter()
    for key, at in sorted(log, key=lambda click: click[1]):
        if key not in times:
            fates["orphan"] += 1
        elif at < times[key]:
            fates["before_impression"] += 1
        elif at > times[key] + window:
            fates["late"] += 1
        elif key in first:
            fates["duplicate"] += 1
        else:
            first[key] = at
            fates["joined"] += 1
    return first, fates


@settings(max_examples=15)
@given(
    shown=st.dictionaries(st.integers(0, 12), st.integers(0, 60), min_size=1, max_size=10),
    log=st.lists(st.tuples(st.integers(0, 15), st.integers(0, 80)), max_size=25),
    window=st.integers(0, 40),
)
def test_the_join_agrees_with_plain_python(shown, log, window):
    rows, report = join(list(shown.items()), log, window)
    first, fates = oracle(shown.items(), log, window)
    assert {row["key"]: row["clicked_at"] for row in rows} == {
        key: START + timedelta(seconds=first[key]) if key in first else None for key in shown
    }
    assert all(row["label"] is (row["key"] in first) for row in rows)
    assert {
        fate: getattr(report, fate) for fate in ("joined", "duplicate", "late", "before_impression", "orphan")
    } == {fate: fates[fate] for fate in ("joined", "duplicate", "late", "before_impression", "orphan")}
    assert report.clicks == len(log) == sum(fates.values())


def test_click_logs_are_read_by_the_source_names_of_the_contract(tmp_path):
    (tmp_path / "clicks.csv").write_text("impression,clicked_at\n7,2026-01-05T00:00:03Z\n8,soon\n")
    rows = read_clicks(tmp_path / "clicks.csv", CONTRACT).to_pyarrow().to_pylist()
    assert rows == [
        {"key": 7, "clicked_at": START + timedelta(seconds=3)},
        {"key": 8, "clicked_at": None},
    ]


def test_a_click_log_without_its_time_is_a_mismatch(tmp_path):
    (tmp_path / "clicks.csv").write_text("impression,time_of_click\n7,2026-01-05T00:00:03Z\n")
    with pytest.raises(SchemaMismatch, match=r"column `clicked_at` .* is missing"):
        read_clicks(tmp_path / "clicks.csv", CONTRACT)


def test_a_truth_log_needs_a_truth_field(tmp_path):
    (tmp_path / "truth.csv").write_text("impression,true_pctr\n7,0.25\n")
    assert read_truth(tmp_path / "truth.csv", CONTRACT).to_pyarrow().to_pylist() == [{"key": 7, "p": 0.25}]
    without = CONTRACT.model_copy(update={"fields": {k: f for k, f in CONTRACT.fields.items() if k != "p"}})
    with pytest.raises(ContractError, match="no field of role truth"):
        read_truth(tmp_path / "truth.csv", without)


def test_a_contract_without_a_key_cannot_join():
    without = CONTRACT.model_copy(update={"fields": {k: f for k, f in CONTRACT.fields.items() if k != "key"}})
    with pytest.raises(ContractError, match="no field of role impression_id"):
        join_clicks(impressions([(1, 0)]), clicks([]), contract=without, window=timedelta(seconds=1))
