"""The ranker: one user, one context, N candidate ads in; the slots sold, best first, with pCTR, eCPM and price out.

    POST /v1/models/NAME:rank
    {"user": {field: value}, "context": {field: value},
     "candidates": [{"id": "ad 7", "bid": 1.20, field: value}, ...],
     "slots": 3, "pricing": "second", "reserve": 0.5}

User and context are given, checked, looked up and, where the model can, computed once for all candidates. Every candidate is scored for
the same slot, the contract's default (even where the prediction routes require one), so that the order does not depend on an order.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from pydantic import ValidationError

from clickmill.auction import AuctionRules, Outcome
from clickmill.contract import FeatureContract, Role
from clickmill.errors import RequestError, RequestTooLarge
from clickmill.features.requests import columns_of_rows
from clickmill.features.sides import shared_fields
from clickmill.features.texts import Column
from serving import error_paths
from serving.limits import Limits
from serving.refusals import MalformedRequest
from serving.tensors import filled
from serving.v1 import check_strings

Raw = dict[str, Column]

_RULES = frozenset(AuctionRules.model_fields)
_KEYS = frozenset({"request_id", "user", "context", "candidates"}) | _RULES
HOUSE_RULES = AuctionRules(slots=10)
"""What holds where a request names no rule of its own."""
MOST_MONEY = 1e15
"""Largest bid. Beyond it an eCPM could be infinite, which JSON has no word for."""
_EXAMPLE = '{"user": {...}, "context": {...}, "candidates": [{"id": "ad 7", "bid": 1.2, ...}]}'


class Source(StrEnum):
    """Where a probability comes from, best first."""

    MODEL = "model"
    """The bundle, for this very request; or for an equal one some seconds ago, whose score it is."""
    RECENT = "recent"
    """The bundle, for this user and ad a while ago, perhaps in another context."""
    AD_PRIOR = "ad_prior"
    """The ad's own click rate in the bundle's training log."""
    GLOBAL_PRIOR = "global_prior"
    """The click rate of all ads: nothing is known of this one."""


@dataclass(frozen=True)
class RankingForm:
    """What a contract asks of a ranking, looked up once per bundle."""

    contract: FeatureContract
    shared: frozenset[str]
    candidate: frozenset[str]
    position: str | None
    bid: str

    @classmethod
    def of(cls, contract: FeatureContract) -> RankingForm:
        """The form of a contract."""
        shared = shared_fields(contract) & contract.inputs.keys()
        return cls(
            contract=contract,
            shared=shared,
            candidate=frozenset(contract.inputs.keys() - shared),
            position=contract.of_role(Role.POSITION),
            bid=contract.of_role(Role.BID) or "bid",
        )


@dataclass(frozen=True, eq=False)
class Outline:
    """A request of n candidates, held to the shape of a ranking: all that an auction needs but the probabilities."""

    bids: np.ndarray
    """(n,) float64, currency per click."""
    ids: Sequence[str | None]
    """What the caller calls each candidate."""
    rules: AuctionRules
    request_id: str | None
    shared: Mapping[str, Any]
    """The fields of user and context as they were sent, not yet held to the contract."""
    candidates: Sequence[Mapping[str, Any]]
    """Each with its fields as they were sent, and its id and bid."""

    def texts(self, name: str) -> list[str | None]:
        """(n,) values of an id field as text, None where it was not sent."""
        return [None if (value := c.get(name)) is None else str(value) for c in self.candidates]


@dataclass(frozen=True, eq=False)
class Ranking:
    """A request that keeps every rule of the contract."""

    outline: Outline
    raw: Raw
    """Inputs of `Bundle.rank`: one row of the shared fields, n of the others."""
    store: str | None = None
    """Where defaults stand in for the feature store: what became of its read, `late`, `failed` or `skipped`."""
    arm: str | None = None
    """Of the experiment that the user is in."""
    counted: bool = False
    """Whether an experiment runs and the user is known: also what those in no arm were shown is wanted, to know them from before."""

    @property
    def rows(self) -> int:
        """How many candidates."""
        return len(self.outline.bids)


def outline(payload: Any, form: RankingForm, limits: Limits, defaults: AuctionRules) -> Outline:
    """Hold a decoded body to the shape of a ranking, its bids and its rules; the fields are not looked at.

    Raises MalformedRequest for another shape, RequestError naming part, candidate and rule, RequestTooLarge.
    """
    if not isinstance(payload, dict) or "candidates" not in payload:
        raise MalformedRequest(f"the body must be an object with `candidates`: {_EXAMPLE}")
    unknown = payload.keys() - _KEYS
    if unknown:
        first = min(unknown)
        raise MalformedRequest(
            f"unknown key `{first:.100}`; a ranking has {', '.join(sorted(_KEYS))}",
            path=error_paths.step(first).removeprefix("."),
        )
    request_id = payload.get("request_id")
    if request_id is not None and not isinstance(request_id, str):
        raise MalformedRequest(
            f"`request_id` must be a string; got {type(request_id).__name__}", path="request_id"
        )
    shared = _shared(payload, form)
    candidates = _candidates(payload["candidates"], form, limits)
    ids, bids = _ids(candidates), _bids(candidates, form.bid)
    return Outline(bids, ids, _rules(payload, defaults), request_id, shared, candidates)


def parse(payload: Any, form: RankingForm, limits: Limits, defaults: AuctionRules) -> Ranking:
    """Hold a decoded body to the contract. Raises what `outline` does, and RequestError naming part, candidate, field and rule."""
    asked = outline(payload, form, limits, defaults)
    return Ranking(asked, fields(payload, asked, form, limits))


def fields(payload: Any, asked: Outline, form: RankingForm, limits: Limits) -> Raw:
    """The fields of an outline, or of a part of its candidates, held to the contract. Raises RequestError naming part, candidate, field, rule."""
    candidates, own = asked.candidates, {"id", form.bid}
    if own & form.candidate:  # a field of the contract that is called as one of the ranking's own: those win
        candidates = [{name: c[name] for name in c.keys() - own} for c in candidates]
    raw = _read_shared(payload, asked.shared, form, limits)
    raw |= _read_candidates(candidates, form, limits)
    if form.position is not None:
        raw[form.position] = filled(form.contract.inputs[form.position], len(candidates))
    return raw


@dataclass(frozen=True, eq=False)
class Judged:
    """What every candidate of a request was found to be worth."""

    pctr: np.ndarray
    """(n,)."""
    logit: np.ndarray
    """(n,)."""
    sources: Sequence[Source]
    """Of each probability."""


def answer(
    asked: Outline, judged: Judged, outcome: Outcome, *, digest: str, fallback: str | None = None
) -> dict[str, Any]:
    """The body of the answer: the candidates shown, best first. `fallback` is the reason why the model was not asked."""
    pctr, logit = judged.pctr, judged.logit
    return {
        "request_id": asked.request_id,
        "bundle_digest": digest,
        "fallback": fallback,
        "ranked": [
            {
                "candidate": at,
                "id": asked.ids[at],
                "pctr": float(pctr[at]),
                "logit": float(logit[at]),
                "ecpm": ecpm,
                "price": price,
                "source": judged.sources[at],
            }
            for at, ecpm, price in zip(
                outcome.candidates.tolist(), outcome.ecpm.tolist(), outcome.price.tolist(), strict=True
            )
        ],
    }


def _shared(payload: dict[str, Any], form: RankingForm) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for part in ("user", "context"):
        values = payload.get(part, {})
        if not isinstance(values, dict):
            raise MalformedRequest(
                f"`{part}` must be an object of fields; got {type(values).__name__}: {_EXAMPLE}", path=part
            )
        for name in values:
            if name in form.candidate:
                raise RequestError(
                    f"`{part}`: field `{name}` belongs to a candidate; give it with each of them",
                    field=name,
                    path=part + error_paths.step(name),
                )
            if name in found:
                raise RequestError(
                    f"field `{name:.100}` is given under `user` and under `context`; keep one",
                    field=name,
                    path=part + error_paths.step(name),
                )
        found |= values
    return found


def _candidates(candidates: Any, form: RankingForm, limits: Limits) -> list[dict[str, Any]]:
    if not isinstance(candidates, list):
        raise MalformedRequest(
            f"`candidates` must be a list of objects; got {type(candidates).__name__}: {_EXAMPLE}",
            path="candidates",
        )
    if not candidates:
        raise RequestError("`candidates` is empty; send at least one", path="candidates")
    if len(candidates) > limits.max_rows:
        raise RequestTooLarge(
            f"{len(candidates):,} candidates, the limit is {limits.max_rows:,} a request", path="candidates"
        )
    if set(map(type, candidates)) == {dict}:
        named = set(map(tuple, candidates))  # mostly one
        if not any(form.shared.intersection(names) or form.position in names for names in named):
            return candidates
    for number, candidate in enumerate(candidates):
        if type(candidate) is not dict:
            raise RequestError(
                f"candidate {number}: must be an object; got {type(candidate).__name__}: {_EXAMPLE}",
                row=number,
                path=f"candidates[{number}]",
            )
        misplaced = candidate.keys() & form.shared
        if misplaced:
            raise _of_candidate(
                number,
                first := min(misplaced),
                f"field `{first}` is the same for all candidates; give it once, under `user` or `context`",
            )
        if form.position in candidate:
            raise _of_candidate(
                number,
                str(form.position),
                f"field `{form.position}` is what a ranking decides; leave it out",
            )
    return candidates


def _ids(candidates: list[dict[str, Any]]) -> list[str | None]:
    values = [candidate.get("id") for candidate in candidates]
    for number, value in enumerate(values) if not {str, type(None)}.issuperset(map(type, values)) else ():
        if value is not None and not isinstance(value, str):
            raise _of_candidate(number, "id", f"`id` must be a string; got {type(value).__name__}")
    return values


def _bids(candidates: list[dict[str, Any]], name: str) -> np.ndarray:
    values = [candidate.get(name) for candidate in candidates]
    if {int, float}.issuperset(map(type, values)):
        with contextlib.suppress(OverflowError):
            bids = np.array(values, np.float64)
            if ((bids >= 0) & (bids <= MOST_MONEY)).all():
                return bids
    number, candidate = next((n, c) for n, c in enumerate(candidates) if not _is_bid(c.get(name)))
    if name not in candidate:
        raise _of_candidate(number, name, f"`{name}` is missing; send what a click is worth to it")
    raise _of_candidate(
        number, name, f"`{name}` must be a number of 0 to {MOST_MONEY:g}; got {candidate[name]!r:.60}"
    )


def _is_bid(value: Any) -> bool:
    return not isinstance(value, bool) and isinstance(value, int | float) and 0 <= value <= MOST_MONEY


def _rules(payload: dict[str, Any], defaults: AuctionRules) -> AuctionRules:
    wanted = {name: payload[name] for name in _RULES & payload.keys()}
    if not wanted:
        return defaults
    try:
        return AuctionRules.model_validate(defaults.model_dump() | wanted)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0])
        raise RequestError(f"`{name}`: {first['msg']}; got {first['input']!r:.60}", path=name) from None


def _of_candidate(number: int, name: str, words: str) -> RequestError:
    path = f"candidates[{number}]{error_paths.step(name)}"
    return RequestError(f"candidate {number}: {words}", field=name, row=number, path=path)


def _read_shared(
    payload: Mapping[str, Any], shared: Mapping[str, Any], form: RankingForm, limits: Limits
) -> Raw:
    """The fields of user and context as raw tensors of one row. The contract's words speak of a row; there is none to the caller."""
    try:
        raw = columns_of_rows([shared], form.contract, only=form.shared)
        check_strings(raw, limits)
    except RequestError as error:
        name = error.field or ""
        given = next((part for part in ("user", "context") if name in payload.get(part, {})), None)
        known = form.contract.fields.get(name)
        home = "user" if known is not None and known.role in (Role.USER, Role.SEQUENCE) else "context"
        words = f"user and context: {str(error).removeprefix('row 0, ')}"
        path = error_paths.of_member(given or home, error)
        raise type(error)(words, field=error.field, item=error.item, path=path) from None
    return raw


def _read_candidates(candidates: Sequence[Mapping[str, Any]], form: RankingForm, limits: Limits) -> Raw:
    """The fields of the candidates as raw tensors. The contract's words speak of rows, which are candidates here."""
    try:
        wanted = form.candidate - {form.position}
        raw = columns_of_rows(candidates, form.contract, only=wanted, beside=("id", form.bid))
        check_strings(raw, limits)
    except RequestError as error:
        words = str(error).replace("row ", "candidate ", 1)
        path = error_paths.of_row("candidates", error)
        raise type(error)(words, field=error.field, row=error.row, item=error.item, path=path) from None
    return raw
