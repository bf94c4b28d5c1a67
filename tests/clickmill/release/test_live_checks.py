"""Checks of a release under way: right verdicts on drawn traffic, UNKNOWN on little, nobody blamed for what both suffer."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clickmill.release import Period, ReleasePolicy, Smoke, Traffic, Verdict
from clickmill.release.evidence import Arm, Compared, Paired, Watched
from clickmill.release.live_checks import canary_checks, shadow_checks, smoke_check, watch_checks
from tests.clickmill.release import market

POLICY = ReleasePolicy(min_requests=500, planned_impressions=20_000)


@pytest.fixture
def rng():
    return np.random.default_rng(11)


def verdicts(checks):
    return {check.name: check.verdict for check in checks}


def test_a_candidate_like_the_stable_bundle_passes_and_ne_says_what_a_margin_costs(rng):
    """Different users saw the two, so NE to 0.01 takes millions; to 0.1 a hundredth of that."""
    periods = [market.period(rng, 50, 400_000)]
    found = {check.name: check for check in canary_checks(periods, 50, POLICY)}
    assert {n for n, check in found.items() if check.verdict is not Verdict.PASS} == {"ne"}
    assert found["ne"].verdict is Verdict.UNKNOWN
    assert found["ne"].needs > 1_000_000
    wide = POLICY.model_copy(update={"ne_margin": 0.1})
    assert set(verdicts(canary_checks(periods, 50, wide)).values()) == {Verdict.PASS}


def test_little_traffic_is_unknown_and_says_how_much_more(rng):
    found = {check.name: check for check in canary_checks([market.period(rng, 5, 2_000)], 5, POLICY)}
    assert {check.verdict for check in found.values()} == {Verdict.UNKNOWN, Verdict.PASS}
    assert found["canary_finite"].verdict is Verdict.PASS
    assert found["requests_at_5"].needs == 400
    assert "of 100 clicks in 100 labelled impressions" in found["calibration"].reason


def test_what_is_needed_is_what_settles_it(rng):
    """More traffic like that seen, by as much as was asked for, makes the check pass."""
    first = {c.name: c for c in canary_checks([market.period(rng, 50, 20_000)], 50, POLICY)}["calibration"]
    assert first.verdict is Verdict.UNKNOWN
    again = market.period(np.random.default_rng(11), 50, 20_000)
    times = 2 + first.needs // 10_000
    later = {c.name: c for c in canary_checks([again] * times, 50, POLICY)}["calibration"]
    assert later.value == pytest.approx(first.value)
    assert later.verdict is Verdict.PASS
    before = {c.name: c for c in canary_checks([again] * (times - 2), 50, POLICY)}["calibration"]
    assert before.verdict is Verdict.UNKNOWN


@pytest.mark.parametrize(
    ("fault", "check"),
    [
        ({"times": 3.0}, "calibration"),
        ({"times": 1 / 3}, "calibration"),
        ({"times": 3.0}, "ne"),
        ({"errors": 0.05}, "canary_errors"),
        ({"slow": 0.05}, "canary_p99"),
        ({"not_finite": 1}, "canary_finite"),
    ],
)
def test_each_fault_is_found(rng, fault, check):
    found = canary_checks([market.period(rng, 10, 200_000, candidate=fault)], 10, POLICY)
    assert verdicts(found)[check] is Verdict.FAIL


@pytest.mark.parametrize(
    ("fault", "check"),
    [({"errors": 0.05}, "canary_errors"), ({"slow": 0.05}, "canary_p99"), ({"times": 3.0}, "calibration")],
)
def test_what_the_stable_bundle_suffers_too_is_not_the_candidates_fault(rng, fault, check):
    both = market.period(rng, 50, 200_000, candidate=fault, stable=fault)
    found = {c.name: c for c in canary_checks([both], 50, POLICY)}[check]
    assert found.verdict is Verdict.UNKNOWN
    assert "stable bundle" in found.reason


def test_a_stalled_click_log_blames_nobody(rng):
    truth = np.full(100_000, 0.05)
    clicks = (rng.random(100_000) < 0.002).astype(float)
    arms = Arm(traffic=Traffic(requests=100_000), labelled=market.sums(clicks, truth))
    found = canary_checks([Period(percent=50, candidate=arms, stable=arms)], 50, POLICY)
    assert verdicts(found)["calibration"] is Verdict.UNKNOWN
    assert Verdict.FAIL not in verdicts(found).values()


def test_arms_are_compared_within_periods_so_that_the_night_is_not_the_candidates_fault(rng):
    """Night clicks are harder to tell. The candidate had 1 % of the day and 90 % of the night, and predicts as well as the other."""
    day = market.period(rng, 1, 200_000, candidate={"ctr": 0.02}, stable={"ctr": 0.02})
    night = market.period(rng, 90, 200_000, candidate={"ctr": 0.2}, stable={"ctr": 0.2})
    found = {c.name: c for c in canary_checks([day, night], 90, POLICY)}["ne"]
    assert found.verdict is not Verdict.FAIL
    assert abs(found.value) < 0.02
    pooled = [sum(getattr(p, a).labelled.log_loss for p in (day, night)) for a in ("candidate", "stable")]
    count = [sum(getattr(p, a).labelled.impressions for p in (day, night)) for a in ("candidate", "stable")]
    assert (
        pooled[0] / count[0] > 1.5 * pooled[1] / count[1]
    )  # what a plain comparison of means would have said


def test_shadow_needs_far_fewer_impressions_than_a_canary(rng):
    """Both predict the same impressions, so what the clicks do by chance cancels."""
    found = {c.name: c for c in shadow_checks([market.shadowed(rng, 40_000, times=1.05)], POLICY)}[
        "shadow_ne"
    ]
    assert found.verdict is Verdict.PASS
    beside = {c.name: c for c in canary_checks([market.period(rng, 50, 80_000)], 50, POLICY)}["ne"]
    assert found.high - found.low < (beside.high - beside.low) / 5


@pytest.mark.parametrize(
    ("check", "of_candidate", "of_stable"),
    [
        ("shadow_errors", {"errors": 0.1}, {"errors": 0.1}),
        ("shadow_calibration", {"times": 3.0}, {"times": 3.0}),
    ],
)
def test_what_both_suffer_in_shadow_blames_nobody(rng, check, of_candidate, of_stable):
    def judged(stable):
        found = shadow_checks([market.shadowed(rng, 100_000, **of_candidate, stable=stable)], POLICY)
        return verdicts(found)[check]

    assert judged(of_stable) is Verdict.UNKNOWN
    assert judged(None) is Verdict.FAIL


def test_smoke_and_watch(rng):
    assert smoke_check(None).verdict is Verdict.UNKNOWN
    assert smoke_check(Smoke(passed=False, words="row 3: 0.2, not 0.1")).verdict is Verdict.FAIL
    slow = Watched(traffic=market.arm(rng, 50_000, slow=0.5, times=3.0).traffic)
    assert set(verdicts(watch_checks([slow], None, POLICY)).values()) == {Verdict.PASS}
    failing = Watched(traffic=market.arm(rng, 50_000, errors=0.2).traffic)
    assert verdicts(watch_checks([failing], None, POLICY))["watch_errors"] is Verdict.FAIL
    assert set(verdicts(watch_checks([], None, POLICY)).values()) == {Verdict.UNKNOWN}


def test_equal_bundles_are_hardly_ever_refused_however_often_one_looks():
    """tests/bench/releases.py does it with thousands; here 100 releases of 20 looks, and an error rate near what is allowed."""
    policy = ReleasePolicy(planned_impressions=10_000)
    refused = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        periods = []
        for _ in range(20):
            fault = {"errors": 0.008}
            periods.append(market.period(rng, 20, 3_000, candidate=fault, stable=fault))
            if any(check.verdict is Verdict.FAIL for check in canary_checks(periods, 20, policy)):
                refused += 1
                break
    assert refused <= 4  # binomial(100, 0.01): more has a probability of 0.3 %


def watch_errors(pairs, traffic=None):
    """Verdict where half of the traffic fails, unless told."""
    watched = Watched(traffic=traffic or Traffic(requests=10_000, errors=5_000), paired=pairs)
    return {c.name: c for c in watch_checks([watched], None, POLICY)}["watch_errors"]


counts = st.integers(0, 5_000)


@given(both=counts, neither=counts, one=counts, other=counts)
def test_whatever_stops_both_blames_nobody_and_never_each_of_them(both, neither, one, other):
    """Pairs that failed or went well on both sides are no evidence, and what blames the one bundle would not blame the other."""
    total = both + neither + one + other
    here = watch_errors(Paired(requests=total, only_promoted=one, only_last_good=other)).verdict
    there = watch_errors(Paired(requests=total, only_promoted=other, only_last_good=one)).verdict
    assert Verdict.PASS not in (here, there), "half of the traffic fails"
    assert (here, there).count(Verdict.FAIL) <= 1
    if one <= other:
        assert here is Verdict.UNKNOWN


@given(pairs=st.integers(20, 5_000), one=st.integers(0, 20), other=st.integers(0, 20), more=counts)
def test_failures_of_the_last_good_bundle_never_turn_into_blame(pairs, one, other, more):
    total = pairs + one + other + more
    before = watch_errors(Paired(requests=total, only_promoted=one, only_last_good=other)).verdict
    after = watch_errors(Paired(requests=total, only_promoted=one, only_last_good=other + more)).verdict
    assert before is Verdict.FAIL or after is not Verdict.FAIL


def test_a_bundle_that_fails_everything_is_found_within_two_seconds_of_pairs():
    verdict = [watch_errors(Paired(requests=n, only_promoted=n)).verdict for n in range(21)]
    assert verdict[0] is Verdict.UNKNOWN
    assert verdict[20] is Verdict.FAIL
    assert "of 20 that the last good bundle got at the same moment, 20 failed here only" in (
        watch_errors(Paired(requests=20, only_promoted=20)).reason
    )


def test_a_machine_that_stalls_now_and_then_rolls_nothing_back(rng):
    """300 bundles as good as the last, each looked at 50 times: in a stall one or both of a pair fail, as chance has it."""
    blamed = 0
    for _ in range(300):
        found = Paired()
        for _ in range(50):
            one, other = rng.binomial(10, 0.3, size=2)
            failed = sorted((int(one), int(other)))
            same = int(rng.integers(0, failed[0] + 1))  # of a pair both
            found = Paired(
                requests=found.requests + 20,
                only_promoted=found.only_promoted + int(one) - same,
                only_last_good=found.only_last_good + int(other) - same,
            )
            if watch_errors(found).verdict is Verdict.FAIL:
                blamed += 1
                break
    assert blamed <= 3  # binomial(300, alpha / 8): more has a probability below 0.1 %


def compared(rng, n, *, promoted=1.0, last_good=1.0, lost=0.0):
    """n impressions predicted by both; a share of the clicks does not arrive."""
    truth, y = market.drawn(rng, n)
    y = y * (rng.random(n) >= lost)
    one, two = (np.clip(truth * times, 1e-6, 1 - 1e-6) for times in (promoted, last_good))
    difference = market.losses(y, one) - market.losses(y, two)
    return Compared(
        promoted=market.sums(y, one),
        last_good=market.sums(y, two),
        difference=float(difference.sum()),
        difference_squares=float((difference**2).sum()),
    )


def watch_ne(found):
    return {c.name: c for c in watch_checks([], found, POLICY)}["watch_ne"]


def test_a_promoted_bundle_that_predicts_three_times_too_much_is_found_by_its_clicks(rng):
    assert watch_ne(compared(rng, 10_000, promoted=3.0)).verdict is Verdict.FAIL
    assert watch_ne(compared(rng, 10_000)).verdict is Verdict.PASS
    assert watch_ne(compared(rng, 500, promoted=3.0)).verdict is Verdict.UNKNOWN


@pytest.mark.parametrize("lost", [0.05, 0.1, 0.3, 0.6, 0.97])
def test_a_click_log_that_loses_clicks_does_not_take_back_the_bundle_that_predicts_more(rng, lost):
    """A fifth more than the last good one, which has drifted that far below today's clicks: the new one is the right one."""
    for n in (3_000, 30_000, 300_000):
        found = watch_ne(compared(rng, n, promoted=1.0, last_good=1 / 1.2, lost=lost))
        assert found.verdict is not Verdict.FAIL, (n, lost)


def test_a_world_that_changed_for_both_blames_nobody(rng):
    found = watch_ne(compared(rng, 100_000, promoted=2.5, last_good=2.5))
    assert found.verdict is Verdict.PASS
    assert found.value == 0
