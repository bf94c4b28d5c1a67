"""Auctions of ad slots: ranking by expected revenue, prices (first, second, VCG), reserve, and the pacing of budgets.

May import `clickmill.errors`; numpy and pydantic only. Money is in the currency of the bids, per click unless a name says eCPM.

    hold        one request, for an endpoint            hold_many   many requests at once, for simulations; the same rules
    vcg         the prices at which honest bids are best                expected    what a ranking earns, brings and costs
    pacing      budgets spread over a day: bids shaded by a dual price, or requests left out
"""

from clickmill.auction.auction import AuctionRules, Outcome, Pricing, hold
from clickmill.auction.earnings import Earnings, expected
from clickmill.auction.ecpm import ecpm
from clickmill.auction.pacing import DualPacing, Paced, Throttling, ThrottlingState
from clickmill.auction.slots import Sold, hold_many
from clickmill.auction.vcg import vcg

__all__ = [
    "AuctionRules",
    "DualPacing",
    "Earnings",
    "Outcome",
    "Paced",
    "Pricing",
    "Sold",
    "Throttling",
    "ThrottlingState",
    "ecpm",
    "expected",
    "hold",
    "hold_many",
    "vcg",
]
