"""`prepare` from logs to a dataset: the whole way."""

import csv
import hashlib
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from clickmill.contract import loads
from clickmill.data import (
    CutTimes,
    Fractions,
    PrepareOptions,
    check_logs,
    prepare,
    prepare_checked,
)
from clickmill.errors import (
    DataError,
    UsageError,
)
from tests.clickmill.data.labelled_log import CONTRACT, LABELLED, START, log, save

JOINED = """
name: t
fields:
  key: {role: impression_id, dtype: int64}
  event_time: {role: event_time, dtype: timestamp}
  p: {role: truth, dtype: float32}
  label: {role: label, dtype: int64}
  site: {role: context, dtype: string, encoding: {kind: vocabulary}}
"""


def frame_of(dataset, split):
    return pa.concat_tables(dataset.scan(split)).to_pandas()


def test_a_log_with_labels_becomes_four_splits_in_order_of_time(tmp_path):
    source = log().sample(frac=1, random_state=1)
    dataset = prepare(save(source, tmp_path / "log.parquet"), CONTRACT, tmp_path / "out")
    assert dataset.splits == ("train", "validation", "calibration", "test")
    assert [dataset.meta.splits[s].rows for s in dataset.splits] == [600, 100, 100, 200]
    whole = pd.concat([frame_of(dataset, split) for split in dataset.splits], ignore_index=True)
    expected = source.sort_values("event_time").reset_index(drop=True)
    assert (whole["event_time"].dt.tz_convert("UTC") == expected["event_time"]).all()
    for column in ("label", "position", "site"):
        assert (whole[column].to_numpy() == expected[column].to_numpy()).all()
    assert dataset.meta.splits["test"].clicks == expected["label"][800:].sum()
    assert dataset.meta.splits["train"].end < dataset.meta.splits["validation"].start


def test_rows_of_one_instant_keep_the_order_of_the_source(tmp_path):
    source = log()
    source["event_time"] = source["event_time"].dt.floor("h")
    source["site"] = [f"s{k}" for k in range(1000)]
    # One row out of time makes the sort necessary.
    source = pd.concat([source.iloc[1:], source.iloc[:1]])
    dataset = prepare(save(source, tmp_path / "log.parquet"), CONTRACT, tmp_path / "out")
    expected = source.sort_values("event_time", kind="stable")["site"]
    got = pd.concat([frame_of(dataset, split) for split in dataset.splits])["site"]
    assert got.tolist() == expected.tolist()


def test_the_same_input_gives_the_same_bytes(tmp_path):
    path = save(log(), tmp_path / "log.parquet")
    options = PrepareOptions(negatives_kept=0.5, latest=datetime(2027, 1, 1, tzinfo=UTC))
    first = prepare(path, CONTRACT, tmp_path / "a", options=options)
    second = prepare(path, CONTRACT, tmp_path / "b", options=options)
    for split in first.splits:
        for left, right in zip(first.parts(split), second.parts(split), strict=True):
            assert left.read_bytes() == right.read_bytes()
    assert (tmp_path / "a/dataset.json").read_text() == (tmp_path / "b/dataset.json").read_text()


def test_the_data_digest_follows_the_content_and_not_the_place(tmp_path):
    path = save(log(), tmp_path / "log.parquet")
    moved = tmp_path / "elsewhere" / "other.parquet"
    moved.parent.mkdir()
    moved.write_bytes(path.read_bytes())
    first = prepare(path, CONTRACT, tmp_path / "a").meta.data_digest
    assert prepare(moved, CONTRACT, tmp_path / "b").meta.data_digest == first
    other = save(log(seed=1), tmp_path / "other.parquet")
    assert prepare(other, CONTRACT, tmp_path / "c").meta.data_digest != first
    inner = hashlib.sha256(path.read_bytes()).digest()
    assert first == hashlib.sha256(b"impressions:1\n" + inner).hexdigest()


def test_only_train_and_validation_lose_non_clicks(tmp_path):
    path = save(log(), tmp_path / "log.parquet")
    contract = loads(LABELLED.replace("fields:", "source: {negatives_kept: 0.5}\nfields:"))
    whole = prepare(path, CONTRACT, tmp_path / "a")
    sampled = prepare(path, contract, tmp_path / "b", options=PrepareOptions(negatives_kept=0.25))
    assert sampled.negatives_kept == 0.125
    kept = {name: split.negatives_kept for name, split in sampled.meta.splits.items()}
    assert kept == {"train": 0.125, "validation": 0.125, "calibration": 0.5, "test": 0.5}
    for split in ("calibration", "test"):
        assert sampled.meta.splits[split].rows == whole.meta.splits[split].rows
    for split in ("train", "validation"):
        assert sampled.meta.splits[split].clicks == whole.meta.splits[split].clicks
    before = whole.meta.splits["train"].rows - whole.meta.splits["train"].clicks
    after = sampled.meta.splits["train"].rows - sampled.meta.splits["train"].clicks
    assert abs(after - before / 4) < 5 * (before * 3 / 16) ** 0.5


