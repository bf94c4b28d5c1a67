"""The different rows of the fused table that a batch names, found before the step, on whichever thread there is.

A step fetches each of them once, and adds up the gradients of all places that named it. Both go through one sort:

    distinct   int32 (n,)   the different rows, ascending
    order      int32 (m,)   the m places of the batch that name a row, sorted by it
    segments   int32 (m,)   for each entry of `order`, which of the distinct rows it names, ascending

With places in this order the sum of gradients is one run through memory (`rows.by_row`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import numpy as np

PLAN = ("distinct", "order", "segments")
"""Keys that `with_distinct_rows` adds to a batch."""
_BLOCK = 1 << 22


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


def times_named(arrays: Mapping[str, np.ndarray], rows: int) -> np.ndarray:
    """How many places of a whole split (its inputs by key) name each of the `rows` of the table: (rows,) float32."""
    counts = np.zeros(rows, np.int32)
    for key in row_keys(arrays):
        for block in _blocks(arrays[key]):
            np.add.at(counts, block, 1)
    return counts.astype(np.float32)


def shares(planned: Mapping[str, np.ndarray], named: np.ndarray | None) -> np.ndarray:
    """1 / n for each of a batch's distinct rows that n places of the whole split name: (n,) float32. 0 for padding that none names.

    planned: a batch from `with_distinct_rows`. named: of the split, `times_named`; None: each row is named once.
    """
    here = np.bincount(planned["segments"], minlength=len(planned["distinct"]))
    everywhere = 1.0 if named is None else np.maximum(named[planned["distinct"]], 1.0)
    return (np.minimum(here, 1) / everywhere).astype(np.float32)


def _blocks(array: np.ndarray) -> Iterator[np.ndarray]:
    """A memory-mapped array piece by piece, flat."""
    rows = max(1, _BLOCK // max(1, int(np.prod(array.shape[1:]))))
    for start in range(0, len(array), rows):
        yield np.asarray(array[start : start + rows]).ravel()
