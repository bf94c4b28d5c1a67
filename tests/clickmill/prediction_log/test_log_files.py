"""Files of the log: whole or not there, one writer each, read back as one table."""

from datetime import UTC, date, datetime

import duckdb
import pyarrow as pa
import pytest

from clickmill.errors import UsageError
from clickmill.prediction_log import LogFolder, log_files


def rows(day, count=3):
    times = pa.array([datetime(2026, 11, day, 10, tzinfo=UTC)] * count, pa.timestamp("us", "UTC"))
    return pa.table({"time": times, "pctr": pa.array([0.1] * count, pa.float32())})


def test_days_are_folders_that_read_as_one_table(tmp_path):
    log = LogFolder(tmp_path / "log", "host-1")
    files = [log.write(rows(23)), log.write(rows(24)), log.write(rows(24))]
    assert log_files(tmp_path / "log") == files
    pattern = str(tmp_path / "log" / "day=*" / "*.parquet")
    found = duckdb.sql(f"SELECT day, count(*) FROM read_parquet('{pattern}') GROUP BY day ORDER BY day")
    assert found.fetchall() == [(date(2026, 11, 23), 3), (date(2026, 11, 24), 6)]


def test_two_writers_of_one_moment_do_not_meet(tmp_path):
    for writer in ("a", "b"):
        LogFolder(tmp_path, writer).write(rows(24))
    assert len(log_files(tmp_path)) == 2


def test_what_a_killed_writer_left_is_no_log_and_goes_with_its_next_start(tmp_path):
    LogFolder(tmp_path, "a").write(rows(24))
    left = tmp_path / "day=2026-11-24" / ".20261124T100000.000000Z-a-000002.parquet.partial"
    of_another = tmp_path / "day=2026-11-24" / ".20261124T100000.000000Z-b-a-000001.parquet.partial"
    left.write_bytes(b"PAR1 half")
    of_another.write_bytes(b"PAR1 half")
    assert len(log_files(tmp_path)) == 1
    LogFolder(tmp_path, "a")
    assert not left.exists()
    assert of_another.exists(), "it may be writing at this moment"


def test_a_folder_that_cannot_be_written_is_told_at_the_start(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="can't be written there"):
        LogFolder(tmp_path / "file" / "log", "a")


def test_a_writers_name_cannot_leave_the_folder(tmp_path):
    with pytest.raises(UsageError, match="only letters"):
        LogFolder(tmp_path, "../a")
