"""Why people click: the true model of the market.

    logit(relevance) = intercept + scale * (main effects + crosses + price match + taste . topic
                       + history (match, topics, transition, seen before) - fatigue + daily wave + weekend + trend)
    P(click)         = examination(position) * relevance                  (examination hypothesis, Richardson et al. 2007)

Every term is a function of what the impression log shows or of an id it names, so that the ceiling computed from it is
honest: nothing hidden per impression, no outcome in a feature.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clickmill.data.world.config import WorldConfig
from clickmill.data.world.journey import Journey, UserView
from clickmill.data.world.population import Floats, Ints, Population
from clickmill.data.world.vocabulary import (
    AGE_BUCKETS,
    CATEGORIES,
    CONNECTIONS,
    DEVICE_OS,
    FORMATS,
    GENDERS,
    PAGE_CATEGORIES,
    REGIONS,
    SEGMENTS,
    TOPICS,
    Stream,
    generator,
)

_RANK = 3  # of the crosses


@dataclass(frozen=True)
class Dial:
    """The two numbers fitted on a pilot."""

    intercept: float = 0.0
    """Sets the click rate."""
    scale: float = 1.0
    """Common factor of all effects: sets how much there is to know."""


@dataclass(frozen=True)
class Requests:
    """Requests of one hour. All arrays (n_requests,), in the order of time."""

    time_us: Ints
    """Microseconds since the epoch, UTC."""
    user: Ints
    site: Ints
    page: Ints
    connection: Ints
    slots: Ints
    """Ads this request has room for."""

    def __len__(self) -> int:
        return len(self.user)

    def part(self, begin: int, end: int) -> Requests:
        """Requests begin to end - 1."""
        return Requests(**{name: getattr(self, name)[begin:end] for name in self.__dataclass_fields__})


def _cross(strength: float, shape: tuple[int, int], rng: np.random.Generator) -> Floats:
    """(rows, levels) effects of low rank whose rows and columns average to zero: nothing of it is a main effect.

    Low rank because likes come in kinds (who likes shoes likes apparel); it is also what makes a cross learnable from
    few clicks per cell, by models that embed both sides.
    """
    table = rng.normal(size=(shape[0], _RANK)) @ rng.normal(size=(_RANK, shape[1]))
    table -= table.mean(axis=0, keepdims=True)
    table -= table.mean(axis=1, keepdims=True)
    return np.asarray(strength * table / max(float(table.std()), 1e-12))


def _main(strength: float, n: int, rng: np.random.Generator) -> Floats:
    """(n,) effects, standardized: with five levels the luck of the draw would make one world easy and the next hard."""
    levels = rng.normal(size=n)
    return np.asarray(strength * (levels - levels.mean()) / max(float(levels.std()), 1e-12))


class Preference:
    """The true model with all its effects drawn. Pure: same arguments, same answer."""

    def __init__(self, config: WorldConfig, population: Population, dial: Dial) -> None:
        e, rng = config.effects, generator(config.seed, Stream.PREFERENCE)
        users, ads = population.users, population.ads
        self._config, self._population, self.dial = config, population, dial

        levels = ((users.segment, SEGMENTS), (users.age, AGE_BUCKETS), (users.gender, GENDERS),
                  (users.region, REGIONS), (users.os, DEVICE_OS))  # fmt: skip
        self._user: Floats = rng.normal(0, e.user_residual, config.n_users)
        for level, names in levels:
            self._user += _main(e.user, len(names), rng)[level]
        self._ad: Floats = (
            rng.normal(0, e.ad_residual, config.n_ads)
            + _main(e.category, len(CATEGORIES), rng)[ads.category]
            + _main(e.creative_format, len(FORMATS), rng)[ads.creative_format]
            + _main(e.advertiser, config.n_advertisers, rng)[ads.advertiser]
        )
        self._site = _main(e.site, config.n_sites, rng)
        self._page = _main(e.context, len(PAGE_CATEGORIES), rng)
        self._connection = _main(e.context, len(CONNECTIONS), rng)

        n = len(CATEGORIES)
        self._segment_category = _cross(e.segment_category, (len(SEGMENTS), n), rng)
        self._demography_category = _cross(e.demography_category, (len(AGE_BUCKETS) * len(GENDERS), n), rng)
        self._page_category = _cross(e.page_category, (len(PAGE_CATEGORIES), n), rng)
        self._weekend_category = _cross(e.weekend_category, (2, n), rng)
        self._site_format = _cross(e.site_format, (config.n_sites, len(FORMATS)), rng)
        self._os_format = _cross(e.device_format, (len(DEVICE_OS), len(FORMATS)), rng)
        self._connection_format = _cross(e.device_format, (len(CONNECTIONS), len(FORMATS)), rng)
        self._trend = _main(e.trend_per_day, n, rng)
        self._phase = rng.uniform(0, 24, len(SEGMENTS))
        self._transition = self._draw_transition(e.transition, rng)
        # A product of two unit vectors has deviation 1 / sqrt(TOPICS); scaled so that `taste` is what it says.
        self._taste = users.taste * e.taste * np.sqrt(TOPICS)
        shift = _cross(e.segment_category, (len(SEGMENTS), n), generator(config.seed, Stream.SHIFT))
        keep = np.sqrt(1 - config.shift_strength**2)
        self._shifted_segment_category = keep * self._segment_category + config.shift_strength * shift

    @staticmethod
    def _draw_transition(strength: float, rng: np.random.Generator) -> Floats:
        """(n + 1, n): row = category clicked last (the extra row: none), column = category of the ad."""
        n = len(CATEGORIES)
        table = np.zeros((n + 1, n))
        # The next two of one random cycle: never the category itself, and the reverse order means nothing.
        cycle = rng.permutation(n)
        table[cycle, np.roll(cycle, -1)] = strength
        table[cycle, np.roll(cycle, -2)] = strength
        return table

    def at(self, dial: Dial) -> Preference:
        """The same model at another click rate and difficulty."""
        return Preference(self._config, self._population, dial)

    def affinity(self, user: Ints) -> Floats:
        """(n, n_categories) liking of each category by each user: what histories from before the log are drawn from."""
        users = self._population.users
        centre = np.zeros((len(CATEGORIES), TOPICS))
        np.add.at(centre, self._population.ads.category, self._population.ads.topic)
        centre /= np.maximum(np.bincount(self._population.ads.category, minlength=len(CATEGORIES)), 1)[
            :, None
        ]
        return np.asarray(
            self._segment_category[users.segment[user]]
            + self._demography_category[users.age[user] * len(GENDERS) + users.gender[user]]
            + self._taste[user] @ centre.T
        )

    def logit(self, requests: Requests, ad: Ints, journey: Journey, view: UserView) -> Floats:
        """Logit of the relevance of each ad in each request.

        `ad` is (n_requests, k); `view` holds what the users of these requests had clicked when the hour began.
        Returns (n_requests, k) float64.
        """
        config, users, ads = self._config, self._population.users, self._population.ads
        e, user = config.effects, requests.user
        category, creative = ads.category[ad], ads.creative_format[ad]
        hour, day = _clock(requests.time_us, config)

        segment = users.segment[user]
        by_request = (
            self._user[user]
            + self._site[requests.site]
            + self._page[requests.page]
            + self._connection[requests.connection]
            - e.banner_blindness * np.log1p(journey.activity[user])
            + e.hour_segment * np.cos((hour - self._phase[segment]) * (2 * np.pi / 24))
        )
        by_category = (
            self._segment_table(day)[segment]
            + self._demography_category[users.age[user] * len(GENDERS) + users.gender[user]]
            + self._page_category[requests.page]
            + self._weekend_category[_is_weekend(requests.time_us).astype(np.int64)]
            + self._trend * day[:, None]
            + e.history_match * view.categories
            + self._transition[view.last_category]
        )
        by_format = (
            self._site_format[requests.site]
            + self._os_format[users.os[user]]
            + self._connection_format[requests.connection]
        )
        direction = self._taste[user] + e.history_topic * np.sqrt(TOPICS) * view.topics
        row = np.arange(len(requests))[:, None]
        gap = np.log(ads.price[ad]) - np.log(users.price_affinity[user])[:, None]
        exposures = journey.exposures[user[:, None], ads.advertiser[ad]]
        return self.dial.intercept + self.dial.scale * (
            by_request[:, None]
            + self._ad[ad]
            + by_category[row, category]
            + by_format[row, creative]
            + np.einsum("nt,nkt->nk", direction, ads.topic[ad])
            - e.price * np.abs(gap)
            - e.fatigue * np.log1p(exposures)
            - e.clicked_before * view.has_clicked(ad)
        )

    def _segment_table(self, day: Floats) -> Floats:
        shifted = self._config.shift_day is not None and day[0] >= self._config.shift_day
        return self._shifted_segment_category if shifted else self._segment_category

    def examination(self, position: Ints) -> Floats:
        """P(the user looks) at 1-based positions."""
        return np.asarray(self._config.examination)[position - 1]


def sigmoid(x: Floats) -> Floats:
    """1 / (1 + exp(-x)), without overflow."""
    return np.asarray(0.5 * (1 + np.tanh(0.5 * x)))


_HOUR_US = 3_600_000_000


def _clock(time_us: Ints, config: WorldConfig) -> tuple[Floats, Floats]:
    """Hour of the day and day since the start, both (n,), as fractions cut to the full hour: what the log's features
    (hour of day, weekday, ad age) can express, and what makes an hour the unit of the simulation."""
    hours = time_us // _HOUR_US
    start = int(config.start.timestamp()) // 3600
    return (hours % 24).astype(np.float64), (hours - start) / 24.0


def _is_weekend(time_us: Ints) -> NDArray[np.bool_]:
    # 1970-01-01 was a Thursday: Monday = 0 is day number + 3.
    return np.asarray((time_us // (24 * _HOUR_US) + 3) % 7 >= 5)
