"""A window against a reference: verdicts by what was done to the rows, from log and from impressions."""

import json
from datetime import timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from clickmill.contract import dumps, loads
from clickmill.errors import BundleError, SchemaMismatch
from clickmill.prediction_log import Kept, Salt
from monitoring.drift import Bundles, Drift, DriftChecker, DriftSettings, Measure, Quality, archive
from tests.monitoring.drift import market

QUICK = DriftSettings(report="none")


@pytest.fixture(scope="module")
def reference():
    return market.rows(20_000, seed=1)


@pytest.fixture
def site(tmp_path, reference):
    """(checker, digest, folder of the log)"""
    digest = market.write_bundle(tmp_path / "store" / "1", reference)
    return (
        DriftChecker(Bundles(tmp_path / "store"), QUICK, tmp_path / "out", market.SALT),
        digest,
        tmp_path / "log",
    )


def look(site, *tables, now=market.NOON + timedelta(hours=1)):
    checker, _, log = site
    market.write_log(log, *tables)
    return checker.check_log(log, now)


def by_field(window):
    return {field.field: field for field in window.fields}


def test_the_same_market_is_the_same(site):
    [window] = look(site, market.logged(market.rows(15_000, seed=2), site[1]))
    assert (window.drift, window.quality, window.reasons) == (Drift.SAME, Quality.SOUND, ())
    assert list(by_field(window)) == market.FIELDS
    assert (window.rows, window.requests, window.reference_rows) == (15_000, 15_000, 20_000)


def test_what_a_fallback_answered_moves_nothing(site):
    """Its features were not looked up, and its probabilities are click rates."""
    same, other = market.rows(15_000, seed=2), market.rows(5_000, seed=3, phone=0.4, odds=1.0)
    fell_back = market.logged(other, site[1]).drop_columns("fallback")
    fell_back = fell_back.append_column("fallback", pa.array(["overload"] * 5_000))
    [window] = look(site, market.logged(same, site[1]), fell_back)
    assert (window.drift, window.rows, window.requests) == (Drift.SAME, 15_000, 15_000)


@pytest.mark.parametrize(
    ("change", "field"),
    [({"phone": 0.4}, "device"), ({"price": 1.2}, "price"), ({"odds": 0.3}, "pctr")],
)
def test_what_moved_is_named_and_nothing_else(site, change, field):
    [window] = look(site, market.logged(market.rows(15_000, seed=2, **change), site[1]))
    moved = {name: found.reasons for name, found in by_field(window).items() if found.drift is Drift.DRIFTED}
    assert list(moved) == [field]
    assert moved[field]
    assert window.drift is (Drift.DRIFTED if field == "pctr" else Drift.SAME)


def test_new_ads_are_drift_renamed_ones_are_broken(site):
    table = market.rows(15_000, seed=2)
    fresh = np.random.default_rng(0).random(15_000) < 0.25
    ads = np.where(fresh, "fresh", table.column("ad_id").to_numpy(zero_copy_only=False))
    some = table.set_column(table.column_names.index("ad_id"), "ad_id", pa.array(ads, pa.string()))
    renamed = pc.binary_join_element_wise("AD-", table.column("ad_id"), "")
    every = table.set_column(table.column_names.index("ad_id"), "ad_id", renamed)
    [window] = look(site, market.logged(some, site[1]))
    found = by_field(window)["ad_id"]
    assert (found.drift, found.quality) == (Drift.DRIFTED, Quality.SOUND)
    assert found.measures[Measure.NEW] == pytest.approx(0.25, abs=0.03)
    [window] = look(site, market.logged(every, site[1], at=market.NOON + timedelta(days=3)),
                    now=market.NOON + timedelta(days=3, hours=1))  # fmt: skip
    assert by_field(window)["ad_id"].quality is Quality.BROKEN
    assert window.quality is Quality.BROKEN
    assert any("renamed?" in reason for reason in by_field(window)["ad_id"].reasons)


def test_another_unit_is_broken(site):
    [window] = look(site, market.logged(market.rows(15_000, seed=2, price=1000), site[1]))
    found = by_field(window)["price"]
    assert found.quality is Quality.BROKEN
    assert found.measures[Measure.ILLEGAL] == pytest.approx(0.05, abs=0.1)  # of the contract's range
    assert any("another unit?" in reason for reason in found.reasons)


def test_missing_values_are_told_by_the_stand_in_of_the_log(site):
    table = market.rows(15_000, seed=2)
    gone = pa.array(np.random.default_rng(0).random(15_000) < 0.3)
    empty = pc.if_else(gone, pa.scalar(None, pa.float32()), table.column("price"))
    [window] = look(
        site, market.logged(table.set_column(table.column_names.index("price"), "price", empty), site[1])
    )
    found = by_field(window)
    assert found["price"].quality is Quality.BROKEN
    assert found["price"].measures[Measure.MISSING] == pytest.approx(0.3, abs=0.02)
    assert found["price"].drift is Drift.SAME  # those that are there are as before
    # False stands in for a missing flag, and is common: what is missing can't be told, and nothing is claimed.
    assert Measure.MISSING not in found["new_user"].measures