def test_cut_times_put_the_very_instant_into_the_later_split(tmp_path):
    cuts = CutTimes(
        validation=START + timedelta(minutes=500),
        calibration=(START + timedelta(minutes=700)).replace(tzinfo=None),
        test=START + timedelta(minutes=900),
    )
    dataset = prepare(
        save(log(), tmp_path / "log.parquet"),
        CONTRACT,
        tmp_path / "out",
        options=PrepareOptions(cut_times=cuts),
    )
    assert [split.rows for split in dataset.meta.splits.values()] == [500, 200, 200, 100]
    assert dataset.meta.splits["test"].start == START + timedelta(minutes=900)


def click_log(frame, folder, *, delay_s=60, ctr=0.2):
    clicked = frame[np.random.default_rng(5).random(len(frame)) < ctr]
    clicks = pd.DataFrame(
        {"key": clicked["key"], "click_time": clicked["event_time"] + timedelta(seconds=delay_s)}
    )
    return clicked["key"].tolist(), save(clicks, folder / "clicks.parquet")


def joined_logs(folder):
    frame = log().drop(columns=["label", "position"]).assign(key=range(1000))
    impressions = save(frame, folder / "impressions.parquet")
    clicked, clicks = click_log(frame, folder)
    truth = save(pd.DataFrame({"key": range(1000), "p": np.linspace(0, 1, 1000)}), folder / "truth.parquet")
    return impressions, clicks, truth, clicked


def test_labels_come_from_the_click_log_and_the_truth_from_its_own(tmp_path):
    impressions, clicks, truth, clicked = joined_logs(tmp_path)
    dataset = prepare(impressions, loads(JOINED), tmp_path / "out", clicks=clicks, truth=truth)
    rows = pd.concat([frame_of(dataset, split) for split in dataset.splits])
    assert rows["key"].tolist() == list(range(1000))
    assert rows["key"][rows["label"] == 1].tolist() == clicked
    assert np.allclose(rows["p"], np.linspace(0, 1, 1000))
    assert dataset.meta.join.joined == len(clicked)
    assert list(rows.columns) == ["key", "event_time", "p", "label", "site"]


def test_without_a_label_field_the_joined_label_is_a_column_of_its_own(tmp_path):
    impressions, clicks, _truth, clicked = joined_logs(tmp_path)
    contract = loads(JOINED.replace("  label: {role: label, dtype: int64}\n", ""))
    dataset = prepare(impressions, contract, tmp_path / "out", clicks=clicks)
    assert dataset.label == "label"
    assert sum(split.clicks for split in dataset.meta.splits.values()) == len(clicked)
    with pytest.raises(UsageError, match="has no label field; give the click log"):
        prepare(impressions, contract, tmp_path / "other")


def test_impressions_whose_window_is_open_are_left_out_on_request(tmp_path):
    impressions, clicks, _, clicked = joined_logs(tmp_path)
    window = timedelta(minutes=100)
    options = PrepareOptions(window=window)
    whole = prepare(impressions, loads(JOINED), tmp_path / "a", clicks=clicks, options=options)
    # The log ends one minute after the last clicked impression (key k is shown in minute k).
    open_since = clicked[-1] + 1 - 100
    assert whole.meta.join.immature == 999 - open_since
    mature = prepare(
        impressions,
        loads(JOINED),
        tmp_path / "b",
        clicks=clicks,
        options=options.model_copy(update={"wait": window}),
    )
    assert sum(split.rows for split in mature.meta.splits.values()) == open_since + 1


def test_two_steps_give_the_dataset_of_one(tmp_path):
    impressions, clicks, truth, _ = joined_logs(tmp_path)
    options = PrepareOptions(negatives_kept=0.5)
    one = prepare(impressions, loads(JOINED), tmp_path / "one", clicks=clicks, truth=truth, options=options)
    checked = check_logs(
        impressions,
        loads(JOINED),
        tmp_path / "checked",
        quarantine=tmp_path / "bad",
        clicks=clicks,
        truth=truth,
    )
    two = prepare_checked(checked, tmp_path / "two", options=options)
    assert two.meta == one.meta
    for split in one.splits:
        assert one.parts(split)[0].read_bytes() == two.parts(split)[0].read_bytes()


