"""What errors of a click model cost in money, exactly, on a market whose truth is known; may import the whole library but the command.

    market = competition(WorldConfig(impressions=200_000))
    costs = curve(market, ErrorKind.BY_AD, [0.0, 0.1, 0.2], AuctionRules(slots=5))

`miscalibration` has the errors and their cost to seller and buyer, `plots` the pictures, `page` the page that people read.
"""

from clickmill.experiment.money.miscalibration import Cost, ErrorKind, baseline, curve, distorted
from clickmill.experiment.money.page import write_page
from clickmill.experiment.money.plots import cost_plot

__all__ = ["Cost", "ErrorKind", "baseline", "cost_plot", "curve", "distorted", "write_page"]
