"""The simulated market as a log for off-policy evaluation, and what each target would truly have earned on the same requests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from clickmill.data.world import Auction, LoggingPolicy, WorldConfig, generate
from clickmill.data.world.policy import NoisyRevenuePolicy, allocate
from clickmill.experiment.off_policy import LoggedRows


class Recorder:
    """Runs the logging policy and notes, for what it shows, its chances under each target; for all that competes, the targets' true value."""

    def __init__(self, config: WorldConfig, targets: Mapping[str, NoisyRevenuePolicy]) -> None:
        self.logging, self.targets = NoisyRevenuePolicy(config.policy), dict(targets)
        self._examination = np.asarray(config.examination)[: config.slots_max]
        self.recording = False
        """The market first runs pilots to find its click rate; they are no part of the log."""
        self.propensity: list[np.ndarray] = []
        self.chance: dict[str, list[np.ndarray]] = {name: [] for name in self.targets}
        self.model: list[np.ndarray] = []
        self.model_target: dict[str, list[np.ndarray]] = {name: [] for name in self.targets}
        self.clicks = dict.fromkeys(self.targets, 0.0)

    def score(self, auction: Auction, rng: np.random.Generator) -> np.ndarray:
        score = self.logging.score(auction, rng)
        if not self.recording:
            return score
        request, candidate, position = allocate(auction, score)
        n, k = auction.ad.shape
        everyone, each = np.repeat(np.arange(n), k), np.tile(np.arange(k), n)
        relevance = 1 / (1 + np.exp(-auction.logit))
        # A reward model that is wrong on purpose: half the logit and half the level.
        crude = 0.5 / (1 + np.exp(-0.5 * (auction.logit - 3.0)))
        slot = (np.arange(len(request)), position - 1)
        self.propensity.append(self.logging.slot_chances(auction, request, candidate)[slot])
        self.model.append(crude[request, candidate] * self._examination[position - 1])
        for name, policy in self.targets.items():
            chances = policy.slot_chances(auction, everyone, each).reshape(n, k, -1)
            seen = self._examination[: chances.shape[2]]
            self.chance[name].append(chances[request, candidate][slot])
            self.model_target[name].append(
                np.einsum("nks,nk,s->ns", chances, crude, seen)[request, position - 1]
            )
            self.clicks[name] += float(np.einsum("nks,nk,s->", chances, relevance, seen))
        return score


@dataclass(frozen=True)
class LoggedMarket:
    rows: dict[str, LoggedRows]
    truth: dict[str, float]
    """Expected clicks per impression of each target on the log's own requests."""


def logged_market(config: WorldConfig, targets: Mapping[str, LoggingPolicy]) -> LoggedMarket:
    """Targets are given by their settings; rows of a request are a cluster."""
    recorder = Recorder(config, {name: NoisyRevenuePolicy(settings) for name, settings in targets.items()})
    stream = generate(config, recorder)
    recorder.recording = True
    batches = list(stream)
    clicked = np.concatenate([batch.clicked for batch in batches])
    request = np.concatenate([batch.impressions["request_id"].to_numpy() for batch in batches])
    rows = {
        name: LoggedRows.checked(
            reward=clicked,
            propensity=np.concatenate(recorder.propensity),
            target=np.concatenate(recorder.chance[name]),
            model=np.concatenate(recorder.model),
            model_target=np.concatenate(recorder.model_target[name]),
            cluster=request,
        )
        for name in targets
    }
    return LoggedMarket(rows, {name: clicks / len(clicked) for name, clicks in recorder.clicks.items()})
