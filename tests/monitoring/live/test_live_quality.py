"""Live quality: equal to the offline metrics on the same rows, whatever order, kills and doubles the logs come in."""

import json
import os
import signal
import subprocess
import sys
import textwrap
from collections import Counter
from datetime import timedelta

import numpy as np
import pyarrow as pa
import pytest
from prometheus_client import CollectorRegistry

from clickmill.errors import UsageError
from clickmill.evaluation import auc, bootstrap, calibration_ratio, log_loss, normalized_entropy
from clickmill.release import Compared
from monitoring.live import JudgedCollector, LabelJoin, LiveSettings, look, measured
from monitoring.live.label_join import ALL
from tests.monitoring.live import logs
from tests.monitoring.live.logs import NOON

SETTINGS = LiveSettings(
    attribution_seconds=60,
    lateness_seconds=30,
    windows_seconds=(3_600,),
    slices=("device",),
    keep_seconds=3_600,
)
LATER = NOON + timedelta(minutes=20)


@pytest.fixture
def rng():
    return np.random.default_rng(2)


@pytest.fixture
def folders(tmp_path):
    (tmp_path / "clicks").mkdir()
    return tmp_path / "predictions", tmp_path / "clicks", tmp_path / "state.duckdb"


def look_once(folders, now=LATER, settings=SETTINGS):
    with LabelJoin(folders[2], settings) as joined:
        return look(joined, folders[0], folders[1], now)


def figures(found, field=ALL, value=""):
    [one] = [q for _, slice_, q in measured(found) if (slice_.field, slice_.value) == (field, value)]
    return one


def test_it_says_what_the_offline_metrics_say_of_the_same_rows(folders, rng):
    table, clicked, times = logs.predictions(rng, 20_000)
    logs.write_predictions(folders[0], table)
    logs.write_clicks(folders[1], "c1.parquet", *logs.clicks_of(clicked, times))
    found, taken = look_once(folders)
    p, y = table["pctr"].to_numpy(), clicked.astype(float)
    one = figures(found)
    assert (one.impressions, one.clicks) == (20_000, clicked.sum()) == (taken.impressions, taken.clicks)
    assert one.normalized_entropy == pytest.approx(normalized_entropy(y, p), abs=1e-6)
    assert one.calibration_ratio == pytest.approx(calibration_ratio(y, p), rel=1e-6)
    assert one.auc == pytest.approx(auc(y, p), abs=2e-4)
    phones = np.array(table["features"].combine_chunks().field("device").to_pylist()) == "phone"
    slice_ = figures(found, "device", "phone")
    assert slice_.impressions == phones.sum()
    assert slice_.normalized_entropy == pytest.approx(normalized_entropy(y[phones], p[phones]), abs=1e-6)
    [slice_] = [s for s in found.slices[3_600] if s.field == ALL]
    assert slice_.labelled.log_loss / 20_000 == pytest.approx(log_loss(y, p), rel=1e-6)
    assert slice_.delays == pytest.approx((5.0, 5.0))


def test_the_interval_of_the_calibration_is_that_of_the_bootstrap_and_leaves_a_bias_out(folders, rng):
    table, clicked, times = logs.predictions(rng, 20_000, times=1.2)
    logs.write_predictions(folders[0], table)
    logs.write_clicks(folders[1], "c1.parquet", *logs.clicks_of(clicked, times))
    one = figures(look_once(folders)[0])
    resampled = bootstrap(
        clicked.astype(float), table["pctr"].to_numpy(), metrics=("calibration_ratio",), seed=1
    )
    again = resampled["calibration_ratio"]
    assert one.calibration_ratio == pytest.approx(again.value, rel=1e-6)
    assert one.calibration_low == pytest.approx(again.low, rel=0.01)
    assert one.calibration_high == pytest.approx(again.high, rel=0.01)
    assert one.calibration_low > 1


