"""What the written logs hold, checked with pandas and plain Python."""

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from clickmill.contract import Role, load
from clickmill.data.world import (
    CLICK_SCHEMA,
    IMPRESSION_SCHEMA,
    TRUTH_SCHEMA,
    Dirt,
    HourBatch,
    WorldConfig,
    generate,
    write,
)
from clickmill.data.world.policy import Auction
from clickmill.errors import UsageError

CONTRACT = Path(__file__).parents[4] / "contracts" / "world.yaml"
TINY = WorldConfig(impressions=2_000, days=1, n_users=200, n_ads=100, n_advertisers=10, n_sites=5, seed=3)


def test_the_same_config_writes_the_same_bytes(tmp_path):
    write(TINY, tmp_path / "a")
    write(TINY, tmp_path / "b")
    one, other = (
        {
            path.relative_to(tmp_path / name): path.read_bytes()
            for path in (tmp_path / name).rglob("*.*")
            if path.is_file()
        }
        for name in "ab"
    )
    assert len(one) > 24 * 2
    assert one == other


def test_another_seed_is_another_market(tmp_path):
    (first,) = [b for b in generate(TINY) if b.hour == TINY.start]
    (second,) = [b for b in generate(TINY.model_copy(update={"seed": 4})) if b.hour == TINY.start]
    assert not first.impressions["user_id"].equals(second.impressions["user_id"])


def test_the_logs_hold_exactly_the_rows_asked_for_with_unique_ids(world):
    impressions, truth = world.frame("impressions"), world.frame("truth")
    assert len(impressions) == 30_000
    assert impressions["impression_id"].is_unique
    assert truth["impression_id"].tolist() == impressions["impression_id"].tolist()


def test_columns_and_types_are_the_published_ones_and_no_truth_is_among_the_features(world):
    assert world.table("impressions").schema.equals(IMPRESSION_SCHEMA)
    assert world.table("truth").schema.equals(TRUTH_SCHEMA)
    assert world.table("clicks").schema.equals(CLICK_SCHEMA)
    hidden = {"true_pctr", "relevance", "examination", "clicked", "label", "click", "click_time"}
    assert not hidden & set(IMPRESSION_SCHEMA.names)


def test_every_file_holds_its_own_hour_only_and_in_the_order_of_time(world):
    for log, column in (("impressions", "event_time"), ("clicks", "click_time")):
        files = world.files(log)
        assert files
        for path in files:
            date, hour = re.search(r"date=(.{10})/hour=(..)/part-0", path.as_posix()).groups()
            times = pq.ParquetFile(path).read([column])[column].to_pandas()
            assert times.is_monotonic_increasing
            assert set(times.dt.strftime("%Y-%m-%d %H")) == {f"{date} {hour}"}


def test_truth_lies_in_the_same_partition_as_its_impressions(world):
    for path in world.files("truth"):
        beside = world.root / "impressions" / path.relative_to(world.root / "truth")
        ids = [pq.ParquetFile(p).read(["impression_id"])["impression_id"].to_pylist() for p in (path, beside)]
        assert ids[0] == ids[1]


def test_a_request_is_one_user_at_one_time_with_positions_from_one_and_no_ad_twice(world):
    requests = world.frame("impressions").groupby("request_id")
    assert (requests[["user_id", "event_time", "site_id"]].nunique() == 1).all().all()
    sizes = requests.size()
    assert (requests["position"].min() == 1).all()
    assert (requests["position"].max() == sizes).all()
    assert (requests["position"].nunique() == sizes).all()
    assert (requests["ad_id"].nunique() == sizes).all()
    # Each hour may cut its last request to meet its quota; all others fill the slots of their site.
    assert ((sizes < 3).sum()) <= world.report.config.hours
    assert sizes.max() == 5


def test_clicks_never_come_before_their_impression_and_never_after_the_longest_delay(world):
    joined = world.frame("clicks").merge(world.frame("impressions"), on="impression_id")
    delay = (joined["click_time"] - joined["event_time"]).dt.total_seconds()
    assert delay.min() > 0
    assert delay.max() <= 7 * 86_400 + 60  # a duplicate may come seconds after the latest click
    assert 0.7 < (delay < 600).mean() < 0.95  # most within minutes
    assert 0.01 < (delay > 6 * 3600).mean() < 0.12  # a tail of hours


def replay_histories(impressions: pd.DataFrame, clicks: pd.DataFrame, length: int) -> tuple[list, list]:
    """What each impression's history must end with: this user's known clicks before the full hour, in plain Python."""
    shown = impressions.set_index("impression_id")
    known = clicks.drop_duplicates("impression_id").sort_values(["click_time", "impression_id"])
    by_user: dict[str, list] = {}
    for click in known.itertuples():
        if click.impression_id in shown.index:
            row = shown.loc[click.impression_id]
            by_user.setdefault(row.user_id, []).append((click.click_time, row.ad_id, row.category))
    ads, categories = [], []
    for row in impressions.itertuples():
        hour = row.event_time.floor("h")
        before = [event for event in by_user.get(row.user_id, []) if event[0] < hour][-length:]
        ads.append([event[1] for event in before])
        categories.append([event[2] for event in before])
    return ads, categories


