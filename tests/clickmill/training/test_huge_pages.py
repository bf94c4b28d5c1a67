"""Huge pages under a table change where it lies, and nothing of what it says."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from clickmill.training.huge_pages import HUGE, LEAST, gather_pages

ENABLED = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def _huge_bytes() -> int:
    found = re.search(r"AnonHugePages:\s+(\d+) kB", Path("/proc/self/smaps_rollup").read_text())
    assert found
    return int(found[1]) * 1024


def _table(seed: int, size: int = 2 * LEAST) -> tuple[tf.Variable, np.ndarray]:
    values = np.random.default_rng(seed).standard_normal((size // 64, 16), dtype=np.float32)
    return tf.Variable(values), values


@pytest.mark.skipif(
    not ENABLED.exists() or "[never]" in ENABLED.read_text(), reason="this machine has no huge pages to give"
)
def test_a_large_table_gets_huge_pages_and_keeps_its_values():
    table, values = _table(0)
    before = _huge_bytes()
    asked = gather_pages([table])
    assert 2 * LEAST - 2 * HUGE < asked <= 2 * LEAST
    assert _huge_bytes() - before > LEAST // 2  # a wish, mostly granted
    np.testing.assert_array_equal(table.numpy(), values)
    rows = np.array([3, 70_000], np.int32)
    tf.raw_ops.ResourceScatterUpdate(
        resource=table.handle, indices=rows, updates=np.ones((2, 16), np.float32)
    )
    values[rows] = 1.0
    np.testing.assert_array_equal(table.numpy(), values)


def test_a_small_table_is_left_alone():
    table, _ = _table(1, LEAST // 2)
    assert gather_pages([table]) == 0


def test_elsewhere_than_on_linux_nothing_is_asked(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    table, _ = _table(2)
    assert gather_pages([table]) == 0
