"""The truth is honest: clicks follow it, position acts as configured, and attributes can find it."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.preprocessing import OneHotEncoder

from clickmill.data.world import Effects, WorldConfig, generate
from clickmill.data.world.ceiling import CeilingTally


def sigmas(clicks, pctr):
    """How many standard deviations the clicks are from what the probabilities say (Poisson binomial)."""
    return (clicks.sum() - pctr.sum()) / np.sqrt((pctr * (1 - pctr)).sum())


def test_clicks_follow_the_true_probability_over_all_and_in_each_tenth(big_world):
    rows = big_world.labelled()
    assert abs(sigmas(rows.clicked, rows.true_pctr)) < 4
    for tenth in np.array_split(np.argsort(rows.true_pctr.to_numpy()), 10):
        assert abs(sigmas(rows.clicked.iloc[tenth], rows.true_pctr.iloc[tenth])) < 4


@pytest.mark.parametrize("by", ["position", "segment", "category", "creative_format", "connection"])
def test_clicks_follow_the_true_probability_in_each_slice(big_world, by):
    for _, rows in big_world.labelled().groupby(by):
        assert abs(sigmas(rows.clicked, rows.true_pctr)) < 4.5


def test_the_true_probability_is_examination_times_relevance(big_world):
    rows = big_world.labelled()
    curve = np.array(big_world.report.config.examination)
    np.testing.assert_allclose(rows.examination, curve[rows.position - 1])
    np.testing.assert_allclose(rows.true_pctr, rows.examination * rows.relevance)
    assert rows.relevance.between(0, 1, inclusive="neither").all()


def test_examination_is_recovered_from_clicks_given_relevance(big_world):
    rows = big_world.labelled()
    for position, part in rows.groupby("position"):
        estimate = part.clicked.sum() / part.relevance.sum()
        error = np.sqrt((part.true_pctr * (1 - part.true_pctr)).sum()) / part.relevance.sum()
        assert abs(estimate - big_world.report.config.examination[position - 1]) < 4 * error
        assert error < 0.06  # else this test could not fail


def test_good_ads_stand_higher_so_that_the_naive_curve_is_too_steep(big_world):
    """Position is confounded: CTR by position falls faster than examination does."""
    by = big_world.labelled().groupby("position")
    assert by.relevance.mean().is_monotonic_decreasing
    naive = by.clicked.mean() / by.clicked.mean()[1]
    assert (naive[1:] < np.array(big_world.report.config.examination[1:]) - 0.1).all()


def test_the_small_world_meets_its_targets(world, big_world):
    for made in (world, big_world):
        rows = made.labelled()
        assert 0.03 < rows.clicked.mean() < 0.042
        assert 0.81 < roc_auc_score(rows.clicked, rows.true_pctr) < 0.86
        assert made.report.ceiling.ne < 0.83


def test_the_reported_ceiling_is_what_scikit_learn_says(world):
    rows, report = world.labelled(), world.report
    ctr = rows.clicked.mean()
    assert report.ctr == pytest.approx(ctr)
    assert report.ceiling.auc == pytest.approx(roc_auc_score(rows.clicked, rows.true_pctr), abs=1e-5)
    entropy = -(ctr * np.log(ctr) + (1 - ctr) * np.log(1 - ctr))
    assert report.ceiling.ne == pytest.approx(log_loss(rows.clicked, rows.true_pctr) / entropy, rel=1e-9)
    assert report.ceiling.expected_clicks == pytest.approx(rows.true_pctr.sum())
    for day in report.days:
        part = rows[rows.event_time.dt.date == day.day]
        assert (day.impressions, day.clicks) == (len(part), part.clicked.sum())
        assert day.auc == pytest.approx(roc_auc_score(part.clicked, part.true_pctr), abs=1e-4)
    for at in report.positions:
        part = rows[rows.position == at.position]
        assert (at.impressions, at.clicks) == (len(part), part.clicked.sum())
        assert at.mean_relevance == pytest.approx(part.relevance.mean())


def test_a_ceiling_without_clicks_has_no_value():
    tally = CeilingTally()
    assert tally.ceiling().ctr is None
    tally.add(np.array([0.1, 0.2]), np.array([False, False]))
    ceiling = tally.ceiling()
    assert (ceiling.impressions, ceiling.clicks, ceiling.auc, ceiling.ne) == (2, 0, None, None)


def test_a_market_without_effects_has_nothing_to_learn_but_position():
    zero = {name: 0.0 for name in Effects.model_fields if name != "history_decay"}
    config = WorldConfig(
        impressions=3_000, days=1, n_users=100, n_ads=100, n_sites=4, effects=Effects(**zero), target_auc=None
    )
    relevance = np.concatenate([batch.truth["relevance"].to_numpy() for batch in generate(config)])
    assert np.ptp(relevance) < 1e-12
    assert relevance[0] == pytest.approx(0.036 / 0.65, rel=0.2)  # mean examination is about 0.65


def test_crosses_beat_main_effects_and_histories_beat_none(big_world):
    """A logistic regression on the first 70 %, judged on the rest, finds what is said to be there."""
    rows = big_world.labelled()
    names = ["segment", "age_bucket", "gender", "category", "creative_format", "site_id", "page_category",
             "device_os", "advertiser_id", "connection", "position"]  # fmt: skip
    cut = int(0.7 * len(rows))

    def auc(table):
        encoded = OneHotEncoder(handle_unknown="ignore", min_frequency=5).fit(table[:cut])
        model = LogisticRegression(C=0.1, max_iter=60).fit(encoded.transform(table[:cut]), rows.clicked[:cut])
        return roc_auc_score(rows.clicked[cut:], model.decision_function(encoded.transform(table[cut:])))

    main = rows[names]
    crosses = main.assign(
        **{f"{a}x{b}": rows[a] + "|" + rows[b] for a, b in (("segment", "category"), ("site_id", "creative_format"),
                                                             ("page_category", "category"))}
    )  # fmt: skip
    history = crosses.assign(
        match=[
            int(sum(0.75**k for k, past in enumerate(reversed(list(h))) if past == c) * 3)
            for h, c in zip(rows.history_categories, rows.category, strict=True)
        ]
    )
    linear, crossed, aware = auc(main), auc(crosses), auc(history)
    assert crossed > linear + 0.01
    assert aware > crossed + 0.003
    assert aware < big_world.report.ceiling.auc
