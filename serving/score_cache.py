"""Scores of rankings that were asked before: the same inputs to the same bundle are the same scores, so none is computed twice.

The key of a candidate is everything that the graph sees of it, the looked-up features too; of the time only what the contract derives
from it (hour, weekday), so that the next second asks the same question. Off by default: see docs/serving.md.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable, Sequence

import numpy as np
from cachetools import TTLCache

from clickmill.contract import FeatureContract, Hour, Role, Weekday
from serving.ranking import RankingForm, Raw

Scores = dict[str, np.ndarray]
Score = Callable[[Raw, int], Scores]
"""Scores of a request's raw tensors and its number of candidates."""
Count = Callable[[str, int], None]
"""Gets how many candidates were a `hit`, or a `miss`."""

_HOUR, _DAY, _WEEK = 3600, 86_400, 604_800


class ScoreCache:
    """Safe from any thread. A look costs about a microsecond a candidate and field."""

    def __init__(
        self,
        most_scores: int,
        seconds: float,
        count: Count = lambda outcome, candidates: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """At most `most_scores` (at least 1) of at most `seconds` age."""
        self._most, self._count = most_scores, count
        self._known: TTLCache[Hashable, dict[Hashable, tuple[float, float]]] = TTLCache(
            most_scores, seconds, clock, len
        )
        self._digest = ""
        self._lock = threading.Lock()

    def scores(self, digest: str, form: RankingForm, raw: Raw, score: Score) -> Scores:
        """pctr and logit (n,) of a request by the bundle `digest`; `score` is asked for the candidates that are not known."""
        request, candidates = keys_of(form, raw)
        with self._lock:
            if digest != self._digest:
                self._known.clear()
                self._digest = digest
            known = dict(self._known.get(request, ()))
        missing = [place for place, key in enumerate(candidates) if key not in known]
        self._count("hit", len(candidates) - len(missing))
        self._count("miss", len(missing))
        if missing:
            found = score(_of(form, raw, missing), len(missing))
            pairs = zip(found["pctr"].tolist(), found["logit"].tolist(), strict=True)
            known |= dict(zip((candidates[place] for place in missing), pairs, strict=True))
            with self._lock:
                if digest == self._digest and len(known) <= self._most:
                    self._known[request] = known
        both = np.array([known[key] for key in candidates], np.float32).reshape(-1, 2)
        return {"pctr": both[:, 0].copy(), "logit": both[:, 1].copy()}


def keys_of(form: RankingForm, raw: Raw) -> tuple[Hashable, list[Hashable]]:
    """What the graph sees of a request's shared fields, and of each of its n candidates."""
    shared = tuple((name, _seen(name, raw[name], form.contract)[0]) for name in sorted(form.shared))
    columns = [_seen(name, raw[name], form.contract) for name in sorted(form.candidate)]
    return shared, list(zip(*columns, strict=True))


def _seen(name: str, values: np.ndarray, contract: FeatureContract) -> Sequence[Hashable]:
    """(n,) values of a field as the graph can tell them apart."""
    if contract.inputs[name].role is Role.EVENT_TIME:
        derived = {
            type(f.encoding) for f in contract.fields.values() if getattr(f.encoding, "of", None) == name
        }
        hours = values % _DAY // _HOUR if Hour in derived else values * 0
        days = values % _WEEK // _DAY if Weekday in derived else values * 0
        return list(zip(hours.tolist(), days.tolist(), strict=True))
    found = values.tolist()
    return [tuple(row) for row in found] if values.ndim == 2 else found


def _of(form: RankingForm, raw: Raw, places: list[int]) -> Raw:
    return {name: values if name in form.shared else values[places] for name, values in raw.items()}