def test_bundles_are_measured_apart(folders, rng):
    good = logs.predictions(rng, 5_000)
    bad = logs.predictions(rng, 5_000, first=5_000, bundle="b" * 64, times=3.0)
    for n, (table, clicked, times) in enumerate((good, bad)):
        logs.write_predictions(folders[0], table, writer=f"w{n}")
        logs.write_clicks(folders[1], f"{n}.parquet", *logs.clicks_of(clicked, times, first=5_000 * n))
    ratios = {
        slice_.bundle[0]: q.calibration_ratio
        for _, slice_, q in measured(look_once(folders)[0])
        if slice_.field == ALL
    }
    assert ratios["a"] == pytest.approx(1.0, abs=0.15)
    assert ratios["b"] > 2


def test_what_is_not_ripe_is_not_judged(folders, rng):
    """At 12:05 predictions after 12:03:30 may still get their click."""
    table, clicked, times = logs.predictions(rng, 6_000)
    logs.write_predictions(folders[0], table)
    logs.write_clicks(folders[1], "c1.parquet", *logs.clicks_of(clicked, times))
    now = NOON + timedelta(minutes=5)
    assert figures(look_once(folders, now)[0]).impressions == pytest.approx(2_100, abs=1)


def test_a_click_that_comes_late_into_the_log_corrects_what_was_measured(folders, rng):
    table, clicked, times = logs.predictions(rng, 5_000)
    logs.write_predictions(folders[0], table)
    ids, when = logs.clicks_of(clicked, times)
    half = len(ids) // 2
    logs.write_clicks(folders[1], "c1.parquet", ids[:half], when[:half])
    assert figures(look_once(folders)[0]).clicks == half
    logs.write_clicks(folders[1], "c2.parquet", ids[half:], when[half:])
    assert figures(look_once(folders, LATER + timedelta(minutes=1))[0]).clicks == len(ids)


def test_clicks_count_once_within_their_window_and_only_on_what_was_shown(folders, rng):
    table, _, times = logs.predictions(rng, 100)
    logs.write_predictions(folders[0], table)
    hidden, _, _ = logs.predictions(rng, 50, first=1_000, shown=False)
    logs.write_predictions(folders[0], hidden, writer="rank")
    clicks = [
        (0, 10), (0, 20), (1, 59), (2, 61), (3, -6), (4, -4), (999, 5), (1_000, 5),
    ]  # fmt: skip
    ids = [i for i, _ in clicks]
    logs.write_clicks(
        folders[1], "c.parquet", ids, [times[min(i, 99)] + timedelta(seconds=after) for i, after in clicks]
    )
    found, taken = look_once(folders)
    one = figures(found)
    assert (one.impressions, one.clicks) == (100, 3)  # of impressions 0, 1, and 4, whose clock was late
    assert (taken.impressions, taken.without_impression) == (100, 50)


def test_what_a_fallback_showed_says_nothing_about_the_bundle(folders, rng):
    """Its click rates are no scores of the model; when the model answers the same impression later, that counts."""
    table, _, _ = logs.predictions(rng, 100)
    reasons = pa.array(["deadline" if i < 40 else None for i in range(100)], pa.string())
    logs.write_predictions(folders[0], table.append_column("fallback", reasons))
    found, taken = look_once(folders)
    assert figures(found).impressions == 60
    assert (taken.impressions, taken.fallbacks, taken.without_impression) == (60, 40, 0)
    logs.write_predictions(folders[0], table.slice(0, 10), writer="retry")
    assert figures(look_once(folders)[0]).impressions == 70


def test_files_seen_twice_and_impressions_asked_twice_count_once(folders, rng):
    table, clicked, times = logs.predictions(rng, 2_000)
    logs.write_predictions(folders[0], table)
    logs.write_predictions(folders[0], table.slice(0, 500), writer="retry")
    logs.write_clicks(folders[1], "c.parquet", *logs.clicks_of(clicked, times))
    for _ in range(3):
        found, _ = look_once(folders)
        assert (figures(found).impressions, figures(found).clicks) == (2_000, clicked.sum())


