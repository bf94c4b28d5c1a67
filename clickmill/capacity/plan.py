"""From a promise to machines: replicas, cores, memory and money, with a zone lost."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pydantic import BaseModel, Field, PositiveFloat

from clickmill.capacity.measured import Measured
from clickmill.errors import UsageError


class Demand(BaseModel, frozen=True, extra="forbid", use_attribute_docstrings=True):
    """What is promised, and to whom."""

    qps: PositiveFloat
    """Requests a second at the peak."""
    p99_ms: PositiveFloat
    """Latency that 99 of 100 requests stay below, as the caller sees it, in milliseconds."""
    candidates: int = Field(default=1, ge=1)
    """Candidates a request: a prediction each."""
    zones: int = Field(default=3, ge=1)
    """Zones the replicas are spread over evenly. With two or more, the promise holds while one of them is lost."""
    most_utilization: float = Field(default=0.8, gt=0, le=1)
    """Busy share of a replica's servers that is never planned beyond, zone lost or not. Arrivals in bursts, replicas that restart and an uneven
    balancer are not in the model; at 80 % they find a fifth free."""
    price_per_core_hour: float = Field(default=0.04, ge=0)
    """In your currency. The default is about what clouds ask for on-demand general-purpose cores, in dollars."""


@dataclass(frozen=True)
class Plan:
    """What the demand takes."""

    replicas: int
    replicas_per_zone: int
    cores: float
    memory_gib: float
    rate_per_replica: float
    """Requests a second with all zones there."""
    utilization: float
    """Busy share of the servers, all zones there."""
    utilization_zone_lost: float
    p99_ms: float
    """Predicted, all zones there."""
    p99_ms_zone_lost: float
    predictions_per_second: float
    cost_per_hour: float
    cost_per_million_predictions: float
    """At the peak rate around the clock; in valleys the replicas cost the same and predict less."""
    bound_by: str
    """What limits a replica: the p99, or the utilization."""


def plan(demand: Demand, measured: Measured) -> Plan:
    """Replicas such that the promise holds while a zone is lost. A balancer that picks at random keeps each replica's arrivals Poisson.

    Raises UsageError when even an idle replica breaks the promise, or when the number of candidates was not measured.
    """
    replica = measured.replica(demand.candidates)
    target = demand.p99_ms / 1e3
    best = replica.most_rate(target, 0.99, demand.most_utilization)
    if best <= 0:
        idle = replica.latency(0.0, 0.99) * 1e3
        raise UsageError(
            f"p99 {demand.p99_ms:g} ms cannot be met by any number of replicas: a request of {demand.candidates} candidates takes {idle:.3g} ms at "
            "p99 with nobody else there. Promise more, send fewer candidates a request, serve a smaller model, or give a replica more and "
            "faster cores and measure again (`clickmill serve BUNDLE --tune`)."
        )
    needed = math.ceil(demand.qps / best * (1 - 1e-12))
    alive = max(1, demand.zones - 1)
    per_zone = math.ceil(needed / alive)
    replicas = per_zone * demand.zones
    rate, rate_lost = demand.qps / replicas, demand.qps / (per_zone * alive)
    cores = replicas * measured.cores
    predictions = demand.qps * demand.candidates
    cost = cores * demand.price_per_core_hour
    by_use = replica.late_share(best, target) < 0.01 * (1 - 1e-6)
    return Plan(
        replicas=replicas,
        replicas_per_zone=per_zone,
        cores=cores,
        memory_gib=replicas * measured.memory_mib / 1024,
        rate_per_replica=rate,
        utilization=rate / replica.saturation,
        utilization_zone_lost=rate_lost / replica.saturation,
        p99_ms=replica.latency(rate, 0.99) * 1e3,
        p99_ms_zone_lost=replica.latency(rate_lost, 0.99) * 1e3,
        predictions_per_second=predictions,
        cost_per_hour=cost,
        cost_per_million_predictions=cost / 3600 / predictions * 1e6,
        bound_by=f"utilization of {demand.most_utilization:.0%}"
        if by_use
        else f"p99 of {demand.p99_ms:g} ms",
    )
