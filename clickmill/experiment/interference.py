"""Why an experiment over shared budgets lies: one market, lived through four times.

Advertisers' budgets are one pot. An arm that sells better empties it sooner, so that it earns what the control would have earned; when it
gets all the traffic, nobody is left to take from, and the pot is as large as before. The simulated market can be asked for the truth: all
requests by the control, all by the treatment, half and half on one pot, and half and half on two pots of half the size.

Basse, Soufiani, Lambert, "Randomization and the Pernicious Effects of Limited Budgets on Auction Experiments", AISTATS 2016;
Liu, Mao, Kang, "Trustworthy and Powerful Online Marketplace Experimentation with Budget-split Design", KDD 2021.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clickmill.data.world import Auction, WorldConfig, generate
from clickmill.data.world.policy import NoisyRevenuePolicy, allocate
from clickmill.errors import UsageError
from clickmill.experiment.assignment import uniform

Floats = NDArray[np.float64]
_AT_ONCE = 256
"""Requests between two looks at the budgets."""
_NEVER = -1e9


@dataclass(frozen=True)
class Interference:
    """Lift of the revenue per request, three times."""

    true: float
    """All traffic by the treatment beside all traffic by the control: what shipping it would bring."""
    shared: float
    """What an experiment on one pot says."""
    split: float
    """What an experiment says that gives each arm half of every budget."""

    @property
    def words(self) -> str:
        """For people."""
        return (
            f"An experiment that shares budgets says {self.shared:+.1%}, one that splits every budget in two {self.split:+.1%}; "
            f"the truth, all traffic before and after, is {self.true:+.1%}."
        )


def share_budgets(
    config: WorldConfig,
    *,
    budget_share: float = 0.4,
    skill: float = 0.3,
    noise: float = 0.8,
    salt: str = "pot",
) -> Interference:
    """Let a ranker that knows every click probability meet one that hardly does, over budgets that do not suffice.

    budget_share: daily budget of each advertiser's ad, as a share of what it would spend under the control without one. skill, noise: of
    the control's score, skill x logit + ln(bid) + noise. Revenue is expected, not drawn; clicks pay their bid. Users are split by `salt`.
    Raises UsageError unless the share is above 0.
    """
    if not budget_share > 0:
        raise UsageError(f"budget_share must be above 0; got {budget_share:g}")
    days = _auctions(config)
    rng = np.random.default_rng([config.seed, 11])
    scored = [
        [
            _Scored(
                auction,
                skill * auction.logit + rng.normal(0, noise, auction.ad.shape) + np.log(auction.bid),
                salt,
            )
            for auction in day
        ]
        for day in days
    ]
    ads, seen = config.n_ads, np.asarray(config.examination)
    unlimited = np.full((1, ads), np.inf)
    spent = _live(scored[0], unlimited, seen, treated=False)[1]
    budget = np.maximum(spent[0], 1e-12) * budget_share

    def earned(treated: bool | None, pots: Floats) -> Floats:
        return np.sum([_live(day, pots, seen, treated=treated)[0] for day in scored], axis=0)

    control, treatment = earned(False, budget[None, :])[0], earned(True, budget[None, :])[1]
    requests = np.sum([one.count() for day in scored for one in day], axis=0)
    shared = earned(None, budget[None, :]) / requests
    split = earned(None, np.stack([budget, budget]) / 2) / requests
    return Interference(
        true=float(treatment / control - 1),
        shared=float(shared[1] / shared[0] - 1),
        split=float(split[1] / split[0] - 1),
    )


class _Recorder:
    """The market's own policy, which keeps what it was asked."""

    def __init__(self, config: WorldConfig) -> None:
        self._policy = NoisyRevenuePolicy(config.policy)
        self.kept: list[Auction] | None = None

    def score(self, auction: Auction, rng: np.random.Generator) -> Floats:
        if self.kept is not None:
            self.kept.append(auction)
        return self._policy.score(auction, rng)


def _auctions(config: WorldConfig) -> list[list[Auction]]:
    """By day, in the order of time."""
    recorder = _Recorder(config)
    batches = generate(
        config, recorder
    )  # the market is tuned by now: what the recorder is asked from here on is traffic
    days: list[list[Auction]] = [[] for _ in range(config.days)]
    recorder.kept = days[0]
    for hour, _ in enumerate(batches, 1):
        recorder.kept = days[hour // 24] if hour < config.hours else []
    return days


class _Scored:
    """The auctions of an hour with both rankers' scores, and who is in which arm."""

    def __init__(self, auction: Auction, control: Floats, salt: str) -> None:
        self.auction = auction
        self.relevance = 1 / (1 + np.exp(-auction.logit))
        self.control, self.treatment = control, np.log(self.relevance) + np.log(auction.bid)
        users, back = np.unique(auction.requests.user, return_inverse=True)
        self.treated = np.array([uniform(salt, str(user)) < 0.5 for user in users.tolist()], bool)[back]

    def count(self) -> NDArray[np.int64]:
        """(2,) requests of control and treatment."""
        return np.bincount(self.treated.astype(np.int64), minlength=2)


def _live(
    hours: Sequence[_Scored], pots: Floats, seen: Floats, *, treated: bool | None
) -> tuple[Floats, Floats]:
    """One day. pots: (1 or 2, ads) budgets, one for both arms or one for each. treated: of all requests; None: each by its user.

    Returns revenue by arm (2,) and what each pot has spent (1 or 2, ads).
    """
    spent = np.zeros_like(pots)
    revenue = np.zeros(2)
    for hour in hours:
        for begin in range(0, len(hour.auction.requests), _AT_ONCE):
            part = slice(begin, begin + _AT_ONCE)
            ad, bid = hour.auction.ad[part], hour.auction.bid[part]
            arm = (hour.treated[part] if treated is None else np.full(len(ad), treated)).astype(np.int64)
            pot = arm if len(pots) == 2 else np.zeros_like(arm)
            score = np.where(arm[:, None] == 1, hour.treatment[part], hour.control[part])
            score = np.where(spent[pot[:, None], ad] < pots[pot[:, None], ad], score, _NEVER)
            cut = Auction(
                hour.auction.requests.part(begin, begin + _AT_ONCE), ad, bid, hour.auction.logit[part]
            )
            request, candidate, slot = allocate(cut, score)
            pays = bid[request, candidate] * hour.relevance[part][request, candidate] * seen[slot - 1]
            where = (pot[request], ad[request, candidate])
            wanted = np.zeros_like(pots)
            np.add.at(wanted, where, pays)
            # The last clicks of a budget are paid in part: what goes beyond it is not earned.
            left = np.divide(pots - spent, wanted, out=np.ones_like(pots), where=wanted > 0)
            pays = pays * np.clip(left, 0.0, 1.0)[where]
            np.add.at(spent, where, pays)
            revenue += np.bincount(arm[request], pays, minlength=2)
    return revenue, spent


__all__ = ["Interference", "share_budgets"]
