"""A port that is listened on from a thread, in the clear or with TLS, and then only by whoever shows a certificate."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI

from clickmill.errors import UsageError


@dataclass(frozen=True)
class Tls:
    """Files in PEM form. Read when the port is opened: a renewed certificate is taken up by a restart, which loses nothing."""

    cert: Path
    """Of this server, with those between it and its root."""
    key: Path
    """Of this server."""
    client_ca: Path | None = None
    """Whose certificates callers must show; None: they need none."""

    def check(self) -> None:
        """Raises UsageError naming what can't be used."""
        for path in (self.cert, self.key, self.client_ca):
            if path is not None and not path.is_file():
                raise UsageError(f"{path}: no such file; TLS needs certificate and key in PEM form")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            context.load_cert_chain(self.cert, self.key)
        except ssl.SSLError as error:
            raise UsageError(
                f"{self.cert} and {self.key} are no certificate and its key in PEM form ({error.reason})"
            ) from error
        if self.client_ca is None:
            return
        try:
            context.load_verify_locations(self.client_ca)
        except ssl.SSLError as error:
            raise UsageError(f"{self.client_ca}: no certificate in PEM form ({error.reason})") from error


@contextmanager
def listening(app: FastAPI, host: str, port: int, tls: Tls | None = None) -> Iterator[None]:
    """Serve an application until the end of the block. Raises UsageError for a port that is taken and files that can't be used."""
    files: dict[str, Any] = {}
    if tls is not None:
        tls.check()
        files = {"ssl_certfile": tls.cert, "ssl_keyfile": tls.key}
        if tls.client_ca is not None:
            files |= {"ssl_ca_certs": str(tls.client_ca), "ssl_cert_reqs": ssl.CERT_REQUIRED}
    server = uvicorn.Server(
        uvicorn.Config(app, host=host, port=port, log_level="warning", access_log=False, **files)
    )
    thread = threading.Thread(target=server.run, name=f"port {port}", daemon=True)
    thread.start()
    while not server.started:
        if not thread.is_alive():
            raise UsageError(f"port {port} is taken; choose another")
        time.sleep(0.02)
    try:
        yield
    finally:
        server.should_exit = True
        thread.join(10)


__all__ = ["Tls", "listening"]
