"""What a running experiment shows is what its own log would say; a log that can't be used is counted."""

import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from prometheus_client import CollectorRegistry

from clickmill.errors import DataError, SchemaMismatch
from clickmill.experiment.analysis import analyse
from monitoring.experiments import ExperimentCollector, look, watch
from tests.clickmill.experiment import drawn
from tests.monitoring.experiments import arms_log


def samples(collector):
    registry = CollectorRegistry()
    registry.register(collector)
    return lambda name, **labels: registry.get_sample_value(name, {"experiment": "drawn", **labels})


def test_prediction_log_and_click_log_say_what_the_experiments_own_log_says(tmp_path):
    watched = arms_log.write(tmp_path, lift=0.3)
    found = look(watched)
    own = analyse(drawn.summed(tmp_path / "own.parquet", drawn.impressions(1, 2_000, lift=0.3), drawn.spec()))
    assert [(a.arm, a.users, a.impressions, a.clicks) for a in found.arms] == [
        (a.arm, a.users, a.impressions, a.clicks) for a in own.arms
    ]
    for metric in ("ctr", "rpm"):
        one, other = found.effect(metric, "b"), own.effect(metric, "b")
        assert (one.lift, one.low, one.high) == pytest.approx((other.lift, other.low, other.high))


def test_the_metrics_are_the_analysis(tmp_path):
    found = look(arms_log.write(tmp_path, lift=0.3))
    collector = ExperimentCollector("drawn")
    collector.show(found, datetime(2026, 3, 9, tzinfo=UTC))
    value = samples(collector)
    assert value("clickmill_experiment_verdict", arm="b") == 1.0
    assert value("clickmill_experiment_users", arm="a") == found.arms[0].users
    assert value("clickmill_experiment_lift_low", arm="b", metric="ctr") == found.effect("ctr", "b").low > 0
    assert value("clickmill_experiment_value", arm="b", metric="rpm") == found.arms[1].values["rpm"]
    assert value("clickmill_experiment_split_p") == found.sample_ratio.any_time_p
    assert value("clickmill_experiment_split_sound") == 1.0
    assert value("clickmill_experiment_guardrail", arm="b", metric="ctr") is None
    assert (
        value("clickmill_experiment_looked_timestamp_seconds") == datetime(2026, 3, 9, tzinfo=UTC).timestamp()
    )
    assert value("clickmill_experiment_failed_looks_total") == 0


@pytest.mark.parametrize(("lift", "told"), [(0.3, 1.0), (0.0, 0.0), (-0.3, -1.0)])
def test_a_guardrail_is_shown_to_hold_to_be_broken_or_not_known(tmp_path, lift, told):
    spec = drawn.spec(primary="rpm", secondary=(), guardrails={"ctr": 0.02})
    collector = ExperimentCollector("drawn")
    collector.show(look(arms_log.write(tmp_path, lift=lift, spec=spec)), datetime(2026, 3, 9, tzinfo=UTC))
    assert samples(collector)("clickmill_experiment_guardrail", arm="b", metric="ctr") == told


def test_a_broken_split_is_shown_and_no_guardrail_with_it(tmp_path):
    spec = drawn.spec(arms={"a": {"weight": 2}, "b": {}}, guardrails={"ctr": 0.02})
    collector = ExperimentCollector("drawn")
    collector.show(look(arms_log.write(tmp_path, spec=spec)), datetime(2026, 3, 9, tzinfo=UTC))
    assert samples(collector)("clickmill_experiment_split_sound") == 0.0
    assert samples(collector)("clickmill_experiment_guardrail", arm="b", metric="ctr") is None


def test_users_of_an_arm_that_sells_nothing_to_them_stay_in_it(tmp_path):
    """A reserve price: a tenth of b's users are ranked for and never shown anything. They are no broken split, and 0 clicks per user."""
    watched = arms_log.write(tmp_path, lift=0.0, spec=drawn.spec(secondary=("clicks_per_user",)))
    (tmp_path / "whole").mkdir()
    whole = look(arms_log.write(tmp_path / "whole", lift=0.0, spec=watched.spec))
    for path in (tmp_path / "log").rglob("*.parquet"):
        table = pq.ParquetFile(path).read()
        user = pc.struct_field(table["features"], "user_id")
        mine = pc.and_(pc.equal(pc.utf8_slice_codeunits(user, -1), "3"), pc.equal(table["arm"], "b"))
        ids = pc.if_else(pc.fill_null(mine, False), pa.scalar(None, pa.string()), table["impression_id"])
        at = table.column_names.index("impression_id")
        pq.write_table(table.set_column(at, "impression_id", ids), path)
    found = look(watched)
    assert [arm.users for arm in found.arms] == [arm.users for arm in whole.arms]
    assert found.sample_ratio.sound
    lost = [1 - found.arms[k].clicks / whole.arms[k].clicks for k in (0, 1)]
    assert lost[0] == 0
    assert 0.05 < lost[1] < 0.15
    assert found.arms[1].values["clicks_per_user"] == pytest.approx(
        found.arms[1].clicks / whole.arms[1].users
    )


def test_a_click_on_nothing_is_refused(tmp_path):
    table = drawn.impressions(1, 200)
    table = table.append_column("shown", pa.array(np.zeros(len(table), np.int8)))
    with pytest.raises(DataError, match="must be 0 or 1, and 0 where nothing was shown"):
        drawn.summed(tmp_path / "log.parquet", table, drawn.spec())


def test_clicks_after_the_attribution_window_do_not_count(tmp_path):
    watched = arms_log.write(tmp_path)
    with pytest.raises(DataError, match="no click in"):
        look(replace(watched, attribution=timedelta(seconds=4)))


def test_a_field_that_the_log_does_not_keep_is_named(tmp_path):
    watched = arms_log.write(tmp_path, spec=drawn.spec(slices=("country",)))
    with pytest.raises(
        SchemaMismatch, match="keeps no values of field `country`; serve with --log-features values"
    ):
        look(watched)


def test_a_look_that_fails_is_counted_and_the_next_one_shows_what_there_is(tmp_path):
    """No click log yet; then it comes."""
    watched = arms_log.write(tmp_path)
    (tmp_path / "clicks" / "c.parquet").rename(tmp_path / "c.parquet")

    class Waiting(threading.Event):
        """Between two looks, what the test wants to happen."""

        looks = 0

        def wait(self, timeout=None):
            self.looks += 1
            if self.looks == 1:
                assert not (tmp_path / "answer.html").exists()
                (tmp_path / "c.parquet").rename(tmp_path / "clicks" / "c.parquet")
                return False
            return True

    stop = Waiting()
    watch(watched, port=0, host="127.0.0.1", every=60.0, stop=stop, report=tmp_path / "answer.html")
    assert stop.looks == 2
    assert "Experiment drawn" in (tmp_path / "answer.html").read_text()