def test_a_shadow_is_judged_on_the_impressions_that_both_predicted(folders, rng):
    table, clicked, times = logs.predictions(rng, 5_000)
    p = table["pctr"].to_numpy()
    q = np.clip(p * 1.5, 0, 0.95).astype(np.float32)
    shadow = table.set_column(table.column_names.index("pctr"), "pctr", [q])
    shadow = shadow.set_column(shadow.column_names.index("bundle"), "bundle", [["b" * 64] * 5_000]).slice(
        0, 4_000
    )
    logs.write_predictions(folders[0], table)
    logs.write_predictions(folders[0], shadow, writer="shadow")
    logs.write_clicks(folders[1], "c.parquet", *logs.clicks_of(clicked, times))
    look_once(folders)
    with LabelJoin(folders[2], SETTINGS) as joined:
        total, squares = joined.differences("b" * 64, "a" * 64, NOON - timedelta(hours=1), LATER)
        found = joined.compared("b" * 64, "a" * 64, NOON - timedelta(hours=1), LATER)
        assert joined.compared("c" * 64, "a" * 64, NOON - timedelta(hours=1), LATER) == Compared()
    loss = [-np.where(clicked, np.log(x.astype(float)), np.log1p(-x.astype(float)))[:4_000] for x in (q, p)]
    assert total == pytest.approx((loss[0] - loss[1]).sum(), rel=1e-5)
    assert squares == pytest.approx(((loss[0] - loss[1]) ** 2).sum(), rel=1e-5)
    # threads add in any order
    assert (found.difference, found.difference_squares) == pytest.approx((total, squares), rel=1e-9)
    for side, scores, own in zip((found.promoted, found.last_good), (q, p), loss, strict=True):
        assert (side.impressions, side.clicks) == (4_000, clicked[:4_000].sum())
        assert side.pctr == pytest.approx(scores[:4_000].sum(), rel=1e-5)
        assert side.log_loss == pytest.approx(own.sum(), rel=1e-5)


def test_csv_and_json_lines_of_clicks_and_a_file_that_is_none(folders, rng, caplog):
    table, _, times = logs.predictions(rng, 50)
    logs.write_predictions(folders[0], table)
    stamp = (times[0] + timedelta(seconds=3)).isoformat()
    later = (times[1] + timedelta(seconds=3)).isoformat()
    (folders[1] / "a.csv").write_text(f"impression_id,click_time,price\n0,{stamp},1\n,{stamp},1\n")
    (folders[1] / "b.jsonl").write_text(json.dumps({"impression_id": "1", "click_time": later}) + "\n")
    (folders[1] / "broken.parquet").write_bytes(b"PAR1 and then nothing")
    (folders[1] / "wrong.csv").write_text("id,when\n1,2\n")
    found, taken = look_once(folders)
    assert figures(found).clicks == 2
    assert taken.incomplete_clicks == 1
    assert len(taken.unreadable) == 2
    assert "broken.parquet" in caplog.text
    assert "impression_id" in caplog.text
    (folders[1] / "wrong.csv").write_text(f"impression_id,click_time\n2,{stamp}\n")
    assert look_once(folders)[1].clicks == 1


def test_ids_of_text_files_are_taken_as_they_are_written(folders):
    """Types that a reader guesses would rewrite them: capitals of a UUID, an integer past 63 bits, zeros in front."""
    ids = ["6F9619FF-8B86-D011-B42D-00CF4FC964FF", "18446744073709551615", "007"]
    rng = np.random.default_rng(0)
    table, _, times = logs.predictions(rng, 3)
    table = table.set_column(table.column_names.index("impression_id"), "impression_id", pa.array(ids))
    logs.write_predictions(folders[0], table)
    stamps = [(at + timedelta(seconds=3)).isoformat() for at in times]
    lines = [json.dumps({"impression_id": ids[0], "click_time": stamps[0]})]
    (folders[1] / "a.jsonl").write_text("\n".join(lines) + "\n")
    (folders[1] / "b.csv").write_text(f"impression_id,click_time\n{ids[1]},{stamps[1]}\n")
    (folders[1] / "c.csv").write_text(f"impression_id,click_time\n{ids[2]},{stamps[2]}\n")
    assert figures(look_once(folders)[0]).clicks == 3


