"""Floors of a policy, against closed forms and drawn traffic."""

import numpy as np
import pytest

from clickmill.errors import UsageError
from clickmill.release import Arm, Period, ReleasePolicy, Traffic, Verdict
from clickmill.release.live_checks import canary_checks
from clickmill.release.power import calibration_floors, steps
from tests.clickmill.release import market


def test_the_guides_case_a_tenth_at_one_percent_asks_for_62k_impressions_and_a_twentieth_for_247k():
    tenth, twentieth = calibration_floors(ReleasePolicy(max_calibration_bias=1e-9), 0.01, [0.1, 0.05])
    assert tenth.once == pytest.approx(62_000, rel=0.02)
    assert twentieth.once == pytest.approx(247_000, rel=0.02)
    assert 1.5 < tenth.any_time / tenth.once < 5  # the price of looking at any time, at this alpha
    assert calibration_floors(ReleasePolicy(max_calibration_bias=0.1), 0.01, [0.05, 0.1]) == []


def test_at_its_floor_a_fault_is_refused_in_four_of_five_releases():
    policy = ReleasePolicy(max_calibration_bias=0.1)
    [floor] = calibration_floors(policy, 0.05, [0.3])
    refused = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        how = {"ctr": 0.05, "spread": 0.0}
        wrong = Arm(
            traffic=Traffic(requests=floor.any_time),
            labelled=market.labelled(rng, floor.any_time, times=1.3, **how),
        )
        right = market.arm(rng, 4 * floor.any_time, **how)
        found = canary_checks([Period(percent=20, candidate=wrong, stable=right)], 20, policy)
        refused += {c.name: c.verdict for c in found}["calibration"] is Verdict.FAIL
    assert 0.70 < refused / 200 < 0.90


def test_steps_need_only_what_is_missing():
    policy = ReleasePolicy(steps=(1, 10, 100), step_seconds=60)
    first, second, last = steps(policy, 0.01, 1_000.0)
    assert first.waits_for.endswith("labelled impressions for calibration")
    assert first.seconds > 1_000
    assert (second.seconds, last.seconds) == (60, 60)
    delayed = steps(policy, 0.01, 1_000.0, label_delay_seconds=3_600)
    assert delayed[0].seconds == pytest.approx(first.seconds + 3_600)
    assert delayed[1].seconds == 60


def test_without_shadow_the_comparison_of_different_users_takes_longest():
    alone = steps(ReleasePolicy(shadow=False, steps=(10, 100)), 0.01, 10_000.0)
    assert alone[0].waits_for.endswith("pairs of impressions for NE")
    wide = steps(ReleasePolicy(shadow=False, steps=(10, 100), ne_margin=0.1), 0.01, 10_000.0)
    assert alone[0].seconds > 50 * wide[0].seconds


def test_rates_that_cannot_be_are_refused():
    with pytest.raises(UsageError, match="the click rate must be between 0 and 1; got 1"):
        calibration_floors(ReleasePolicy(), 1.0, [0.2])
    with pytest.raises(UsageError, match="traffic must be above 0"):
        steps(ReleasePolicy(), 0.01, 0.0)
