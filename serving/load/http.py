"""HTTP/1.1 as far as a load generator needs it: whole requests made beforehand, answers with a length or in chunks (RFC 9112)."""

from __future__ import annotations

from collections.abc import Mapping

from serving.load.exchange import Answer

_END = b"\r\n\r\n"


def http_request(
    path: str, body: bytes, headers: Mapping[str, str] | None = None, host: str = "load"
) -> bytes:
    """A whole POST request, ready to be written; JSON unless `headers` say otherwise."""
    headers = {"content-type": "application/json", **(headers or {})}
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return (
        f"POST {path} HTTP/1.1\r\nhost: {host}\r\n{lines}content-length: {len(body)}\r\n\r\n".encode() + body
    )


class HttpExchange:
    """Keep-alive, no pipelining."""

    def __init__(self) -> None:
        self.reusable = True
        self._parts: list[bytes] = []
        self._head: bytes | None = None
        self._missing = 0
        self._chunked = False
        self._status = 0

    def start(self, request: bytes) -> bytes:
        """A request is its own bytes."""
        return request

    def feed(self, data: bytes) -> tuple[Answer | None, bytes]:
        """See Exchange. Raises ConnectionError for an answer that is neither long nor chunked."""
        if self._head is None:
            self._parts.append(data)
            whole = data if len(self._parts) == 1 else b"".join(self._parts)
            head, end, rest = whole.partition(_END)
            if not end:
                return None, b""
            self._read_head(head)
            self._parts = [rest]
            self._missing -= len(rest)
        else:
            self._parts.append(data)
            self._missing -= len(data)
        body = _dechunked(b"".join(self._parts)) if self._chunked else self._whole()
        if body is None:
            return None, b""
        assert self._head is not None
        answer = Answer(self._status == 200, self._status, self._head, body)
        self._head, self._parts = None, []
        return answer, b""

    def _whole(self) -> bytes | None:
        return b"".join(self._parts) if self._missing <= 0 else None

    def _read_head(self, head: bytes) -> None:
        lines = head.split(b"\r\n")
        fields = dict(line.lower().split(b":", 1) for line in lines[1:])
        length = fields.get(b"content-length")
        self._chunked = fields.get(b"transfer-encoding", b"").strip() == b"chunked"
        if not head.startswith(b"HTTP/1.1 ") or (length is None and not self._chunked):
            raise ConnectionError(f"not an HTTP/1.1 answer with a content-length: {head[:80]!r}")
        if fields.get(b"connection", b"").strip() == b"close":
            self.reusable = False
        self._head, self._status, self._missing = head, int(lines[0][9:12]), int(length or 0)


def _dechunked(data: bytes) -> bytes | None:
    """The body, None while its last chunk is missing."""
    at, parts = 0, []
    while (end := data.find(b"\r\n", at)) >= 0:
        size = int(data[at:end].split(b";")[0], 16)
        at = end + 2
        if len(data) < at + size + 2:
            return None
        if size == 0:
            return b"".join(parts)
        parts.append(data[at : at + size])
        at += size + 2
    return None


def header(head: bytes, name: str) -> str:
    """A header's value, "" when there is none."""
    wanted = name.encode().lower()
    for line in head.split(b"\r\n")[1:]:
        key, _, value = line.partition(b":")
        if key.lower() == wanted:
            return value.strip().decode("latin-1")
    return ""
