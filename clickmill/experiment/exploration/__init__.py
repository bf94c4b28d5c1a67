"""Showing new ads to learn what they are worth, within a budget; may import the whole library but the command.

    beliefs = AdBeliefs.new(n_ads, sd=0.7)                      what is not known of each ad, beside the model's pCTR
    score = exploring_score(logit, beliefs.mean[ad], beliefs.sd[ad], bid, ExplorationSettings(), rng)
    beliefs = beliefs.after(ad, clicked, logit, examination)    once an hour

`beliefs` is the Bayesian last layer, `policies` ranks by it (Thompson sampling, UCB) and knows the chances of what it draws, `budget` holds
the money given up to a share of the expected revenue, `cold_ads` is one ranking of the endpoint. `simulation` plays all that on the market's
truth and `plots` draws the regret; they are imported from there, since the endpoint imports what stands here.
"""

from clickmill.experiment.exploration.beliefs import AdBeliefs
from clickmill.experiment.exploration.budget import Account, ExplorationBudget
from clickmill.experiment.exploration.cold_ads import (
    MOST_DRAWN,
    ColdAdSettings,
    Contest,
    Sale,
    Stake,
    contest,
    sell,
)
from clickmill.experiment.exploration.policies import (
    ExplorationSettings,
    Explorer,
    exploring_score,
    slot_chances,
)

__all__ = [
    "MOST_DRAWN",
    "Account",
    "AdBeliefs",
    "ColdAdSettings",
    "Contest",
    "ExplorationBudget",
    "ExplorationSettings",
    "Explorer",
    "Sale",
    "Stake",
    "contest",
    "exploring_score",
    "sell",
    "slot_chances",
]
