"""How a rule across fields says that it is broken."""

from __future__ import annotations

from typing import Any


class FieldProblem(ValueError):
    """A rule across fields is broken; carries the path under `fields`, the value, and the remedy."""

    def __init__(self, path: str, value: Any, remedy: str) -> None:
        super().__init__(remedy)
        self.path = f"fields.{path}" if path else "fields"
        self.value = value
        self.remedy = remedy
