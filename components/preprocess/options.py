"""From the pipeline's parameters to the typed options of the preparation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
from pydantic import ValidationError

from clickmill.data import PrepareOptions
from clickmill.errors import UsageError

OWN_PARAMETERS = frozenset({"negatives_kept", "seed", "max_quarantine_share"})


def options_of(given: Mapping[str, Any], *, negatives_kept: float, seed: int) -> PrepareOptions:
    """`given` with what the pipeline has as parameters of its own; durations may be written as in contracts: '24h', '15min'.

    Raises UsageError that names every wrong key.
    """
    doubled = OWN_PARAMETERS & set(given)
    if doubled:
        raise UsageError(
            f"preparation: {', '.join(sorted(doubled))} is a parameter of the pipeline itself; give it there"
        )
    values = dict(given)
    if isinstance(values.get("window"), str):
        try:
            values["window"] = pd.Timedelta(values["window"]).to_pytimedelta()
        except ValueError as error:
            raise UsageError(
                f"preparation.window: {values['window']!r} is not a duration; write for example '15min', '24h' or '7d'"
            ) from error
    try:
        return PrepareOptions(**values, negatives_kept=negatives_kept, seed=seed)
    except ValidationError as error:
        told = "\n".join(
            f"  preparation.{'.'.join(map(str, e['loc']))}: {e['msg']}; got {e['input']!r}"
            for e in error.errors()
        )
        raise UsageError(
            f"preparation: {error.error_count()} settings are wrong; known are "
            f"{', '.join(n for n in PrepareOptions.model_fields if n not in OWN_PARAMETERS)}\n{told}"
        ) from error
