"""Answers rankings: scores all candidates in one call, holds the auction, says why when asked; and has an answer when the model has none."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from clickmill.auction import AuctionRules, Outcome, hold
from clickmill.experiment.exploration import ColdAdSettings
from serving import fallback, ranking, v1
from serving.arms import HEADER_ARM, Arms, impression_ids
from serving.explanation import ablation
from serving.exploring import Explored, Exploring
from serving.fallback import HEADER_FALLBACK
from serving.predictor import HEADER_DIGEST, HEADER_VERSION, Answer, BundleModel, InService, Scores
from serving.ranker_features import RankerFeatures
from serving.ranker_settings import RankerSettings
from serving.ranking import HOUSE_RULES, Judged, Ranking, Source
from serving.recent_scores import RecentScores
from serving.refusals import DeadlinePassed, is_fault
from serving.remote_scorer import due
from serving.scheduler import Scheduler
from serving.score_cache import Begun, ScoreCache
from serving.stages import Stage, about, failed, timed
from serving.standby import Standby

log = logging.getLogger(__name__)

EXPLAINED = 10
"""Candidates that are explained, the best ones: each costs a row per field."""

RESERVED_SHARE, RESERVED_MOST = 0.1, 0.02
"""Of a request's time, what is kept for a fallback: a tenth, and no more than 20 ms. Its way back to the caller is in it."""

CANDIDATE_BYTES = 1024
"""What a candidate counts as where the lane of its scoring is chosen: one that names an id only costs as much as one with all fields."""


HEADER_FEATURES = "x-clickmill-features"
"""Of an answer for which the feature store was not heard, so that defaults stand in: what became of its read."""


class _Course:
    """Of one scoring: whether its caller was answered otherwise meanwhile. Its thread can't be stopped, but leaves no trace then."""

    given_up = False


