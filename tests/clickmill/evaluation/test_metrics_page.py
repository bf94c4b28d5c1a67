"""The examples of docs/metrics.md run and say what the page says."""

import doctest
from pathlib import Path

from clickmill.release import GatePolicy

PAGE = Path(__file__).parents[3] / "docs" / "metrics.md"


def test_the_examples_of_the_page_run():
    result = doctest.testfile(str(PAGE), module_relative=False)
    assert result.attempted >= 10
    assert result.failed == 0


def test_the_thresholds_of_the_page_are_those_of_the_policy():
    policy = GatePolicy()
    rows = {
        line.split("|")[1].strip(" `"): line.split("|")[3].strip()
        for line in PAGE.read_text().splitlines()
        if line.startswith("| `")
    }
    assert float(rows["ne_floor"]) == policy.max_ne
    assert float(rows["ece_floor"]) == policy.max_ece
    assert float(rows["calibration_floor"]) == policy.max_calibration_bias
    assert float(rows["latency"]) == policy.max_p99_ratio
    assert rows["latency_floor"] == "off"
    assert policy.max_p99_ms is None
    assert rows["ne`, `auc`, `ece"] == f"{policy.ne_margin:g} each"
    assert policy.ne_margin == policy.auc_margin == policy.ece_margin
    assert (
        rows["slice:column=value"]
        == f"{policy.slice_ne_margin:g}, slices of {policy.slice_min_clicks} clicks and more"
    )
