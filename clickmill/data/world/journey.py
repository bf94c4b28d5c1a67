"""What each user has seen and clicked so far: the state that makes one hour depend on the hours before."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clickmill.data.world.config import WorldConfig
from clickmill.data.world.population import Floats, Ints, Population, draw_rows
from clickmill.data.world.vocabulary import CATEGORIES, TOPICS, Stream, generator

_NOBODY = -1  # an empty place of a history
_USERS_AT_ONCE = 10_000


@dataclass(frozen=True)
class UserView:
    """The click histories behind n requests, as the true model reads them."""

    ads: NDArray[np.int32]
    """(n, history_length) ads clicked, the latest last, -1 where there is none (on the left)."""
    categories: Floats
    """(n, n_categories) recency-weighted share of each category; a full history adds up to about 1."""
    topics: Floats
    """(n, TOPICS) recency-weighted mean of the topics of the ads clicked."""
    last_category: Ints
    """(n,) category clicked last; n_categories for an empty history."""

    def has_clicked(self, ad: Ints) -> NDArray[np.bool_]:
        """(n, k): is `ad` (n, k) among the recent clicks?"""
        return np.asarray((self.ads[:, None, :] == ad[:, :, None]).any(axis=2))

    def lengths(self) -> Ints:
        """(n,) clicks in each history."""
        return np.asarray((self.ads != _NOBODY).sum(axis=1))


class Journey:
    """Histories and counters of all users. It changes between hours only: within an hour everybody is served from the
    state of its beginning, as features refreshed once an hour are."""

    def __init__(self, config: WorldConfig, population: Population) -> None:
        self._config, self._ads = config, population.ads
        self.history = np.full((config.n_users, config.history_length), _NOBODY, dtype=np.int32)
        self.activity = np.zeros(config.n_users, dtype=np.float64)
        """(n_users,) impressions seen so far, those from before the log included."""
        self.exposures = np.zeros((config.n_users, config.n_advertisers), dtype=np.float32)
        """(n_users, n_advertisers) impressions seen, halved at each midnight."""

    def warm_up(self, affinity: Floats, population: Population) -> None:
        """Give the users who were there before the log a past: clicks drawn by what they like, and a count of
        impressions. `affinity` is (n_users, n_categories), on the logit scale."""
        config, users, ads = self._config, population.users, population.ads
        rng = generator(config.seed, Stream.WARM_UP)
        old = users.arrives_h <= 0
        popularity = users.weight / users.weight.mean()
        relative = np.sqrt(popularity)  # heavy users clicked more, less than in proportion
        count = rng.poisson(config.warm_clicks * relative / relative.mean()) * old
        # A month at today's rate, and exposures in the balance of new ones and forgetting: else the click rate would
        # fall over the first days of every log for no reason that a log shows.
        daily = popularity * old * config.impressions / config.days / config.n_users
        self.activity = np.floor(30 * daily * rng.lognormal(0, 0.6, len(old)))
        running = np.where(ads.starts_h <= 0, ads.weight, 0.0)
        reach = np.bincount(ads.advertiser, running, minlength=config.n_advertisers) / running.sum()
        for begin in range(0, config.n_users, _USERS_AT_ONCE):
            part = slice(begin, begin + _USERS_AT_ONCE)
            self.exposures[part] = rng.poisson(daily[part, None] * reach)

        share = np.exp(1.5 * affinity)
        cumulative = np.cumsum(share / share.sum(axis=1, keepdims=True), axis=1)
        # Ads by category, old ones only: nobody clicked an ad that had not started.
        by_category = np.where(ads.category[None, :] == np.arange(len(CATEGORIES))[:, None], running, 0.0)
        mass = by_category.sum(axis=1, keepdims=True)
        ad_cumulative = np.cumsum(by_category / np.where(mass > 0, mass, 1), axis=1)
        for place in range(config.history_length):  # places of the history, the latest first
            who = np.flatnonzero(count > place)
            if not len(who):
                break
            category = draw_rows(cumulative[who], np.arange(len(who)), rng)
            has_ads = mass[category, 0] > 0
            ad = draw_rows(ad_cumulative, category[has_ads], rng)
            self.history[who[has_ads], config.history_length - 1 - place] = ad
        self._close_gaps()

    def _close_gaps(self) -> None:
        # A stable sort of "is there a click" moves the empty places to the left and keeps the order of the rest.
        order = np.argsort(self.history != _NOBODY, axis=1, kind="stable")
        self.history = np.take_along_axis(self.history, order, axis=1)

    def view(self, user: Ints) -> UserView:
        """The histories of `user` (n,) as they stand now."""
        who, back = np.unique(user, return_inverse=True)
        history = self.history[who]
        n, length = history.shape
        there = history != _NOBODY
        decay = self._config.effects.history_decay
        weight = there * (1 - decay) * decay ** np.arange(length - 1, -1, -1)
        safe = np.where(there, history, 0)
        category = self._ads.category[safe]
        categories = np.zeros((n, len(CATEGORIES)))
        np.add.at(categories, (np.arange(n)[:, None], category), weight)
        topics = np.einsum("nl,nlt->nt", weight, self._ads.topic[safe]).reshape(n, TOPICS)
        last = np.where(there[:, -1], category[:, -1], len(CATEGORIES))
        return UserView(history[back], categories[back], topics[back], last[back])

    def record_impressions(self, user: Ints, advertiser: Ints) -> None:
        """Count impressions: `user` and `advertiser` are (n,), one entry per impression shown."""
        np.add.at(self.exposures, (user, advertiser), 1.0)
        self.activity += np.bincount(user, minlength=len(self.activity))

    def record_clicks(self, user: Ints, ad: Ints) -> None:
        """Append clicks, given in the order of time; `user` and `ad` are (n,)."""
        order = np.argsort(user, kind="stable")
        user, ad = user[order], ad[order]
        turn = np.arange(len(user)) - np.searchsorted(user, user, side="left")
        for rank in range(
            int(turn.max(initial=-1)) + 1
        ):  # the first click of everybody, then the second, ...
            now = turn == rank
            who = user[now]
            self.history[who, :-1] = self.history[who, 1:]
            self.history[who, -1] = ad[now]

    def midnight(self) -> None:
        """Exposures fade: half of the counts are forgotten each day."""
        self.exposures *= np.float32(0.5)
