"""Experiments whose truth is known get the right answer, and none where the data cannot give one."""

from datetime import timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from clickmill.errors import DataError
from clickmill.experiment.analysis import FINDING, analyse
from clickmill.experiment.findings import Analysis
from clickmill.release import Verdict
from tests.clickmill.experiment import drawn


def found(tmp_path, table, **changed):
    return analyse(drawn.summed(tmp_path / "log.parquet", table, drawn.spec(**changed)))


@pytest.fixture(scope="module")
def better(tmp_path_factory):
    table = drawn.impressions(2, 6_000, lift=0.25, pre_days=7)
    return found(
        tmp_path_factory.mktemp("better"), table, slices=("device",), guardrails={"rpm": 0.05}, pre_days=7
    )


def test_a_better_arm_is_found_and_the_page_of_figures_survives_json(better):
    assert better.verdict is Verdict.PASS
    assert better.best.headline == "Yes: b is better than a."
    effect = better.effect("ctr", "b")
    assert effect.low < 0.25 < effect.high
    assert effect.low < effect.once_low < effect.lift < effect.once_high < effect.high
    assert effect.treatment_value - effect.control_value == pytest.approx(effect.difference)
    assert better.sample_ratio.sound
    assert len(better.looks) == 7
    last = better.looks[-1].effects["b"]
    assert (last.lift, last.low, last.high) == pytest.approx((effect.lift, effect.low, effect.high))
    assert Analysis.model_validate_json(better.model_dump_json()) == better


def test_an_effect_by_plain_python(tmp_path):
    """Without a before: clicks over impressions, and the variance over users, by hand."""
    table = drawn.impressions(3, 800)
    effect = found(tmp_path, table, min_clicks=1).effect("ctr", "b")
    frame = table.to_pandas()
    rates, variances = {}, {}
    for arm, rows in frame.groupby("arm"):
        users = rows.groupby("user_id")["clicked"].agg(["size", "sum"])
        r = users["sum"].sum() / users["size"].sum()
        residual = users["sum"] - r * users["size"]
        rates[arm], variances[arm] = r, residual.var(ddof=1) / users["size"].mean() ** 2 / len(users)
    assert effect.lift == pytest.approx(rates["b"] / rates["a"] - 1)
    spread = (variances["b"] + (rates["b"] / rates["a"]) ** 2 * variances["a"]) ** 0.5 / rates["a"]
    assert effect.once_high - effect.lift == pytest.approx(1.959964 * spread, rel=1e-6)


def test_what_was_before_saves_traffic(better):
    assert 0.3 < better.effect("ctr", "b").variance_kept < 0.95


def test_equal_arms_are_not_told_apart_and_the_answer_says_what_is_missing(tmp_path):
    analysis = found(tmp_path, drawn.impressions(5, 3_000))
    assert analysis.verdict is Verdict.UNKNOWN
    assert analysis.best.needs > 0
    assert "impressions would settle it" in analysis.best.advice


def test_a_gain_shown_to_be_too_small_is_a_no(tmp_path):
    analysis = found(tmp_path, drawn.impressions(6, 6_000), minimal_effect=0.3)
    assert analysis.verdict is Verdict.FAIL
    assert analysis.best.headline == "No: b does not gain enough to matter."


def test_a_worse_arm_is_a_no(tmp_path):
    analysis = found(tmp_path, drawn.impressions(7, 6_000, lift=-0.3))
    assert analysis.verdict is Verdict.FAIL
    assert analysis.best.headline == "No: b is worse than a."


def cheaper(table, by):
    """Clicks of b pay less."""
    factor = pa.array(
        np.where(pc.fill_null(pc.equal(table["arm"], "b"), False).to_numpy(zero_copy_only=False), by, 1.0)
    )
    return table.set_column(
        table.schema.get_field_index("revenue"), "revenue", pc.multiply(table["revenue"], factor)
    )


def test_more_clicks_that_cost_too_much_revenue_are_a_no(tmp_path):
    table = cheaper(drawn.impressions(8, 6_000, lift=0.25), 0.4)
    analysis = found(tmp_path, table, guardrails={"rpm": 0.05})
    assert analysis.verdict is Verdict.FAIL
    assert analysis.best.headline == "No: b costs too much."
    assert (
        "Revenue per thousand impressions is shown to lose more than the 5 % it may" in analysis.best.reason
    )


def test_more_clicks_whose_revenue_is_not_shown_to_be_safe_are_no_answer_yet(tmp_path):
    table = cheaper(drawn.impressions(9, 6_000, lift=0.25), 0.77)
    analysis = found(tmp_path, table, guardrails={"rpm": 0.05})
    assert analysis.verdict is Verdict.UNKNOWN
    assert analysis.best.headline == "Not known yet: b gains, but it is not shown to be safe."
    assert "is not yet shown to lose less than 5 %" in analysis.best.reason


def test_a_broken_split_is_no_answer_however_large_the_effect_and_the_place_is_named(tmp_path):
    table = drawn.impressions(10, 8_000, lift=0.5)
    lost = pc.and_(pc.equal(table["arm"], "b"), pc.equal(table["device"], "phone"))
    # every fifth user of b on a phone is lost
    fifth = pc.is_in(pc.utf8_slice_codeunits(table["user_id"], -1), pa.array(["0", "5"]))
    analysis = found(tmp_path, table.filter(pc.invert(pc.and_(lost, fifth))), slices=("device",))
    assert analysis.verdict is Verdict.UNKNOWN
    assert analysis.best.headline == "No answer: the experiment itself is broken."
    assert [(s.column, s.value) for s in analysis.sample_ratio.suspects] == [("device", "phone")]
    assert "It is most off where device is phone" in analysis.best.reason


