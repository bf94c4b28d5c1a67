"""Remembers the scores of each user's last ranking, for the fallback when the model cannot be asked. Bounded by number and age; never part
of a normal answer."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

import numpy as np
from cachetools import TTLCache

Scored = dict[str, float]
"""Probability by ad."""


class RecentScores:
    """Safe from any thread. Holds one ranking a user, the last: a page asks for the same ads again, and they cost one `dict(zip(...))`."""

    def __init__(self, most_scores: int, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        """At most `most_scores` probabilities of at most `seconds` age; 0 of either keeps nothing."""
        self._keeps = most_scores > 0 and seconds > 0
        self._most = most_scores
        self._last: TTLCache[str, Scored] = TTLCache(max(most_scores, 1), max(seconds, 1e-9), clock, len)
        self._digest = ""
        self._lock = threading.Lock()

    def note(self, digest: str, user: str | None, ads: Sequence[str | None], pctr: np.ndarray) -> None:
        """Remember a ranking (n,) by the bundle `digest`; those by another bundle are forgotten."""
        if not self._keeps or user is None or len(ads) > self._most:
            return
        scored: Scored = {ad: p for ad, p in zip(ads, pctr.tolist(), strict=True) if ad is not None}
        with self._lock:
            if digest != self._digest:
                self._last.clear()
                self._digest = digest
            self._last[user] = scored

    def of(self, digest: str, user: str | None, ads: Sequence[str | None]) -> list[float | None]:
        """(n,) what is remembered of a user's ads by the bundle `digest`; None where nothing is."""
        with self._lock:
            known = self._last.get(user) if user is not None and digest == self._digest else None
        if known is None:
            return [None] * len(ads)
        return [known.get(ad) if ad is not None else None for ad in ads]