def test_only_the_most_frequent_values_of_a_slice_are_measured(folders, rng):
    table, clicked, times = logs.predictions(rng, 4_000)
    logs.write_predictions(folders[0], table)
    logs.write_clicks(folders[1], "c.parquet", *logs.clicks_of(clicked, times))
    devices = table["features"].combine_chunks().field("device").to_pylist()
    [(most, count)] = Counter(devices).most_common(1)
    found, _ = look_once(folders, settings=SETTINGS.model_copy(update={"slice_top": 1}))
    slices = [(s.field, s.value, q.impressions) for _, s, q in measured(found)]
    assert slices == [(ALL, "", 4_000), ("device", most, count)]


def test_names_of_files_that_are_gone_are_forgotten_and_those_there_are_not(folders, rng):
    table, clicked, times = logs.predictions(rng, 1_000)
    logs.write_predictions(folders[0], table)
    logs.write_clicks(folders[1], "gone.parquet", *logs.clicks_of(clicked, times))
    logs.write_clicks(folders[1], "there.parquet", *logs.clicks_of(clicked, times))
    look_once(folders)
    (folders[1] / "gone.parquet").unlink()
    [one] = folders[0].glob("day=*/*.parquet")
    one.unlink()  # and with it the whole prediction log: a volume that is not mounted, perhaps
    with LabelJoin(folders[2], SETTINGS) as joined:
        joined.ingest(folders[0], folders[1], LATER + timedelta(days=1))
        names = joined._db.execute("SELECT name FROM files ORDER BY name").fetchall()
    assert names == [("c/there.parquet",), (f"p/{one.name}",)]


def test_a_click_from_the_future_does_not_hide_a_log_that_stalls(folders, rng):
    table, _, times = logs.predictions(rng, 50)
    logs.write_predictions(folders[0], table)
    logs.write_clicks(folders[1], "c.parquet", [1, 2], [times[1], LATER + timedelta(days=365)])
    assert look_once(folders)[0].newest["click"] == times[1]


def test_a_file_that_stays_unreadable_is_logged_once(folders, caplog):
    (folders[1] / "broken.parquet").write_bytes(b"PAR1 and then nothing")
    with LabelJoin(folders[2], SETTINGS) as joined:
        taken = [look(joined, folders[0], folders[1], LATER)[1] for _ in range(3)]
    assert [len(one.unreadable) for one in taken] == [1, 1, 1]
    assert len(caplog.records) == 1


def test_what_is_too_old_is_forgotten(folders, rng):
    table, clicked, times = logs.predictions(rng, 5_000)
    logs.write_predictions(folders[0], table)
    logs.write_clicks(folders[1], "c.parquet", *logs.clicks_of(clicked, times))
    look_once(folders)
    found, _ = look_once(folders, LATER + timedelta(days=1))
    assert found.newest == {"prediction": None, "click": None}
    assert not list(measured(found))


def test_few_clicks_give_counts_and_no_figures(folders, rng):
    table, _, times = logs.predictions(rng, 100)
    logs.write_predictions(folders[0], table)
    logs.write_clicks(folders[1], "c.parquet", [1], [times[1]])
    one = figures(look_once(folders)[0])
    assert (one.impressions, one.clicks, one.click_rate) == (100, 1, 0.01)
    assert one.normalized_entropy is one.auc is one.calibration_ratio is None


def test_the_state_belongs_to_one_process(folders):
    with LabelJoin(folders[2], SETTINGS):
        script = (
            "import sys; from pathlib import Path; from monitoring.live import LabelJoin, LiveSettings;"
            "LabelJoin(Path(sys.argv[1]), LiveSettings())"
        )
        found = subprocess.run(
            [sys.executable, "-c", script, str(folders[2])], capture_output=True, text=True
        )
    assert "cannot be opened as the state of live quality" in found.stderr
    (folders[2].parent / "no.duckdb").write_text(
        "a text that is no database, and long enough to be looked at"
    )
    with pytest.raises(UsageError, match=r"no.duckdb: cannot be opened"):
        LabelJoin(folders[2].parent / "no.duckdb", SETTINGS)