class Ranker:
    """Over the bundle that a model has in service; `rules` are the house's, which a request may override."""

    def __init__(
        self,
        model: BundleModel,
        scheduler: Scheduler,
        settings: RankerSettings | None = None,
        rules: AuctionRules | None = None,
        features: RankerFeatures | None = None,
        arms: Arms | None = None,
    ) -> None:
        """`features` fills what requests leave out; without it they get the contract's defaults. `arms`: the experiment that runs."""
        self._model, self._scheduler, self._features = model, scheduler, features
        self.settings = settings or RankerSettings()
        self._cache = self._score_cache() if self.settings.score_cache_seconds else None
        self._rules, self._arms = rules or HOUSE_RULES, arms
        self._recent = RecentScores(self.settings.recent_scores, self.settings.recent_seconds)
        self._exploring = self._explorers()

    @classmethod
    def opened(
        cls,
        model: BundleModel,
        scheduler: Scheduler,
        settings: RankerSettings,
        features: str | None,
        experiment: Path | None = None,
    ) -> Ranker:
        """With the feature store at an address and the experiment of a file, where there are such. Raises UsageError for an address or a file
        that is none."""
        store = RankerFeatures(features, settings, model.metrics, model.name) if features else None
        arms = Arms.opened(experiment, HOUSE_RULES) if experiment else None
        return cls(model, scheduler, settings, features=store, arms=arms)

    async def answer(
        self, body: bytes, deadline: float | None, *, explain: bool = False, falls_back: bool | None = None
    ) -> Answer:
        """Answer a ranking; `deadline` is one of the admission's. With `falls_back` (as the settings say when None) what would be an error
        of ours is answered without the model, before the deadline.

        Raises RequestError; without fallback also NotReady, Overloaded, DeadlinePassed and NotFinite.
        """
        falls_back = self.settings.fallback if falls_back is None else falls_back
        if not falls_back:
            with due(self._scheduler.admission.left(deadline)):
                return await self._scored(body, deadline, explain)
        patience = self._patience(deadline)
        try:
            async with asyncio.timeout(patience):
                with due(patience):
                    return await self._scored(body, deadline, explain)
        except TimeoutError:
            return self._without_model(
                body, DeadlinePassed("the request's time was over before it was scored")
            )
        except Exception as error:  # noqa: BLE001 - told apart in there: the caller's own are raised
            return self._without_model(body, error)

    def _patience(self, deadline: float | None) -> float | None:
        left = self._scheduler.admission.left(deadline)
        return None if left is None else left - min(RESERVED_SHARE * left, RESERVED_MOST)

    async def _scored(self, body: bytes, deadline: float | None, explain: bool) -> Answer:
        served = self._model.in_service
        schedule = self._scheduler
        async with schedule.inside(deadline) as begin:

            def read() -> Ranking:
                begin()
                return self._read(served, body)

            course, size = _Course(), len(body)

            def score(asked: Ranking) -> tuple[Ranking, Answer | Begun]:
                return asked, self._begun(served, asked, explain, course)

            try:
                if self._features is None and not schedule.on_the_loop(size):
                    asked, begun = await schedule.first_step(size, lambda: score(read()))
                else:
                    asked = await schedule.first_step(size, read)
                    size = max(size, asked.rows * CANDIDATE_BYTES)
                    if self._features is not None:
                        left = schedule.admission.left(deadline)
                        asked = await self._features.fill(served, asked, left, partial(schedule.step, size))
                    asked, begun = await schedule.step(size, score, asked)
                if isinstance(begun, Answer):
                    return begun
                await begun.others()
                return await schedule.step(size, self._ended, served, asked, explain, course, begun)
            except asyncio.CancelledError:
                course.given_up = True
                raise

    def _read(self, served: InService, body: bytes) -> Ranking:
        with timed(Stage.PARSE):
            payload = v1.parse_json(body)
            arm, rules = self._placed(payload)
            asked = ranking.parse(payload, served.ranking_form, self._model.limits, rules)
        about(request_id=asked.outline.request_id)
        return replace(asked, arm=arm, counted=True) if self._counts(payload) else asked

    def _counts(self, payload: Any) -> bool:
        """Whether the experiment counts what this ranking shows."""
        return self._arms is not None and self._arms.user_of(payload) is not None

    def _placed(self, payload: Any) -> tuple[str | None, AuctionRules]:
        """The arm of a ranking, and the rules that hold there."""
        arm = self._arms.arm_of(payload) if self._arms else None
        if self._arms is None or arm is None:
            return None, self._rules
        return arm, self._arms.rules_of(arm)

    def _begun(self, served: InService, asked: Ranking, explain: bool, course: _Course) -> Answer | Begun:
        """The answer to a checked request; or its scores as far as they are not being made for another request at this moment."""
        score = partial(self._model.rank, served)
        if self._cache is None:
            return self._judged(served, asked, explain, course, score(asked.raw, asked.rows))
        begun = self._cache.begin(served.scorer.digest, served.ranking_form, asked.raw, score)
        return begun if begun.flights else self._ended(served, asked, explain, course, begun)

    def _ended(
        self, served: InService, asked: Ranking, explain: bool, course: _Course, begun: Begun
    ) -> Answer:
        assert self._cache is not None, "it began there"
        scores = self._cache.end(begun, partial(self._model.rank, served))
        return self._judged(served, asked, explain, course, scores)

    def _judged(
        self, served: InService, asked: Ranking, explain: bool, course: _Course, scores: Scores
    ) -> Answer:
        """Auction and answer of a scored request."""
        with timed(Stage.REPLY):
            exploring, explored = self._exploring.get(asked.arm), None
            if exploring is None:
                outcome = hold(scores["pctr"], asked.outline.bids, asked.outline.rules)
            else:
                explored = exploring.sell(served, asked.outline, scores["pctr"])
                outcome = explored.sale.outcome
            if not course.given_up:
                self._remember(served, asked, scores, outcome, explored)
                if exploring is not None and explored is not None:
                    exploring.count(explored)
            return self._answer(served, asked, scores, outcome, explain)

    def _explorers(self) -> dict[str | None, Exploring]:
        """By arm, None for rankings in none; those that explore."""
        house = self.settings.exploration
        wanted: dict[str | None, ColdAdSettings | None] = {None: house}
        if self._arms is not None:
            wanted |= {arm: self._arms.exploration_of(arm, house) for arm in self._arms.names}
        metrics, name = self._model.metrics, self._model.name
        return {arm: Exploring(s, metrics, name, arm) for arm, s in wanted.items() if s is not None}

    def _score_cache(self) -> ScoreCache:
        reads, name = self._model.metrics.cache_reads, self._model.name
        return ScoreCache(
            self.settings.score_cache_scores,
            self.settings.score_cache_seconds,
            lambda outcome, candidates: reads.labels(name, "scores", outcome).inc(candidates),
        )

    async def close(self) -> None:
        """Close what the ranker opened."""
        if self._features is not None:
            await self._features.close()

    def _answer(
        self, served: InService, asked: Ranking, scores: Scores, outcome: Outcome, explain: bool
    ) -> Answer:
        outline, form = asked.outline, served.ranking_form
        judged = Judged(scores["pctr"], scores["logit"], [Source.MODEL] * asked.rows)
        found = ranking.answer(outline, judged, outcome, digest=served.scorer.digest)
        if explain:
            best = outcome.candidates[:EXPLAINED].tolist()
            reasons = ablation(asked.raw, form.shared, best, form.contract, served.scorer.predict)
            for shown, why in zip(found["ranked"], reasons, strict=False):
                shown["logit_by_field"] = why
        marked = {HEADER_FEATURES: asked.store} if asked.store else {}
        if asked.arm is not None:
            marked[HEADER_ARM] = asked.arm
        return Answer(orjson.dumps(found), served.headers | marked)

    def _remember(
        self,
        served: InService,
        asked: Ranking,
        scores: Scores,
        outcome: Outcome,
        explored: Explored | None,
    ) -> None:
        """What outlives the answer: the log's rows, and the scores for a fallback."""
        outline = asked.outline
        sold = None
        # an experiment, and who judges a policy, count what was shown, so that those rows need a name for their clicks
        if asked.counted or explored is not None:
            sold = impression_ids(outline.request_id, outcome.candidates.tolist(), asked.rows)
        chances = None if explored is None else explored.chances
        self._model.note_ranking(served, asked.raw, scores, outline.request_id, sold, asked.arm, chances)
        priors = served.priors
        if priors is not None and priors.ad_field:
            user, ads = fallback.user_of(outline, priors), outline.texts(priors.ad_field)
            self._recent.note(served.scorer.digest, user, ads, scores["pctr"])

    def _without_model(self, body: bytes, error: Exception) -> Answer:
        """The answer in place of an error of ours; raises it where it is the caller's, or nothing stands by."""
        reason, standby = fallback.reason_of(error), self._model.standby
        if reason is None or standby is None:
            raise error
        failed(error)
        payload, limits = v1.parse_json(body), self._model.limits
        arm, rules = self._placed(payload)
        outline = ranking.outline(payload, standby.form, limits, rules)
        if is_fault(error):
            log.error("a ranking fell back", exc_info=error)
        judged = fallback.judge(outline, standby, self._recent)
        outcome = hold(judged.pctr, outline.bids, outline.rules)
        self._count(reason, judged)
        if (sink := self._model.log) is not None:
            fallback.note(
                sink, self._model.name, payload, outline, standby, limits, judged, outcome,
                reason=reason, arm=arm, counted=self._counts(payload),
            )  # fmt: skip
        found = ranking.answer(outline, judged, outcome, digest=standby.digest, fallback=reason)
        marked = {**_headers(standby), HEADER_FALLBACK: reason}
        return Answer(orjson.dumps(found), marked if arm is None else marked | {HEADER_ARM: arm})

    def _count(self, reason: str, judged: Judged) -> None:
        metrics, name = self._model.metrics, self._model.name
        metrics.fallbacks.labels(name, reason).inc()
        for source, count in zip(*np.unique(judged.sources, return_counts=True), strict=True):
            metrics.fallback_candidates.labels(name, str(source)).inc(int(count))


def _headers(standby: Standby) -> dict[str, str]:
    return {HEADER_DIGEST: standby.digest, HEADER_VERSION: standby.version}
