"""The contract check: which rows go to quarantine, with which words, and which go on."""

import math
from datetime import UTC, datetime, timedelta

import ibis
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clickmill.contract import loads
from clickmill.data import check, connect, read
from clickmill.errors import QuarantineOverflow, SchemaMismatch, UnreadableData

CONTRACT = loads(
    """
name: t
fields:
  impression_id: {role: impression_id, dtype: string}
  event_time: {role: event_time, dtype: timestamp}
  label: {role: label, dtype: int64}
  click_time: {role: click_time, dtype: timestamp}
  position: {role: position, dtype: int64}
  bid: {role: bid, dtype: float32}
  price: {role: ad, dtype: float32, encoding: {kind: log1p}, range: {min: 0, max: 100}}
  gender: {role: user, dtype: string, encoding: {kind: vocabulary}, allowed: [f, m]}
  user_id: {role: user, dtype: string, encoding: {kind: vocabulary}, required: true}
  history: {role: sequence, dtype: string_list, encoding: {kind: list, items: {kind: vocabulary}, max_length: 2}}
"""
)
START = datetime(2026, 1, 5, tzinfo=UTC)
GOOD = {
    "impression_id": "x",
    "event_time": START,
    "label": 0,
    "click_time": None,
    "position": 1,
    "bid": 0.5,
    "price": 1.0,
    "gender": "f",
    "user_id": "u",
    "history": ["a"],
}
TYPES = {
    "impression_id": pa.string(),
    "event_time": pa.timestamp("us", "UTC"),
    "label": pa.int64(),
    "click_time": pa.timestamp("us", "UTC"),
    "position": pa.int64(),
    "bid": pa.float32(),
    "price": pa.float32(),
    "gender": pa.string(),
    "user_id": pa.string(),
    "history": pa.list_(pa.string()),
}


class Checked:
    """The outcome of a check over `rows` good rows of which some are changed."""

    def __init__(self, folder, changes, rows=4, share=1.0, **options):
        data = [
            GOOD | {"impression_id": f"x{k}", "event_time": START + timedelta(minutes=k)} for k in range(rows)
        ]
        for row, change in changes.items():
            data[row] |= change
        path = folder / "log.parquet"
        pq.write_table(pa.Table.from_pylist(data, pa.schema(TYPES)), path)
        self.bad_path, self.good_path = folder / "bad.parquet", folder / "good.parquet"
        self.report = check(
            read(path, CONTRACT),
            CONTRACT,
            quarantine=self.bad_path,
            out=self.good_path,
            max_quarantine_share=share,
            origin="log.parquet",
            **options,
        )

    @property
    def bad(self):
        return pq.read_table(self.bad_path).to_pylist()

    @property
    def good(self):
        return pq.read_table(self.good_path).to_pylist()


def test_rows_that_keep_the_contract_go_on_unchanged(tmp_path):
    checked = Checked(tmp_path, {1: {"price": None, "gender": None, "history": None}})
    assert checked.report.quarantined == 0
    assert checked.report.message == "log.parquet: 4 rows keep the contract."
    assert not checked.bad_path.exists()
    assert pq.read_schema(checked.good_path).names == list(CONTRACT.columns)
    assert checked.good[1]["price"] is None
    assert [row["impression_id"] for row in checked.good] == ["x0", "x1", "x2", "x3"]


