"""Alerts that fire now, by Alertmanager's webhook. Kept on disk before the webhook is answered, so that a crash between accepting an
alert and acting on it loses nothing.

An alert is known by its fingerprint and start: told again it changes nothing, told as resolved it goes. What comes late about an
alert that was resolved after it began stays resolved.
"""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from clickmill.disk import replace_text
from clickmill.errors import DataError, RequestError
from clickmill.release import Alert

ROLLBACK = "rollback"
_RESOLVED_KEPT = 1_000


class _Told(BaseModel):
    """One alert of the webhook's payload, version 4."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    status: Literal["firing", "resolved"]
    labels: dict[str, str]
    annotations: dict[str, str] = {}
    starts_at: AwareDatetime = Field(alias="startsAt")
    fingerprint: str = Field(min_length=1)

    @property
    def key(self) -> str:
        return f"{self.fingerprint} {self.starts_at.isoformat()}"


class _Payload(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    version: Literal["4"]
    alerts: tuple[_Told, ...]


class _Stored(BaseModel):
    firing: dict[str, Alert] = {}
    resolved: list[str] = []


class Inbox:
    """Alerts whose action is a rollback. Any thread may put in and take out."""

    def __init__(self, path: Path) -> None:
        """Go on from the file, if it is there. Raises DataError naming it when it can't be read."""
        self._path = path
        self._lock = threading.Lock()
        try:
            self._stored = _Stored.model_validate_json(path.read_bytes()) if path.exists() else _Stored()
        except ValidationError as error:
            raise DataError(
                f"{path}: cannot be read as alerts; remove it, Alertmanager tells again what still fires ({error})"
            ) from error

    @property
    def firing(self) -> tuple[Alert, ...]:
        """Those that fire now, in the order they came."""
        with self._lock:
            return tuple(self._stored.firing.values())

    def take(self, body: bytes) -> int:
        """Take in a webhook's body; returns how many of its alerts changed what is known. On the disk when this returns.

        Raises RequestError for a body that is no payload of version 4.
        """
        try:
            payload = _Payload.model_validate(json.loads(body))
        except (ValidationError, ValueError) as error:
            raise RequestError(f"not a webhook of Alertmanager, version 4: {_first(error)}") from None
        with self._lock:
            before = self._stored.model_copy(deep=True)
            changed = sum(self._told(alert) for alert in payload.alerts)
            if changed:
                try:
                    replace_text(self._path, self._stored.model_dump_json())
                except OSError:
                    self._stored = before
                    raise
            return changed

    def _told(self, told: _Told) -> bool:
        if told.labels.get("action") != ROLLBACK or not told.labels.get("bundle"):
            return False
        stored = self._stored
        if told.status == "resolved":
            if told.key in stored.resolved:
                return False
            stored.resolved = [*stored.resolved, told.key][-_RESOLVED_KEPT:]
            stored.firing.pop(told.key, None)
            return True
        if told.key in stored.firing or told.key in stored.resolved:
            return False
        words = told.annotations.get("summary") or told.annotations.get("description") or "no summary"
        stored.firing[told.key] = Alert(
            name=told.labels.get("alertname", "?"),
            fingerprint=told.fingerprint,
            bundle=told.labels["bundle"],
            summary=words,
        )
        return True


def _first(error: Exception) -> Any:
    if not isinstance(error, ValidationError):
        return error
    found = error.errors()[0]
    return f"{'.'.join(map(str, found['loc']))}: {found['msg']}"


__all__ = ["Inbox"]
