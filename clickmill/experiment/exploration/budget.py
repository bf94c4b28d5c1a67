"""Exploring within a budget: the share of requests that explore is set anew each period, so that what is given up stays a share of what is earned.

What is given up is expected by the mean beliefs: the greedy ranking's worth minus the explored one's, known before any click. A period in which
more was given up than allowed lowers the share of the next; the share is constant within a period, so that it can be part of the propensity.
A period is an hour in the simulation and a minute in the ranker.
"""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import BaseModel, Field

from clickmill.errors import DataError


@dataclass(frozen=True)
class Account:
    """Since the start, as far as it is not forgotten; money in expected currency by the mean beliefs."""

    share: float
    """Of the requests of the coming period that explore."""
    earned: float = 0.0
    """What the greedy ranking would have earned, over all requests."""
    given_up: float = 0.0
    """Of it, what exploring cost."""
    explored: float = 0.0
    """Requests that explored."""


class ExplorationBudget(BaseModel, frozen=True, extra="forbid", use_attribute_docstrings=True):
    """How much exploring may cost."""

    cost: float = Field(0.001, ge=0, lt=1)
    """Share of expected revenue that may be given up: a tenth of a percent."""
    most_share: float = Field(1.0, gt=0, le=1)
    """Largest share of requests that explore, however cheap it is."""
    first_share: float = Field(0.1, gt=0, le=1)
    """Share in the first period, when nobody knows yet what exploring costs here."""
    forget: float = Field(0.0, ge=0, lt=1)
    """Share of the account that a period forgets, so that what was saved for weeks is not spent in an hour. The budget holds all the same:
    if each forgetful sum keeps within it, so does the plain one, which is made of them."""

    def begin(self) -> Account:
        """Before the first period; nothing explores on a budget of 0."""
        return Account(share=min(self.first_share, self.most_share) if self.cost else 0.0)

    def after(
        self, account: Account, *, earned: float, given_up: float, explored: int, requests: int
    ) -> Account:
        """The account after a period of `requests`, of which `explored` did; the next one is taken to be as busy.

        Raises DataError for amounts below 0 or more explored than asked.
        """
        if min(earned, given_up, explored) < 0 or explored > requests:
            raise DataError(
                f"a period with earned {earned:g}, given up {given_up:g}, {explored} of {requests} requests explored cannot be"
            )
        kept = 1 - self.forget
        total_earned, total_given = kept * account.earned + earned, kept * account.given_up + given_up
        seen = kept * account.explored + explored
        room = self.cost * (total_earned + earned) - total_given
        share = account.share
        if seen and requests:
            price = total_given / seen
            share = (
                self.most_share if price == 0 else min(self.most_share, max(room, 0.0) / (price * requests))
            )
        return Account(share if self.cost else 0.0, total_earned, total_given, seen)
