"""Real clicks of two policies that ran side by side: what one log says of the other policy, beside what that policy got."""

import gzip
import os
from pathlib import Path

import pandas as pd
import pytest

from clickmill.experiment.off_policy import Against, LoggedRows, Method, Shares, cell_rates, evaluate, shares
from clickmill.experiment.off_policy.reading import columns

SAMPLES = Path(os.environ.get("CLICKMILL_SAMPLES", Path(__file__).parents[5] / "shared" / "data"))
NAMES = ["item_id", "position", "click", "propensity_score"]


def log_of(policy: str, campaign: str) -> pd.DataFrame:
    path = SAMPLES / f"obd_{campaign}" / f"{policy}__{campaign}.csv.gz"
    if not path.is_file():
        pytest.skip(
            f"NOT TESTED: the Open Bandit sample is not there ({path}); set CLICKMILL_SAMPLES to its folder"
        )
    return columns(path, NAMES)


def judged(log: pd.DataFrame, target: Shares):
    shown = log["item_id"].to_numpy(), log["position"].to_numpy()
    clicks = log["click"].to_numpy(float)
    model, model_target = cell_rates(clicks, shown[1], shown[0], target)
    rows = LoggedRows.checked(
        clicks, log["propensity_score"], target.of(shown[1], shown[0]), model=model, model_target=model_target
    )
    return evaluate(rows)


@pytest.mark.parametrize("campaign", ["men", "women"])
def test_the_random_log_knows_what_thompson_sampling_earned(campaign):
    random, thompson = log_of("random", campaign), log_of("bts", campaign)
    found = judged(random, shares(thompson["position"], thompson["item_id"]))
    for method in (Method.IPS, Method.SNIPS, Method.DR):
        estimate = found.estimates[method]
        assert estimate.low <= thompson["click"].mean() <= estimate.high, method
    assert found.diagnostics.mean_weight.low <= 1 <= found.diagnostics.mean_weight.high


def test_the_log_of_thompson_sampling_knows_what_chance_earned():
    random, thompson = log_of("random", "men"), log_of("bts", "men")
    found = judged(thompson, Shares.uniform(random["position"], random["item_id"]))
    for method in (Method.IPS, Method.SNIPS, Method.DR):
        estimate = found.estimates[method]
        assert estimate.low <= random["click"].mean() <= estimate.high, method
    assert found.verdict is Against.WORSE


def test_a_log_that_hardly_ever_shows_some_items_is_not_trusted():
    # In this campaign one item stands in the log with a chance of one in a million: one row is worth all others.
    random, thompson = log_of("random", "women"), log_of("bts", "women")
    found = judged(thompson, Shares.uniform(random["position"], random["item_id"]))
    assert found.verdict is Against.UNKNOWN
    assert "10,000 rows are worth 2 of the target's own" in found.reasons[0]
    assert found.estimates[Method.IPS].low <= random["click"].mean() <= found.estimates[Method.IPS].high


def test_a_log_is_read_with_its_columns_named(tmp_path):
    path = tmp_path / "log.csv.gz"
    path.write_bytes(gzip.compress(b",item_id,click\n0,7,1\n1,8,0\n"))
    assert columns(path, ["click", "item_id", "click"]).to_dict("list") == {
        "click": [1, 0],
        "item_id": [7, 8],
    }
