"""The seam between the generator, which knows sockets and clocks, and protocols, which know bytes: one request at a time a connection."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Answer:
    """What came back for a request."""

    ok: bool
    """HTTP 200, gRPC OK."""
    status: int
    """HTTP's or gRPC's own number."""
    head: bytes
    """Raw header bytes."""
    body: bytes
    """Of a refusal: its words."""


class Exchange(Protocol):
    """One connection's protocol. Raises ConnectionError for bytes it cannot read or a connection the other side gives up."""

    reusable: bool
    """Whether another request may follow."""

    def start(self, request: bytes) -> bytes:
        """Bytes to write for a prepared request."""
        ...

    def feed(self, data: bytes) -> tuple[Answer | None, bytes]:
        """Take what was received: the answer once it is whole, and bytes to write back (flow control)."""
        ...
