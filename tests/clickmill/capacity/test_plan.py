"""Plans beside hand-made arithmetic, and laws that hold for any measurement."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from clickmill.capacity import Demand, Loaded, Measured, Point, plan
from clickmill.errors import UsageError

STEADY = Measured(
    cores=2,
    memory_mib=1024,
    points=(
        Point(candidates=1, saturation_per_second=1000, idle_ms=(2.0,)),
        Point(candidates=101, saturation_per_second=100, idle_ms=(12.0,)),
    ),
)
"""Constant times; 2 cores, and Little's law gives 2 servers at one candidate."""


def test_replicas_cores_memory_and_money_by_hand():
    """80 % of 1,000 a second, 800, is what a replica takes while p99 is loose: 9,000 / 800 = 11.25, so 12 must be left of three zones
    when one is lost: 6 in each, 18 together."""
    found = plan(Demand(qps=9000, p99_ms=1000, price_per_core_hour=0.05), STEADY)
    assert (found.replicas_per_zone, found.replicas, found.cores) == (6, 18, 36)
    assert found.memory_gib == 18
    assert found.utilization == pytest.approx(0.5)
    assert found.utilization_zone_lost == pytest.approx(0.75)
    assert found.cost_per_hour == pytest.approx(1.8)
    assert found.cost_per_million_predictions == pytest.approx(1.8 / (9000 * 3600) * 1e6)
    assert found.bound_by == "utilization of 80%"


def test_one_zone_has_no_other_to_lose():
    found = plan(Demand(qps=9000, p99_ms=1000, zones=1), STEADY)
    assert found.replicas == 12
    assert found.utilization == found.utilization_zone_lost


def test_a_tight_promise_binds_before_the_utilization():
    found = plan(Demand(qps=9000, p99_ms=2.5), STEADY)
    assert found.bound_by == "p99 of 2.5 ms"
    assert found.p99_ms <= found.p99_ms_zone_lost <= 2.5
    assert found.replicas > 18


def test_between_two_measured_numbers_time_is_on_the_line():
    replica = STEADY.replica(51)
    assert replica.idle_seconds.tolist() == pytest.approx([0.007])
    assert replica.saturation == pytest.approx(1 / 0.0055)
    assert STEADY.replica(101).saturation == pytest.approx(100)


def test_a_replica_that_was_slower_under_load_is_planned_slower():
    point = STEADY.points[0]
    slow = Loaded(per_second=700, p99_ms=20.0)
    measured = STEADY.model_copy(update={"points": (point.model_copy(update={"loaded": (slow,)}),)})
    assert measured.replica(1).latency(700, 0.99) == pytest.approx(0.02, rel=1e-3)
    demand = Demand(qps=9000, p99_ms=20.0, most_utilization=1)
    assert plan(demand, measured).replicas > plan(demand, STEADY).replicas
    # 700 a second is what keeps 20 ms: ceil(9000 / 700) = 13, so 7 in each zone
    assert plan(demand, measured).replicas == 21


def test_one_stalled_load_of_three_does_not_decide():
    point = STEADY.points[0]

    def latency(*p99s: float) -> float:
        loads = tuple(Loaded(per_second=700, p99_ms=p99) for p99 in p99s)
        point_now = point.model_copy(update={"loaded": loads})
        return STEADY.model_copy(update={"points": (point_now,)}).replica(1).latency(700, 0.99)

    assert latency(20.0, 21.0, 4000.0) == pytest.approx(0.021, rel=1e-3)


def test_beyond_what_was_measured_nothing_is_said():
    with pytest.raises(UsageError, match=r"102 candidates.*measured were 1, 101.*--tune-candidates 102"):
        plan(Demand(qps=1, p99_ms=100, candidates=102), STEADY)


def test_a_promise_below_the_idle_time_says_what_to_do():
    with pytest.raises(UsageError, match=r"takes 12 ms at p99 with nobody else there\. Promise more"):
        plan(Demand(qps=1, p99_ms=10, candidates=101), STEADY)


@given(
    qps=st.floats(1, 1e7),
    p99=st.floats(3, 100),
    zones=st.integers(1, 5),
    more=st.floats(1.0, 3.0),
    spread=st.floats(1.0, 1.4),
)
def test_more_traffic_or_a_tighter_promise_never_takes_fewer_replicas(qps, p99, zones, more, spread):
    point = Point.of_figures(1, 700, 2.0, 2.0 * spread)
    measured = Measured(cores=2, memory_mib=100, points=(point,))
    found = plan(Demand(qps=qps, p99_ms=p99, zones=zones), measured)
    assert plan(Demand(qps=qps * more, p99_ms=p99, zones=zones), measured).replicas >= found.replicas
    assert plan(Demand(qps=qps, p99_ms=p99 * more, zones=zones), measured).replicas <= found.replicas
    assert found.p99_ms_zone_lost <= p99 * (1 + 1e-6)
    assert found.utilization_zone_lost <= 0.8 * (1 + 1e-9)
    assert found.replicas % zones == 0


def test_a_point_of_a_median_and_a_p99_has_them():
    point = Point.of_figures(10, 500, 2.0, 6.0)
    assert np.interp(0.5, (np.arange(200) + 0.5) / 200, point.idle_ms) == pytest.approx(2.0, rel=0.01)
    assert np.interp(0.99, (np.arange(200) + 0.5) / 200, point.idle_ms) == pytest.approx(6.0, rel=0.02)
    with pytest.raises(UsageError, match="0 < p50 <= p99"):
        Point.of_figures(1, 1, 3.0, 2.0)


def test_a_point_of_a_sample_has_its_quantiles_and_its_loads():
    loads = (Loaded(per_second=10, p99_ms=9.0),)
    point = Point.of_sample(5, 50, np.arange(1.0, 202.0), loads)
    assert (point.candidates, point.saturation_per_second, point.loaded) == (5, 50, loads)
    # 201 evenly spaced values: quantile q is 1 + 200 q
    assert point.idle_ms[0] == pytest.approx(1.5)
    assert point.idle_ms[-1] == pytest.approx(200.5)
    assert len(point.idle_ms) == 200


def test_measurements_in_disorder_are_refused():
    point = Point(candidates=1, saturation_per_second=1, idle_ms=(1.0,))
    with pytest.raises(ValidationError, match="ascend in candidates"):
        Measured(cores=1, memory_mib=1, points=(point, point))
    with pytest.raises(ValidationError, match="must ascend"):
        Point(candidates=1, saturation_per_second=1, idle_ms=(2.0, 1.0))
    assert Measured.model_validate_json(STEADY.model_dump_json()) == STEADY
