"""What others have published on these data sets: the figures our own are put beside.

BARS: Zhu et al., "BARS: Towards Open Benchmarking for Recommender Systems", SIGIR 2022, https://github.com/reczoo/BARS (ranking/ctr,
README of each experiment). A published figure is the best of the runs of a grid search, whose early stopping watched the AUC of the
validation split; five seeds of the same setting lie up to 0.002 below it (DCN-v2 on Frappe_x1: 0.9838 on average, deviation 0.0004).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """One published result on the test split."""

    auc: float
    log_loss: float


@dataclass(frozen=True)
class Dataset:
    """A data set with published splits and figures."""

    name: str
    fields: tuple[str, ...]
    """Columns of the CSV besides the label, in their order; ids in the order of a libsvm line."""
    rows: dict[str, int]
    """Rows of each split as published. Figures on other rows cannot be compared."""
    figures: dict[str, Figure]
    """By model."""


DATASETS = {
    dataset.name: dataset
    for dataset in (
        Dataset(
            "frappe_x1",
            (
                "user",
                "item",
                "daytime",
                "weekday",
                "isweekend",
                "homework",
                "cost",
                "weather",
                "country",
                "city",
            ),
            {"train": 202_027, "validation": 57_722, "test": 28_860},
            {
                "lr": Figure(0.9356, 0.3076),
                "fm": Figure(0.9671, 0.2065),
                "wide_deep": Figure(0.9841, 0.1490),
                "dcn": Figure(0.9839, 0.1527),
                "dcn_v2": Figure(0.9845, 0.1491),
                "dlrm": Figure(0.9840, 0.1444),
            },
        ),
        Dataset(
            "movielenslatest_x1",
            ("user_id", "item_id", "tag_id"),
            {"train": 1_404_801, "validation": 401_372, "test": 200_686},
            {
                "lr": Figure(0.9342, 0.3201),
                "fm": Figure(0.9434, 0.2729),
                "wide_deep": Figure(0.9688, 0.2161),
                "dcn": Figure(0.9687, 0.2160),
                "dcn_v2": Figure(0.9691, 0.2147),
                "dlrm": Figure(0.9691, 0.2150),
            },
        ),
    )
}
"""By name."""
