"""What was learned from a prepared dataset, for the commands that need it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from clickmill.data import PreparedDataset
    from clickmill.features import FeatureSpace


def learned_space(dataset: PreparedDataset) -> FeatureSpace:
    """The feature space that a run of the pipeline left beside the rows, or, without one, learned now."""
    from clickmill.features import FeatureSpace, fit

    learned = dataset.root / "space"
    return FeatureSpace.load(learned) if learned.is_dir() else fit(dataset)
