"""uvicorn's httptools protocol with the bounds on the head of a request that it lacks: a header without end filled the memory, and
connections that send theirs a byte at a time were kept for ever."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

ARRIVED = "clickmill.arrived"
"""Key of an ASGI scope: when the head of the request had been read, in seconds of `time.monotonic`."""
MAX_HEAD_BYTES = 64 * 1024
"""Request line and headers. Proxies in front of an endpoint send 1 to 8 KB."""
HEAD_SECONDS = 10.0
"""From the opening of a connection, and from the first byte of a later request, to the end of the head. A whole head is one packet."""


class BoundedHead(HttpToolsProtocol):
    """Answers 400 and closes when the head of a request does not end within `MAX_HEAD_BYTES`, 408 when not within `HEAD_SECONDS`."""

    _in_head = True
    _head_bytes = 0
    _messages = 0
    _head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """A head is due."""
        super().connection_made(transport)
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """No head will come."""
        self._have_head()
        super().connection_lost(exc)

    def on_headers_complete(self) -> None:
        """The head is whole; what follows is body."""
        self._in_head = False
        self._head_bytes = 0
        self._have_head()
        # a loop with much to do comes to the request later: its time runs from here
        self.scope[ARRIVED] = time.monotonic()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The next byte belongs to another head."""
        super().on_message_complete()
        self._in_head = True
        self._messages += 1

    def data_received(self, data: bytes) -> None:
        """Parse, then count the bytes if all of them went into a head that is still open."""
        if self.transport.is_closing():
            return
        was_in_head, messages = self._in_head, self._messages
        super().data_received(data)
        # a message that ended within these bytes had its body among them
        if was_in_head and self._in_head and messages == self._messages:
            self._head_bytes += len(data)
            if self._head_timer is None:
                self._expect_head()
            if self._head_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
                self.send_400_response(f"The head of the request exceeds {MAX_HEAD_BYTES} bytes.")

    def _expect_head(self) -> None:
        self._head_timer = self.loop.call_later(HEAD_SECONDS, self._head_is_late)

    def _have_head(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_is_late(self) -> None:
        self._head_timer = None
        if self.transport.is_closing():
            return
        if self.cycle is not None and not self.cycle.response_complete:
            self._expect_head()  # the former request on this connection is still being answered
            return
        if self._head_bytes:
            self.transport.write(
                b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
            )
        self.transport.close()
