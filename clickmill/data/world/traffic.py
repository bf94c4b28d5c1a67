"""Who comes when, on which page, and which ads compete for the visit."""

from __future__ import annotations

import numpy as np

from clickmill.data.world.config import WorldConfig
from clickmill.data.world.population import Floats, Ints, Population, draw_rows
from clickmill.data.world.preference import Requests
from clickmill.data.world.vocabulary import CONNECTIONS

_HOUR_US = 3_600_000_000

# Share of a day's traffic by hour UTC: a trough at night, a bump at noon, the peak in the evening.
_BY_HOUR = np.array(
    [0.45, 0.33, 0.26, 0.23, 0.24, 0.32, 0.52, 0.80, 0.98, 1.05, 1.08, 1.14,
     1.24, 1.20, 1.10, 1.08, 1.12, 1.22, 1.38, 1.55, 1.62, 1.48, 1.10, 0.72]
)  # fmt: skip
_BY_WEEKDAY = np.array([1.0, 1.0, 1.0, 1.02, 1.05, 1.14, 1.18])


def quotas(config: WorldConfig) -> Ints:
    """(hours,) impressions per hour of the log; they add up to `config.impressions` exactly (largest remainder)."""
    hour = np.arange(config.hours) + config.start.hour
    share = _BY_HOUR[hour % 24] * _BY_WEEKDAY[(config.start.weekday() + hour // 24) % 7]
    exact = config.impressions * share / share.sum()
    floor = np.floor(exact).astype(np.int64)
    missing = config.impressions - int(floor.sum())
    floor[np.argsort(-(exact - floor), kind="stable")[:missing]] += 1
    return floor


def arrive(
    config: WorldConfig, population: Population, hour: int, quota: int, rng: np.random.Generator
) -> Requests:
    """The requests of one hour, in the order of time, with `quota` slots in all (the last request may lose some)."""
    users, sites = population.users, population.sites
    most = quota // config.slots_min + 1
    present = np.cumsum(np.where(users.arrives_h <= hour, users.weight, 0.0))
    user = np.searchsorted(present, rng.random(most) * present[-1], side="right")
    site = draw_rows(np.cumsum(sites.reach, axis=1), users.segment[user], rng)
    slots = sites.slots[site]
    filled = np.cumsum(slots)
    n = int(np.searchsorted(filled, quota, side="left")) + 1 if quota else 0
    user, site, slots = user[:n], site[:n], slots[:n].copy()
    if n:
        slots[-1] -= filled[n - 1] - quota
    start_us = int(config.start.timestamp()) * 1_000_000 + hour * _HOUR_US
    # Handhelds are on mobile networks by day, desktops on wifi or cable.
    handheld = users.os[user] < 2
    connection_given = np.cumsum([[0.35, 0.05, 0.0, 0.6], [0.5, 0.32, 0.18, 0.0]], axis=1)
    return Requests(
        time_us=start_us + np.sort(rng.integers(0, _HOUR_US, n)),
        user=user,
        site=site,
        page=draw_rows(np.cumsum(sites.page, axis=1), site, rng),
        connection=draw_rows(connection_given[:, : len(CONNECTIONS)], handheld.astype(np.int64), rng),
        slots=slots,
    )


def candidates(
    config: WorldConfig, population: Population, hour: int, n: int, rng: np.random.Generator
) -> Ints:
    """(n, policy.candidates) ads that compete in n requests, popular ones more often.

    One draw from each of k equal strata of the popularity distribution, in an order shuffled per hour. An ad of at most
    1 / k of the mass touches two strata at most, so that each row holds at least k / 2 distinct ads.
    """
    k, ads = config.policy.candidates, population.ads
    running = np.flatnonzero(ads.starts_h <= hour)
    order = rng.permutation(running)
    mass = _capped(ads.weight[order], 1 / k)
    point = (np.arange(k) + rng.random((n, k))) / k
    drawn = np.searchsorted(np.cumsum(mass), point.ravel(), side="right")
    return np.asarray(order[np.minimum(drawn, len(order) - 1)].reshape(n, k), dtype=np.int64)


def _capped(weight: Floats, most: float) -> Floats:
    """Shares that add up to 1 with none above `most`; what is cut is spread over the others in proportion."""
    share = weight / weight.sum()
    while (share > most * (1 + 1e-9)).any():
        full = share >= most
        room = 1 - most * full.sum()
        share = np.where(full, most, share * room / share[~full].sum())
    return np.asarray(share)