def test_separate_test_files_are_the_test_split_and_the_rest_is_cut_in_three(tmp_path):
    main = save(log(900), tmp_path / "main.parquet")
    later = save(log(300, seed=3, start=START + timedelta(days=9)), tmp_path / "later.parquet")
    dataset = prepare(
        main, CONTRACT, tmp_path / "out", test=later, options=PrepareOptions(negatives_kept=1.0)
    )
    assert [split.rows for split in dataset.meta.splits.values()] == [675, 112, 113, 300]
    assert dataset.meta.splits["test"].start == START + timedelta(days=9)


def test_test_files_from_the_past_are_refused_unless_meant(tmp_path):
    main = save(log(900), tmp_path / "main.parquet")
    other = save(log(300, seed=3), tmp_path / "other.parquet")
    with pytest.raises(DataError, match="judged on a past it has learned from"):
        prepare(main, CONTRACT, tmp_path / "out", test=other)
    dataset = prepare(
        main, CONTRACT, tmp_path / "out", test=other, options=PrepareOptions(allow_overlap=True)
    )
    assert dataset.meta.splits["test"].rows == 300


def test_a_sampled_source_takes_its_calibration_from_the_test_files(tmp_path):
    contract = loads(
        """
name: t
source: {format: libsvm, slots: 1, negatives_kept: 0.25}
fields:
  event_time: {role: event_time, dtype: timestamp}
  label: {role: label, dtype: int64}
  f01: {role: context, dtype: int64, encoding: {kind: vocabulary}}
"""
    )
    for name, n, every in (("train", 700, 5), ("test", 300, 20)):
        (tmp_path / f"{name}.txt").write_text("".join(f"{int(k % every == 0)} {k}:1\n" for k in range(n)))
    dataset = prepare(tmp_path / "train.txt", contract, tmp_path / "out", test=tmp_path / "test.txt")
    found = {
        name: (split.rows, split.clicks, split.negatives_kept) for name, split in dataset.meta.splits.items()
    }
    assert found == {
        "train": (600, 120, 0.25),
        "validation": (100, 20, 0.25),
        "calibration": (100, 5, 1.0),
        "test": (200, 10, 1.0),
    }
    # The made-up clock goes on from the train file.
    assert frame_of(dataset, "calibration")["event_time"].iloc[0] == pd.Timestamp(700, unit="s", tz="UTC")


def test_a_contract_without_a_clock_is_split_by_the_order_of_the_rows(tmp_path):
    contract = loads(LABELLED.replace("  event_time: {role: event_time, dtype: timestamp}\n", ""))
    frame = log().drop(columns="event_time")
    dataset = prepare(save(frame, tmp_path / "log.parquet"), contract, tmp_path / "out")
    rows = pd.concat([frame_of(dataset, split) for split in dataset.splits])
    assert rows["site"].tolist() == frame["site"].tolist()
    assert dataset.meta.splits["train"].start is None
    with pytest.raises(UsageError, match="cut times need a field of role event_time"):
        prepare(
            tmp_path / "log.parquet",
            contract,
            tmp_path / "other",
            options=PrepareOptions(
                cut_times=CutTimes(
                    validation=START, calibration=START + timedelta(1), test=START + timedelta(2)
                )
            ),
        )


def test_csv_and_parquet_of_the_same_rows_give_the_same_dataset(tmp_path):
    frame = log()
    parquet = prepare(save(frame, tmp_path / "log.parquet"), CONTRACT, tmp_path / "a")
    frame.to_csv(tmp_path / "log.csv", index=False, quoting=csv.QUOTE_NONNUMERIC)
    text = prepare(
        tmp_path / "log.csv",
        loads(LABELLED.replace("fields:", "source: {format: csv}\nfields:")),
        tmp_path / "b",
    )
    for split in parquet.splits:
        assert frame_of(text, split).equals(frame_of(parquet, split))


def test_no_share_for_test_needs_test_files(tmp_path):
    fractions = Fractions(train=0.8, validation=0.1, calibration=0.1, test=0)
    with pytest.raises(UsageError, match=r"fractions\.test is 0"):
        prepare(
            save(log(), tmp_path / "log.parquet"),
            CONTRACT,
            tmp_path / "out",
            options=PrepareOptions(fractions=fractions),
        )


def test_scans_are_bounded_and_columns_come_whole(tmp_path):
    dataset = prepare(save(log(), tmp_path / "log.parquet"), CONTRACT, tmp_path / "out")
    batches = list(dataset.scan("train", batch_rows=128, columns=["label"]))
    assert [batch.num_rows for batch in batches] == [128, 128, 128, 128, 88]
    assert batches[0].column_names == ["label"]
    assert dataset.columns("train", ["site", "label"]).column_names == ["site", "label"]
    with pytest.raises(UsageError, match="has no column 'sight'; it has event_time, label, position, site"):
        dataset.columns("train", ["sight"])
    with pytest.raises(UsageError, match="has no split 'holdout'; it has train, validation"):
        dataset.path("holdout")