def test_a_slice_with_another_effect_stands_out(tmp_path):
    """b helps nobody but desks. All others are a little below their rest then, since desks are in it."""
    devices = (*(f"phone{i}" for i in range(7)), "desk")
    table = drawn.impressions(11, 12_000, devices=devices)
    rng = np.random.default_rng(0)
    hit = pc.and_(pc.equal(table["arm"], "b"), pc.equal(table["device"], "desk")).to_numpy(
        zero_copy_only=False
    )
    clicked = table["clicked"].to_numpy() | (hit & (rng.random(len(table)) < 0.1))
    table = table.set_column(
        table.schema.get_field_index("clicked"), "clicked", pa.array(clicked.astype(np.int8))
    )
    first, *others = sorted(found(tmp_path, table, slices=("device",)).slices, key=lambda s: s.q)
    assert first.value == "desk"
    assert first.q < 1e-3
    assert first.against_rest > 0.5
    assert all(other.against_rest < 0.1 for other in others)


def test_slices_of_equal_arms_do_not_stand_out(tmp_path):
    devices = tuple(f"phone{i}" for i in range(8))
    for seed in range(5):
        table = drawn.impressions(30 + seed, 4_000, devices=devices)
        assert not [s for s in found(tmp_path, table, slices=("device",)).slices if s.q <= FINDING]


def test_novelty_that_wears_off_is_told(tmp_path):
    parts = [
        drawn.impressions(20 + day, 3_000, days=1, lift=lift, per_day=3.0)
        for day, lift in enumerate((1.0, 0.6, 0.3, 0.15, 0.05, 0.0, 0.0))
    ]
    late = []
    for day, part in enumerate(parts):
        time = pa.array(part["time"].cast(pa.int64()).to_numpy() + day * 86_400_000_000, pa.int64()).cast(
            pa.timestamp("us", "UTC")
        )
        names = pc.binary_join_element_wise(part["user_id"], pa.scalar(str(day)), "-")
        late.append(part.set_column(2, "time", time).set_column(0, "user_id", names))
    analysis = found(tmp_path, pa.concat_tables(late))
    assert analysis.trends[0].per_day < 0
    assert any("shrinks from day to day" in caveat for caveat in analysis.caveats)
    assert [day.label for day in analysis.days][:2] == ["02 Mar", "03 Mar"]
    assert [day.label for day in analysis.weekdays] == ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"]


def test_few_clicks_are_no_answer_and_none_at_all_is_an_error(tmp_path):
    table = drawn.impressions(12, 150, ctr=0.02)
    analysis = found(tmp_path, table)
    assert analysis.verdict is Verdict.UNKNOWN
    assert analysis.best.headline == "Not known yet: too few clicks to say anything."
    assert analysis.effects == ()
    none = table.set_column(
        table.schema.get_field_index("clicked"), "clicked", pa.array(np.zeros(len(table), np.int8))
    )
    with pytest.raises(
        DataError,
        match=r"field `clicked`: no click in [\d,]+ impressions of all arms; is the click log joined",
    ):
        found(tmp_path, none)


def test_a_metric_that_never_varies_is_an_error(tmp_path):
    table = drawn.impressions(13, 600)
    table = table.append_column("pages", pa.array(np.ones(len(table))))
    metrics = {"pages": {"numerator": "pages"}}
    with pytest.raises(
        DataError, match="metric `pages` of arms b and a: no variance: the metric is the same for every user"
    ):
        found(tmp_path, table, metrics=metrics, secondary=("pages",))


def test_three_arms_share_alpha_and_the_best_one_is_named(tmp_path):
    table = drawn.impressions(14, 9_000, lift=0.3)
    rng = np.random.default_rng(1)
    users = np.array(table["user_id"].to_pylist())
    names, back = np.unique(users, return_inverse=True)
    moved = (rng.random(len(names)) < 1 / 3)[back]
    treated = table["arm"].to_numpy(zero_copy_only=False) == "b"
    three = table.set_column(1, "arm", pa.array(np.where(moved, "c", np.where(treated, "b", "a"))))
    weights = {"a": {"weight": 1}, "b": {"weight": 1}, "c": {"weight": 1}}
    analysis = found(tmp_path, three, arms=weights)
    two = found(tmp_path, three.filter(pc.not_equal(three["arm"], "c")))
    assert analysis.best.treatment == "b"
    assert [c.treatment for c in analysis.conclusions] == ["b", "c"]
    wide, narrow = analysis.effect("ctr", "b"), two.effect("ctr", "b")
    assert (wide.once_high - wide.lift) / (narrow.once_high - narrow.lift) == pytest.approx(
        2.2414 / 1.95996, rel=1e-3
    )


def test_looks_of_hours_begin_with_the_experiment(tmp_path):
    sums = drawn.summed(
        tmp_path / "log.parquet",
        drawn.impressions(15, 500, days=1, per_day=5),
        drawn.spec(),
        look=timedelta(hours=6),
    )
    looks = analyse(sums).looks
    assert [look.at for look in looks[:3]] == [drawn.START + timedelta(hours=6 * k) for k in (1, 2, 3)]


def test_a_metric_that_should_fall_is_better_lower(tmp_path):
    metrics = {"complaints": {"numerator": "clicks", "goal": "down"}}
    analysis = found(tmp_path, drawn.impressions(16, 5_000, lift=-0.3), metrics=metrics, primary="complaints")
    assert analysis.best.headline == "Yes: b is better than a."
    worse = found(tmp_path, drawn.impressions(17, 5_000, lift=0.4), metrics=metrics, primary="complaints")
    assert worse.best.headline == "No: b is worse than a."
