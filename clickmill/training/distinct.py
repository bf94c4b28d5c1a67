"""The different rows of the fused table that a batch names, found before the step, on whichever thread there is.

A step fetches each of them once, and adds up the gradients of all places that named it. Both go through one sort:

    distinct   int32 (n,)   the different rows, ascending
    order      int32 (m,)   the m places of the batch that name a row, sorted by it
    segments   int32 (m,)   for each entry of `order`, which of the distinct rows it names, ascending

With places in this order the sum of gradients is one run through memory (`rows.by_row`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

PLAN = ("distinct", "order", "segments")
"""Keys that `with_distinct_rows` adds to a batch."""


def row_keys(keys: Iterable[str]) -> list[str]:
    """Those inputs that hold rows of the fused table, in the order in which `order` counts their places."""
    return sorted(key for key in keys if key == "slots" or key.startswith("list/"))


def with_distinct_rows(batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The batch with the arrays above, and with places among `distinct` in the rows' stead.

    Row 0, the padding, comes first among them whether named or not, so that place 0 is padding too. A batch that names no row has none.
    """
    keys = row_keys(batch)
    named = np.concatenate([np.empty(0, np.int32), *(batch[key].ravel() for key in keys)])
    # Row and place in one number: sorting plain numbers is vectorised, sorting places by rows (argsort) takes three times as long.
    packed = named.astype(np.int64) << 32 | np.arange(len(named))
    packed.sort()
    order, rows = (packed & 0xFFFFFFFF).astype(np.int32), (packed >> 32).astype(np.int32)
    first = np.diff(rows, prepend=np.int32(0)) != 0
    segments = np.cumsum(first, dtype=np.int32)
    places = np.empty_like(order)
    places[order] = segments
    padding = np.zeros(min(1, len(named)), np.int32)
    found = {**batch, "distinct": np.concatenate([padding, rows[first]])}
    found |= {"order": order, "segments": segments}
    sizes = [batch[key].size for key in keys]
    for key, part in zip(keys, np.split(places, np.cumsum(sizes)[:-1]) if keys else [], strict=True):
        found[key] = part.reshape(batch[key].shape)
    return found
