"""Negative sampling that gives the same rows on every machine: a row is kept by the hash of its key, never by a dice."""

from __future__ import annotations

from typing import Any

import ibis
import ibis.expr.datatypes as dt


@ibis.udf.scalar.builtin(name="md5_number_lower")
def _md5_lower(text: str) -> dt.uint64:  # type: ignore[valid-type]
    """DuckDB: the lower 8 bytes of the MD5 digest as a number. Unlike `hash` it is the same in every version."""


def keep_negatives(table: ibis.Table, label: str, key: Any, share: float, seed: int) -> ibis.Table:
    """All clicks and about `share` of the other rows, chosen by `key` (text or number, per row) and `seed`.

    A smaller share keeps a subset of what a larger one keeps. P(y = 1) rises; a model trained on the result is set right
    by adding ln(share) to its logit (He et al., ADKDD 2014, section 6.3).
    """
    if share >= 1:
        return table
    number = _md5_lower(ibis.literal(f"{seed}:") + key.cast("string"))
    return table.filter(
        (table[label].cast("int64") == 1) | (number < ibis.literal(int(share * 2**64), "uint64"))
    )
