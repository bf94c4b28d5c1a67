"""Parquet and CSV in any layout, named and typed by the contract."""

import gzip
from datetime import UTC, datetime, timedelta, timezone

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clickmill.contract import loads
from clickmill.data import read
from clickmill.errors import SchemaMismatch, UnreadableData

FIELDS = """
fields:
  event_time: {role: event_time, dtype: timestamp}
  label: {role: label, dtype: int64}
  position: {role: position, dtype: int64}
  price: {role: ad, dtype: float32, encoding: {kind: log1p}}
  is_app: {role: context, dtype: bool, encoding: {kind: vocabulary}}
  site_id: {role: context, dtype: string, encoding: {kind: vocabulary}}
  history: {role: sequence, dtype: int64_list, encoding: {kind: list, items: {kind: hash, buckets: 10}}}
"""
CSV = loads("name: t\nsource: {format: csv}" + FIELDS)
PARQUET = loads("name: t" + FIELDS)
NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)

TEXT = """extra,event_time,label,position,price,is_app,site_id,history
a,2026-01-05T12:00:00Z,1,2,0.5,true,s1,1|2|3
b,2026-01-05 14:00:00+02:00,0,1,,false,,
"""


def rows_of(table):
    return table.to_pyarrow().to_pylist()


def write(path, text):
    path.write_text(text)
    return path


def test_a_csv_gets_the_names_and_types_of_the_contract(tmp_path):
    table = read(write(tmp_path / "a.csv", TEXT), CSV, trace=False)
    assert table.columns == tuple(CSV.columns)
    kinds = table.to_pyarrow().schema.types
    assert kinds[:-1] == [
        pa.timestamp("us", "UTC"), pa.int64(), pa.int64(), pa.float32(), pa.bool_(), pa.string(),
    ]  # fmt: skip
    assert kinds[-1].value_type == pa.int64()
    first, second = rows_of(table)
    assert first == {
        "event_time": NOON,
        "label": 1,
        "position": 2,
        "price": 0.5,
        "is_app": True,
        "site_id": "s1",
        "history": [1, 2, 3],
    }
    assert second["event_time"] == NOON
    assert second["price"] is None
    assert second["site_id"] is None
    assert second["history"] is None


def test_a_gzipped_csv_reads_like_the_plain_one(tmp_path):
    plain = read(write(tmp_path / "a.csv", TEXT), CSV)
    with gzip.open(tmp_path / "b.csv.gz", "wt") as stream:
        stream.write(TEXT)
    assert rows_of(read(tmp_path / "b.csv.gz", CSV)) == rows_of(plain)


def test_a_csv_without_a_header_is_read_in_the_order_of_the_fields(tmp_path):
    contract = loads("name: t\nsource: {format: csv, header: false, delimiter: ';'}" + FIELDS)
    path = write(tmp_path / "a.csv", "2026-01-05T12:00:00Z;1;2;0.5;true;s1;1|2\n")
    assert rows_of(read(path, contract, trace=False))[0]["history"] == [1, 2]


@pytest.mark.parametrize(
    ("layout", "cell"),
    [
        ("epoch_s", "1767614400"),
        ("epoch_ms", "1767614400000"),
        ("epoch_us", "1767614400000000"),
        ("'%d/%m/%Y %H:%M'", "05/01/2026 12:00"),
        ("null", "2026-01-05 12:00:00"),
    ],
)
def test_times_are_read_in_the_format_the_contract_says(tmp_path, layout, cell):
    contract = loads(f"name: t\nsource: {{format: csv, timestamp_format: {layout}}}" + FIELDS)
    path = write(tmp_path / "a.csv", TEXT.replace("2026-01-05T12:00:00Z", cell))
    assert rows_of(read(path, contract))[0]["event_time"] == NOON


def test_a_cell_that_cannot_be_parsed_is_null_and_its_text_is_kept_beside_the_row(tmp_path):
    text = TEXT.replace(",1,2,0.5,true,", ",0.7,two,abc,perhaps,")
    row = rows_of(read(write(tmp_path / "a.csv", text), CSV))[0]
    assert (row["label"], row["position"], row["price"], row["is_app"]) == (None, None, None, None)
    kept = {name: text for name, text in row["__unparsed__"].items() if text is not None}
    assert kept == {"label": "0.7", "position": "two", "price": "abc", "is_app": "perhaps"}


def test_whole_numbers_with_a_point_or_beyond_double_precision_stay_exact(tmp_path):
    text = TEXT.replace(",1,2,0.5", ",1.0,9007199254740993,0.5")
    row = rows_of(read(write(tmp_path / "a.csv", text), CSV))[0]
    assert row["label"] == 1
    assert row["position"] == 9007199254740993


def impressions(n=3, **columns):
    base = {
        "event_time": pa.array([NOON + timedelta(seconds=i) for i in range(n)], pa.timestamp("us", "UTC")),
        "label": pa.array([i % 2 for i in range(n)], pa.int64()),
        "position": pa.array([1] * n, pa.int64()),
        "price": pa.array([0.5] * n, pa.float32()),
        "is_app": pa.array([True] * n),
        "site_id": pa.array([f"s{i}" for i in range(n)]),
        "history": pa.array([[i] for i in range(n)], pa.list_(pa.int64())),
    }
    return pa.table(base | columns)


def parquet(path, **columns):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(impressions(**columns), path)
    return path


def test_parquet_rows_are_numbered_over_all_files(tmp_path):
    files = [parquet(tmp_path / f"{k}.parquet") for k in range(3)]
    table = read(files, PARQUET)
    assert "__unparsed__" not in table.columns
    assert [row["__row__"] for row in rows_of(table.order_by("__row__"))] == list(range(9))
    assert rows_of(table.filter(table["__row__"] == 4))[0]["site_id"] == "s1"


