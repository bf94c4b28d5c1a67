"""A simulated ad market whose true click probabilities are known; may import `clickmill.errors` and `clickmill.progress`.

    for batch in generate(WorldConfig(impressions=100_000)):     # hour by hour, nothing touches the disk
        batch.impressions, batch.clicks, batch.truth             # pyarrow tables
    report = write(WorldConfig(), Path("out/world"))             # the same, partitioned by hour, plus world.json

The market is `population` (who and what there is), `preference` (why people click: the truth), `traffic` (who
comes when), `policy` (which ads are shown where), `journey` (what users have seen and clicked so far) and
`clicks` (when the click log hears of it), its difficulty set by `tuning`. `tables` lays that out as logs, `ceiling` says how good any model can be,
`competition` keeps the auctions with all who competed.
"""

from clickmill.data.world.ceiling import Ceiling
from clickmill.data.world.competition import Competition, competition
from clickmill.data.world.config import (
    ClickDelay,
    DelayComponent,
    Dirt,
    Effects,
    LoggingPolicy,
    WorldConfig,
)
from clickmill.data.world.policy import Auction, Policy
from clickmill.data.world.simulation import HourBatch, generate
from clickmill.data.world.storage import DayReport, PositionReport, WorldReport, write
from clickmill.data.world.tables import CLICK_SCHEMA, IMPRESSION_SCHEMA, TRUTH_SCHEMA

__all__ = [
    "CLICK_SCHEMA",
    "IMPRESSION_SCHEMA",
    "TRUTH_SCHEMA",
    "Auction",
    "Ceiling",
    "ClickDelay",
    "Competition",
    "DayReport",
    "DelayComponent",
    "Dirt",
    "Effects",
    "HourBatch",
    "LoggingPolicy",
    "Policy",
    "PositionReport",
    "WorldConfig",
    "WorldReport",
    "competition",
    "generate",
    "write",
]
