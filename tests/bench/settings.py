"""Settings from the command line of a bench: `model.setting=value` and `setting=value`, values as JSON, or else as words."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from clickmill.models import configure


def parsed(pairs: Sequence[str]) -> dict[str, Any]:
    """`setting=value` to {setting: value}."""
    found = {}
    for pair in pairs:
        key, _, value = pair.partition("=")
        try:
            found[key] = json.loads(value)
        except json.JSONDecodeError:
            found[key] = value
    return found


def by_model(pairs: Sequence[str]) -> dict[str, dict[str, Any]]:
    """`model.setting=value` to {model: {setting: value}}; a setting the model does not know is refused."""
    found: dict[str, dict[str, Any]] = {}
    for where, value in parsed(pairs).items():
        model, _, key = where.partition(".")
        found.setdefault(model, {})[key] = value
    for model, options in found.items():
        configure(model, options)
    return found
