"""Which setting is chosen, told by hand-made measurements; a real endpoint is tuned in tests/integration."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from serving.load import Speech
from serving.tuning import Job, Setting, Trial, better, ladders, search, shed_wait_ms
from tests.serving.small_bundle import CONTRACT, raw_rows

JOB = Job(
    bundle=Path("bundle"),
    contract=CONTRACT,
    raw=raw_rows(16),
    model_name="small",
    speech=Speech.V1,
    candidates=100,
    p99_ms=10.0,
    seconds=1.0,
    cores=4,
)


def trial(setting: Setting, rate: float, p99: float = 9.0) -> Trial:
    return Trial(setting, 2 * rate or 100.0, np.array([1.0, 2.0]), rate, 3.0, p99, 500.0)


def test_three_ladders_are_climbed_each_from_the_best_so_far():
    """Two threads are best; company of 400 rows helps; waiting for it does not."""
    tried: list[Setting] = []

    def try_out(job: Job, setting: Setting) -> Trial:
        tried.append(setting)
        rate = {0: 100, 1: 110, 2: 200, 4: 190}[setting.threads]
        rate *= {0: 1, 400: 1.5, 512: 1.4}[setting.batch_rows]
        return trial(setting, rate - setting.batch_wait_us / 10)

    heard: list[Trial] = []
    best = search(JOB, heard.append, try_out)
    assert best.setting == Setting(threads=2, batch_rows=400, batch_wait_us=0.0)
    assert [t.setting for t in heard] == tried
    assert [s.threads for s in tried] == [0, 1, 2, 4, 2, 2, 2, 2]
    assert [s.batch_rows for s in tried[4:]] == [400, 512, 400, 400]
    assert len(tried) <= ladders(JOB)


def test_without_company_there_is_no_wait_to_try():
    best = search(JOB, lambda _: None, lambda job, s: trial(s, 100 - s.batch_rows / 10 - s.threads))
    assert best.setting == Setting(threads=0)


def test_noise_does_not_choose_and_a_kept_promise_goes_before_a_broken_one():
    base = trial(Setting(1), 100)
    assert not better(trial(Setting(2), 102), base)
    assert better(trial(Setting(2), 104), base)
    assert better(base, trial(Setting(2), 0, p99=11))
    assert better(trial(Setting(2), 0, p99=11), trial(Setting(1), 0, p99=20))
    assert not better(trial(Setting(2), 0, p99=19.9), trial(Setting(1), 0, p99=20))


def test_one_core_has_fewer_rungs():
    tried: list[int] = []

    def try_out(job: Job, setting: Setting) -> Trial:
        tried.append(setting.threads)
        return trial(setting, 100 - setting.batch_rows)

    search(replace(JOB, cores=1), lambda _: None, try_out)
    assert tried[:2] == [0, 1]


def test_shedding_leaves_the_p99_of_the_wait_between_idle_and_promise():
    mean = shed_wait_ms(50.0, 4.0)
    # an exponential wait of that mean has this p99
    assert mean * math.log(100) == pytest.approx(46.0)
    assert shed_wait_ms(5.0, 6.0) == 1.0
