"""Datasets as of a moment: what is known, who is too young, and clicked impressions that are non-clicks too."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from clickmill.contract import loads
from clickmill.data import PrepareOptions, prepare
from clickmill.errors import UsageError

CONTRACT = loads("""
name: t
fields:
  key: {role: impression_id, dtype: int64}
  event_time: {role: event_time, dtype: timestamp}
  site: {role: context, dtype: string, encoding: {kind: vocabulary}}
""")
START = datetime(2026, 1, 5, tzinfo=UTC)
HOURS, LEARNED = 1_000, 800
SLOW = 50
"""Every fifth impression is clicked: every second of those at once, the others after 50 hours."""


@pytest.fixture
def logs(tmp_path):
    """One impression an hour."""
    hours = np.arange(HOURS)
    shown = pd.to_datetime(START) + pd.to_timedelta(hours, unit="h")
    frame = pd.DataFrame({"key": hours, "event_time": shown, "site": [f"s{k % 3}" for k in hours]})
    clicked = hours[hours % 5 == 0]
    delay = np.where(clicked % 10 == 0, 0.5, SLOW)
    clicks = pd.DataFrame(
        {"impression_id": clicked, "click_time": shown[clicked] + pd.to_timedelta(delay, unit="h")}
    )
    frame.to_parquet(tmp_path / "impressions.parquet")
    clicks.rename(columns={"impression_id": "key"}).to_parquet(tmp_path / "clicks.parquet")
    return tmp_path


def _prepared(logs, **options):
    chosen = {
        "window": timedelta(hours=100),
        "as_of": START + timedelta(hours=LEARNED),
        "latest": datetime(2027, 1, 1, tzinfo=UTC),
    }
    return prepare(
        logs / "impressions.parquet",
        CONTRACT,
        logs / "out",
        clicks=logs / "clicks.parquet",
        options=PrepareOptions.model_validate({**chosen, **options}),
    )


def _rows(dataset, split):
    return dataset.columns(split, ["key", "label"]).to_pandas()


def test_before_the_moment_only_what_was_known_and_after_it_everything(logs):
    dataset = _prepared(logs)
    before = pd.concat([_rows(dataset, split) for split in ("train", "validation", "calibration")])
    assert before["key"].tolist() == list(range(LEARNED))
    quick, slow = before["key"] % 10 == 0, before["key"] % 10 == 5
    assert (before["label"][quick] == 1).all()
    # the click of hour k is heard of at k + 50, which must be before 800
    assert before["key"][slow & (before["label"] == 1)].max() == 745
    test = _rows(dataset, "test")
    assert test["key"].tolist() == list(range(LEARNED, HOURS))
    assert (test["label"] == (test["key"] % 5 == 0)).all()
    assert dataset.meta.join.unknown_yet == 5  # 755, 765, ..., 795
    assert dataset.meta.ripeness is None


def test_the_waiting_window_leaves_out_the_young_and_not_the_test_split(logs):
    dataset = _prepared(logs, wait="60h")
    keys = pd.concat([_rows(dataset, split)["key"] for split in ("train", "validation", "calibration")])
    assert keys.max() == LEARNED - 60
    assert _rows(dataset, "test")["key"].tolist() == list(range(LEARNED, HOURS))


def test_the_delay_is_estimated_from_what_is_known(logs):
    curve = _prepared(logs, delayed_clicks="delay_weights").meta.ripeness.curve
    found = curve.share_known(np.array([0.1, 1.0, 49.0, 51.0]) * 3600)
    np.testing.assert_allclose(found, [0.02, 0.5, 0.5, 1.0], atol=0.01)


def test_a_clicked_impression_is_a_non_click_too(logs):
    plain = _prepared(logs, delayed_clicks="delay_weights")
    once = {split: _rows(plain, split) for split in ("train", "validation", "calibration")}
    doubled = _prepared(logs, delayed_clicks="fake_negatives")
    for split in ("train", "validation"):
        rows, clicked = _rows(doubled, split), once[split]["key"][once[split]["label"] == 1]
        assert rows["key"][rows["label"] == 0].tolist() == once[split]["key"].tolist()
        assert rows["key"][rows["label"] == 1].tolist() == clicked.tolist()
        # in order of time, the non-click first
        assert rows["key"].is_monotonic_increasing
        assert rows.drop_duplicates("key")["label"].eq(0).all()
    # calibration holds each impression once
    assert _rows(doubled, "calibration").equals(once["calibration"])


def test_fake_negatives_are_sampled_and_clicks_are_not(logs):
    whole = pd.concat(
        [_rows(_prepared(logs, delayed_clicks="fake_negatives"), s) for s in ("train", "validation")]
    )
    dataset = _prepared(logs, delayed_clicks="fake_negatives", negatives_kept=0.3)
    part = pd.concat([_rows(dataset, s) for s in ("train", "validation")])
    assert part["label"].sum() == whole["label"].sum()
    assert (part["label"] == 0).sum() == pytest.approx(0.3 * (whole["label"] == 0).sum(), rel=0.2)


def test_what_cannot_be_done_is_refused_with_the_remedy(logs):
    hours = {"validation": 300, "calibration": 400, "test": 500}
    times = {name: START + timedelta(hours=h) for name, h in hours.items()}
    with pytest.raises(UsageError, match="leave cut_times"):
        _prepared(logs, cut_times=times)
    labelled = loads(
        "name: t\nfields:\n  label: {role: label, dtype: int64}\n  site: {role: context, dtype: string, encoding: {kind: vocabulary}}\n"
    )
    frame = pd.DataFrame({"label": [0, 1] * 50, "site": ["a"] * 100})
    frame.to_parquet(logs / "labelled.parquet")
    for options in ({"wait": "1h"}, {"as_of": START}, {"delayed_clicks": "delay_weights"}):
        with pytest.raises(UsageError, match=f"preparation.{next(iter(options))} asks when clicks came"):
            prepare(
                logs / "labelled.parquet",
                labelled,
                logs / "other",
                options=PrepareOptions.model_validate(options),
            )
