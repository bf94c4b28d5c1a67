"""Verdicts of three values: knowing more never turns one verdict into the other."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.drift import Drift, DriftSettings, FieldDrift, Quality
from monitoring.drift.verdict import overall

SETTINGS = DriftSettings()


def fields(drifts, qualities=None, prediction=None):
    qualities = qualities or [Quality.SOUND] * len(drifts)
    found = [
        FieldDrift(field=f"f{i}", kind="number", drift=d, quality=q)
        for i, (d, q) in enumerate(zip(drifts, qualities, strict=True))
    ]
    if prediction:
        found.append(FieldDrift(field="pctr", kind="number", drift=prediction, quality=Quality.SOUND))
    return found


@pytest.mark.parametrize(
    ("drifts", "prediction", "verdict"),
    [
        ("ssssssssss", "s", Drift.SAME),
        ("ddssssssss", "s", Drift.SAME),
        ("dddsssssss", "s", Drift.DRIFTED),
        ("ddusssssss", "s", Drift.UNKNOWN),  # the unknown one would tip it
        ("duusssssss", "s", Drift.UNKNOWN),
        ("dussssssss", "s", Drift.SAME),  # it would not
        ("ssssssssss", "d", Drift.DRIFTED),
        ("ssssssssss", "u", Drift.UNKNOWN),
        ("ddduuuuuuu", "u", Drift.DRIFTED),
        ("ssssssssss", "", Drift.SAME),
        ("", "", Drift.UNKNOWN),
    ],
)
def test_the_window_as_a_whole(drifts, prediction, verdict):
    letters = {"s": Drift.SAME, "d": Drift.DRIFTED, "u": Drift.UNKNOWN}
    found, _, reasons = overall(
        fields([letters[c] for c in drifts], prediction=letters.get(prediction)), SETTINGS
    )
    assert found is verdict
    assert bool(reasons) is (verdict is not Drift.SAME)


@given(st.lists(st.sampled_from(Drift), min_size=1, max_size=12), st.sampled_from(Drift), st.data())
def test_knowing_more_turns_no_verdict_into_the_other(drifts, prediction, data):
    before, *_ = overall(fields(drifts, prediction=prediction), SETTINGS)
    settled = [
        data.draw(st.sampled_from([Drift.SAME, Drift.DRIFTED])) if d is Drift.UNKNOWN else d for d in drifts
    ]
    after, *_ = overall(fields(settled, prediction=prediction), SETTINGS)
    if before is not Drift.UNKNOWN:
        assert after is before


@given(st.lists(st.sampled_from(Quality), min_size=1, max_size=12))
def test_one_broken_field_breaks_the_window_and_sound_needs_all(qualities):
    _, found, _ = overall(fields([Drift.SAME] * len(qualities), qualities), SETTINGS)
    assert (found is Quality.BROKEN) is (Quality.BROKEN in qualities)
    assert (found is Quality.SOUND) is (set(qualities) == {Quality.SOUND})


@pytest.mark.parametrize(
    "wrong", [{"numbers_by": ["ks"]}, {"categories_by": ["wasserstein"]}, {"numbers_by": []}]
)
def test_only_distances_that_do_not_depend_on_the_sample_may_judge(wrong):
    with pytest.raises(ValueError, match="one or more of"):
        DriftSettings(**wrong)
