"""Off-policy estimates against numbers worked by hand, expectations over every log there can be, and the simulated market."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clickmill.data.world import LoggingPolicy, WorldConfig
from clickmill.errors import DataError, UndefinedMetric, UsageError
from clickmill.experiment.off_policy import (
    Against,
    Interval,
    LoggedRows,
    Method,
    OffPolicySettings,
    Shares,
    bernstein,
    bootstrap,
    cell_rates,
    compare,
    diagnose,
    evaluate,
    normal,
    pareto_shape,
    ratio,
    shares,
    value,
)
from tests.clickmill.experiment.off_policy.logging_market import logged_market

HAND = LoggedRows.checked(
    reward=[1, 0, 1, 0],
    propensity=[0.5, 0.25, 0.2, 0.8],
    target=[0.25, 0.5, 0.6, 0.4],
    model=[0.5, 0.25, 0.5, 0.0],
    model_target=[0.4, 0.3, 0.5, 0.2],
)
"""Weights 1/2, 2, 3, 1/2."""


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        (Method.IPS, (0.5 + 3) / 4),
        (Method.SNIPS, 3.5 / 6),
        (Method.DM, 1.4 / 4),
        (Method.DR, (1.4 + 0.5 * 0.5 - 2 * 0.25 + 3 * 0.5) / 4),
    ],
)
def test_estimates_worked_by_hand(method, expected):
    assert value(HAND, method) == pytest.approx(expected, rel=1e-12)


chance = st.floats(0.05, 1.0)


@given(st.lists(st.tuples(chance, chance, st.floats(0, 1), st.floats(0, 1)), min_size=2, max_size=4))
def test_ips_and_doubly_robust_are_right_on_average_over_all_logs_of_two_rows(ads):
    logging, target, rate, q = (np.array(column) for column in zip(*ads, strict=True))
    logging, target = logging / logging.sum(), target / target.sum()
    expected = {Method.IPS: 0.0, Method.DR: 0.0}
    for shown in itertools.product(range(len(ads)), repeat=2):
        for clicks in itertools.product((0, 1), repeat=2):
            pick = np.array(shown)
            odds = np.prod(logging[pick] * np.where(clicks, rate[pick], 1 - rate[pick]))
            rows = LoggedRows.checked(
                clicks, logging[pick], target[pick], model=q[pick], model_target=np.full(2, target @ q)
            )
            for method in expected:
                expected[method] += odds * value(rows, method)
    assert expected[Method.IPS] == pytest.approx(target @ rate, abs=1e-9)
    assert expected[Method.DR] == pytest.approx(target @ rate, abs=1e-9)


@given(
    st.lists(st.tuples(st.booleans(), chance, st.floats(0, 1)), min_size=3, max_size=30), st.floats(0.1, 20)
)
def test_snips_stays_among_the_rewards_and_clipping_only_lowers_ips(rows, clip):
    reward, propensity, target = (np.array(column, float) for column in zip(*rows, strict=True))
    log = LoggedRows.checked(reward, propensity, target)
    if log.weight.sum() > 0:
        assert -1e-12 <= value(log, Method.SNIPS) <= 1 + 1e-12
    cut = log.clipped(clip)
    assert cut.weight.max() <= clip * (1 + 1e-12)
    assert value(cut, Method.IPS) <= value(log, Method.IPS) + 1e-12


def test_the_same_policy_is_worth_what_was_logged():
    rng = np.random.default_rng(1)
    p = rng.uniform(0.1, 0.9, 500)
    rows = LoggedRows.checked(rng.random(500) < 0.1, p, p)
    for method in (Method.IPS, Method.SNIPS):
        assert value(rows, method) == pytest.approx(rows.reward.mean(), rel=1e-12)
    assert compare(rows, rows, Method.SNIPS).value == 0
    assert evaluate(rows).verdict is Against.UNKNOWN
    assert "just what the logging policy did" in evaluate(rows).reasons[0]


def test_the_normal_interval_of_a_plain_mean_is_the_textbook_one():
    rows = LoggedRows.checked([1, 0, 0, 1, 1], np.ones(5), np.ones(5))
    found = normal(rows, *ratio(rows, Method.IPS), 0.95)
    error = math.sqrt(0.6 * 0.4 / 4)  # s / sqrt(n) with s^2 = 5/4 p (1 - p)
    assert (found.high - found.low) / 2 == pytest.approx(1.959964 * error, rel=1e-6)


def test_rows_of_a_cluster_count_once():
    single = LoggedRows.checked([1, 0, 0, 1], np.ones(4), np.ones(4))
    copied = LoggedRows.checked(
        np.repeat([1, 0, 0, 1], 9), np.ones(36), np.ones(36), cluster=np.repeat(["a", "b", "c", "d"], 9)
    )
    one, nine = (normal(rows, *ratio(rows, Method.SNIPS), 0.9) for rows in (single, copied))
    assert nine.low == pytest.approx(one.low, rel=1e-12)
    drawn = [
        bootstrap(rows, *ratio(rows, Method.SNIPS), 0.9, resamples=200, seed=3) for rows in (single, copied)
    ]
    assert drawn[0].low == pytest.approx(drawn[1].low, rel=1e-12)


def test_the_bernstein_bound_worked_by_hand():
    # n 4, V = 1/3, b = 2, level 0.96: a = ln 100.
    rows = LoggedRows.checked([1, 0, 0, 1], np.ones(4), np.ones(4))
    found = bernstein(rows, rows.weight * rows.reward, 2.0, 0.96)
    a = math.log(100)
    assert found.high - found.value == pytest.approx(math.sqrt(2 / 3 * a / 4) + 7 * 2 * a / 9, rel=1e-12)
    assert found.low == 0.0


@pytest.mark.parametrize("interval", [Interval.NORMAL, Interval.BOOTSTRAP, Interval.BERNSTEIN])
def test_intervals_hold_their_level(interval):
    # Three ads; true value of the target: 0.6 x 0.1 + 0.3 x 0.3 + 0.1 x 0.2 = 0.17.
    logging, target, rate = np.array([0.2, 0.3, 0.5]), np.array([0.6, 0.3, 0.1]), np.array([0.1, 0.3, 0.2])
    settings = OffPolicySettings(interval=interval, level=0.9, resamples=200, clip=3.0 + 1e-9)
    rng, held = np.random.default_rng(5), 0
    for _ in range(200):
        ad = rng.choice(3, 600, p=logging)
        found = evaluate(LoggedRows.checked(rng.random(600) < rate[ad], logging[ad], target[ad]), settings)
        estimate = found.estimates[found.method]
        held += estimate.low <= 0.17 <= estimate.high
    # 200 draws at 90 %: 180 +- 3 x 4.2.
    assert held >= 167
    if interval is Interval.NORMAL:
        assert held <= 193


def test_diagnostics_worked_by_hand():
    found = diagnose(HAND, clip=2.5, level=0.95, reward_max=1.0)
    assert found.effective_rows == pytest.approx(36 / (0.25 + 4 + 9 + 0.25))
    assert found.mean_weight.value == 1.5
    assert (found.most_weight, found.top_share) == pytest.approx((3.0, 0.5))
    assert (found.rewarded, found.clipped_rows) == (2, 1)
    assert found.clip_missing == pytest.approx(0.5 / 4)
    assert found.clip_missing_at_most == pytest.approx(0.5 / 4)
    assert found.pareto_shape is None


@pytest.mark.parametrize("shape", [0.2, 0.5, 0.9])
def test_the_shape_of_a_pareto_tail_is_found(shape):
    drawn = [np.random.default_rng(seed).pareto(1 / shape, 20_000) + 1 for seed in range(8)]
    assert np.mean([pareto_shape(w) for w in drawn]) == pytest.approx(shape, abs=0.1)


def test_missing_overlap_is_unknown_and_says_how_much_is_missing():
    # The target gives 0.4 to an ad that the log never shows.
    rng = np.random.default_rng(2)
    ad = rng.choice(2, 5000)
    rows = LoggedRows.checked(rng.random(5000) < 0.1, np.full(5000, 0.5), np.array([0.5, 0.1])[ad])
    found = evaluate(rows)
    assert found.verdict is Against.UNKNOWN
    assert any(
        "about 40% of what the target would show is never in the log" in reason for reason in found.reasons
    )


def test_verdicts_need_rows_and_clicks_and_light_tails():
    few = evaluate(LoggedRows.checked([1, 0, 0, 0] * 10, np.full(40, 0.5), [0.9, 0.1, 0.5, 0.5] * 10))
    assert few.verdict is Against.UNKNOWN
    assert "40 rows are worth 30 of the target's own, below 200" in few.reasons[0]
    assert "10 rows have a reward and a weight, below 20" in few.reasons[1]
    rng = np.random.default_rng(4)
    propensity = np.clip(1 / (rng.pareto(0.8, 20_000) + 1), 1e-9, 1)
    heavy = evaluate(LoggedRows.checked(rng.random(20_000) < 0.5, propensity, np.full(20_000, 0.1)))
    assert heavy.verdict is Against.UNKNOWN
    assert any("tail of the weights is too heavy" in reason for reason in heavy.reasons)


def test_a_clear_winner_and_a_clear_loser_are_told():
    rng = np.random.default_rng(0)
    ad = rng.choice(2, 20_000)
    clicks = rng.random(20_000) < np.array([0.02, 0.08])[ad]
    verdicts = [
        evaluate(LoggedRows.checked(clicks, np.full(20_000, 0.5), np.array(target)[ad])).verdict
        for target in ([0.2, 0.8], [0.8, 0.2], [0.5, 0.5])
    ]
    assert verdicts == [Against.BETTER, Against.WORSE, Against.UNKNOWN]


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"reward": [], "propensity": [], "target": []}, "the log has no rows"),
        (
            {"propensity": [0.5, 0.0]},
            "propensity must be above 0 and at most 1, since the logging policy did show this ad: 1 of 2 rows, the first is row 1 with 0",
        ),
        ({"propensity": [0.5, np.nan]}, "propensity must be a number"),
        ({"target": [0.5, 1.5]}, "target must lie in 0 to 1: 1 of 2 rows, the first is row 1 with 1.5"),
        ({"reward": [1, -2]}, "reward must be at least 0"),
        ({"target": [0.5]}, "need one value per row"),
        ({"cluster": [1, 2, 3]}, "need one id per row"),
        ({"model": [0.1, 0.2]}, "model and model_target go together"),
    ],
)
def test_broken_columns_are_named(columns, words):
    with pytest.raises(DataError, match=words):
        LoggedRows.checked(**({"reward": [1, 0], "propensity": [0.5, 0.5], "target": [0.5, 0.5]} | columns))


def test_what_has_no_value_says_so():
    nothing = LoggedRows.checked([1, 0], [0.5, 0.5], [0.0, 0.0])
    with pytest.raises(UndefinedMetric, match="would have shown none of the ads in the log"):
        evaluate(nothing)
    with pytest.raises(UndefinedMetric, match="at least two independent clusters, got 1"):
        evaluate(LoggedRows.checked([1, 0], [0.5, 0.5], [0.5, 0.5], cluster=["a", "a"]))
    with pytest.raises(UsageError, match="dr needs a reward model"):
        value(nothing, Method.DR)
    with pytest.raises(DataError, match="row 0 has 7, above reward_max 1"):
        evaluate(LoggedRows.checked([7, 0], [0.5, 0.5], [0.5, 0.5]))
    with pytest.raises(UsageError, match="on the same rows of one log"):
        compare(nothing, LoggedRows.checked([0, 0], [0.5, 0.5], [0.5, 0.5]), Method.IPS)
    with pytest.raises(ValueError, match="needs a bound on the weights: set clip"):
        OffPolicySettings(interval=Interval.BERNSTEIN)


def test_shares_and_cross_fitted_rates_worked_by_hand():
    target = shares([1, 1, 1, 2], ["a", "a", "b", "a"])
    assert target.of([1, 1, 2, 2, 9], ["a", "b", "a", "b", "a"]) == pytest.approx([2 / 3, 1 / 3, 1, 0, 0])
    assert Shares.uniform([1, 2], ["a", "b"]).of([1, 2], ["b", "a"]).tolist() == [0.5, 0.5]
    # Two folds of two rows: each row is judged by the other two. Rows are all of one cell.
    reward = np.array([1.0, 1.0, 0.0, 0.0])
    shown, wanted = cell_rates(
        reward, [1] * 4, ["a"] * 4, Shares.uniform([1], ["a", "c"]), folds=2, prior=2.0, seed=0
    )
    fold = np.random.default_rng(0).permutation(4) % 2
    for row in range(4):
        others = reward[fold != fold[row]]
        mean = others.mean()
        assert shown[row] == pytest.approx((others.sum() + 2 * mean) / 4)
        assert wanted[row] == pytest.approx(0.5 * shown[row] + 0.5 * mean)  # "c" was never seen: the mean


def test_on_the_market_the_estimates_hold_the_truth_and_rank_policies_right():
    config = WorldConfig(
        impressions=12_000, days=2, n_users=2_000, n_ads=200, n_advertisers=20, target_ctr=0.1, seed=3
    )
    targets = {
        "relevance": LoggingPolicy(skill=0.9, noise=0.8, bid_weight=0.2),
        "logged": config.policy,
        "money": LoggingPolicy(skill=0.05, noise=0.8, bid_weight=1.0),
    }
    market = logged_market(config, targets)
    truth = market.truth
    assert truth["relevance"] > truth["logged"] > truth["money"]
    found = {name: evaluate(rows) for name, rows in market.rows.items()}
    for method in (Method.IPS, Method.SNIPS, Method.DR):
        values = {name: one.estimates[method] for name, one in found.items()}
        assert sorted(values, key=lambda name: -values[name].value) == ["relevance", "logged", "money"]
        for name, estimate in values.items():
            assert estimate.low <= truth[name] <= estimate.high
    # The reward model is wrong on purpose: alone it misses by far, corrected by the residuals it does not.
    direct = found["relevance"].estimates[Method.DM]
    assert not 0.8 * truth["relevance"] < direct.value < 1.25 * truth["relevance"]
    gap = compare(market.rows["relevance"], market.rows["money"], Method.DR)
    assert gap.low <= truth["relevance"] - truth["money"] <= gap.high
    assert gap.low > 0
    assert found["relevance"].verdict is Against.BETTER
    assert found["money"].verdict is Against.WORSE
    assert found["logged"].verdict is Against.UNKNOWN