def test_killed_again_and_again_it_counts_nothing_twice_and_loses_nothing(folders, rng):
    """SIGKILL at a random moment while it takes in 40 files; then one look to the end."""
    total = 0
    for n in range(20):
        table, clicked, times = logs.predictions(rng, 1_000, first=1_000 * n)
        logs.write_predictions(folders[0], table, writer=f"w{n}")
        logs.write_clicks(folders[1], f"{n:02}.parquet", *logs.clicks_of(clicked, times, first=1_000 * n))
        total += int(clicked.sum())
    script = textwrap.dedent("""
        import sys
        from datetime import datetime
        from pathlib import Path
        from monitoring.live import LabelJoin, LiveSettings
        predictions, clicks, state, now = sys.argv[1:]
        joined = LabelJoin(Path(state), LiveSettings.model_validate_json(sys.stdin.read()))
        print("open", flush=True)
        joined.ingest(Path(predictions), Path(clicks), datetime.fromisoformat(now))
    """)
    words = [sys.executable, "-c", script, *map(str, folders), LATER.isoformat()]
    for wait in (0.0, 0.1):
        process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        process.stdin.write(SETTINGS.model_dump_json())
        process.stdin.close()
        assert process.stdout.readline() == "open\n"
        try:
            process.wait(wait)
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)
        process.stdout.close()
        process.wait()
    one = figures(look_once(folders)[0])
    assert (one.impressions, one.clicks) == (20_000, total)


def test_judged_impressions_are_counted_once_and_pairs_by_the_sign_of_their_difference(tmp_path):
    """Against sums by hand over the same rows, in three looks."""
    rng = np.random.default_rng(8)
    settings = LiveSettings(
        attribution_seconds=10, lateness_seconds=0, windows_seconds=(60,), keep_seconds=36_000
    )
    predictions, clicks = tmp_path / "log", tmp_path / "clicks"
    one, two = "a" * 64, "b" * 64
    table, clicked, times = logs.predictions(rng, 600, bundle=one, seconds=60)
    other = table.set_column(table.column_names.index("bundle"), "bundle", [[two] * 600])
    half = np.float32(0.5) * table["pctr"].to_numpy()
    other = other.set_column(other.column_names.index("pctr"), "pctr", [half])
    logs.write_predictions(predictions, table, writer="one")
    logs.write_predictions(predictions, other, writer="two")
    logs.write_clicks(clicks, "c.parquet", *logs.clicks_of(clicked, times, delay=1))
    counted = JudgedCollector(settings)
    with LabelJoin(tmp_path / "live.duckdb", settings) as joined:
        joined.ingest(predictions, clicks, NOON + timedelta(seconds=100))
        for at in (-1, 30, 45, 200, 200):
            counted.count(joined, NOON + timedelta(seconds=at))
    registry = CollectorRegistry()
    registry.register(counted)

    def value(series, **labels):
        return registry.get_sample_value(f"{series}_total", labels)

    p = table["pctr"].to_numpy().astype(np.float64)
    y = clicked.astype(np.float64)
    loss = -np.where(clicked, np.log(p), np.log1p(-p))
    beside = -np.where(clicked, np.log(half.astype(np.float64)), np.log1p(-half.astype(np.float64)))
    short = {"bundle": one[:12]}
    assert value("clickmill_live_judged_impressions", **short) == 600
    assert value("clickmill_live_judged_clicks", **short) == y.sum()
    assert value("clickmill_live_judged_pctr", **short) == pytest.approx(p.sum())
    assert value("clickmill_live_judged_residual_squares", **short) == pytest.approx(((p - y) ** 2).sum())
    assert value("clickmill_live_judged_log_loss_nats", **short) == pytest.approx(loss.sum())
    assert value("clickmill_live_judged_log_loss_squares", **short) == pytest.approx((loss**2).sum())
    pair = {"bundle": one[:12], "beside": two[:12]}
    difference = loss - beside
    assert value("clickmill_live_paired_worse_nats", **pair) == pytest.approx(
        difference[difference > 0].sum()
    )
    assert value("clickmill_live_paired_better_nats", **pair) == pytest.approx(
        -difference[difference < 0].sum()
    )
    assert value("clickmill_live_paired_squares", **pair) == pytest.approx((difference**2).sum())
    mirrored = {"bundle": two[:12], "beside": one[:12]}
    assert value("clickmill_live_paired_worse_nats", **mirrored) == pytest.approx(
        -difference[difference < 0].sum()
    )
    assert registry.get_sample_value("clickmill_live_ripening_seconds") == 10
