"""An answer when the model has none: this user's last scores, else the click rates of the ads, else that of all.

It needs the contract, a few numbers and the caller's bids: no graph, no feature store, no thread. It costs a tenth of a scored
ranking, so that an endpoint that turns requests away can answer them so.
"""

from __future__ import annotations

import time
import uuid
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from clickmill.auction import Outcome
from clickmill.errors import RequestError
from clickmill.features.sides import by_rows
from clickmill.features.texts import arrays
from clickmill.prediction_log import Answered
from serving.arms import impression_ids
from serving.limits import Limits
from serving.log_sinks import LogSink
from serving.ranking import Judged, Outline, Source, fields
from serving.recent_scores import RecentScores
from serving.refusals import MalformedRequest, refusal_of
from serving.standby import Standby

if TYPE_CHECKING:
    from clickmill.bundle import Priors

HEADER_ON_FAILURE = b"x-clickmill-on-failure"
"""Of a request: `fallback` or `error`."""
HEADER_FALLBACK = "x-clickmill-fallback"
"""Of an answer that is a fallback: the reason."""

_LEAST = 1e-9
"""Of a probability, so that its logit is finite."""


def reason_of(error: Exception) -> str | None:
    """Why a request falls back, as `reason` of its refusal would be; None for an error of the caller, who is told so."""
    refusal = refusal_of(error)
    return refusal.reason if refusal.http >= 500 and refusal.http != 501 else None


def wish_of(headers: list[tuple[bytes, bytes]], default: bool) -> bool:
    """Whether the caller takes a fallback for an error, by its header. Raises MalformedRequest."""
    given = next((value for key, value in headers if key == HEADER_ON_FAILURE), None)
    if given is None:
        return default
    if given not in (b"fallback", b"error"):
        raise MalformedRequest(
            f"x-clickmill-on-failure must be `fallback` or `error`; got {given[:20].decode(errors='replace')}"
        )
    return given == b"fallback"


def judge(asked: Outline, standby: Standby, recent: RecentScores) -> Judged:
    """The best that is known of each candidate without the model."""
    priors = standby.priors
    ads = asked.texts(priors.ad_field) if priors.ad_field else [None] * len(asked.bids)
    rates, own = priors.of(ads)
    seen = recent.of(standby.digest, user_of(asked, priors), ads)
    pctr = np.array([rate if p is None else p for p, rate in zip(seen, rates.tolist(), strict=True)])
    sources = [
        Source.RECENT if p is not None else Source.AD_PRIOR if known else Source.GLOBAL_PRIOR
        for p, known in zip(seen, own.tolist(), strict=True)
    ]
    bounded = np.clip(pctr, _LEAST, 1 - _LEAST)
    return Judged(pctr, np.log(bounded / (1 - bounded)), sources)


def user_of(asked: Outline, priors: Priors) -> str | None:
    """Who asks, as text; None when the contract or the request does not say."""
    value = asked.shared.get(priors.user_field) if priors.user_field else None
    return None if value is None else str(value)


def note(
    sink: LogSink,
    model_name: str,
    payload: Any,
    asked: Outline,
    standby: Standby,
    limits: Limits,
    judged: Judged,
    outcome: Outcome,
    *,
    reason: str,
    arm: str | None,
    counted: bool,
) -> None:
    """Offer what a fallback showed to the prediction log, marked with its reason: an experiment counts what its users saw, whoever chose it.
    counted: whether an experiment counts the user's impressions, so that they need a name.

    What was not shown teaches nobody anything, and overload is no time to write it. A request whose fields break the contract is left
    out: at any other hour it would have been refused.
    """
    request_id = asked.request_id or uuid.uuid4().hex
    if not sink.wants(request_id):
        return
    shown = outcome.candidates.tolist()
    form = standby.form
    try:
        raw = fields(payload, replace(asked, candidates=[asked.candidates[at] for at in shown]), form, limits)
    except RequestError:
        return
    sold = impression_ids(asked.request_id, shown, len(asked.bids)) if counted else None
    sink.offer(
        Answered(
            request_id=request_id,
            time_us=time.time_ns() // 1000,
            model=model_name,
            bundle=standby.digest,
            raw=arrays(by_rows(raw, form.shared, len(shown))),
            pctr=judged.pctr[shown].astype(np.float32),
            logit=judged.logit[shown].astype(np.float32),
            impression_ids=None if sold is None else [sold[at] for at in shown],
            arm=arm,
            fallback=reason,
            candidates=shown,
        ),
        form.contract,
    )


__all__ = [
    "HEADER_FALLBACK",
    "HEADER_ON_FAILURE",
    "judge",
    "note",
    "reason_of",
    "user_of",
    "wish_of",
]
