"""Latency of two bundles at one row each, taken in turns, so that what else the machine does falls on both."""

from __future__ import annotations

import gc
import time
from dataclasses import dataclass

import numpy as np

from clickmill.bundle.load import Bundle
from clickmill.data import PreparedDataset
from clickmill.features import tensors

SAMPLES = 2000
"""Requests per model. With 2,000 the p99 is the 1,980th: its interval on a quiet machine is about 5 % wide."""
_WARM = 50


@dataclass(frozen=True)
class Times:
    """Milliseconds per request of one row, in the order taken."""

    champion_ms: np.ndarray
    challenger_ms: np.ndarray


def side_by_side(
    champion: Bundle, challenger: Bundle, dataset: PreparedDataset, *, seed: int, samples: int = SAMPLES
) -> Times:
    """Time `samples` single rows of the test split on both bundles, in random order within each pair."""
    table = next(iter(dataset.scan("test")))
    rng = np.random.default_rng(seed)
    at = rng.integers(len(table), size=samples + _WARM)
    bundles = (champion, challenger)
    raws = [tensors.from_arrow(table, bundle.contract) for bundle in bundles]
    times = np.empty((2, samples + _WARM))
    collecting = gc.isenabled()
    gc.disable()
    try:
        for i, row in enumerate(at):
            for which in rng.permutation(2):
                one = {name: values[row : row + 1] for name, values in raws[which].items()}
                began = time.perf_counter()
                bundles[which].predict(one)
                times[which, i] = time.perf_counter() - began
    finally:
        if collecting:
            gc.enable()
    return Times(*(times[:, _WARM:] * 1000))
