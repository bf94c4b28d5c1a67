"""What errors of a click model cost in money, and what pacing saves, on a market whose truth is known; may import the whole library but the command.

    market = competition(WorldConfig(impressions=200_000))
    costs = curve(market, ErrorKind.BY_AD, [0.0, 0.1, 0.2], AuctionRules(slots=5))

`miscalibration` has the errors and their cost to seller and buyer, `plots` the pictures, `page` the page that people read;
`budgets` sells a day on short budgets, paced and not.
"""

from clickmill.experiment.money.budgets import BudgetDay, Pacing, budget_day
from clickmill.experiment.money.miscalibration import Cost, ErrorKind, baseline, curve, distorted
from clickmill.experiment.money.page import write_page
from clickmill.experiment.money.plots import cost_plot

__all__ = [
    "BudgetDay",
    "Cost",
    "ErrorKind",
    "Pacing",
    "baseline",
    "budget_day",
    "cost_plot",
    "curve",
    "distorted",
    "write_page",
]
