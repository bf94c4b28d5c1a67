"""Latency of bundles at one row each, taken in turns, so that what else the machine does falls on all of them."""

from __future__ import annotations

import gc
import time
from collections.abc import Sequence

import numpy as np

from clickmill.bundle.load import Bundle
from clickmill.data import PreparedDataset
from clickmill.features import tensors

SAMPLES = 2000
"""Requests per model. With 2,000 the p99 is the 1,980th: its interval on a quiet machine is about 5 % wide."""
_WARM = 50


def latencies(
    bundles: Sequence[Bundle], dataset: PreparedDataset, *, seed: int, samples: int = SAMPLES
) -> np.ndarray:
    """(bundles, samples) milliseconds per request of one row of the test split; each row is sent to all, in random order."""
    table = next(iter(dataset.scan("test")))
    rng = np.random.default_rng(seed)
    at = rng.integers(len(table), size=samples + _WARM)
    raws = [tensors.from_arrow(table, bundle.contract) for bundle in bundles]
    seconds = np.empty((len(bundles), len(at)))
    collecting = gc.isenabled()
    gc.disable()
    try:
        for i, row in enumerate(at):
            for which in rng.permutation(len(bundles)):
                one = {name: values[row : row + 1] for name, values in raws[which].items()}
                began = time.perf_counter()
                bundles[which].predict(one)
                seconds[which, i] = time.perf_counter() - began
    finally:
        if collecting:
            gc.enable()
    return seconds[:, _WARM:] * 1000