def test_a_log_without_one_column_is_broken_there_and_judged_elsewhere(site):
    table = market.logged(market.rows(15_000, seed=2), site[1])
    features = table.column("features").combine_chunks()
    names = [
        features.type.field(i).name
        for i in range(features.type.num_fields)
        if features.type.field(i).name != "device"
    ]
    cut = pa.StructArray.from_arrays([features.field(name) for name in names], names=names)
    [window] = look(site, table.set_column(table.column_names.index("features"), "features", cut))
    found = by_field(window)["device"]
    assert (found.drift, found.quality) == (Drift.UNKNOWN, Quality.BROKEN)
    assert found.reasons[0] == "15,000 of 15,000 rows came without the column"
    assert by_field(window)["price"].drift is Drift.SAME
    assert window.quality is Quality.BROKEN


def test_a_log_without_features_tells_the_predictions_drift_and_claims_nothing_else(site):
    [window] = look(site, market.logged(market.rows(15_000, seed=2, odds=0.3), site[1], kept=Kept.NOTHING))
    found = by_field(window)
    assert found["pctr"].drift is Drift.DRIFTED
    assert {(f.drift, f.quality) for n, f in found.items() if n != "pctr"} == {
        (Drift.UNKNOWN, Quality.UNKNOWN)
    }
    assert "--log-features values" in found["price"].reasons[0]


def test_personal_fields_need_the_salt(site, tmp_path):
    checker, digest, folder = site
    unsalted = DriftChecker(checker.bundles, QUICK, tmp_path / "other", None)
    market.write_log(folder, market.logged(market.rows(15_000, seed=2), digest))
    [window] = unsalted.check_log(folder, market.NOON)
    assert by_field(window)["user_id"].drift is Drift.UNKNOWN
    assert "CLICKMILL_LOG_SALT" in by_field(window)["user_id"].reasons[0]
    [window] = checker.check_log(folder, market.NOON)
    assert by_field(window)["user_id"].drift is Drift.SAME
    text = "".join(p.read_text() for p in (tmp_path / "out").rglob("*.json"))
    assert '"u17"' not in text  # no name of a user leaves the bundle


def test_rows_are_those_of_the_window_that_were_shown(site):
    checker, digest, folder = site
    parts = [
        market.logged(market.rows(2_000, seed=2), digest),
        market.logged(market.rows(1_000, seed=3), digest, at=market.NOON - timedelta(hours=25)),
        market.logged(market.rows(500, seed=4), digest, shown=False),
        market.logged(market.rows(250, seed=5), digest, at=market.NOON + timedelta(hours=2)),
    ]
    market.write_log(folder, *parts)
    [window] = checker.check_log(folder, market.NOON)
    assert window.rows == 2_000
    assert window.not_shown == 500
    every = DriftChecker(
        checker.bundles, DriftSettings(report="none", shown_only=False), checker.folder, market.SALT
    )
    assert every.check_log(folder, market.NOON)[0].rows == 2_500


def test_a_log_without_impression_ids_says_that_they_are_missing(site):
    [window] = look(site, market.logged(market.rows(1_500, seed=2), site[1], shown=False))
    assert (window.drift, window.rows, window.not_shown, window.fields) == (Drift.UNKNOWN, 0, 1_500, ())
    assert window.reasons[0].startswith("1,500 rows, and none with an impression id")


def test_a_bundle_that_was_replaced_is_not_looked_for_in_vain(site):
    """Its last file begins less than a day before the window, and holds no row of it."""
    assert (
        look(site, market.logged(market.rows(2_000, seed=2), site[1], at=market.NOON - timedelta(hours=30)))
        == []
    )
    assert archive.windows(site[0].folder) == []


def test_references_of_bundles_that_answer_no_more_are_forgotten(site, tmp_path):
    checker, first, _ = site
    second = market.write_bundle(tmp_path / "store" / "2", market.rows(20_000, seed=8))
    look(site, market.logged(market.rows(2_000, seed=2), first))
    market.write_log(tmp_path / "later", market.logged(market.rows(2_000, seed=3), second))
    checker.check_log(tmp_path / "later", market.NOON)
    assert [digest for digest, _ in checker._references] == [second]


