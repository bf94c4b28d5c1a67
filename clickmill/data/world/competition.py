"""All requests of a market with everybody who competed in them, and the true click probabilities: what a log of impressions leaves out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from clickmill.data.world.config import WorldConfig
from clickmill.data.world.policy import Auction, NoisyRevenuePolicy, is_repeat
from clickmill.data.world.population import Floats, Ints, populate
from clickmill.data.world.preference import sigmoid
from clickmill.data.world.simulation import generate


@dataclass(frozen=True, eq=False)
class Competition:
    """n requests in the order of time with k candidates each."""

    time_us: Ints
    """(n,) microseconds since the epoch, UTC."""
    user: Ints
    """(n,)."""
    slots: Ints
    """(n,) ads there is room for."""
    ad: Ints
    """(n, k)."""
    advertiser: Ints
    """(n, k)."""
    bid: Floats
    """(n, k) currency per click; 0 where an ad stands in the row a second time, so that it is sold once."""
    relevance: Floats
    """(n, k) true P(click | seen): the click probability at the top."""
    examination: Floats
    """(slots_max,) P(seen) by slot."""
    starts_h: Floats
    """(n_ads,) hours after the start of the log at which each ad enters; below 0: was there before."""

    def __len__(self) -> int:
        return len(self.user)


class _Recorder:
    """The logging policy, with its auctions noted."""

    def __init__(self, policy: NoisyRevenuePolicy) -> None:
        self._policy = policy
        self.recording = False
        self.auctions: list[Auction] = []

    def score(self, auction: Auction, rng: np.random.Generator) -> Floats:
        if self.recording:
            self.auctions.append(auction)
        return self._policy.score(auction, rng)


def competition(config: WorldConfig) -> Competition:
    """Simulate the market of `config` under its logging policy and keep its auctions. Memory: about 300 bytes a candidate."""
    recorder = _Recorder(NoisyRevenuePolicy(config.policy))
    stream = generate(config, recorder)
    recorder.recording = True  # pilots, which run before the first hour, are no part of the market
    for _ in stream:
        pass
    auctions, ads = recorder.auctions, populate(config).ads
    ad = np.concatenate([a.ad for a in auctions])
    bid = np.concatenate([a.bid for a in auctions])
    return Competition(
        time_us=np.concatenate([a.requests.time_us for a in auctions]),
        user=np.concatenate([a.requests.user for a in auctions]),
        slots=np.concatenate([a.requests.slots for a in auctions]),
        ad=ad,
        advertiser=ads.advertiser[ad],
        bid=np.where(is_repeat(ad), 0.0, bid),
        relevance=sigmoid(np.concatenate([a.logit for a in auctions])),
        examination=np.asarray(config.examination[: config.slots_max]),
        starts_h=ads.starts_h,
    )
