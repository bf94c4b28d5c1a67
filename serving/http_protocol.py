"""uvicorn's httptools protocol with a bound on the head of a request, which it lacks: a header without end filled the memory."""

from __future__ import annotations

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD_BYTES = 64 * 1024
"""Request line and headers. Proxies in front of an endpoint send 1 to 8 KB."""


class BoundedHead(HttpToolsProtocol):
    """Answers 400 and closes when the head of a request does not end within `MAX_HEAD_BYTES`."""

    _in_head = True
    _head_bytes = 0
    _messages = 0

    def on_headers_complete(self) -> None:
        """The head is whole; what follows is body."""
        self._in_head = False
        self._head_bytes = 0
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
            if self._head_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
                self.send_400_response(f"The head of the request exceeds {MAX_HEAD_BYTES} bytes.")
