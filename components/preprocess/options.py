"""From the pipeline's parameters to the typed options of the preparation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from clickmill.data import PrepareOptions
from clickmill.errors import UsageError
from components.typed_settings import typed_settings


def options_of(given: Mapping[str, Any], *, negatives_kept: float, seed: int) -> PrepareOptions:
    """`given` with the share of non-clicks kept and the seed; durations may be written as in contracts: '24h', '15min'.

    Raises UsageError that names every wrong key.
    """
    own = {
        "negatives_kept": negatives_kept,
        "seed": seed,
        "max_quarantine_share": None,
    }  # the last is validate_data's
    values = dict(given)
    if isinstance(values.get("window"), str):
        values["window"] = _duration(values["window"])
    return typed_settings("preparation", PrepareOptions, values, own)


def _duration(text: str) -> Any:
    try:
        return pd.Timedelta(text).to_pytimedelta()
    except ValueError as error:
        raise UsageError(
            f"preparation.window: {text!r} is not a duration; write for example '15min', '24h' or '7d'"
        ) from error
