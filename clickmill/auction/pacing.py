"""Budgets that last for the day: shade bids by the price of money, or stay out of a share of the requests.

    DualPacing   bid / (1 + mu);  mu <- max(0, mu + step (spent - planned) / planned per period)
                 dual descent on the budget: Balseiro & Gur, "Learning in Repeated Auctions with Budgets", Management Science 2019
                 (there step and plan in money; here relative to the plan, so that one step serves small and large budgets).
    Throttling   takes part with chance p;  p <- p (1 - r) when ahead of the plan, p (1 + r) when behind
                 Agarwal, Ghosh, Wei, You, "Budget Pacing for Targeted Online Advertisements at LinkedIn", KDD 2014.

Shading keeps an advertiser in the requests it values most; throttling keeps prices as they are and drops requests at random. States are
frozen, time and spend are arguments. Neither can know the last click before it comes: who is out of money is left out by `Paced.active`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from pydantic import BaseModel, Field

from clickmill.errors import DataError


@dataclass(frozen=True, eq=False)
class Paced:
    """Campaigns under a dual price, all (n,) float64."""

    budget: np.ndarray
    """Currency for the whole day."""
    spent: np.ndarray
    """Currency so far."""
    mu: np.ndarray
    """Price of money: a unit of budget is worth this much more than a unit of profit. 0: the budget does not bind."""

    @property
    def active(self) -> np.ndarray:
        """(n,) bool: is there money left?"""
        return self.spent < self.budget

    def shaded(self, bid: np.ndarray) -> np.ndarray:
        """(n,): what to bid where a click is worth `bid` (n,); 0 without money."""
        return np.where(self.active, np.asarray(bid, np.float64) / (1 + self.mu), 0.0)


class DualPacing(BaseModel, frozen=True, extra="forbid", use_attribute_docstrings=True):
    """Shading by dual descent."""

    step: float = Field(0.1, gt=0, le=10)
    """Move of mu for a period that spends twice its plan. At 0.1 and quarter-hours mu finds its level within two hours."""
    most: float = Field(50.0, gt=0)
    """Largest mu: a bid is never shaded below 1 / (1 + most)."""

    def begin(self, budget: np.ndarray) -> Paced:
        """Raises DataError for a budget (n,) that is not above 0."""
        budget = checked_budget(budget)
        return Paced(budget, np.zeros_like(budget), np.zeros_like(budget))

    def after(self, state: Paced, spent: np.ndarray, share: float) -> Paced:
        """The state after a period that cost `spent` (n,) and should have taken `share` of the day's budget (its part of the traffic)."""
        spent = checked_spend(spent, state.budget)
        over = (spent - share * state.budget) / (share * state.budget)
        mu = np.clip(state.mu + self.step * np.minimum(over, 10.0), 0.0, self.most)
        return replace(state, spent=state.spent + spent, mu=mu)


@dataclass(frozen=True, eq=False)
class ThrottlingState:
    """Campaigns that take part at random, all (n,) float64."""

    budget: np.ndarray
    spent: np.ndarray
    chance: np.ndarray
    """P(takes part in a request)."""

    @property
    def active(self) -> np.ndarray:
        """(n,) bool: is there money left?"""
        return self.spent < self.budget


class Throttling(BaseModel, frozen=True, extra="forbid", use_attribute_docstrings=True):
    """Pacing by leaving requests out."""

    rate: float = Field(0.1, gt=0, lt=1)
    """Relative move of the chance per period; LinkedIn's 10 %."""
    first: float = Field(0.1, gt=0, le=1)
    """Chance at the start of the day: low, since money spent too early cannot be taken back."""
    least: float = Field(0.001, gt=0, le=1)
    """Smallest chance, from which it can recover."""

    def begin(self, budget: np.ndarray) -> ThrottlingState:
        """Raises DataError for a budget (n,) that is not above 0."""
        budget = checked_budget(budget)
        return ThrottlingState(budget, np.zeros_like(budget), np.full_like(budget, self.first))

    def after(self, state: ThrottlingState, spent: np.ndarray, due: float) -> ThrottlingState:
        """The state after a period that cost `spent` (n,), at whose end a share `due` of the day's budget should be gone."""
        total = state.spent + checked_spend(spent, state.budget)
        factor = np.where(total > due * state.budget, 1 - self.rate, 1 + self.rate)
        return replace(state, spent=total, chance=np.clip(state.chance * factor, self.least, 1.0))


def checked_budget(budget: np.ndarray) -> np.ndarray:
    """(n,) float64. Raises DataError naming the campaign."""
    budget = np.asarray(budget, np.float64)
    if budget.ndim != 1 or not ((budget > 0) & np.isfinite(budget)).all():
        row = int((~((budget > 0) & np.isfinite(budget))).ravel().argmax()) if budget.size else 0
        raise DataError(
            f"campaign {row}: a budget must be a finite amount above 0; got shape {budget.shape}, {budget.ravel()[row : row + 1]}"
        )
    return budget


def checked_spend(spent: np.ndarray, budget: np.ndarray) -> np.ndarray:
    """(n,) float64. Raises DataError for another shape, or money that came back."""
    spent = np.asarray(spent, np.float64)
    if spent.shape != budget.shape or not (spent >= 0).all():
        raise DataError(
            f"spend of a period must be at least 0 for each of {len(budget)} campaigns; got shape {spent.shape}"
        )
    return spent
