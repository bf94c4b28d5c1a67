"""A ranker that tries ads its bundle hardly knows: whose turn it is, what was given up so far, and what the log keeps of it.

The luck of a request is a hash of its id, so that a retry, or a second try at another replica, is shown what the first one was.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from clickmill.experiment.exploration import (
    MOST_DRAWN,
    ColdAdSettings,
    ExplorationBudget,
    Sale,
    Stake,
    contest,
    sell,
)
from clickmill.prediction_log import Chances
from serving.in_service import InService
from serving.metrics import Metrics
from serving.ranking import Outline

PERIOD_SECONDS = 60.0
"""How long the share of the requests that explore stays as it is."""
REMEMBERED_PERIODS = 1440
"""Over which the account is kept, a day: what a quiet month left over is not spent in an hour."""
MEASURES = ("revenue", "value")
"""What the budget is kept in: at the prices, and at the bids."""
_COIN_BYTES = 8


class Turn(StrEnum):
    """What became of a ranking."""

    CHANGED = "changed"
    """It explored, and other ads were shown, or in another order."""
    UNCHANGED = "unchanged"
    """It explored, and the draw changed nothing."""
    GREEDY = "greedy"
    """Some ads could have been tried; it was not its turn."""
    ALL_KNOWN = "all_known"
    """No candidate could have been tried."""
    UNTOLD = "untold"
    """The bundle does not say how well it knows its ads."""


@dataclass(frozen=True, eq=False)
class Explored:
    """A ranking whose slots are sold."""

    sale: Sale
    share: float
    """Of the rankings that explored at that moment."""
    turn: Turn
    settings: ColdAdSettings

    def chances(self, rows: int) -> Chances:
        """Of all `rows` candidates, for the log."""
        shown = self.sale.outcome.candidates
        slot, propensity, greedy = np.zeros(rows, np.int32), np.full(rows, np.nan), np.full(rows, np.nan)
        slot[shown] = np.arange(1, len(shown) + 1)
        propensity[shown], greedy[shown] = self.sale.chances(self.settings, self.share)
        return Chances(slot, propensity, greedy)


class Exploring:
    """Of one endpoint, or of one arm of an experiment there: an account of its own. Safe from any thread."""

    def __init__(
        self,
        settings: ColdAdSettings,
        metrics: Metrics,
        model_name: str,
        arm: str | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.settings, self._clock = settings, clock
        self._budget = ExplorationBudget(cost=settings.cost, forget=1 / REMEMBERED_PERIODS)
        self._accounts = dict.fromkeys(MEASURES, self._budget.begin())
        self._begun = clock()
        self._sums = dict.fromkeys(MEASURES, Stake(0.0, 0.0))
        self._explored = self._requests = 0
        self._lock = threading.Lock()
        labels = (model_name, arm or "")
        self._turns = {turn: metrics.exploration_rankings.labels(*labels, turn) for turn in Turn}
        self._totals = {
            measure: (
                metrics.exploration_earned.labels(*labels, measure),
                metrics.exploration_given_up.labels(*labels, measure),
            )
            for measure in MEASURES
        }
        self._share_gauge = metrics.exploration_share.labels(*labels)
        self._share_gauge.set(self.share)

    @property
    def share(self) -> float:
        """Of the rankings that can explore, how many do now: what the tighter account leaves."""
        return min(account.share for account in self._accounts.values())

    def sell(self, served: InService, asked: Outline, pctr: np.ndarray) -> Explored:
        """Sell the slots of a ranking by pCTR (n,). Counts nothing: see `count`."""
        share, rules, settings = self.share, asked.rules, self.settings
        clicks = _clicks(served, asked)
        among = None if clicks is None else contest(pctr, asked.bids, clicks, rules, settings)
        if among is None:
            turn = Turn.UNTOLD if clicks is None else Turn.ALL_KNOWN
            return Explored(sell(pctr, asked.bids, rules, None, settings, None), share, turn, settings)
        luck = _luck(asked.request_id)
        if not int.from_bytes(luck[:_COIN_BYTES], "big") < share * 2.0 ** (8 * _COIN_BYTES):
            return Explored(
                sell(pctr, asked.bids, rules, among, settings, None), share, Turn.GREEDY, settings
            )
        sale = sell(pctr, asked.bids, rules, among, settings, luck[_COIN_BYTES:])
        return Explored(sale, share, Turn.CHANGED if sale.changed else Turn.UNCHANGED, settings)

    def count(self, explored: Explored) -> None:
        """Put a ranking that was answered into the account; at the end of a period the share is set anew."""
        sale, turn = explored.sale, explored.turn
        self._turns[turn].inc()
        stakes = {"revenue": sale.revenue, "value": sale.value}
        for measure, stake in stakes.items():
            earned, given_up = self._totals[measure]
            earned.inc(stake.earned)
            given_up.inc(stake.given_up)
        with self._lock:
            for measure, stake in stakes.items():
                so_far = self._sums[measure]
                self._sums[measure] = Stake(so_far.earned + stake.earned, so_far.given_up + stake.given_up)
            self._requests += sale.contest is not None
            self._explored += turn in (Turn.CHANGED, Turn.UNCHANGED)
            if self._clock() - self._begun >= PERIOD_SECONDS:
                self._settle()

    def _settle(self) -> None:
        self._accounts = {
            measure: self._budget.after(
                account,
                earned=self._sums[measure].earned,
                given_up=self._sums[measure].given_up,
                explored=self._explored,
                requests=self._requests,
            )
            for measure, account in self._accounts.items()
        }
        self._begun = self._clock()
        self._sums = dict.fromkeys(MEASURES, Stake(0.0, 0.0))
        self._explored = self._requests = 0
        self._share_gauge.set(self.share)


def _clicks(served: InService, asked: Outline) -> np.ndarray | None:
    """(n,) expected clicks that the bundle knows each candidate by; None where it does not say."""
    priors = served.priors
    if priors is None or priors.ad_field is None:
        return None
    return priors.expected_clicks(asked.texts(priors.ad_field))


def _luck(request_id: str | None) -> bytes:
    size = _COIN_BYTES + MOST_DRAWN
    if request_id is None:
        return os.urandom(size)
    # Not the hash by which the log takes its share: which rankings are logged must not depend on whether they explored.
    return hashlib.blake2b(request_id.encode(), digest_size=size, person=b"exploring").digest()


__all__ = ["Explored", "Exploring", "Turn"]
