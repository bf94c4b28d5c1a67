"""The log is summed right, and a log that can't be is refused by field, row and rule."""

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from clickmill.errors import DataError, SchemaMismatch, UnreadableData
from clickmill.experiment.log import log
from clickmill.experiment.moments import Moments
from clickmill.experiment.user_sums import UserSums
from tests.clickmill.experiment import drawn


@pytest.fixture(scope="module")
def table():
    return drawn.impressions(1, 400, pre_days=3)


def by_user(table, mask, names=("impressions", "clicks", "revenue")):
    frame = table.filter(mask).to_pandas()
    sums = frame.groupby(["arm", "user_id"]).agg(
        impressions=("clicked", "size"), clicks=("clicked", "sum"), revenue=("revenue", "sum")
    )
    return {arm: Moments.of(names, sums.loc[arm].to_numpy(float)) for arm in "ab"}


def test_moments_are_those_of_pandas(tmp_path, table):
    sums = drawn.summed(tmp_path / "log.parquet", table, drawn.spec())
    cut = pc.less(
        table["time"],
        pa.scalar(drawn.START.timestamp() * 1e6 + 3 * 86_400e6, pa.float64())
        .cast(pa.int64())
        .cast(pa.timestamp("us", "UTC")),
    )
    for look, mask in ((6, pc.is_valid(table["arm"])), (2, pc.and_(pc.is_valid(table["arm"]), cut))):
        found, wanted = sums.until(look), by_user(table, mask)
        assert list(found) == ["a", "b"]
        for arm in found:
            assert found[arm].columns == ("impressions", "clicks", "revenue")
            assert found[arm].n == wanted[arm].n
            np.testing.assert_allclose(found[arm].mean, wanted[arm].mean)
            np.testing.assert_allclose(found[arm].covariance, wanted[arm].covariance, rtol=1e-9)
    assert sums.last_look == 6
    assert sums.users()[-1] == {arm: by_user(table, pc.is_valid(table["arm"]))[arm].n for arm in "ab"}
    whole = sums.until(6)
    assert sum(sums.between(day, day)["a"].total("clicks") for day in range(7)) == pytest.approx(
        whole["a"].total("clicks")
    )
    by_weekday = sum(sums.on_weekday(day)["b"].total("impressions") for day in range(1, 8))
    assert by_weekday == pytest.approx(whole["b"].total("impressions"))


def test_what_was_before_stands_beside_the_users(tmp_path, table):
    sums = drawn.summed(tmp_path / "log.parquet", table, drawn.spec(pre_days=3))
    arms = sums.until(6)
    assert sums.covariates == ("pre_impressions", "pre_clicks", "pre_revenue", "pre_seen")
    before = table.filter(pc.is_null(table["arm"]))
    who = pc.unique(table.filter(pc.is_valid(table["arm"]))["user_id"])
    known = before.filter(pc.is_in(before["user_id"], who))
    assert sum(arm.total("pre_impressions") for arm in arms.values()) == pytest.approx(len(known))
    assert sum(arm.total("pre_seen") for arm in arms.values()) == pytest.approx(
        len(pc.unique(known["user_id"]))
    )
    only_one_day = drawn.summed(tmp_path / "log.parquet", table, drawn.spec(pre_days=1)).until(6)
    assert only_one_day["a"].total("pre_impressions") < arms["a"].total("pre_impressions")


def test_slices_add_up_and_rare_values_are_put_together(tmp_path, table):
    table = table.append_column("site", pa.array([f"s{i % 30}" for i in range(len(table))]))
    sums = drawn.summed(tmp_path / "log.parquet", table, drawn.spec())
    whole = sums.until(6)["a"].total("clicks")
    assert sum(arms["a"].total("clicks") for arms in sums.by_value("device").values()) == pytest.approx(whole)
    sites = sums.by_value("site", most=5)
    assert len(sites) == 6
    assert "(other)" in sites
    assert sum(arms["a"].total("clicks") for arms in sites.values()) == pytest.approx(whole)
    with pytest.raises(SchemaMismatch, match="no column 'country', by which slices"):
        sums.by_value("country")


def changed(table, column, row, value):
    """The table with one cell altered."""
    values = table[column].to_pylist()
    values[row] = value
    return table.set_column(
        table.schema.get_field_index(column), column, pa.array(values, table[column].type)
    )


@pytest.mark.parametrize(
    ("column", "row", "value", "words"),
    [
        (
            "revenue",
            7,
            -0.5,
            r"field `revenue`, must be a finite amount of at least 0: 1 of [\d,]+ rows do not, the first is row 7 with -0.5",
        ),
        ("revenue", 8, float("nan"), "field `revenue`, .* row 8 with nan"),
        ("clicked", 9, 2, "field `clicked`, must be 0 or 1: .* the first is row 9 with 2"),
        ("user_id", 10, None, "field `user_id`, must name a user: .* the first is row 10"),
        ("user_id", 10, "", "field `user_id`, must name a user: .* the first is row 10"),
        ("arm", -1, "c", "field `arm`, must be one of a, b, or null: .* with c"),
    ],
)
def test_a_value_that_cannot_be_is_named(tmp_path, table, column, row, value, words):
    table = table.filter(pc.is_valid(table["arm"])).sort_by("time")
    with pytest.raises(DataError, match=words):
        drawn.summed(tmp_path / "log.parquet", changed(table, column, row, value), drawn.spec())


