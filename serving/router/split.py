"""Which bundle a user gets."""

from __future__ import annotations

import math
from collections.abc import Mapping
from hashlib import blake2b


def choose(percent: Mapping[str, int], user: str) -> str:
    """The bundle for a user: always the same under the same shares, and few move when shares change.

    Weighted rendezvous hashing (Thaler and Ravishankar 1998; weights by -ln(u) / w): while a canary grows, users only move to it, and
    while it shrinks only back. percent: bundle to its share; at least one. Another candidate draws other users.

    >>> choose({"a": 100}, "user 7")
    'a'
    """
    return min(percent, key=lambda bundle: -math.log(_uniform(bundle, user)) / percent[bundle])


def _uniform(bundle: str, user: str) -> float:
    """In (0, 1), from both names."""
    digest = blake2b(user.encode(), key=bundle.encode()[:64], digest_size=8).digest()
    return (int.from_bytes(digest, "big") + 0.5) / 2.0**64


__all__ = ["choose"]
