"""Answers rankings: scores all candidates in one call, holds the auction, says why when asked."""

from __future__ import annotations

import orjson

from clickmill.auction import AuctionRules, hold
from clickmill.features.sides import by_rows
from serving import ranking, v1
from serving.explanation import ablation
from serving.predictor import Answer, BundleModel, Raw, Scores
from serving.stages import Stage, about, timed

EXPLAINED = 10
"""Candidates that are explained, the best ones: each costs a row per field."""


class Ranker:
    """Over the bundle that a model has in service; `rules` are the house's, which a request may override."""

    def __init__(self, model: BundleModel, rules: AuctionRules | None = None) -> None:
        self._model = model
        self._rules = rules or AuctionRules(slots=10)

    def answer(self, body: bytes, explain: bool) -> Answer:
        """Answer a ranking. Raises RequestError, NotReady and NotFinite.

        A bundle that takes no request as such (it is older, or no field tells its candidates apart) is asked by rows.
        """
        model = self._model
        served = model.in_service
        form = served.ranking_form
        with timed(Stage.PARSE):
            asked = ranking.parse(v1.parse_json(body), form, model.limits, self._rules)
        about(request_id=asked.request_id)
        rows = len(asked.bids)

        def without_form(raw: Raw) -> Scores:
            return served.scorer.predict(by_rows(raw, form.shared, rows))

        ask = served.scorer.rank if served.scorer.ranks else without_form
        scores = model.score(served, asked.raw, rows, ask)
        if model.log is not None:
            model.note(served, by_rows(asked.raw, form.shared, rows), scores, asked.request_id)
        outcome = hold(scores["pctr"], asked.bids, asked.rules)
        found = ranking.answer(asked, scores["pctr"], scores["logit"], outcome, digest=served.scorer.digest)
        if explain:
            best = outcome.candidates[:EXPLAINED].tolist()
            reasons = ablation(asked.raw, form.shared, best, form.contract, served.scorer.predict)
            for shown, why in zip(found["ranked"], reasons, strict=False):
                shown["logit_by_field"] = why
        return Answer(orjson.dumps(found), served.headers)