def test_values_of_another_type_are_refused_by_name(site):
    table = market.logged(market.rows(2_000, seed=2), site[1])
    features = table.column("features").combine_chunks()
    names = [features.type.field(i).name for i in range(features.type.num_fields)]
    columns = [pa.array(["dear"] * len(table)) if name == "price" else features.field(name) for name in names]
    at = table.column_names.index("features")
    with pytest.raises(
        SchemaMismatch, match="field price: its values come as string and can't be counted as the number"
    ):
        look(site, table.set_column(at, "features", pa.StructArray.from_arrays(columns, names=names)))


def test_another_salt_is_a_cause_of_unknown_users(site):
    checker = DriftChecker(site[0].bundles, QUICK, site[0].folder, Salt(b"another of sixteen"))
    market.write_log(site[2], market.logged(market.rows(15_000, seed=2), site[1]))
    [window] = checker.check_log(site[2], market.NOON)
    assert by_field(window)["user_id"].quality is Quality.BROKEN
    assert "another salt" in by_field(window)["user_id"].reasons[0]


def test_too_few_rows_are_unknown_and_say_how_many_more(site):
    [window] = look(site, market.logged(market.rows(900, seed=2, phone=0.1), site[1]))
    found = by_field(window)["device"]
    assert (window.drift, window.quality) == (Drift.UNKNOWN, Quality.UNKNOWN)
    assert found.drift is Drift.UNKNOWN
    assert found.reasons == ("900 requests, whose rows share the value, 100 more are needed",)
    assert by_field(window)["stock"].reasons == ("900 values, 100 more are needed",)


def test_candidates_of_one_request_are_one_draw_of_its_user(site):
    """3,000 rows of 300 requests are plenty for a price, and too few for what they share."""
    [window] = look(site, market.logged(market.rows(3_000, seed=2, requests=300, phone=0.3), site[1]))
    found = by_field(window)
    assert window.requests == pytest.approx(300, abs=5)
    assert found["device"].drift is Drift.UNKNOWN
    assert found["price"].drift is Drift.SAME


def test_users_that_come_once_are_counted_in_requests_not_in_their_candidates(tmp_path):
    """Each user of the reference comes in one request of ten rows: the next user is surely new, and that is no drift."""
    reference = market.rows(20_000, seed=1, requests=2_000)
    users = pa.array([f"u{r}" for r in reference.column("request_id").to_pylist()])
    reference = reference.set_column(reference.column_names.index("user_id"), "user_id", users)
    market.write_bundle(tmp_path / "b", reference)
    checker = DriftChecker(Bundles(tmp_path / "b"), QUICK, tmp_path / "out", market.SALT)
    table = market.rows(20_000, seed=2, requests=2_000)
    users = pa.array([f"v{r}" for r in table.column("request_id").to_pylist()])
    table = table.set_column(table.column_names.index("user_id"), "user_id", users)
    market.write_log(tmp_path / "log", market.logged(table, checker.bundles.serving()))
    [window] = checker.check_log(tmp_path / "log", market.NOON)
    found = by_field(window)["user_id"]
    assert found.measures[Measure.NEW] == 1.0
    assert found.measures[Measure.NEW_EXPECTED] == 1.0
    assert found.quality is Quality.SOUND
    assert not any("new" in reason for reason in found.reasons)


def test_each_bundle_is_held_against_its_own_reference(site, tmp_path, reference):
    second = market.write_bundle(tmp_path / "store" / "2", market.rows(20_000, seed=8, phone=0.3))
    table = market.rows(15_000, seed=2)
    found = look(site, market.logged(table, site[1]), market.logged(table, second))
    verdicts = {window.bundle: by_field(window)["device"].drift for window in found}
    assert verdicts == {site[1]: Drift.SAME, second: Drift.DRIFTED}


def test_a_bundle_without_a_reference_and_one_that_is_gone_are_unknown_and_do_not_hide_others(site, tmp_path):
    bare = market.write_bundle(tmp_path / "store" / "2", None)
    table = market.rows(15_000, seed=2)
    found = look(site, *(market.logged(table, digest) for digest in (site[1], bare, "f" * 64)))
    told = {window.bundle: (window.drift, " ".join(window.reasons)) for window in found}
    assert told[site[1]][0] is Drift.SAME
    assert told[bare][0] is Drift.UNKNOWN
    assert "holds no drift reference (reference.parquet)" in told[bare][1]
    assert f"is not in {tmp_path / 'store'}; give the model store" in told["f" * 64][1]
    assert len(archive.windows(site[0].folder)) == 3


def test_impressions_need_a_reference(tmp_path):
    market.write_bundle(tmp_path / "bare", None)
    checker = DriftChecker(Bundles(tmp_path / "bare"), QUICK, tmp_path / "out")
    with pytest.raises(BundleError, match="Train and deploy again"):
        checker.check_impressions(str(tmp_path), market.NOON)