def test_partition_columns_of_a_folder_do_not_leak(tmp_path):
    contract = loads(
        "name: t"
        + FIELDS.replace(
            "  site_id", "  hour: {role: context, encoding: {kind: hour, of: event_time}}\n  site_id"
        )
    )
    for hour in ("00", "01"):
        parquet(tmp_path / "log" / "date=2026-01-05" / f"hour={hour}" / "part-0.parquet")
    (tmp_path / "log" / "_SUCCESS").touch()
    table = read(tmp_path / "log", contract, trace=False)
    assert table.columns == tuple(contract.columns)
    assert table.count().to_pyarrow().as_py() == 6


def test_globs_and_lists_name_files_too(tmp_path):
    for name in ("b", "a"):
        parquet(tmp_path / f"{name}.parquet")
    assert read(str(tmp_path / "*.parquet"), PARQUET).count().to_pyarrow().as_py() == 6
    assert read([tmp_path / "a.parquet"], PARQUET).count().to_pyarrow().as_py() == 3


def test_lossless_casts_are_made_without_a_word(tmp_path):
    path = parquet(
        tmp_path / "a.parquet",
        event_time=pa.array([NOON.replace(tzinfo=None)] * 3, pa.timestamp("ms")),
        label=pa.array([0, 1, 0], pa.uint8()),
        position=pa.array([1.0, 2.0, None], pa.float64()),
        price=pa.array([1, 2, 3], pa.int32()),
        is_app=pa.array([0, 1, 1], pa.int8()),
        site_id=pa.array([7, 8, 9], pa.int64()),
        history=pa.array([[1], [], None], pa.list_(pa.int16())),
    )
    rows = rows_of(read(path, PARQUET, trace=False))
    assert [row["position"] for row in rows] == [1, 2, None]
    assert [row["site_id"] for row in rows] == ["7", "8", "9"]
    assert [row["is_app"] for row in rows] == [False, True, True]
    assert rows[0]["event_time"] == NOON
    assert [row["history"] for row in rows] == [[1], [], None]


def test_other_time_zones_become_utc(tmp_path):
    tokyo = timezone(timedelta(hours=9))
    stamps = pa.array([NOON.astimezone(tokyo)] * 3, pa.timestamp("us", "Asia/Tokyo"))
    row = rows_of(read(parquet(tmp_path / "a.parquet", event_time=stamps), PARQUET))[0]
    assert row["event_time"] == NOON
    assert row["event_time"].utcoffset() == timedelta(0)


def test_a_missing_column_is_named_with_its_neighbours_and_the_remedy(tmp_path):
    table = impressions().rename_columns(
        ["event_time", "label", "positon", "price", "is_app", "site_id", "history"]
    )
    pq.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(SchemaMismatch) as caught:
        read(tmp_path / "a.parquet", PARQUET)
    words = str(caught.value)
    assert "column `position` (field `position`, int64) is missing; nearest: positon" in words
    assert "`fields.position.column`" in words
    assert str(tmp_path / "a.parquet") in words


def test_all_columns_that_do_not_fit_are_told_at_once(tmp_path):
    path = parquet(
        tmp_path / "a.parquet",
        label=pa.array(["yes", "no", "no"]),
        event_time=pa.array([1, 2, 3], pa.int64()),
        price=pa.array([[1.0]] * 3, pa.list_(pa.float32())),
    )
    with pytest.raises(SchemaMismatch) as caught:
        read(path, PARQUET)
    words = str(caught.value)
    assert "3 columns do not fit contract `t`" in words
    assert "column `label` (field `label`): holds string, the contract says int64" in words
    assert "`source.timestamp_format`: epoch_s, epoch_ms or epoch_us" in words
    assert "column `price` (field `price`): holds array<float32>, the contract says float32" in words


def test_a_label_that_lies_in_no_column_is_asked_for_as_a_click_log(tmp_path):
    pq.write_table(impressions().drop_columns("label"), tmp_path / "a.parquet")
    with pytest.raises(SchemaMismatch, match="click log"):
        read(tmp_path / "a.parquet", PARQUET)
    fields = [name for name in PARQUET.columns if name != "label"]
    assert "label" not in read(tmp_path / "a.parquet", PARQUET, fields=fields).columns


def test_an_absent_file_an_empty_file_and_an_empty_folder_are_unreadable(tmp_path):
    with pytest.raises(UnreadableData, match=r"nowhere\.parquet: no such file"):
        read(tmp_path / "nowhere.parquet", PARQUET)
    (tmp_path / "empty.parquet").touch()
    with pytest.raises(UnreadableData, match=r"empty\.parquet: is empty \(0 bytes\)"):
        read(tmp_path / "empty.parquet", PARQUET)
    (tmp_path / "folder").mkdir()
    with pytest.raises(UnreadableData, match=r"holds no file that ends in \.parquet"):
        read(tmp_path / "folder", PARQUET)
    with pytest.raises(UnreadableData, match="no input given"):
        read([], PARQUET)


def test_a_truncated_parquet_is_unreadable_by_name(tmp_path):
    whole = parquet(tmp_path / "a.parquet").read_bytes()
    (tmp_path / "b.parquet").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UnreadableData, match=r"b\.parquet: cannot be read as Parquet .* truncated"):
        read([tmp_path / "a.parquet", tmp_path / "b.parquet"], PARQUET)


def test_text_called_parquet_is_unreadable(tmp_path):
    with pytest.raises(UnreadableData, match=r"correct `source\.format`"):
        read(write(tmp_path / "a.parquet", TEXT), PARQUET)
