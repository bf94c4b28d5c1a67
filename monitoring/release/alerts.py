"""Alertmanager's webhook read, and which alerts fire after it. Pure: `inbox` keeps it on a disk, the operator in an object's status.

An alert is known by its fingerprint and start: told again it changes nothing, told as resolved it goes. What comes late about an
alert that was resolved after it began stays resolved.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from clickmill.errors import RequestError
from clickmill.release import Alert

ROLLBACK = "rollback"


class Told(BaseModel):
    """One alert of the webhook's payload, version 4."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    status: Literal["firing", "resolved"]
    """What became of it."""
    labels: dict[str, str]
    """Of the alert."""
    annotations: dict[str, str] = {}
    """Its words."""
    starts_at: AwareDatetime = Field(alias="startsAt")
    """When it began to fire."""
    fingerprint: str = Field(min_length=1)
    """Alertmanager's name of the alert and its labels."""

    @property
    def key(self) -> str:
        """Of this firing."""
        return f"{self.fingerprint} {self.starts_at.isoformat()}"

    @property
    def bundle(self) -> str | None:
        """The bundle that is to be taken back; None for an alert that asks for something else."""
        return self.labels.get("bundle") or None if self.labels.get("action") == ROLLBACK else None

    @property
    def alert(self) -> Alert:
        """As evidence."""
        words = self.annotations.get("summary") or self.annotations.get("description") or "no summary"
        return Alert(
            name=self.labels.get("alertname", "?"),
            fingerprint=self.fingerprint,
            bundle=self.bundle or "",
            summary=words,
        )


class _Payload(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    version: Literal["4"]
    alerts: tuple[Told, ...]


class Alerts(BaseModel):
    """Alerts whose action is a rollback."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    firing: dict[str, Alert] = {}
    """By fingerprint and start, in the order they came."""
    resolved: tuple[str, ...] = ()
    """Fingerprint and start of those that are over, the last of them."""

    def after(self, told: Iterable[Told], *, kept: int = 1_000) -> tuple[Alerts, int]:
        """What is known after these, and how many of them changed it. kept: how many that are over are remembered."""
        firing, resolved, changed = dict(self.firing), list(self.resolved), 0
        for each in told:
            if each.bundle is None:
                continue
            if each.status == "resolved" and each.key not in resolved:
                resolved = [*resolved, each.key][-kept:]
                firing.pop(each.key, None)
                changed += 1
            elif each.status == "firing" and each.key not in firing and each.key not in resolved:
                firing[each.key] = each.alert
                changed += 1
        return (Alerts(firing=firing, resolved=tuple(resolved)) if changed else self), changed


def read_webhook(body: bytes) -> tuple[Told, ...]:
    """Alerts of a webhook's body. Raises RequestError for a body that is no payload of version 4."""
    try:
        return _Payload.model_validate(json.loads(body)).alerts
    except (ValidationError, ValueError) as error:
        raise RequestError(f"not a webhook of Alertmanager, version 4: {_first(error)}") from None


def with_full_digests(alerts: Iterable[Alert], known: Iterable[str | None]) -> tuple[Alert, ...]:
    """Metrics carry the first 12 digits of a bundle; the machine knows all of them. known: the bundles that may be meant."""
    bundles = [bundle for bundle in known if bundle]

    def whole(bundle: str) -> str:
        return next((each for each in bundles if each.startswith(bundle)), bundle)

    return tuple(alert.model_copy(update={"bundle": whole(alert.bundle)}) for alert in alerts)


def _first(error: Exception) -> Any:
    if not isinstance(error, ValidationError):
        return error
    found = error.errors()[0]
    return f"{'.'.join(map(str, found['loc']))}: {found['msg']}"


__all__ = ["ROLLBACK", "Alerts", "Told", "read_webhook", "with_full_digests"]
