"""Who is shown, in which order, and at what price: expected revenue of candidates, their auction, and its prices.

May import `clickmill.errors`; numpy only. Money is in the currency of the bids, per click unless a name says eCPM.
"""

from clickmill.auction.auction import AuctionRules, Outcome, Pricing, hold
from clickmill.auction.ecpm import ecpm

__all__ = ["AuctionRules", "Outcome", "Pricing", "ecpm", "hold"]
