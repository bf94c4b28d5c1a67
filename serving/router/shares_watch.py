"""What the release operator says of the shares: a ConfigMap, followed at the API server.

A watch, not a mounted volume: the kubelet brings a change of a volume after a minute, and a rollback must not wait for that. When the API
server is away, or the ConfigMap is gone or unreadable, the shares that were last heard stay.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import ClientError, ClientSession, ClientTimeout
from pydantic import ValidationError

from clickmill.errors import UsageError
from clickmill.release import SHARES, Shares

log = logging.getLogger(__name__)

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
WATCH_SECONDS = 60
"""A watch is begun anew this often, so that one which was lost without a word is noticed."""
PAUSE_SECONDS = 1.0
"""Between two tries."""


@dataclass(frozen=True)
class Api:
    """An API server, as a pod is told of it."""

    url: str
    namespace: str
    token: Path
    """File; read at each call, since the kubelet renews it."""
    authority: Path | None
    """File with the certificate that signed the server's; None: plain HTTP."""

    @classmethod
    def of_this_pod(cls) -> Api:
        """By environment and mounted account. Raises UsageError outside of a pod."""
        host, port = os.environ.get("KUBERNETES_SERVICE_HOST"), os.environ.get("KUBERNETES_SERVICE_PORT")
        namespace = ACCOUNT / "namespace"
        if not host or not port or not namespace.exists():
            raise UsageError("this is no pod with a ServiceAccount: the router reads its shares from the API")
        host = f"[{host}]" if ":" in host else host
        return cls(
            f"https://{host}:{port}", namespace.read_text().strip(), ACCOUNT / "token", ACCOUNT / "ca.crt"
        )


class SharesWatch:
    """Follows one ConfigMap. `heard_at` and `refused` say how that goes."""

    def __init__(self, api: Api, name: str, heard: Callable[[Shares | None], None]) -> None:
        """heard: told of what the ConfigMap says, at the first answer and after each change; None: there is no such ConfigMap."""
        self._api, self._name, self._heard = api, name, heard
        self.heard_at: float | None = None
        """Unix time of the last answer of the API server."""
        self.refused = ""
        """Why what the ConfigMap says is not followed; empty when it is."""

    async def run(self) -> None:
        """Until cancelled."""
        failed = ""
        tls = (
            None
            if self._api.authority is None
            else ssl.create_default_context(cafile=str(self._api.authority))
        )
        while True:
            try:
                async with ClientSession() as session:
                    version = await self._read(session, tls)
                    failed = ""
                    await self._watch(session, tls, version)
            except (ClientError, TimeoutError, OSError, ValueError) as error:
                if failed != (failed := f"{type(error).__name__}: {error}"):
                    log.warning("the API server: %s; the shares stay as they were", failed)
            await asyncio.sleep(PAUSE_SECONDS)

    async def _read(self, session: ClientSession, tls: ssl.SSLContext | None) -> str:
        """Resource version to watch from; empty when there is no ConfigMap."""
        timeout = ClientTimeout(total=10)
        async with session.get(
            f"{self._path}/{self._name}", headers=self._headers, ssl=tls or True, timeout=timeout
        ) as answer:
            if answer.status == 404:
                self._take(None)
                return ""
            answer.raise_for_status()
            found = await answer.json(content_type=None)
        self._take(found)
        return str(found["metadata"]["resourceVersion"])

    async def _watch(self, session: ClientSession, tls: ssl.SSLContext | None, version: str) -> None:
        asked = {
            "watch": "1",
            "fieldSelector": f"metadata.name={self._name}",
            "timeoutSeconds": str(WATCH_SECONDS),
            **({"resourceVersion": version} if version else {}),
        }
        timeout = ClientTimeout(total=WATCH_SECONDS + 10)
        async with session.get(
            self._path, params=asked, headers=self._headers, ssl=tls or True, timeout=timeout
        ) as answer:
            answer.raise_for_status()
            async for line in answer.content:
                event = json.loads(line)
                if event["type"] == "ERROR":
                    return  # too old a version: read anew
                self._take(None if event["type"] == "DELETED" else event["object"])

    @property
    def _path(self) -> str:
        return f"{self._api.url}/api/v1/namespaces/{self._api.namespace}/configmaps"

    @property
    def _headers(self) -> dict[str, str]:
        return {
            "Authorization": f"Bearer {self._api.token.read_text().strip()}",
            "Accept": "application/json",
        }

    def _take(self, stored: dict[str, Any] | None) -> None:
        self.heard_at = time.time()
        if stored is None:
            self.refused = ""
            self._heard(None)
            return
        try:
            shares = Shares.model_validate_json((stored.get("data") or {}).get(SHARES, ""))
        except ValidationError as error:
            self.refused = f"ConfigMap {self._name}: {error}"
            log.error("%s; the shares stay as they were", self.refused)
            return
        self.refused = ""
        self._heard(shares)


__all__ = ["Api", "SharesWatch"]
