"""The verdict of a drill, from timelines made by hand."""

from datetime import UTC, datetime

import pytest

from clickmill.release import Entry, Phase, Release
from clickmill.release.release import Quarantined
from monitoring.drills import DRILLS, Kind, Timeline, judge
from monitoring.drills.outcome import settled
from monitoring.drills.timeline import Answer

GOOD, BAD = "a" * 64, "b" * 64
FAULT = 1_000.0


def at(seconds):
    return datetime.fromtimestamp(FAULT + seconds, UTC)


def entry(seconds, phase, stable, reason="r", last_good=None, quarantine=()):
    banned = tuple(Quarantined(bundle=bundle, at=at(seconds), reason=reason) for bundle in quarantine)
    state = Release(
        endpoint="ads", phase=phase, since=at(seconds), stable=stable, last_good=last_good, quarantine=banned
    )
    return Entry(at=at(seconds), by="clickmill", reason=reason, state=state)


def answer(seconds, bundle, status=200, tries=1):
    return Answer(FAULT + seconds - 0.01, FAULT + seconds, status, bundle, tries, 10)


def rolled_back(reason="alert CalibrationRatioHigh: x"):
    """Promoted 1 s after the fault, alert at 20 s, decided at 21 s, the last answer of the bad bundle at 21.5 s."""
    timeline = Timeline(
        answers=[
            answer(0, GOOD),
            *(answer(s, BAD) for s in (2, 10, 21.5)),
            answer(21.2, GOOD),
            answer(30, GOOD),
        ]
    )
    timeline.note(
        Kind.ALERT, "fires", at=FAULT + 20, name="CalibrationRatioHigh", action="rollback", bundle=BAD[:12]
    )
    entries = [
        entry(-9, Phase.PROMOTED, GOOD),
        entry(1, Phase.PROMOTED, BAD, last_good=GOOD),
        entry(21, Phase.ROLLED_BACK, GOOD, reason, quarantine=(BAD,)),
    ]
    return timeline, entries


def test_times_run_from_the_first_answer_of_the_bad_bundle_and_from_the_alert_to_its_last():
    outcome = judge(DRILLS["uncalibrated-bundle"], *rolled_back(), GOOD, FAULT)
    assert outcome.problems == ()
    assert outcome.fault_at == FAULT + 2
    assert outcome.alert_to_stable == pytest.approx(1.5)
    assert outcome.fault_to_restored == pytest.approx(19.5)
    assert (outcome.requests, outcome.lost, outcome.asked_again) == (6, 0, 0)


def test_what_went_to_quarantine_before_the_fault_does_not_count():
    timeline, entries = rolled_back()
    earlier = Quarantined(bundle="d" * 64, at=at(-100), reason="of another drill")
    states = [e.state.model_copy(update={"quarantine": (earlier, *e.state.quarantine)}) for e in entries]
    entries = [e.model_copy(update={"state": state}) for e, state in zip(entries, states, strict=True)]
    assert judge(DRILLS["uncalibrated-bundle"], timeline, entries, GOOD, FAULT).problems == ()
    [problem] = judge(DRILLS["uncalibrated-bundle"], timeline, entries, GOOD, FAULT - 200).problems[:1]
    assert problem == "2 bundles went to quarantine instead of 1"


def test_a_rollback_for_another_reason_is_not_the_verdict():
    outcome = judge(DRILLS["slow-bundle"], *rolled_back(), GOOD, FAULT)
    [problem] = outcome.problems
    assert problem == "rolled back, but not because of BundleSlow: alert CalibrationRatioHigh: x"


def test_the_machines_own_check_has_no_alert_to_count_from():
    outcome = judge(DRILLS["crashing-bundle"], *rolled_back("watch_errors: 40 of 90"), GOOD, FAULT)
    assert outcome.as_expected
    assert outcome.alert_to_stable is None


def test_a_lost_request_spoils_any_drill():
    timeline, entries = rolled_back()
    timeline.answers.append(answer(15, "", status=0, tries=9))
    timeline.answers.append(answer(16, GOOD, tries=3))
    outcome = judge(DRILLS["uncalibrated-bundle"], timeline, entries, GOOD, FAULT)
    assert outcome.problems == ("1 of 8 requests were lost: 1 x no answer, 7 x 200",)
    assert outcome.asked_again == 2


def test_two_rollbacks_or_the_wrong_bundle_at_the_end_are_told():
    timeline, entries = rolled_back()
    entries.append(entry(25, Phase.ROLLED_BACK, "c" * 64, quarantine=(GOOD,)))
    problems = judge(DRILLS["alerts-repeated"], timeline, entries, GOOD, FAULT).problems
    assert any("serves at the end, not the good one" in problem for problem in problems)
    assert "2 rollbacks instead of one" in problems
    assert "the good bundle is in quarantine" in problems


def test_a_drill_that_wants_none_is_spoilt_by_a_rollback_and_by_silence():
    timeline, entries = rolled_back()
    problems = judge(DRILLS["traffic-shift"], timeline, entries, GOOD, FAULT).problems
    assert problems[0].startswith("rolled back, which helps nobody here: ")
    assert "people did not hear of CalibrationDrifted or NormalizedEntropyDrifted" in problems
    assert "CalibrationRatioHigh was told, which should have been held back" in problems


def test_people_told_in_time_and_nothing_else_is_what_a_shift_wants():
    timeline = Timeline(answers=[answer(0, GOOD), answer(50, GOOD)])
    drill, entries = DRILLS["traffic-shift"], [entry(-9, Phase.PROMOTED, GOOD)]
    assert not settled(drill, timeline, entries, FAULT)
    timeline.note(Kind.TOLD, "people are told", at=FAULT + 40, name="CalibrationDrifted", action="retrain")
    assert settled(drill, timeline, entries, FAULT)
    outcome = judge(drill, timeline, entries, GOOD, FAULT)
    assert outcome.problems == ()
    assert outcome.fault_to_told == pytest.approx(40)
    assert outcome.fault_to_restored is None


def test_a_candidate_that_was_promoted_was_not_refused():
    drill = DRILLS["uncalibrated-candidate"]
    refused = [
        entry(-9, Phase.PROMOTED, GOOD),
        entry(21, Phase.ROLLED_BACK, GOOD, "shadow_calibration: x", quarantine=(BAD,)),
    ]
    timeline = Timeline(answers=[answer(0, GOOD), answer(30, GOOD)])
    assert judge(drill, timeline, refused, GOOD, FAULT).as_expected
    promoted = [refused[0], entry(5, Phase.PROMOTED, BAD, last_good=GOOD), refused[1]]
    assert judge(drill, timeline, promoted, GOOD, FAULT).problems == ("the candidate was promoted",)