def test_histories_hold_exactly_the_clicks_known_before_the_hour(tmp_path):
    config = TINY.model_copy(update={"impressions": 6_000, "days": 2, "warm_clicks": 0.0, "history_length": 4,
                                     "target_ctr": 0.2, "n_users": 100})  # fmt: skip
    batches = list(generate(config))
    impressions = pd.concat([b.impressions.to_pandas() for b in batches], ignore_index=True)
    clicks = pd.concat([b.clicks.to_pandas() for b in batches], ignore_index=True)
    ads, categories = replay_histories(impressions, clicks, length=4)
    assert [list(history) for history in impressions["history_ads"]] == ads
    assert [list(history) for history in impressions["history_categories"]] == categories
    assert max(map(len, ads)) == 4
    assert sum(map(bool, ads)) > 1_000


def test_histories_from_before_the_log_come_first_and_the_log_s_own_clicks_last(world):
    impressions, clicks = world.frame("impressions"), world.frame("clicks")
    ads, _ = replay_histories(impressions, clicks, length=20)
    for shown, expected in zip(impressions["history_ads"], ads, strict=True):
        assert list(shown)[len(shown) - len(expected) :] == expected
    first_hour = impressions[
        impressions["event_time"] < impressions["event_time"].min().floor("h") + timedelta(hours=1)
    ]
    assert first_hour["history_ads"].map(len).mean() > 1


def test_dirt_is_counted_in_world_json_as_pandas_counts_it(tmp_path):
    config = TINY.model_copy(
        update={"target_ctr": 0.2, "dirt": Dirt(duplicate_share=0.1, orphan_share=0.05, missing_share=0.03)}
    )
    write(config, tmp_path / "w")
    report = json.loads((tmp_path / "w" / "world.json").read_text())
    impressions, clicks = (
        pd.concat(
            [pd.read_parquet(p, partitioning=None) for p in sorted((tmp_path / "w" / log).rglob("*.parquet"))]
        )
        for log in ("impressions", "clicks")
    )
    orphan = ~clicks["impression_id"].isin(impressions["impression_id"])
    assert report["orphan_clicks"] == orphan.sum() > 5
    assert report["duplicate_clicks"] == clicks["impression_id"].duplicated().sum() > 15
    assert report["click_rows"] == len(clicks)
    assert report["ceiling"]["clicks"] == clicks.loc[~orphan, "impression_id"].nunique()
    assert clicks.loc[orphan, "impression_id"].is_unique
    for column in ("gender", "connection"):
        assert 0.01 < impressions[column].isna().mean() < 0.06
    assert impressions.drop(columns=["gender", "connection"]).notna().all().all()


def test_ads_and_users_that_arrive_later_are_not_seen_earlier(world):
    impressions = world.frame("impressions")
    assert impressions["ad_age_days"].min() >= 0
    start = impressions["event_time"].min().floor("h")
    began = impressions["event_time"].dt.floor("h") - pd.to_timedelta(impressions["ad_age_days"], unit="D")
    new = began > start + timedelta(minutes=1)
    assert 0.03 < new.mean() < 0.4  # cold start exists
    first_day = impressions[impressions["event_time"] < start + timedelta(days=1)]
    assert set(impressions["user_id"]) - set(first_day["user_id"])


def test_the_contract_of_the_world_names_every_column_of_its_logs():
    contract = load(CONTRACT)
    columns = {field.column or name for name, field in contract.columns.items()}
    truth = contract.of_role(Role.TRUTH)
    assert columns - {truth} == set(IMPRESSION_SCHEMA.names)
    assert truth in TRUTH_SCHEMA.names


def test_every_value_is_legal_by_the_contract(world):
    impressions = world.frame("impressions")
    for name, field in load(CONTRACT).columns.items():
        if field.role is Role.TRUTH:
            continue
        values = impressions[name]
        if field.allowed:
            assert set(values) <= set(field.allowed), name
        if field.range:
            low, high = field.range.min, field.range.max
            assert low is None or values.min() >= low, name
            assert high is None or values.max() <= high, name


def test_a_folder_that_is_in_use_is_refused_and_left_alone(tmp_path):
    (tmp_path / "w").mkdir()
    (tmp_path / "w" / "precious").write_text("mine")
    with pytest.raises(UsageError, match="exists already; name another folder or remove it first"):
        write(TINY, tmp_path / "w")
    assert [path.name for path in tmp_path.rglob("*")] == ["w", "precious"]


class FailingPolicy:
    def score(self, auction: Auction, rng: np.random.Generator) -> np.ndarray:
        if auction.requests.time_us[0] > (datetime(2026, 1, 5, 12, tzinfo=UTC).timestamp() * 1e6):
            raise RuntimeError("the policy fell over at noon")
        return np.log(auction.bid)


def test_a_failure_half_way_leaves_nothing_behind(tmp_path):
    config = TINY.model_copy(update={"target_auc": None})
    seen: list[HourBatch] = []
    with pytest.raises(RuntimeError, match="at noon"):
        seen.extend(generate(config, FailingPolicy()))
    with pytest.raises(RuntimeError, match="at noon"):
        write(config, tmp_path / "w", policy=FailingPolicy())
    assert list(tmp_path.iterdir()) == []


class CountingProgress:
    def __init__(self) -> None:
        self.calls: list[tuple] = []

    def start(self, task: str, total: int | None, unit: str) -> None:
        self.calls.append(("start", total))

    def advance(self, n: int = 1, **figures: float) -> None:
        self.calls.append(("advance", n))

    def finish(self) -> None:
        self.calls.append(("finish", None))


def test_progress_adds_up_to_the_total(tmp_path):
    progress = CountingProgress()
    write(TINY, tmp_path / "w", progress=progress)
    assert progress.calls[0] == ("start", 2_000)
    assert progress.calls[-1] == ("finish", None)
    assert sum(n for name, n in progress.calls if name == "advance") == 2_000
