"""How fast clicks become known: the curve against hand-made counts and a known distribution, the weights against what they must add up to."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest

from clickmill.data.delay import LEAST_KNOWN, DelayCurve, DelayedClicks, Ripeness, fit_delays, weights


def test_of_old_impressions_the_curve_is_the_plain_share():
    curve = fit_delays(np.array([1.0, 2.0, 2.0, 8.0]), np.full(4, 100.0))
    assert curve is not None
    np.testing.assert_allclose(
        curve.share_known(np.array([1.0, 1.9, 2.0, 7.0, 8.0, 99.0])), [0.25, 0.25, 0.75, 0.75, 1, 1]
    )
    assert curve.clicks == 4


def test_before_the_first_delay_next_to_nothing_is_known():
    curve = fit_delays(np.array([5.0]), np.array([9.0]))
    assert curve is not None
    assert curve.share_known(np.array([1.0])) == [LEAST_KNOWN]


def test_young_impressions_do_not_make_clicks_look_quick():
    # Two old impressions with delays 1 and 3, and two of age 2, whose clicks can only have shown delays up to 2.
    # At 3: of the clicks with delay <= 3 on impressions at least 3 old (two) one has delay 3: F(2) = 1 - 1/2.
    curve = fit_delays(np.array([1.0, 3.0, 1.0, 1.0]), np.array([10.0, 10.0, 2.0, 2.0]))
    assert curve is not None
    np.testing.assert_allclose(curve.share_known(np.array([1.0, 2.0, 3.0])), [0.5, 0.5, 1.0])


def test_the_true_distribution_is_found_behind_the_truncation():
    rng = np.random.default_rng(0)
    age = rng.uniform(0, 10, 60_000)
    delay = rng.exponential(2.0, len(age))
    window = 6.0
    age = np.minimum(age, window)
    heard = delay <= age
    curve = fit_delays(delay[heard], age[heard])
    assert curve is not None
    t = np.array([0.5, 1.0, 2.0, 4.0])
    truth = (1 - np.exp(-t / 2)) / (1 - np.exp(-window / 2))
    np.testing.assert_allclose(curve.share_known(t), truth, atol=0.02)
    naive = (delay[heard][:, None] <= t).mean(axis=0)
    assert (naive > truth + 0.05).any()


def test_without_clicks_there_is_no_curve():
    assert fit_delays(np.zeros(0), np.zeros(0)) is None


def test_weighted_rows_hold_the_clicks_and_the_non_clicks_to_come():
    # 1,000 impressions, 100 of them will be clicked, half of those are known.
    clicked = np.arange(1000) < 50
    found = weights(clicked, np.full(1000, 0.5))
    assert found[clicked].sum() == pytest.approx(100)
    assert found[~clicked].sum() == pytest.approx(900)
    # the same from a sample with one non-click in ten
    kept = clicked | (np.arange(1000) % 10 == 0)
    sampled = weights(clicked[kept], np.full(kept.sum(), 0.5), negatives_kept=0.1)
    assert sampled[clicked[kept]].sum() == pytest.approx(100)
    assert sampled[~clicked[kept]].sum() == pytest.approx(90, rel=0.01)


def test_ripe_labels_weigh_one():
    np.testing.assert_allclose(weights(np.array([True, False, False]), np.ones(3)), 1.0)


@pytest.mark.parametrize(("later_is_ripe", "of_later"), [(True, 1.0), (False, LEAST_KNOWN)])
def test_impressions_after_the_moment_of_learning_are_ripe_only_in_hindsight(later_is_ripe, of_later):
    moment = datetime(2026, 1, 5, tzinfo=UTC)
    ripeness = Ripeness(
        as_of=moment,
        later_is_ripe=later_is_ripe,
        treatment=DelayedClicks.WEIGHTS,
        curve=DelayCurve(seconds=(10.0, 20.0), known=(0.4, 1.0), clicks=9),
    )
    shown = int(moment.timestamp()) * 1_000_000 - np.array([25, 15, -5]) * 1_000_000
    np.testing.assert_allclose(ripeness.share_known(shown), [1.0, 0.4, of_later])
