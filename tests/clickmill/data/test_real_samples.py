"""Real logs through the readers, counted against what their README says. Needs the sample folder; says so when it is missing."""

import gzip
import os
from pathlib import Path

import pytest

from clickmill.contract import load
from clickmill.data import prepare, read

ROOT = Path(__file__).parents[3]
SAMPLES = Path(os.environ.get("CLICKMILL_SAMPLES", ROOT / ".." / "shared" / "data"))
pytestmark = pytest.mark.skipif(
    not SAMPLES.is_dir(),
    reason=f"NO REAL SAMPLES at {SAMPLES}: real input is not tested. Point CLICKMILL_SAMPLES at them.",
)


def contract(name):
    return load(ROOT / "contracts" / f"{name}.yaml")


def totals(paths, spec):
    table = read(paths, spec)
    row = table.aggregate(rows=table.count(), clicks=table.label.sum()).to_pyarrow().to_pylist()[0]
    return row["rows"], row["clicks"]


def test_ipinyou_has_the_rows_and_clicks_of_its_readme_and_its_test_file_calibrates(tmp_path):
    folder, spec = SAMPLES / "ipinyou_deepctr", contract("ipinyou")
    assert totals(folder / "train.fm.txt.gz", spec) == (26_773, 255)
    assert totals(folder / "test.fm.txt.gz", spec) == (21_150, 50)
    dataset = prepare(folder / "train.fm.txt.gz", spec, tmp_path / "out", test=folder / "test.fm.txt.gz")
    splits = dataset.meta.splits
    assert splits["train"].rows + splits["validation"].rows == 26_773
    assert splits["calibration"].rows + splits["test"].rows == 21_150
    assert splits["calibration"].clicks + splits["test"].clicks == 50
    assert (splits["train"].negatives_kept, splits["calibration"].negatives_kept) == (0.25, 1.0)


@pytest.mark.parametrize("campaign", ["men", "women"])
@pytest.mark.parametrize("policy", ["random", "bts"])
def test_open_bandit_has_ten_thousand_clean_rows_per_policy(tmp_path, campaign, policy):
    path = SAMPLES / f"obd_{campaign}" / f"{policy}__{campaign}.csv.gz"
    dataset = prepare(path, contract("open_bandit"), tmp_path / "out")
    clicks = sum(split.clicks for split in dataset.meta.splits.values())
    assert dataset.meta.quality.rows == 10_000
    assert dataset.meta.quality.quarantined == 0
    assert dataset.meta.quality.clock.start.isoformat() >= "2019-11-24"
    assert dataset.meta.quality.clock.end.isoformat() < "2019-12-01"
    # .0046 to .0069 by the README
    assert 46 <= clicks <= 69
    train = dataset.columns("train", ["position", "propensity"])
    assert set(train["position"].to_pylist()) == {1, 2, 3}
    if policy == "random":
        items = {"men": 34, "women": 46}[campaign]
        assert train["propensity"].to_pylist() == pytest.approx([1 / items] * train.num_rows)


def test_beauty_sequences_give_one_click_per_event_after_the_first():
    spec = contract("movielens")
    rows, clicks = totals(SAMPLES / "amazon_beauty" / "Beauty.txt.gz", spec)
    assert clicks == 198_502 - 22_363
    # Hardly ever all four items drawn for a non-click are the user's own.
    assert 0 <= 2 * clicks - rows < 10


def test_games_pairs_give_one_click_per_event_after_the_first():
    path = SAMPLES / "amazon_games" / "Video.txt.gz"
    rows, clicks = totals(path, contract("movielens"))
    assert clicks == 287_107 - 31_013
    assert 0 <= 2 * clicks - rows < 10


def test_a_history_is_what_the_file_says_the_user_took_before():
    path = SAMPLES / "amazon_beauty" / "Beauty.txt.gz"
    with gzip.open(path, "rt") as stream:
        user, *items = stream.readlines()[1].split()
    table = read(path, contract("movielens"))
    mine = table.filter((table.user_id == user) & (table.label == 1)).order_by("event_time")
    rows = mine.to_pyarrow().to_pylist()
    assert [row["item_id"] for row in rows] == items[1:]
    assert [row["history"] for row in rows] == [items[:k][-20:] for k in range(1, len(items))]
