"""Alerts that fire now, by Alertmanager's webhook. Kept on disk before the webhook is answered, so that a crash between accepting an
alert and acting on it loses nothing."""

from __future__ import annotations

import threading
from pathlib import Path

from pydantic import ValidationError

from clickmill.disk import replace_text
from clickmill.errors import DataError
from clickmill.release import Alert
from monitoring.release.alerts import Alerts, read_webhook


class Inbox:
    """Alerts whose action is a rollback. Any thread may put in and take out."""

    def __init__(self, path: Path) -> None:
        """Go on from the file, if it is there. Raises DataError naming it when it can't be read."""
        self._path = path
        self._lock = threading.Lock()
        try:
            self._alerts = Alerts.model_validate_json(path.read_bytes()) if path.exists() else Alerts()
        except ValidationError as error:
            raise DataError(
                f"{path}: cannot be read as alerts; remove it, Alertmanager tells again what still fires ({error})"
            ) from error

    @property
    def firing(self) -> tuple[Alert, ...]:
        """Those that fire now, in the order they came."""
        with self._lock:
            return tuple(self._alerts.firing.values())

    def take(self, body: bytes) -> int:
        """Take in a webhook's body; returns how many of its alerts changed what is known. On the disk when this returns.

        Raises RequestError for a body that is no payload of version 4.
        """
        told = read_webhook(body)
        with self._lock:
            alerts, changed = self._alerts.after(told)
            if changed:
                replace_text(self._path, alerts.model_dump_json())
                self._alerts = alerts
            return changed


__all__ = ["Inbox"]
