"""The API writes that the operator has decided on, as values: `reconcile` plans them, `cluster` performs them."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Kind(StrEnum):
    """Kinds of objects that are written."""

    RELEASE = "ModelRelease"
    STATUS = "ModelRelease/status"
    SERVICE = "InferenceService"
    ROUTE = "HTTPRoute"
    SHARES = "ConfigMap"
    PODS = "Service"


class Verb(StrEnum):
    """How."""

    CREATE = "create"
    PATCH = "patch"  # a JSON merge patch
    DELETE = "delete"


@dataclass(frozen=True)
class Write:
    """One call of the API, in the namespace of the ModelRelease. Patches and deletions hold only for the object that was seen:
    `version` is its resourceVersion, and a conflict means to look again."""

    verb: Verb
    kind: Kind
    name: str
    body: dict[str, Any] = field(default_factory=dict)
    version: str = ""

    def __str__(self) -> str:
        return f"{self.verb} {self.kind} {self.name}"


@dataclass(frozen=True)
class Notice:
    """An event of the ModelRelease."""

    reason: str
    message: str
    warning: bool = False


__all__ = ["Kind", "Notice", "Verb", "Write"]
