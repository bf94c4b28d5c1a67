"""Scores of rankings that were asked before: the same inputs to the same bundle are the same scores, so none is computed twice.

The key of a candidate is everything that the graph sees of it, the looked-up features too; of the time only what the contract derives
from it (hour, weekday), so that the next second asks the same question. Off by default: see docs/serving.md.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

import numpy as np
from cachetools import TTLCache

from clickmill.contract import FeatureContract, Hour, Role, Weekday
from serving.ranking import RankingForm, Raw

Scores = dict[str, np.ndarray]
Score = Callable[[Raw, int], Scores]
"""Scores of a request's raw tensors and its number of candidates."""
Count = Callable[[str, int], None]
"""Gets how many candidates were a `hit`, were being scored for another request (`shared`), or were a `miss`."""

_Pairs = dict[Hashable, tuple[float, float]]
"""pctr and logit by candidate."""

_HOUR, _DAY, _WEEK = 3600, 86_400, 604_800


@dataclass(eq=False)
class Begun:
    """A request whose own part is scored; the rest of it is being scored for others, and comes to this one too."""

    digest: str
    form: RankingForm
    raw: Raw
    request: Hashable
    candidates: Sequence[Hashable]
    known: _Pairs
    flights: tuple[Future[_Pairs], ...]
    """Of the candidates that others score at this moment."""

    async def others(self) -> None:
        """Wait for them, and take what they bring. One that fails brings nothing: its caller's time may have been shorter than ours."""
        for flight in self.flights:
            with contextlib.suppress(Exception):
                # shielded, as it is not ours to cancel
                self.known |= await asyncio.shield(asyncio.wrap_future(flight))
        self.flights = ()


class ScoreCache:
    """Safe from any thread. A look costs about a microsecond a candidate and field.

    Many who ask the same at once make one run of the graph: `begin` scores what nobody has and nobody is scoring, then the event loop waits
    for the others (`Begun.others`; never a thread, which those others may need), then `end` has all.
    """

    def __init__(
        self,
        most_scores: int,
        seconds: float,
        count: Count = lambda outcome, candidates: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """At most `most_scores` (at least 1) of at most `seconds` age."""
        self._most, self._count = most_scores, count
        self._known: TTLCache[Hashable, _Pairs] = TTLCache(most_scores, seconds, clock, len)
        self._digest = ""
        self._flying: dict[tuple[str, Hashable], dict[Hashable, Future[_Pairs]]] = {}
        self._lock = threading.Lock()

    def begin(self, digest: str, form: RankingForm, raw: Raw, score: Score) -> Begun:
        """Score what nobody has and nobody is scoring of a request to the bundle `digest`. Raises what `score` raises."""
        request, candidates = keys_of(form, raw)
        flight: Future[_Pairs] = Future()
        with self._lock:
            if digest != self._digest:
                self._known.clear()
                self._digest = digest
            known = dict(self._known.get(request, ()))
            flying = self._flying.get((digest, request), {})
            shared = {key: flying[key] for key in candidates if key not in known and key in flying}
            missing = [at for at, key in enumerate(candidates) if key not in known and key not in shared]
            if missing:
                own = self._flying.setdefault((digest, request), flying)
                own |= dict.fromkeys((candidates[at] for at in missing), flight)
        waited = sum(key in shared for key in candidates)
        for outcome, number in (
            ("hit", len(candidates) - waited - len(missing)),
            ("shared", waited),
            ("miss", len(missing)),
        ):
            self._count(outcome, number)
        begun = Begun(digest, form, raw, request, candidates, known, tuple(set(shared.values())))
        if missing:
            self._fly(begun, missing, score, flight)
        return begun

    def end(self, begun: Begun, score: Score) -> Scores:
        """pctr and logit (n,) of the request; what those waited for did not bring is scored now. Raises what `score` raises."""
        missing = [at for at, key in enumerate(begun.candidates) if key not in begun.known]
        if missing:
            self._fly(begun, missing, score, Future())
        both = np.array([begun.known[key] for key in begun.candidates], np.float32).reshape(-1, 2)
        return {"pctr": both[:, 0].copy(), "logit": both[:, 1].copy()}

    def _fly(self, begun: Begun, missing: list[int], score: Score, flight: Future[_Pairs]) -> None:
        """Score candidates, and give them to all who wait for `flight`."""
        keys = [begun.candidates[at] for at in missing]
        try:
            found = score(_of(begun.form, begun.raw, missing), len(missing))
            pairs = zip(found["pctr"].tolist(), found["logit"].tolist(), strict=True)
            brought = dict(zip(keys, pairs, strict=True))
        except BaseException as error:
            self._land(begun, keys, flight, {})
            flight.set_exception(error)
            raise
        self._land(begun, keys, flight, brought)
        flight.set_result(brought)
        begun.known |= brought

    def _land(self, begun: Begun, keys: list[Hashable], flight: Future[_Pairs], brought: _Pairs) -> None:
        """What was brought is known before its flight is over: who comes in between finds the one or the other."""
        place = (begun.digest, begun.request)
        with self._lock:
            if brought and begun.digest == self._digest:
                known = {**self._known.get(begun.request, {}), **begun.known, **brought}
                if len(known) <= self._most:
                    self._known[begun.request] = known
            flying = self._flying.get(place, {})
            for key in keys:
                if flying.get(key) is flight:
                    del flying[key]
            if not flying:
                self._flying.pop(place, None)


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
