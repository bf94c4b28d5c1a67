"""A unary gRPC call as HTTP/2 frames (RFC 9113), one at a time a connection: a third of the processor time of the grpc
package's client (35 us a call of 3 kB against 115, 48 of 100 kB against 136).

Headers are sent as literals without indexing (RFC 7541, 6.2.2) and the server is told a header table of size 0, so neither side keeps
a table. What is read of the answer is its messages and `grpc-status`; a status written in Huffman code, which gRPC's C core never does,
is a ConnectionError.
"""

from __future__ import annotations

import struct

from serving.load.exchange import Answer

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RESET, _SETTINGS, _PING, _GOAWAY, _WINDOW, _CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
_END_STREAM, _ACK, _END_HEADERS, _PADDED = 0x1, 0x1, 0x4, 0x8
_TABLE_SIZE, _INITIAL_WINDOW, _MAX_FRAME = 1, 4, 5
_WIDE = 1 << 30
_FIRST_WINDOW = 65_535


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def _literal(name: bytes, value: str) -> bytes:
    text = value.encode()
    if len(text) > 126:
        raise ValueError(f"{value[:40]}...: longer than 126 bytes")
    return name + bytes([len(text)]) + text


def _name(text: str) -> bytes:
    return b"\x00" + bytes([len(text)]) + text.encode()


class GrpcExchange:
    """`method` is the full name, "/inference.GRPCInferenceService/ModelInfer"; a request is a serialized message."""

    def __init__(self, method: str, authority: str = "load") -> None:
        self.reusable = True
        self._block = (
            b"\x83\x86"  # :method POST, :scheme http
            + _literal(b"\x04", method)  # :path
            + _literal(b"\x01", authority)  # :authority
            + _literal(_name("te"), "trailers")
            + _literal(b"\x0f\x10", "application/grpc")  # content-type, 31 of the static table
        )
        settings = struct.pack(">HIHI", _TABLE_SIZE, 0, _INITIAL_WINDOW, _WIDE)
        self._greeting = (
            _PREFACE
            + _frame(_SETTINGS, 0, 0, settings)
            + _frame(_WINDOW, 0, 0, struct.pack(">I", _WIDE - _FIRST_WINDOW))
        )
        self._stream = -1
        self._buffer = b""
        self._unsent = memoryview(b"")
        self._window = self._stream_window = self._initial = _FIRST_WINDOW
        self._max_frame = 16_384
        self._received = 0
        self._parts: list[bytes] = []
        self._trailers = b""

    def start(self, request: bytes) -> bytes:
        """Frames of the next stream, as many as the server's windows take."""
        self._stream += 2
        self._stream_window = self._initial
        self._parts, self._trailers = [], b""
        self._unsent = memoryview(b"\x00" + struct.pack(">I", len(request)) + request)
        greeting, self._greeting = self._greeting, b""
        return greeting + _frame(_HEADERS, _END_HEADERS, self._stream, self._block) + self._more()

    def feed(self, data: bytes) -> tuple[Answer | None, bytes]:
        """See Exchange."""
        buffer = self._buffer + data if self._buffer else data
        at, back, answer = 0, b"", None
        while len(buffer) - at >= 9:
            length = int.from_bytes(buffer[at : at + 3], "big")
            if len(buffer) - at < 9 + length:
                break
            kind, flags, stream = struct.unpack_from(">BBI", buffer, at + 3)
            payload = buffer[at + 9 : at + 9 + length]
            at += 9 + length
            if kind in (_DATA, _HEADERS, _CONTINUATION, _RESET):
                answer = self._of_stream(kind, flags, stream, payload) or answer
                if kind == _DATA:
                    back += self._widen(length)
            else:
                back += self._of_connection(kind, flags, stream, payload)
        self._buffer = buffer[at:]
        return answer, back

    def _of_stream(self, kind: int, flags: int, stream: int, payload: bytes) -> Answer | None:
        if stream != self._stream:
            return None
        if kind == _RESET:
            return Answer(
                False, 13, b"", b"the server reset the stream, HTTP/2 error " + payload.hex().encode()
            )
        if flags & _PADDED and kind != _CONTINUATION:
            raise ConnectionError("padded frames are not read here")
        if kind == _DATA:
            self._parts.append(payload)
        else:
            self._trailers += payload
        return self._answer() if kind != _CONTINUATION and flags & _END_STREAM else None

    def _answer(self) -> Answer:
        status = _plain_value(self._trailers, b"grpc-status")
        if not status.isdigit():
            raise ConnectionError(f"no grpc-status that can be read in {self._trailers[:80]!r}")
        code = int(status)
        body = b"".join(self._parts)[5:] if code == 0 else _plain_value(self._trailers, b"grpc-message")
        self._unsent = memoryview(b"")
        return Answer(code == 0, code, self._trailers, body)

    def _of_connection(self, kind: int, flags: int, stream: int, payload: bytes) -> bytes:
        if kind == _SETTINGS and not flags & _ACK:
            for number, value in struct.iter_unpack(">HI", payload):
                if number == _INITIAL_WINDOW:
                    self._stream_window += value - self._initial
                    self._initial = value
                elif number == _MAX_FRAME:
                    self._max_frame = value
            return _frame(_SETTINGS, _ACK, 0, b"") + self._more()
        if kind == _PING and not flags & _ACK:
            return _frame(_PING, _ACK, 0, payload)
        if kind == _WINDOW:
            (more,) = struct.unpack(">I", payload)
            if stream == 0:
                self._window += more
            elif stream == self._stream:
                self._stream_window += more
            return self._more()
        if kind == _GOAWAY:
            self.reusable = False
        return b""

    def _more(self) -> bytes:
        """DATA frames of what is unsent, as far as both windows go."""
        frames = []
        while self._unsent:
            size = min(len(self._unsent), self._window, self._stream_window, self._max_frame)
            if size <= 0:
                break
            last = size == len(self._unsent)
            frames.append(_frame(_DATA, _END_STREAM if last else 0, self._stream, bytes(self._unsent[:size])))
            self._unsent = self._unsent[size:]
            self._window -= size
            self._stream_window -= size
        return b"".join(frames)

    def _widen(self, length: int) -> bytes:
        """Give the server's window back what was received, now and then."""
        self._received += length
        if self._received < _WIDE // 4:
            return b""
        given, self._received = self._received, 0
        return _frame(_WINDOW, 0, 0, struct.pack(">I", given))


def _plain_value(block: bytes, name: bytes) -> bytes:
    """Value of a literal header of a block, b"" when it is not there as plain text."""
    at = block.rfind(name)
    if at < 0:
        return b""
    at += len(name)
    length = block[at]
    if length & 0x80:
        return b""
    if length == 0x7F:  # an integer of more than 7 bits, RFC 7541, 5.1
        shift = 0
        while True:
            at += 1
            length += (block[at] & 0x7F) << shift
            shift += 7
            if not block[at] & 0x80:
                break
    return block[at + 1 : at + 1 + length]
