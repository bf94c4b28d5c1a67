"""Who asks over gRPC. A ranker says that it does: its own callers' request was counted there, and is counted once."""

from __future__ import annotations

from typing import Any

from clickmill import metric_names as names

FROM_RANKER = (("x-clickmill-caller", names.RANKER),)
"""Metadata of a ranker's calls to its predictor."""


def protocol_of(context: Any, own: str) -> str:
    """Value of the metrics' label `protocol` for a call: `own`, or that of a ranker's."""
    (mark,) = FROM_RANKER
    return names.RANKER if mark in {tuple(pair) for pair in context.invocation_metadata() or ()} else own


__all__ = ["FROM_RANKER", "protocol_of"]