@pytest.mark.parametrize(
    ("field", "value", "rule", "shown"),
    [
        ("impression_id", None, "impression_id is present", "nothing"),
        ("event_time", None, "event_time is present", "nothing"),
        (
            "event_time",
            datetime(2999, 1, 1, tzinfo=UTC),
            "event_time <= 2026-02-01 00:00 UTC",
            "2999-01-01 00:00:00+00",
        ),
        ("label", None, "label is present", "nothing"),
        ("label", 2, "label is 0 or 1", "2"),
        ("label", -1, "label is 0 or 1", "-1"),
        ("click_time", START - timedelta(days=1), "event_time <= click_time", "2026-01-04 00:00:00+00"),
        ("position", 0, "1 <= position", "0"),
        ("bid", -0.5, "0 <= bid", "-0.5"),
        ("price", 100.5, "0 <= price <= 100", "100.5"),
        ("price", math.nan, "price is finite", "nan"),
        ("price", math.inf, "price is finite", "inf"),
        ("price", -math.inf, "price is finite", "-inf"),
        ("gender", "x", "gender is one of f, m", "x"),
        ("user_id", None, "user_id is present", "nothing"),
        ("history", ["a", None], "no item of history is null", "[a, NULL]"),
    ],
)
def test_a_row_that_breaks_a_rule_is_set_aside_with_the_rule_and_the_value(
    tmp_path, field, value, rule, shown
):
    checked = Checked(tmp_path, {2: {field: value}}, latest=datetime(2026, 2, 1, tzinfo=UTC))
    (breach,) = checked.report.breaches
    assert (breach.field, breach.rule, breach.rows, breach.first_row, breach.first_value) == (
        field,
        rule,
        1,
        2,
        shown,
    )
    assert breach.remedy.endswith(".")
    (bad,) = checked.bad
    assert (bad["__row__"], bad["__field__"], bad["__reason__"]) == (2, field, f"{rule}: got {shown}")
    assert [row["event_time"] for row in checked.good] == [START + timedelta(minutes=k) for k in (0, 1, 3)]


def test_the_message_says_what_where_and_what_to_do(tmp_path):
    message = Checked(tmp_path, {1: {"position": 0}, 3: {"position": -4}}).report.message
    assert message.split("\n") == [
        f"log.parquet: 2 of 4 rows break the contract; they are in {tmp_path / 'bad.parquet'} with their reasons.",
        "  field `position`, rule 1 <= position: 2 rows, the first is row 1 with 0",
        "  If these are legal values, change `fields.position.range` in the contract.",
    ]


def test_a_row_that_breaks_two_rules_is_counted_in_both_and_set_aside_once(tmp_path):
    checked = Checked(tmp_path, {1: {"label": 5, "gender": "x"}})
    assert checked.report.quarantined == 1
    assert [(b.field, b.rows) for b in checked.report.breaches] == [("label", 1), ("gender", 1)]
    (bad,) = checked.bad
    assert bad["__field__"] == "label"
    assert bad["__reason__"] == "label is 0 or 1: got 5; gender is one of f, m: got x"


def test_of_duplicate_keys_the_first_good_row_stays(tmp_path):
    changes = {
        0: {"impression_id": "k", "label": 7},
        1: {"impression_id": "k"},
        2: {"impression_id": "k"},
        4: {"impression_id": "k"},
    }
    checked = Checked(tmp_path, changes, rows=5)
    assert [(b.field, b.rule, b.rows, b.first_row, b.first_value) for b in checked.report.breaches] == [
        ("label", "label is 0 or 1", 1, 0, "7"),
        ("impression_id", "impression_id is unique", 2, 2, "k again"),
    ]
    assert [row["__row__"] for row in checked.bad] == [0, 2, 4]
    assert [row["impression_id"] for row in checked.good] == ["k", "x3"]


def test_categories_never_seen_and_long_lists_are_no_error(tmp_path):
    checked = Checked(tmp_path, {1: {"user_id": "never seen before", "history": list("abcdefgh")}})
    assert checked.report.quarantined == 0


def test_a_clock_running_backwards_is_told_and_tolerated(tmp_path):
    checked = Checked(tmp_path, {1: {"event_time": START - timedelta(seconds=90)}})
    clock = checked.report.clock
    assert checked.report.quarantined == 0
    assert (clock.backward_steps, clock.largest_step_s) == (1, 90.0)
    assert (clock.start, clock.end) == (START - timedelta(seconds=90), START + timedelta(minutes=3))


