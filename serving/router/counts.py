"""What each bundle answered through the door, since the router began."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field

from clickmill.metric_names import LATENCY_EDGES


@dataclass
class Counts:
    """Of one bundle, live or in the shadow."""

    requests: int = 0
    errors: int = 0
    """5xx, broken connections, timeouts; answers that another bundle had to give count here for the one that failed."""
    buckets: list[int] = field(default_factory=lambda: [0] * (len(LATENCY_EDGES) + 1))
    """Requests by seconds, `LATENCY_EDGES` and above."""
    seconds: float = 0.0
    """Sum."""

    def add(self, seconds: float, *, failed: bool) -> None:
        """One request."""
        self.requests += 1
        self.errors += failed
        self.buckets[bisect_left(LATENCY_EDGES, seconds)] += 1
        self.seconds += seconds

    def slower(self, seconds: float) -> int:
        """Requests slower than this, counted at the nearest edge at or above it.

        >>> counts = Counts()
        >>> for taken in (0.002, 0.011, 0.2):
        ...     counts.add(taken, failed=False)
        >>> counts.slower(0.010)
        2
        """
        return sum(self.buckets[bisect_left(LATENCY_EDGES, seconds) + 1 :])


@dataclass
class Pairs:
    """Requests that two bundles got at the same moment: the one that serves, and the spare."""

    requests: int = 0
    only_serving: int = 0
    """Of them: failed by the one that serves only."""
    only_spare: int = 0
    """Of them: failed by the spare only."""

    def add(self, *, serving_failed: bool, spare_failed: bool) -> None:
        """One request."""
        self.requests += 1
        self.only_serving += serving_failed and not spare_failed
        self.only_spare += spare_failed and not serving_failed


__all__ = ["Counts", "Pairs"]
