"""The release machine: its way forward, its ways back, and laws that hold whatever comes (hypothesis, stateful)."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from clickmill.errors import UsageError
from clickmill.release import (
    Alert,
    Arm,
    Compared,
    Evidence,
    Labelled,
    Paired,
    Period,
    Phase,
    Release,
    ReleasePolicy,
    Shadowed,
    Smoke,
    Traffic,
    Verdict,
    Watched,
    decide,
    freeze,
    propose,
    resume,
    roll_back,
    withdraw,
)
from clickmill.release.release import UNDER_WAY

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
POLICY = ReleasePolicy(steps=(10, 50, 100), step_seconds=60, min_requests=100, cool_down_seconds=600)
GOOD = Labelled(
    impressions=1_000_000,
    clicks=50_000,
    pctr=50_000.0,
    residual_squares=47_000.0,
    log_loss=195_000.0,
    log_loss_squares=400_000.0,
)
FINE = Arm(traffic=Traffic(requests=1_000_000), labelled=GOOD)
FAILING = Arm(traffic=Traffic(requests=1_000_000, errors=50_000), labelled=GOOD)
PASSED = Smoke(passed=True, words="100 golden predictions came back")
FINE_PAIRS = Paired(requests=500, only_promoted=30, only_last_good=30)
WORSE = Compared(promoted=GOOD, last_good=GOOD, difference=80_000.0, difference_squares=90_000.0)
UNSEEN = Shadowed(
    traffic=Traffic(requests=1_000_000),
    labelled=GOOD,
    stable=Arm(traffic=Traffic(requests=1_000_000), labelled=GOOD),
)


def evidence(candidate=FINE, alerts=()):
    """Enough of everything, at every step."""
    periods = tuple(Period(percent=step, candidate=candidate, stable=FINE) for step in POLICY.steps)
    watch = (Watched(traffic=candidate.traffic),)
    return Evidence(smoke=PASSED, shadow=(UNSEEN,), canary=periods, watch=watch, alerts=alerts)


def alert(bundle):
    return Alert(
        name="CalibrationRatioHigh", fingerprint="f", bundle=bundle, summary="ratio 1.5 on 900 clicks"
    )


def started(now=NOON):
    first = Release.first("ctr", "good", NOON)
    return propose(first, "new", now=now, by="ann", reason="daily run").next


def at(percent):
    """A release in canary."""
    release, now = started(), NOON
    while release.percent != percent:
        now += timedelta(seconds=61)
        release = decide(release, evidence(), POLICY, now).next
    return release, now


def test_a_good_bundle_goes_the_whole_way_one_step_at_a_time():
    release, now, way = started(), NOON, []
    while release.phase in UNDER_WAY:
        way.append((str(release.phase), release.percent))
        now += timedelta(seconds=61)
        release = decide(release, evidence(), POLICY, now).next
    assert way == [("candidate", None), ("smoke", None), ("shadow", None)] + [
        ("canary", step) for step in POLICY.steps
    ]
    assert (release.phase, release.stable, release.last_good) == (Phase.PROMOTED, "new", "good")
    assert release.split.percent == {"new": 100}
    assert release.split.warm == ("good",)


def test_a_step_lasts_as_long_as_the_policy_says():
    release, now = at(10)
    early = decide(release, evidence(), POLICY, now + timedelta(seconds=59))
    assert early.next == release
    assert "1 s of this step are left" in early.reason
    assert decide(release, evidence(), POLICY, now + timedelta(seconds=60)).next.percent == 50


def test_without_traffic_nothing_moves_and_nothing_is_taken_back():
    release, now = at(10)
    silence = Evidence(smoke=PASSED, shadow=(UNSEEN,))
    for hours in (1, 24, 24 * 30):
        found = decide(release, silence, POLICY, now + timedelta(hours=hours))
        assert found.next == release
        assert "requests_at_10: 0 of 100 requests at this step, about 100 more" in found.reason


@pytest.mark.parametrize("percent", POLICY.steps)
def test_a_failed_check_takes_it_back_at_every_step(percent):
    release, now = at(percent)
    found = decide(release, evidence(FAILING), POLICY, now)
    assert found.next.phase is Phase.ROLLED_BACK
    assert found.next.split.percent == {"good": 100}
    assert (
        "50,000 of 1,000,000 requests failed" not in found.reason
    )  # all steps together: what was seen adds up
    assert "150,000 of 3,000,000 requests failed; 1 % may" in found.reason
    assert [entry.bundle for entry in found.next.quarantine] == ["new"]


def test_what_shadow_has_shown_of_ne_a_canary_need_not_show_again():
    few = Arm(
        traffic=FINE.traffic,
        labelled=Labelled(**{n: v / 5 if isinstance(v, float) else v // 5 for n, v in GOOD}),
    )
    canary = (Period(percent=10, candidate=few, stable=few),)
    release, now = at(10)
    later = now + timedelta(seconds=61)
    unseen = Evidence(smoke=PASSED, canary=canary)
    assert decide(release, unseen, POLICY, later).next == release
    assert "ne: NE +0.0000" in decide(release, unseen, POLICY, later).reason
    seen = Evidence(smoke=PASSED, canary=canary, shadow=(UNSEEN,))
    assert decide(release, seen, POLICY, later).next.percent == 50


def test_a_failed_smoke_test_takes_it_back_before_any_traffic():
    release = decide(started(), Evidence(), POLICY, NOON).next
    assert release.phase is Phase.SMOKE
    found = decide(release, Evidence(smoke=Smoke(passed=False, words="row 3 differs")), POLICY, NOON)
    assert found.next.phase is Phase.ROLLED_BACK
    assert "row 3 differs" in found.reason


def test_only_an_alert_about_the_bundle_in_question_counts():
    release, now = at(50)
    assert decide(release, evidence(alerts=(alert("new"),)), POLICY, now).next.phase is Phase.ROLLED_BACK
    assert decide(release, evidence(alerts=(alert("good"),)), POLICY, now).next == release


def test_an_alert_about_yesterdays_promotion_stops_todays_canary_too():
    promoted = Release(
        endpoint="ctr", phase=Phase.PROMOTED, since=NOON, stable="yesterday", last_good="before"
    )
    release = propose(promoted, "today", now=NOON, by="ann", reason="daily run").next
    found = decide(release, evidence(alerts=(alert("yesterday"),)), POLICY, NOON)
    assert found.next.split.percent == {"before": 100}
    assert [entry.bundle for entry in found.next.quarantine] == ["yesterday"]
    assert found.next.candidate is None
    again = propose(found.next, "today", now=NOON, by="ann", reason="once more")
    assert again.next.candidate == "today"


def test_alerts_about_both_send_both_away_and_each_for_its_own_reason():
    promoted = Release(
        endpoint="ctr", phase=Phase.PROMOTED, since=NOON, stable="yesterday", last_good="before"
    )
    release = propose(promoted, "today", now=NOON, by="ann", reason="daily run").next
    both = (alert("today"), alert("yesterday"))
    found = decide(release, evidence(alerts=both), POLICY, NOON).next
    assert (found.stable, found.last_good, found.candidate) == ("before", None, None)
    assert [entry.bundle for entry in found.quarantine] == ["yesterday", "today"]
    with pytest.raises(UsageError, match="was taken back on 2026-11-24"):
        propose(found, "today", now=NOON, by="ann", reason="once more")


def test_after_a_refused_candidate_the_bundle_that_serves_is_watched_on():
    promoted = Release(
        endpoint="ctr", phase=Phase.PROMOTED, since=NOON, stable="yesterday", last_good="before"
    )
    release = propose(promoted, "today", now=NOON, by="ann", reason="daily run").next
    refused = decide(release, evidence(alerts=(alert("today"),)), POLICY, NOON).next
    assert (refused.phase, refused.stable, refused.last_good) == (Phase.ROLLED_BACK, "yesterday", "before")
    assert "is watched; watch_finite" in decide(refused, evidence(), POLICY, NOON).reason or refused.freeze
    for found in (evidence(alerts=(alert("yesterday"),)), evidence(FAILING), Evidence(compared=WORSE)):
        back = decide(refused, found, POLICY, NOON).next
        assert back.split.percent == {"before": 100}
        assert [entry.bundle for entry in back.quarantine] == ["today", "yesterday"]


def test_what_both_bundles_suffer_after_promotion_takes_nothing_back():
    promoted = Release(endpoint="ctr", phase=Phase.PROMOTED, since=NOON, stable="new", last_good="good")
    stalled = Watched(traffic=FAILING.traffic, paired=FINE_PAIRS)
    found = decide(promoted, Evidence(watch=(stalled,)), POLICY, NOON)
    assert found.next == promoted
    assert "50,000 of 1,000,000 requests failed" in found.reason
    assert "30 failed here only and 30 there only" in found.reason


def test_watching_does_not_end_at_promotion():
    release, now = at(100)
    promoted = decide(release, evidence(), POLICY, now + timedelta(seconds=61)).next
    days_later = now + timedelta(days=3)
    assert decide(promoted, evidence(alerts=(alert("good"),)), POLICY, days_later).next == promoted
    back = decide(promoted, evidence(alerts=(alert("new"),)), POLICY, days_later).next
    assert (back.phase, back.stable, back.last_good) == (Phase.ROLLED_BACK, "good", None)
    # The alert fires on for a while; the bundle it is about serves nobody any more.
    assert decide(back, evidence(alerts=(alert("new"),)), POLICY, days_later).next == back


def test_with_nothing_to_go_back_to_it_stays_and_says_so():
    first = Release.first("ctr", "good", NOON)
    found = decide(first, evidence(FAILING), POLICY, NOON)
    assert found.next == first
    assert "there is no earlier bundle to go back to" in found.reason
    with pytest.raises(UsageError, match="nothing to go back to"):
        roll_back(first, POLICY, now=NOON, by="ann", reason="fear")


def test_after_a_rollback_the_next_candidate_waits_for_the_cool_down():
    release, now = at(10)
    back = roll_back(release, POLICY, now=now, by="ann", reason="revenue fell").next
    waiting = propose(back, "newer", now=now, by="bob", reason="mended").next
    found = decide(waiting, evidence(), POLICY, now + timedelta(seconds=599))
    assert found.next == waiting
    assert found.reason.startswith("frozen by clickmill until 2026-11-24 12:1")
    thawed = decide(waiting, evidence(), POLICY, now + timedelta(seconds=600)).next
    assert decide(thawed, evidence(), POLICY, now + timedelta(seconds=601)).next.phase is Phase.SMOKE


def test_a_freeze_holds_a_canary_but_not_its_rollback():
    release, now = at(10)
    frozen = freeze(release, now=now, by="ann", reason="black friday").next
    later = now + timedelta(days=2)
    assert decide(frozen, evidence(), POLICY, later).next == frozen
    assert decide(frozen, evidence(FAILING), POLICY, later).next.phase is Phase.ROLLED_BACK
    resumed = resume(frozen, by="ann", reason="over").next
    assert decide(resumed, evidence(), POLICY, later).next.percent == 50
    # The person's freeze outlasts the cool-down.
    assert decide(frozen, evidence(FAILING), POLICY, later).next.freeze == frozen.freeze


def test_a_quarantined_bundle_comes_back_only_by_name():
    release, now = at(10)
    back = roll_back(release, POLICY, now=now, by="ann", reason="revenue fell").next
    with pytest.raises(UsageError, match="taken back on 2026-11-24 12:03: revenue fell"):
        propose(back, "new", now=now, by="bob", reason="again")
    named = propose(back, "new", now=now, by="bob", reason="was a billing bug", even_quarantined=True).next
    assert named.candidate == "new"
    assert named.quarantine == ()


def test_only_what_is_under_way_can_be_withdrawn():
    with pytest.raises(UsageError, match="ctr has no candidate that could be withdrawn"):
        withdraw(Release.first("ctr", "a", NOON), now=NOON, by="ann", reason="another")


def test_one_release_at_a_time():
    release, now = at(10)
    with pytest.raises(UsageError, match="has bundle new under way"):
        propose(release, "newer", now=now, by="bob", reason="daily run")
    with pytest.raises(UsageError, match="serves ctr already"):
        propose(Release.first("ctr", "good", NOON), "good", now=now, by="bob", reason="daily run")
    with pytest.raises(UsageError, match="is not frozen"):
        resume(release, by="bob", reason="go")
    with pytest.raises(UsageError, match="a freeze must end after now"):
        freeze(release, now=now, by="bob", reason="x", until=now)


arms = st.sampled_from(
    [
        Arm(),
        FINE,
        FAILING,
        Arm(traffic=Traffic(requests=5_000, not_finite=1), labelled=GOOD),
        Arm(traffic=Traffic(requests=200), labelled=Labelled(impressions=200, clicks=7, pctr=9.0)),
        Arm(traffic=FINE.traffic, labelled=GOOD.model_copy(update={"pctr": 150_000.0})),
        Arm(traffic=FINE.traffic, labelled=GOOD.model_copy(update={"clicks": 0})),
    ]
)
PAIRS = (None, Paired(), FINE_PAIRS, Paired(requests=500, only_promoted=100))
watched = st.builds(
    lambda arm, pairs: Watched(traffic=arm.traffic, paired=pairs), arms, st.sampled_from(PAIRS)
)
BUNDLES = ("a", "b", "c", "d")
evidences = st.builds(
    Evidence,
    smoke=st.sampled_from([None, PASSED, PASSED, PASSED, Smoke(passed=False, words="differs")]),
    shadow=st.sampled_from([(), (UNSEEN,), (UNSEEN,)]),
    canary=st.lists(
        st.builds(Period, percent=st.sampled_from(POLICY.steps), candidate=arms, stable=arms), max_size=3
    ).map(tuple),
    watch=st.lists(watched, max_size=2).map(tuple),
    compared=st.sampled_from([None, WORSE, Compared()]),
    alerts=st.lists(st.sampled_from(BUNDLES).map(alert), max_size=2).map(tuple),
)


class AnyRelease(RuleBasedStateMachine):
    """Whatever evidence comes and whatever people do, in any order."""

    @initialize()
    def first(self):
        self.now = NOON
        self.release = Release.first("ctr", "a", NOON)

    def _take(self, decision):
        assert decision.reason.strip()
        assert decision.by.strip()
        self.release = decision.next

    @rule(found=st.one_of(evidences, st.just(evidence())), seconds=st.sampled_from([1, 61, 601]))
    def time_passes(self, found, seconds):
        self.now += timedelta(seconds=seconds)
        before = self.release
        decision = decide(before, found, POLICY, self.now)
        self._take(decision)
        after = self.release
        accused = before.candidate if before.phase in UNDER_WAY else before.stable
        stable_accused = (
            before.phase in UNDER_WAY
            and before.last_good is not None
            and any(a.bundle == before.stable for a in found.alerts)
        )
        breach = (
            stable_accused
            or any(check.verdict is Verdict.FAIL for check in decision.checks)
            or (
                (before.phase is not Phase.ROLLED_BACK or before.last_good is not None)
                and any(a.bundle == accused for a in found.alerts)
            )
        )
        more = after.split.percent.get(accused, 0) - before.split.percent.get(accused, 0)
        if breach:
            assert more <= 0, "no path from a breach to more traffic"
            assert after.phase is Phase.ROLLED_BACK or after == before
            if before.phase in UNDER_WAY:
                assert after.split.percent == {before.last_good if stable_accused else before.stable: 100}
        if any(check.verdict is Verdict.UNKNOWN and check.name != "ne" for check in decision.checks):
            assert more <= 0, "the unknown does not promote"
            banned = {entry.bundle for entry in after.quarantine}
            if before.phase in UNDER_WAY and any(a.bundle == before.candidate for a in found.alerts):
                assert before.candidate in banned, "an accused candidate is not released again by itself"
        if not breach:
            assert after.phase is not Phase.ROLLED_BACK or before.phase is Phase.ROLLED_BACK
            assert after.quarantine == before.quarantine, "nobody is blamed without a reason"
        if before.freeze is not None and after.freeze == before.freeze:
            assert more <= 0, "a freeze holds"
        assert decide(before, found, POLICY, self.now) == decision, "same arguments, same answer"

    @rule(bundle=st.sampled_from(BUNDLES), named=st.booleans())
    def somebody_proposes(self, bundle, named):
        banned = self.release.banned(bundle) is not None
        try:
            self._take(
                propose(self.release, bundle, now=self.now, by="ann", reason="new", even_quarantined=named)
            )
        except UsageError:
            assert self.release.phase in UNDER_WAY or bundle == self.release.stable or (banned and not named)
        else:
            assert not banned or named

    @precondition(lambda self: self.release.phase in UNDER_WAY or self.release.last_good)
    @rule()
    def somebody_takes_back(self):
        accused = self.release.candidate or self.release.stable
        self._take(roll_back(self.release, POLICY, now=self.now, by="ann", reason="fear"))
        assert accused not in self.release.split.percent

    @rule(minutes=st.sampled_from([None, 5]))
    def somebody_freezes(self, minutes):
        until = None if minutes is None else self.now + timedelta(minutes=minutes)
        self._take(freeze(self.release, now=self.now, by="ann", reason="holiday", until=until))

    @precondition(lambda self: self.release.freeze is not None)
    @rule()
    def somebody_resumes(self):
        self._take(resume(self.release, by="ann", reason="over"))

    @precondition(lambda self: self.release.candidate is not None)
    @rule()
    def somebody_wants_another(self):
        before = self.release
        self._take(withdraw(before, now=self.now, by="ann", reason="the spec names another"))
        assert self.release.split.percent == {before.stable: 100}
        assert self.release.quarantine == before.quarantine, "nobody is blamed"
        assert self.release.freeze == before.freeze, "and nothing cools down"

    @invariant()
    def only_without_a_candidate_it_is_settled(self):
        assert self.release.split.settled is (self.release.candidate is None)

    @invariant()
    def the_stable_bundle_is_never_dropped(self):
        split = self.release.split
        assert self.release.stable in split.percent or self.release.stable in split.warm
        assert self.release.last_good is None or self.release.last_good in split.warm
        assert split.spare in (None, self.release.stable, self.release.last_good), (
            "a candidate is nobody's spare"
        )
        assert len(split.percent) <= 2, "at most one canary"
        assert not {entry.bundle for entry in self.release.quarantine} & split.percent.keys()

    @invariant()
    def it_survives_storage(self):
        assert Release.model_validate_json(self.release.model_dump_json()) == self.release


AnyRelease.TestCase.settings = settings(max_examples=60, stateful_step_count=30)
TestAnyRelease = AnyRelease.TestCase
