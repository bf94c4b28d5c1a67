"""From the pipeline's parameter to the gate's policy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from clickmill.errors import UsageError
from clickmill.release import GatePolicy


def policy_of(given: Mapping[str, Any]) -> GatePolicy:
    """Raises UsageError that names every wrong key."""
    try:
        return GatePolicy(**given)
    except ValidationError as error:
        told = "\n".join(
            f"  gate.{'.'.join(map(str, e['loc']))}: {e['msg']}; got {e['input']!r}" for e in error.errors()
        )
        raise UsageError(
            f"gate: {error.error_count()} settings are wrong; known are {', '.join(GatePolicy.model_fields)}\n{told}"
        ) from error
