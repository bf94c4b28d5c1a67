"""Which requests are logged: a fixed share, decided by the request's id alone."""

from __future__ import annotations

import hashlib


def is_kept(request_id: str, share: float) -> bool:
    """Whether a request belongs to the logged share (0 to 1).

    The same id is always decided alike: a retry is logged when its first try was, a request's candidates stay together, and a smaller
    share logs a subset of what a larger one would.
    """
    if share >= 1.0:
        return True
    place = int.from_bytes(hashlib.blake2b(request_id.encode(), digest_size=8).digest(), "big")
    return place < share * 2.0**64
