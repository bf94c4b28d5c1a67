"""From the pipeline's parameter to the gate's policy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from clickmill.release import GatePolicy
from components.typed_settings import typed_settings


def policy_of(given: Mapping[str, Any]) -> GatePolicy:
    """Raises UsageError that names every wrong key."""
    return typed_settings("gate", GatePolicy, given)
