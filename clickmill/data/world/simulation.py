"""The market at work, hour by hour."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from clickmill.data.world import tables
from clickmill.data.world.clicks import ClickEvents, ClickQueue, delays_us, with_dirt
from clickmill.data.world.config import WorldConfig
from clickmill.data.world.journey import Journey
from clickmill.data.world.policy import Auction, KnownChances, NoisyRevenuePolicy, Policy, allocate
from clickmill.data.world.population import Ints, Population, populate
from clickmill.data.world.preference import Dial, Preference, Requests, sigmoid
from clickmill.data.world.traffic import arrive, candidates, quotas
from clickmill.data.world.tuning import fit_dial
from clickmill.data.world.vocabulary import Stream, generator

_HOUR_US = 3_600_000_000
# Requests ranked at once: bounds the memory of one hour whatever its traffic (about 40 kB a request).
_CHUNK = 4_096


@dataclass(frozen=True)
class HourBatch:
    """What one hour adds to the logs. After the last hour of impressions, batches go on with late clicks alone."""

    hour: datetime
    """Start of the hour, UTC."""
    impressions: pa.Table
    """IMPRESSION_SCHEMA: shown in this hour, in the order of time."""
    truth: pa.Table
    """TRUTH_SCHEMA, row by row beside `impressions`."""
    clicked: NDArray[np.bool_]
    """(n,) beside `impressions`: will be clicked, whenever the click log hears of it."""
    clicks: pa.Table
    """CLICK_SCHEMA: clicks known in this hour, in the order of time, dirt included."""
    click_events: ClickEvents
    """The rows of `clicks` with what the log does not say: user, ad, and which rows are dirt."""


def generate(config: WorldConfig, policy: Policy | None = None) -> Iterator[HourBatch]:
    """Simulate a market. Lazy; memory holds the users' state and one hour.

    `policy` decides what is shown (default: the noisy revenue ranking of `config.policy`). Worlds with one config
    and different policies have the same users, ads, visits and candidates. Deterministic for a config and a policy.
    """
    return _Market(config, policy or NoisyRevenuePolicy(config.policy)).run()


class _Market:
    def __init__(self, config: WorldConfig, policy: Policy) -> None:
        self.config, self.policy = config, policy
        self.population: Population = populate(config)
        self.journey = Journey(config, self.population)
        self.preference = Preference(config, self.population, Dial())
        if config.warm_clicks > 0:
            affinity = self.preference.affinity(np.arange(config.n_users))
            self.journey.warm_up(affinity, self.population)
        self._tune()
        self.setter = tables.Typesetter(config, self.population)
        self.queue = ClickQueue()
        self.next_id, self.next_request, self.next_orphan = 1, 1, 0

    def run(self) -> Iterator[HourBatch]:
        quota = quotas(self.config)
        hour = 0
        while hour < self.config.hours or len(self.queue):
            yield self._hour(hour, int(quota[hour]) if hour < self.config.hours else 0)
            hour += 1

    def _hour(self, hour: int, quota: int) -> HourBatch:
        config = self.config
        requests = arrive(config, self.population, hour, quota, generator(config.seed, Stream.TRAFFIC, hour))
        ranking, chance, dirt = (
            generator(config.seed, stream, hour) for stream in (Stream.POLICY, Stream.CLICKS, Stream.DIRT)
        )
        ad = candidates(config, self.population, hour, len(requests), ranking)
        impressions, truths, clicked = (
            [tables.IMPRESSION_SCHEMA.empty_table()],
            [tables.TRUTH_SCHEMA.empty_table()],
            [],
        )
        seen_users, seen_ads = [], []
        for begin in range(0, len(requests), _CHUNK):
            end = begin + _CHUNK
            shown = self._show(requests.part(begin, end), ad[begin:end], ranking, dirt)
            impressions.append(
                self.setter.impressions(shown, self.journey, hour, self.next_id, self.next_request)
            )
            truths.append(tables.truth(shown, self.next_id))
            clicked.append(self._click(shown, chance, dirt))
            seen_users.append(shown.user)
            seen_ads.append(shown.ad)
            self.next_id += len(shown.ad)
            self.next_request += len(shown.requests)

        # Only now does the state move on: everybody was served from the state of the hour's beginning.
        if seen_users:
            advertiser = self.population.ads.advertiser[np.concatenate(seen_ads)]
            self.journey.record_impressions(np.concatenate(seen_users), advertiser)
        start_us = int(config.start.timestamp()) * 1_000_000 + hour * _HOUR_US
        events = self.queue.pop(start_us + _HOUR_US)
        real = events.take(events.genuine)
        self.journey.record_clicks(real.user, real.ad)
        if (config.start.hour + hour + 1) % 24 == 0:
            self.journey.midnight()
        return HourBatch(
            hour=datetime.fromtimestamp(start_us // 1_000_000, UTC),
            impressions=pa.concat_tables(impressions),
            truth=pa.concat_tables(truths),
            clicked=np.concatenate([np.zeros(0, dtype=bool), *clicked]),
            clicks=tables.click_log(events),
            click_events=events,
        )

    def _show(
        self, requests: Requests, ad: Ints, ranking: np.random.Generator, dirt: np.random.Generator
    ) -> tables.Shown:
        view = self.journey.view(requests.user)
        logit = self.preference.logit(requests, ad, self.journey, view)
        auction = Auction(requests, ad, self.population.ads.bid[ad], logit)
        request, candidate, position = allocate(auction, self.policy.score(auction, ranking))
        missing = dirt.random((len(request), 2)) < self.config.dirt.missing_share
        return tables.Shown(
            requests=requests,
            view=view,
            request=request,
            ad=ad[request, candidate],
            position=position,
            slot_chances=self.policy.slot_chances(auction, request, candidate)
            if isinstance(self.policy, KnownChances)
            else None,
            relevance=sigmoid(logit[request, candidate]),
            examination=self.preference.examination(position),
            missing=missing,
        )

    def _click(
        self, shown: tables.Shown, chance: np.random.Generator, dirt: np.random.Generator
    ) -> NDArray[np.bool_]:
        clicked = chance.random(len(shown.ad)) < shown.relevance * shown.examination
        row = np.flatnonzero(clicked)
        time_us = shown.requests.time_us[shown.request[row]]
        events = ClickEvents(
            impression_id=self.next_id + row,
            time_us=time_us + delays_us(len(row), self.config.click_delay, chance),
            user=shown.user[row],
            ad=shown.ad[row],
            genuine=np.ones(len(row), dtype=bool),
        )
        dirty = with_dirt(events, self.config.dirt, self.next_orphan, dirt)
        self.next_orphan += len(events)
        self.queue.push(dirty)
        return np.asarray(clicked)

    def _tune(self) -> None:
        """Fit the dial on pilots of the policy, spread over the log's span. Twice: the policy ranks by the logit, so
        what is shown depends on the dial."""
        config = self.config
        for _ in range(2):
            logits, looks = [], []
            for hour in np.linspace(0, config.hours - 1, 12).astype(int).tolist():
                rng = generator(config.seed, Stream.PILOT, hour)
                requests = arrive(config, self.population, hour, 1_000 * config.slots_max, rng)
                ad = candidates(config, self.population, hour, len(requests), rng)
                shown = self._show(requests, ad, rng, rng)
                logits.append(np.log(shown.relevance) - np.log1p(-shown.relevance))
                looks.append(shown.examination)
            now = self.preference.dial
            effects = (np.concatenate(logits) - now.intercept) / now.scale
            self.preference = self.preference.at(fit_dial(effects, np.concatenate(looks), config))