def test_impressions_are_read_by_the_contract_and_hold_no_prediction(site, tmp_path):
    checker, *_ = site
    table = market.rows(15_000, seed=2, phone=0.4)
    gone = pa.array(np.random.default_rng(0).random(15_000) < 0.3)
    flags = pc.if_else(gone, pa.scalar(None, pa.bool_()), table.column("new_user"))
    table = table.set_column(table.column_names.index("new_user"), "new_user", flags).drop_columns(["pctr"])
    pq.write_table(table, tmp_path / "impressions.parquet")
    [window] = checker.check_impressions(str(tmp_path / "impressions.parquet"), market.NOON)
    found = by_field(window)
    assert list(found) == market.FIELDS[:-1]
    assert found["device"].drift is Drift.DRIFTED
    assert found["user_id"].drift is Drift.SAME  # in the clear on both sides
    assert found["new_user"].measures[Measure.MISSING] == pytest.approx(0.3, abs=0.02)  # nulls are nulls here
    assert found["new_user"].quality is Quality.BROKEN


def test_parquet_that_is_no_log_is_refused_by_name(site):
    checker, _, folder = site
    (folder / "day=2026-11-24").mkdir(parents=True)
    pq.write_table(
        pa.table({"x": [1]}), folder / "day=2026-11-24" / "20261124T110000.000000Z-w-000001.parquet"
    )
    with pytest.raises(SchemaMismatch, match="lacks time, bundle, impression_id, pctr and has x"):
        checker.check_log(folder, market.NOON)


def test_numbers_of_a_batch_do_not_depend_on_where_batches_end(site, monkeypatch):
    from monitoring.drift import window as reading

    checker, digest, folder = site
    market.write_log(folder, market.logged(market.rows(5_000, seed=2), digest))
    [files] = reading.logged_bundles(folder, market.NOON - timedelta(days=1), market.NOON).values()
    reference = checker._reference(checker._bundle(digest), filled=True)

    def tallies(rows):
        from monitoring.drift import Counting

        counting = Counting(reference, QUICK)
        for batch in reading.log_batches(
            files,
            reference.watched,
            start=market.NOON - timedelta(days=1),
            end=market.NOON,
            shown_only=True,
            rows=rows,
        ):
            counting.add(batch)
        return counting.tallies

    whole, parts = tallies(1 << 17), tallies(777)
    for name, tally in whole.items():
        assert (parts[name].counts == tally.counts).all()
        assert parts[name].sums == pytest.approx(tally.sums)
        assert (parts[name].missing, parts[name].new) == (tally.missing, tally.new)


def test_evidently_reports_the_sample_and_agrees_with_our_verdicts(tmp_path, reference):
    digest = market.write_bundle(tmp_path / "store" / "1", reference)
    settings = DriftSettings(numbers_by=("wasserstein",), sample_rows=20_000)
    checker = DriftChecker(Bundles(tmp_path / "store"), settings, tmp_path / "out", market.SALT)
    market.write_log(
        tmp_path / "log", market.logged(market.rows(20_000, seed=2, phone=0.4, price=1.5), digest)
    )
    [window] = checker.check_log(tmp_path / "log", market.NOON)
    [place] = archive.windows(tmp_path / "out")
    assert {p.name for p in place.iterdir()} == {
        "drift.json",
        "report.html",
        "evidently.html",
        "evidently.json",
    }
    assert archive.read(place) == window
    theirs = {
        metric["config"]["column"]: float(metric["value"])
        for metric in json.loads((place / "evidently.json").read_text())["metrics"]
        if metric["config"]["type"].endswith(":ValueDrift")
    }
    assert set(theirs) == set(market.FIELDS) - {"history"}  # Evidently knows no lists
    for name, distance in theirs.items():
        ours = by_field(window)[name]
        measure = Measure.WASSERSTEIN if ours.kind == "number" else Measure.JENSEN_SHANNON
        assert ours.measures[measure] == pytest.approx(distance, abs=0.01), name
        assert (ours.drift is Drift.DRIFTED) == (distance >= 0.1), name
    assert "evidently.html" in (place / "report.html").read_text()


def test_a_field_that_is_all_null_in_the_reference_is_unknown(tmp_path, reference):
    empty = reference.set_column(
        reference.column_names.index("stock"), "stock", pa.nulls(len(reference), pa.int64())
    )
    contract = loads(dumps(market.CONTRACT))
    market.write_bundle(tmp_path / "b", empty, contract)
    checker = DriftChecker(Bundles(tmp_path / "b"), QUICK, tmp_path / "out")
    pq.write_table(market.rows(15_000, seed=2).drop_columns(["pctr"]), tmp_path / "i.parquet")
    [window] = checker.check_impressions(str(tmp_path / "i.parquet"), market.NOON)
    assert by_field(window)["stock"].reasons == ("the reference holds no value of it",)
