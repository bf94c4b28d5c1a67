"""Intervals: their coverage, what pairing gains, what clusters cost, and slices and the record built on them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clickmill.errors import DataError, UndefinedMetric, UsageError
from clickmill.evaluation import (
    METRICS,
    Estimate,
    Evaluation,
    SliceStatus,
    auc,
    bootstrap,
    bootstrap_gauc,
    check_rows,
    evaluate,
    evaluate_slices,
    gauc,
    normalized_entropy,
    paired_bootstrap,
    paired_bootstrap_gauc,
    rows_by_value,
)
from clickmill.evaluation.bootstrap import poisson_counts


def world(rng, n, noise=0.0, shift=0.0):
    z = rng.normal(-1.5, 1.0, n)
    y = (rng.random(n) < 1 / (1 + np.exp(-z))).astype(int)
    return y, 1 / (1 + np.exp(-(z + shift + rng.normal(0, noise, n) if noise else z + shift)))


def test_counts_are_poisson():
    counts = poisson_counts(np.random.default_rng(0), 400_000)
    assert counts.mean() == pytest.approx(1, abs=0.006)
    assert counts.var() == pytest.approx(1, abs=0.012)
    assert np.mean(counts == 0) == pytest.approx(np.exp(-1), abs=0.003)
    assert np.mean(counts == 3) == pytest.approx(np.exp(-1) / 6, abs=0.002)


@pytest.mark.parametrize(
    ("rows", "names"),
    [
        (1_000, ["auc", "log_loss", "normalized_entropy", "calibration_ratio"]),
        # 15 bins of 67 rows would hold too few clicks for an interval of ECE that keeps its promise.
        (4_000, ["ece_equal_mass"]),
    ],
)
def test_intervals_cover_the_true_value_as_often_as_they_say(rows, names):
    big_y, big_p = world(np.random.default_rng(99), 1_000_000, shift=0.4)
    truth = {name: bootstrap(big_y, big_p, metrics=[name], resamples=20)[name].value for name in names}
    hits = dict.fromkeys(names, 0)
    trials = 120
    for trial in range(trials):
        y, p = world(np.random.default_rng(trial), rows, shift=0.4)
        for name, estimate in bootstrap(y, p, metrics=names, level=0.9, seed=trial).items():
            hits[name] += estimate.low <= truth[name] <= estimate.high
    # 0.9 -+ 3.5 standard errors of 120 trials (0.027): a one-sided or half as long interval would fail.
    for name, hit in hits.items():
        assert 0.8 <= hit / trials <= 0.99, (name, hit / trials)


def test_the_interval_of_a_small_ece_reaches_down_to_it():
    # Noise puts the estimate far above the truth and each resample further up: percentiles would never reach down.
    big_y, big_p = world(np.random.default_rng(99), 1_000_000, shift=0.1)
    truth = bootstrap(big_y, big_p, metrics=["ece_equal_mass"], resamples=20)["ece_equal_mass"].value
    hits = 0
    for trial in range(40):
        y, p = world(np.random.default_rng(trial), 1_000, shift=0.1)
        estimate = bootstrap(y, p, metrics=["ece_equal_mass"], seed=trial)["ece_equal_mass"]
        assert estimate.value > truth
        hits += estimate.low <= truth
    assert hits > 20


def test_the_interval_of_the_calibration_ratio_is_the_normal_one():
    y, p = world(np.random.default_rng(5), 20_000)
    estimate = bootstrap(y, p, metrics=["calibration_ratio"], resamples=1000)["calibration_ratio"]
    ratio = p.sum() / y.sum()
    residual = (p - ratio * y) / y.mean()  # delta method
    half = 1.96 * residual.std() / np.sqrt(len(y))
    assert (estimate.low, estimate.high) == pytest.approx((ratio - half, ratio + half), abs=0.15 * half)


def test_the_same_seed_gives_the_same_interval_and_another_seed_another():
    y, p = world(np.random.default_rng(1), 500)
    assert bootstrap(y, p, seed=3) == bootstrap(y, p, seed=3)
    assert bootstrap(y, p, seed=3)["auc"] != bootstrap(y, p, seed=4)["auc"]


def test_a_paired_interval_sees_what_two_single_ones_cannot():
    rng = np.random.default_rng(2)
    y, p = world(rng, 4_000)
    worse = 1 / (1 + np.exp(-(np.log(p / (1 - p)) + 0.3)))
    single, other = bootstrap(y, p)["normalized_entropy"], bootstrap(y, worse)["normalized_entropy"]
    assert single.high > other.low  # they overlap
    difference = paired_bootstrap(y, p, worse)["normalized_entropy"]
    assert difference.value == pytest.approx(normalized_entropy(y, worse) - normalized_entropy(y, p))
    assert difference.low > 0


@given(st.integers(0, 1000))
@settings(max_examples=20)
def test_equal_models_differ_by_exactly_nothing(seed):
    y, p = world(np.random.default_rng(seed), 200)
    zero = Estimate(value=0, low=0, high=0)
    assert paired_bootstrap(y, p, p.copy(), resamples=20, seed=seed) == dict.fromkeys(METRICS, zero)
    assert paired_bootstrap_gauc(check_rows(y, p), check_rows(y, p), np.arange(200) % 9, resamples=20) == zero


def test_rows_that_come_in_clusters_have_wider_intervals():
    rng = np.random.default_rng(4)
    user = np.repeat(np.arange(100), 50)
    mood = rng.normal(0, 1.5, 100)[user]
    y = (rng.random(5_000) < 1 / (1 + np.exp(-(mood - 2)))).astype(int)
    p = np.full(5_000, y.mean())
    by_row = bootstrap(y, p, metrics=["calibration_ratio"])["calibration_ratio"]
    by_user = bootstrap(y, p, metrics=["calibration_ratio"], cluster=[f"user {u}" for u in user])[
        "calibration_ratio"
    ]
    assert by_user.high - by_user.low > 2 * (by_row.high - by_row.low)


def test_clusters_of_one_row_are_rows():
    y, p = world(np.random.default_rng(6), 300)
    assert bootstrap(y, p, cluster=np.arange(300)) == bootstrap(y, p)
    assert bootstrap(y, p, cluster=[None] * 300) == bootstrap(y, p)  # without an id each row stands alone


def test_gauc_intervals_hold_the_value_and_pair():
    rng = np.random.default_rng(8)
    y, p = world(rng, 6_000)
    user = rng.integers(0, 400, 6_000)
    noisy = np.clip(p + rng.normal(0, 0.15, 6_000), 0.001, 0.999)
    estimate = bootstrap_gauc(check_rows(y, p), user)
    assert estimate.value == pytest.approx(gauc(y, p, user).value)
    assert estimate.low < estimate.value < estimate.high
    assert estimate.high - estimate.low < 0.06
    worse = paired_bootstrap_gauc(check_rows(y, p), check_rows(y, noisy), user)
    assert worse.value == pytest.approx(gauc(y, noisy, user).value - estimate.value)
    assert worse.high < 0


def test_undefined_and_unknown_requests_are_refused_in_words():
    with pytest.raises(UndefinedMetric, match="AUC has no value on these rows: 0 clicks among 3 rows"):
        bootstrap([0, 0, 0], [0.1, 0.2, 0.3], metrics=["auc"])
    with pytest.raises(UsageError, match=r"metric must be one of auc, log_loss, .*, got 'accuracy'"):
        bootstrap([0, 1], [0.1, 0.2], metrics=["accuracy"])
    with pytest.raises(UsageError, match="resamples must be at least 20, got 5"):
        bootstrap([0, 1], [0.1, 0.2], resamples=5)
    with pytest.raises(UsageError, match="level must be between 0 and 1, got 95"):
        bootstrap([0, 1], [0.1, 0.2], level=95)


def test_one_click_still_gets_an_interval_from_the_resamples_that_drew_it():
    estimate = bootstrap([0] * 50 + [1], np.linspace(0.1, 0.5, 51))["auc"]
    assert estimate.value == 1.0


def slice_world():
    rng = np.random.default_rng(12)
    y, p = world(rng, 9_000)
    device = np.array(["phone", "tablet", "desktop"])[
        np.searchsorted([6000, 8950], np.arange(9_000), side="right")
    ]
    return y, p, device


def test_slices_are_judged_on_their_own_rows():
    y, p, device = slice_world()
    phone, tablet, desktop = evaluate_slices(y, p, {"device": device}, min_clicks=100)
    assert (phone.value, phone.n, phone.clicks) == ("phone", 6000, int(y[:6000].sum()))
    assert phone.metrics["auc"].value == pytest.approx(auc(y[:6000], p[:6000]))
    assert phone.share == pytest.approx(2 / 3)
    assert tablet.status is SliceStatus.KNOWN
    assert (desktop.value, desktop.status, desktop.metrics) == ("desktop", SliceStatus.UNKNOWN, {})
    assert desktop.reason == f"{y[8950:].sum()} clicks, 100 needed"


def test_slices_without_enough_non_clicks_are_unknown_too():
    y = np.r_[np.ones(200), np.zeros(5)]
    (only,) = evaluate_slices(y, np.full(205, 0.9), {"a": ["x"] * 205})
    assert only.reason == "5 non-clicks, 100 needed"


def test_many_values_show_the_most_frequent_and_the_rest_together():
    rng = np.random.default_rng(0)
    ad = np.r_[np.repeat(["a", "b", "c"], [500, 300, 200]), rng.integers(0, 100, 400).astype(str)].astype(
        object
    )
    ad[:7] = None
    parts = list(rows_by_value("ad", ad, 1400, top=3))
    assert [(name, len(rows)) for name, rows in parts] == [
        ("a", 493),
        ("b", 300),
        ("c", 200),
        ("(other)", 407),
    ]
    assert sorted(np.concatenate([rows for _, rows in parts])) == list(range(1400))
    whole = dict(rows_by_value("ad", ad, 1400, top=1000))
    assert whole["(missing)"].tolist() == list(range(7))


@given(st.lists(st.sampled_from(["x", "y", "z", "w", None]), min_size=1, max_size=60), st.integers(1, 5))
def test_slices_part_the_rows_and_no_row_is_lost(values, top):
    parts = list(rows_by_value("c", np.array(values, dtype=object), len(values), top=top))
    assert sorted(np.concatenate([rows for _, rows in parts])) == list(range(len(values)))
    for name, rows in parts:
        if name != "(other)":
            assert {values[i] for i in rows} == {None if name == "(missing)" else name}


def test_a_slice_column_of_another_length_is_refused():
    with pytest.raises(DataError, match=r"slice column hour must be of shape \(2,\) like y, got \(3,\)"):
        evaluate_slices([0, 1], [0.1, 0.2], {"hour": [1, 2, 3]})


def test_the_record_survives_json_and_tells_its_figures():
    rng = np.random.default_rng(21)
    y, p = world(rng, 3_000, noise=0.5)
    user, hour = rng.integers(0, 100, 3_000), rng.integers(0, 4, 3_000)
    record = evaluate(
        y, p, groups={"user": user, "request": np.arange(3_000)}, slices={"hour": hour}, truth=p, resamples=40
    )
    assert Evaluation.model_validate_json(record.model_dump_json()) == record
    assert (record.n, record.clicks) == (3_000, int(y.sum()))
    figures = record.figures()
    assert figures["auc"] == pytest.approx(auc(y, p))
    assert figures["gauc_by_user"] == pytest.approx(gauc(y, p, user).value)
    assert "gauc_by_request" not in figures  # one impression per request: no group has both classes
    assert figures["ceiling_auc"] == figures["auc"]
    assert len(record.slices) == 4
    assert record.lift[-1].cumulative_gain == pytest.approx(1)
    assert evaluate(y, p, groups=user, resamples=20).gauc["group"].groups == record.gauc["user"].groups


def test_an_estimate_lies_inside_its_interval():
    with pytest.raises(ValueError, match=r"must be low <= value <= high, got 0\.2 <= 0\.1 <= 0\.3"):
        Estimate(value=0.1, low=0.2, high=0.3)