def test_too_many_bad_rows_stop_the_run_after_the_quarantine_is_written(tmp_path):
    with pytest.raises(QuarantineOverflow) as caught:
        Checked(tmp_path, {1: {"label": 5}}, share=0.2)
    words = str(caught.value)
    assert "1 of 4 rows break the contract" in words
    assert "That is 25.00% of the rows, more than the 20.00% allowed" in words
    assert "raise `max_quarantine_share`" in words
    assert pq.read_table(tmp_path / "bad.parquet").num_rows == 1
    assert not (tmp_path / "good.parquet").exists()
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_exactly_the_tolerated_share_goes_on(tmp_path):
    assert Checked(tmp_path, {1: {"label": 5}}, share=0.25).report.share == 0.25


def test_a_file_without_rows_is_unreadable(tmp_path):
    with pytest.raises(UnreadableData, match=r"log\.parquet: holds no rows"):
        Checked(tmp_path, {}, rows=0)


CSV = loads(
    """
name: t
source: {format: csv}
fields:
  event_time: {role: event_time, dtype: timestamp}
  label: {role: label, dtype: int64}
  price: {role: ad, dtype: float32, encoding: {kind: log1p}}
"""
)


def check_csv(folder, text, share=1.0):
    (folder / "log.csv").write_text(text)
    table = read(folder / "log.csv", CSV)
    return check(
        table, CSV, quarantine=folder / "bad.parquet", out=folder / "good.parquet", max_quarantine_share=share
    )


def test_cells_that_do_not_parse_are_set_aside_with_their_text(tmp_path):
    report = check_csv(
        tmp_path,
        "event_time,label,price\n2026-01-05,0.7,1\nyesterday,1,1\n2026-01-06,1,nan\n2026-01-06,1,1e999\n2026-01-07,yes,1\n2026-01-07,1,1\n",
    )
    assert [(b.field, b.rule, b.rows, b.first_row, b.first_value) for b in report.breaches] == [
        ("event_time", "event_time is timestamp", 1, 1, "yesterday"),
        ("label", "label is int64", 2, 0, "0.7"),
        ("price", "price is finite", 2, 2, "nan"),
    ]
    assert pq.read_table(tmp_path / "good.parquet").num_rows == 1


def test_lines_with_too_few_or_too_many_columns_are_counted_and_the_rest_goes_on(tmp_path):
    report = check_csv(
        tmp_path, "event_time,label,price\n2026-01-05,0,1\n2026-01-05,0\n2026-01-05,0,1,2\n2026-01-06,1,1\n"
    )
    assert (report.rows, report.quarantined) == (4, 2)
    assert [(b.field, b.rule, b.rows, b.first_row) for b in report.breaches] == [
        ("(line)", "no line has missing columns", 1, 3),
        ("(line)", "no line has too many columns", 1, 4),
    ]
    assert "2026-01-05,0,1,2" in report.message
    assert pq.read_table(tmp_path / "good.parquet").num_rows == 2


def test_a_csv_with_nothing_but_a_header_is_unreadable(tmp_path):
    with pytest.raises(UnreadableData, match="holds no rows"):
        check_csv(tmp_path, "event_time,label,price\n")


def test_a_table_that_read_did_not_make_is_checked_too(tmp_path):
    con = connect()
    table = con.create_table(
        "mine",
        ibis.memtable({"label": [0, 1, 3], "price": [1.0, 2.0, 3.0]}).cast(
            {"label": "int64", "price": "float32"}
        ),
    )
    contract = loads(
        "name: t\nfields:\n  label: {role: label, dtype: int64}\n"
        "  price: {role: ad, dtype: float32, encoding: {kind: log1p}}\n"
    )
    report = check(
        table, contract, quarantine=tmp_path / "b.parquet", out=tmp_path / "g.parquet", max_quarantine_share=1
    )
    assert (report.rows, report.quarantined) == (3, 1)
    with pytest.raises(SchemaMismatch, match="column `price` holds float64, the contract says float32"):
        check(
            table.cast({"price": "float64"}),
            contract,
            quarantine=tmp_path / "b.parquet",
            out=tmp_path / "g.parquet",
        )
    with pytest.raises(SchemaMismatch, match=r"column `price` \(float32\) is missing"):
        check(table.drop("price"), contract, quarantine=tmp_path / "b.parquet", out=tmp_path / "g.parquet")
