"""Who and what there is in the market: users, ads and sites, drawn once per world."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clickmill.data.world.config import WorldConfig
from clickmill.data.world.vocabulary import (
    AGE_BUCKETS,
    CATEGORIES,
    FORMATS,
    PAGE_CATEGORIES,
    REGIONS,
    SEGMENTS,
    TOPICS,
    Stream,
    generator,
)

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Users:
    """All arrays (n_users,), except `taste` (n_users, TOPICS) of about unit length."""

    weight: Floats
    """Relative number of requests."""
    arrives_h: Floats
    """Hours after the start of the log at which the user first appears; negative: was there before."""
    segment: Ints
    age: Ints
    gender: Ints
    region: Ints
    os: Ints
    price_affinity: Floats
    """Price the user is used to pay, in currency units; log-normal."""
    taste: Floats


@dataclass(frozen=True)
class Ads:
    """All arrays (n_ads,), except `topic` (n_ads, TOPICS) of about unit length."""

    weight: Floats
    """Relative number of auctions the ad takes part in (budget and targeting)."""
    starts_h: Floats
    """Hours after the start of the log at which the ad enters; negative: was there before."""
    advertiser: Ints
    campaign: Ints
    category: Ints
    creative_format: Ints
    price: Floats
    """Price of what is advertised, in currency units; log-normal, by category."""
    bid: Floats
    """Bid per click, in currency units; log-normal, by advertiser."""
    topic: Floats


@dataclass(frozen=True)
class Sites:
    """Sites and apps."""

    reach: Floats
    """(n_segments, n_sites) P(site | segment)."""
    page: Floats
    """(n_sites, n_page_categories) P(page category | site)."""
    slots: Ints
    """(n_sites,) ads per request."""
    is_app: NDArray[np.bool_]
    """(n_sites,)."""


@dataclass(frozen=True)
class Population:
    users: Users
    ads: Ads
    sites: Sites


def zipf(n: int, exponent: float, rng: np.random.Generator, head: float = 0.0) -> Floats:
    """(n,) weights (r + head) ** -exponent in random order, adding up to 1 (Zipf-Mandelbrot)."""
    weights = (np.arange(1, n + 1, dtype=np.float64) + head) ** -exponent
    weights /= weights.sum()
    return np.asarray(rng.permutation(weights))


def draw_rows(cumulative: Floats, row: Ints, rng: np.random.Generator) -> Ints:
    """One draw per entry of `row` from the distribution in that row of `cumulative` (rows, levels), which ends in 1."""
    offset = cumulative + np.arange(len(cumulative))[:, None]
    flat = np.searchsorted(offset.ravel(), row + rng.random(len(row)), side="right")
    return np.asarray(np.minimum(flat - row * cumulative.shape[1], cumulative.shape[1] - 1), dtype=np.int64)


def _mixed(centre: Floats, rng: np.random.Generator) -> Floats:
    """Points around group centres, of about unit length. Two thirds of the variance are the group's: attributes tell
    most of what there is to know, the rest only the id or the history tells."""
    noise = rng.normal(size=centre.shape) / np.sqrt(TOPICS)
    return np.asarray(np.sqrt(2 / 3) * centre + np.sqrt(1 / 3) * noise)


def _centres(n: int, rng: np.random.Generator) -> Floats:
    points = rng.normal(size=(n, TOPICS))
    return np.asarray(points / np.linalg.norm(points, axis=1, keepdims=True))


def _arrivals(n: int, share: float, hours: int, rng: np.random.Generator, past_days: float) -> Floats:
    """(n,) hours; `share` of them within the log, the rest log-normally long before it."""
    past = -24 * past_days * rng.lognormal(0, 0.8, n)
    return np.where(rng.random(n) < share, rng.uniform(0, hours, n), past)


def _users(config: WorldConfig, rng: np.random.Generator) -> Users:
    n = config.n_users
    segment = rng.choice(len(SEGMENTS), n, p=zipf(len(SEGMENTS), 0.4, rng))
    # Demography and device go with the segment, as they do in life, but do not determine it.
    age_given = np.cumsum(rng.dirichlet(np.full(len(AGE_BUCKETS), 1.5), len(SEGMENTS)), axis=1)
    gender_given = np.cumsum(rng.dirichlet((12.0, 12.0, 1.0), len(SEGMENTS)), axis=1)
    os_given = np.cumsum(rng.dirichlet((6.0, 5.0, 3.0, 1.5), len(SEGMENTS)), axis=1)
    affinity = rng.normal(0, 0.5, len(SEGMENTS))[segment] + rng.normal(0, 0.5, n)
    return Users(
        weight=zipf(n, config.user_zipf, rng, config.user_zipf_head),
        arrives_h=_arrivals(n, config.new_user_share, config.hours, rng, past_days=120),
        segment=segment,
        age=draw_rows(age_given, segment, rng),
        gender=draw_rows(gender_given, segment, rng),
        region=rng.choice(len(REGIONS), n, p=zipf(len(REGIONS), 0.8, rng)),
        os=draw_rows(os_given, segment, rng),
        price_affinity=40 * np.exp(affinity),
        taste=_mixed(_centres(len(SEGMENTS), rng)[segment], rng),
    )


def _ads(config: WorldConfig, rng: np.random.Generator) -> Ads:
    n = config.n_ads
    advertiser = rng.choice(config.n_advertisers, n, p=zipf(config.n_advertisers, 0.6, rng))
    # Every advertiser has a home category and strays from it in one ad of four.
    home = rng.integers(len(CATEGORIES), size=config.n_advertisers)
    category = np.where(rng.random(n) < 0.75, home[advertiser], rng.integers(len(CATEGORIES), size=n))
    # Campaigns number the (advertiser, running number // 4) pairs.
    order = np.argsort(advertiser, kind="stable")
    running = np.empty(n, dtype=np.int64)
    first = np.searchsorted(advertiser[order], advertiser[order], side="left")
    running[order] = np.arange(n) - first
    _, campaign = np.unique(advertiser * n + running // 4, return_inverse=True)
    price = rng.normal(0, 0.6, len(CATEGORIES))[category] + rng.normal(0, 0.5, n)
    bid = rng.normal(0, 0.5, config.n_advertisers)[advertiser] + rng.normal(0, 0.3, n)
    return Ads(
        weight=zipf(n, config.ad_zipf, rng),
        starts_h=_arrivals(n, config.new_ad_share, config.hours, rng, past_days=30),
        advertiser=advertiser,
        campaign=campaign.astype(np.int64),
        category=category,
        creative_format=rng.choice(len(FORMATS), n, p=(0.34, 0.22, 0.16, 0.12, 0.16)),
        price=40 * np.exp(price),
        bid=0.4 * np.exp(bid),
        topic=_mixed(_centres(len(CATEGORIES), rng)[category], rng),
    )


def _sites(config: WorldConfig, rng: np.random.Generator) -> Sites:
    popularity = zipf(config.n_sites, 0.9, rng)
    reach = popularity * rng.lognormal(0, 0.7, (len(SEGMENTS), config.n_sites))
    subject = rng.integers(len(PAGE_CATEGORIES), size=config.n_sites)
    page = np.full((config.n_sites, len(PAGE_CATEGORIES)), 0.4 / len(PAGE_CATEGORIES))
    page[np.arange(config.n_sites), subject] += 0.6
    return Sites(
        reach=reach / reach.sum(axis=1, keepdims=True),
        page=page,
        slots=rng.integers(config.slots_min, config.slots_max + 1, size=config.n_sites),
        is_app=rng.random(config.n_sites) < 0.4,
    )


def populate(config: WorldConfig) -> Population:
    """Draw the market of `config`; the same config gives the same market."""
    rng = generator(config.seed, Stream.POPULATION)
    return Population(users=_users(config, rng), ads=_ads(config, rng), sites=_sites(config, rng))