def test_users_in_two_arms_are_named(tmp_path, table):
    table = table.filter(pc.is_valid(table["arm"])).sort_by("user_id")
    first = table["arm"][0].as_py()
    other = "b" if first == "a" else "a"
    with pytest.raises(
        DataError,
        match=r"field `user_id`: 1 of \d+ users are in more than one arm, the first is 'u0' in a and b",
    ):
        drawn.summed(tmp_path / "log.parquet", changed(table, "arm", 0, other), drawn.spec())


def test_an_impression_that_comes_twice_is_named(tmp_path, table):
    table = table.filter(pc.is_valid(table["arm"]))
    table = table.append_column("impression_id", pa.array(np.arange(len(table))))
    drawn.summed(tmp_path / "log.parquet", table, drawn.spec())
    with pytest.raises(DataError, match="field `impression_id`: '5' stands in 2 rows"):
        drawn.summed(tmp_path / "log.parquet", pa.concat_tables([table, table.slice(5, 1)]), drawn.spec())


def test_an_empty_arm_and_an_experiment_nobody_is_in_are_named(tmp_path, table):
    only_a = table.filter(pc.equal(table["arm"], "a"))
    with pytest.raises(DataError, match=r"field `arm`: nobody is in arm 'b'; users by arm: a \d+"):
        drawn.summed(tmp_path / "log.parquet", only_a, drawn.spec())
    with pytest.raises(DataError, match=r"field `arm`: none of [0-9,]+ impressions has an arm"):
        drawn.summed(tmp_path / "log.parquet", table.filter(pc.is_null(table["arm"])), drawn.spec(pre_days=3))


def test_missing_columns_and_files_are_named(tmp_path, table):
    with pytest.raises(
        SchemaMismatch, match="no column 'arm'; the log of an experiment has user_id, arm, time and clicked"
    ):
        drawn.summed(tmp_path / "log.parquet", table.drop_columns(["arm"]), drawn.spec())
    with pytest.raises(
        SchemaMismatch, match="no column 'revenue', which a metric of experiment drawn sums up"
    ):
        drawn.summed(tmp_path / "log.parquet", table.drop_columns(["revenue"]), drawn.spec())
    with pytest.raises(UnreadableData, match="nothing: no such file"):
        log(duckdb.connect(), [tmp_path / "nothing"], drawn.spec())
    (tmp_path / "broken.parquet").write_bytes(b"PAR1")
    with pytest.raises(UnreadableData, match=r"broken\.parquet: cannot be read"):
        log(duckdb.connect(), [tmp_path / "broken.parquet"], drawn.spec())


def test_times_without_a_zone_are_refused_in_any_file(tmp_path, table):
    folder = tmp_path / "log"
    folder.mkdir()
    pq.write_table(table, folder / "a.parquet")
    pq.write_table(table.set_column(2, "time", table["time"].cast(pa.timestamp("us"))), folder / "b.parquet")
    with pytest.raises(
        SchemaMismatch, match=r"b.parquet: field `time` is timestamp\[us\], without a time zone"
    ):
        log(duckdb.connect(), [folder], drawn.spec())
    rows = ["2026-03-02T09:00:00Z", "2026-03-02T10:00:00+01:00", "2026-03-02T09:00:00"]
    lines = [f"u{i},{'ab'[i % 2]},{at},0,0.0" for i, at in enumerate(rows)]
    (tmp_path / "log.csv").write_text("\n".join(["user_id,arm,time,clicked,revenue", *lines]))
    with pytest.raises(SchemaMismatch, match="field `time`, row 2: '2026-03-02T09:00:00' has no time zone"):
        log(duckdb.connect(), [tmp_path / "log.csv"], drawn.spec())


def test_times_of_different_zones_are_the_same_moment(tmp_path):
    lines = [
        "u0,a,2026-03-02T00:30:00+01:00,1,0.0",
        "u1,a,2026-03-02T09:00:00Z,0,0.0",
        "u2,b,2026-03-03T00:30:00+01:00,1,0.0",
    ]
    (tmp_path / "log.csv").write_text("\n".join(["user_id,arm,time,clicked,revenue", *lines]))
    chosen = drawn.spec(start="2026-03-01T00:00:00Z")
    connection = duckdb.connect()
    sums = UserSums(connection, log(connection, [tmp_path / "log.csv"], chosen), chosen)
    # half past midnight in Berlin is still the day before in UTC
    assert sums.users() == [{"a": 1, "b": 0}, {"a": 2, "b": 1}]
