"""Showing new ads to learn what they are worth, within a budget; may import the whole library but the command.

    beliefs = AdBeliefs.new(n_ads, sd=0.7)                      what is not known of each ad, beside the model's pCTR
    score = exploring_score(logit, beliefs.mean[ad], beliefs.sd[ad], bid, ExplorationSettings(), rng)
    beliefs = beliefs.after(ad, clicked, logit, examination)    once an hour

`beliefs` is the Bayesian last layer, `policies` ranks by it (Thompson sampling, UCB) and knows the chances of what it draws, `budget` holds
the money given up to a share of the expected revenue, `simulation` plays all that on the market's truth, `plots` draws the regret.
"""

from clickmill.experiment.exploration.beliefs import AdBeliefs
from clickmill.experiment.exploration.budget import Account, ExplorationBudget
from clickmill.experiment.exploration.plots import regret_plot
from clickmill.experiment.exploration.policies import (
    ExplorationSettings,
    Explorer,
    exploring_score,
    slot_chances,
)
from clickmill.experiment.exploration.simulation import NewAds, Run, simulate

__all__ = [
    "Account",
    "AdBeliefs",
    "ExplorationBudget",
    "ExplorationSettings",
    "Explorer",
    "NewAds",
    "Run",
    "exploring_score",
    "regret_plot",
    "simulate",
    "slot_chances",
]
