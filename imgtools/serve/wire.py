"""Reading HTTP/1.1 requests from a socket: lines, bodies of known length, chunked bodies.

Nothing is read beyond what is asked for into more than one receive buffer, so a body of any
size costs a chunk of memory; framing that is ambiguous is refused (RFC 9112 section 6).
"""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping

from imgtools.blob.reader import CHUNK
from imgtools.errors import ConnectionFailed, InvalidInput, LimitExceeded

_CHUNK_SIZE = re.compile(rb"([0-9a-fA-F]{1,16})[ \t]*(?:;[^\r\n]*)?\r?\n")
_LINE_LIMIT = 64 * 1024


class SocketReader:
    """Buffered reads from a socket that never wait for more than is there.

    Has what cheroot asks of a connection's reader (`read`, `readline`, `has_data`,
    `bytes_read`, `closed`, `close`) beside `read_some`. Timeouts and resets surface as OSError.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._buffer = b""
        self.bytes_read = 0
        self.closed = False

    def has_data(self) -> bool:
        """Whether bytes are buffered already."""
        return bool(self._buffer)

    def read_some(self, size: int) -> bytes:
        """Between 1 and `size` bytes, b"" when the peer has closed."""
        if self._buffer:
            data, self._buffer = self._buffer[:size], self._buffer[size:]
        else:
            data = self._socket.recv(size)
        self.bytes_read += len(data)
        return data

    def read(self, size: int) -> bytes:
        """Exactly `size` bytes, fewer only when the peer has closed."""
        parts = []
        while size > 0:
            data = self.read_some(min(size, CHUNK))
            if not data:
                break
            parts.append(data)
            size -= len(data)
        return b"".join(parts)

    def readline(self, limit: int = _LINE_LIMIT) -> bytes:
        """One line with its newline; without it when `limit` or the end comes first."""
        if limit < 0:
            limit = _LINE_LIMIT
        while True:
            end = self._buffer.find(b"\n", 0, limit) + 1
            if end or len(self._buffer) >= limit:
                break
            data = self._socket.recv(8192)
            if not data:
                break
            self._buffer += data
        end = end or min(limit, len(self._buffer))
        line, self._buffer = self._buffer[:end], self._buffer[end:]
        self.bytes_read += len(line)
        return line

    def close(self) -> None:
        """Forget the buffer; the socket is its owner's."""
        self._buffer = b""
        self.closed = True


class RequestBody:
    """The body of one request, read in chunks; knows whether the peer's framing is used up."""

    def __init__(self, reader: SocketReader, length: int | None) -> None:
        self._reader = reader
        self._chunked = length is None
        self._left = length or 0
        self._started = False
        self.received = 0
        self.exhausted = length == 0

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes, b"" at the body's end.

        Raises ConnectionFailed when the client goes away first, InvalidInput for malformed
        chunked framing.
        """
        if self.exhausted or size <= 0:
            return b""
        try:
            if self._chunked and not self._left and not self._next_chunk():
                return b""
            data = self._reader.read_some(min(size, self._left))
        except OSError as e:
            raise ConnectionFailed(f"the request body was cut: {e}", host="client") from e
        if not data:
            raise ConnectionFailed("the client closed the connection", host="client")
        self._left -= len(data)
        self.received += len(data)
        if not self._left and not self._chunked:
            self.exhausted = True
        return data

    def drain(self, limit: int) -> bool:
        """Read and forget at most `limit` bytes; whether the body is used up then.

        Raises what `read` raises.
        """
        while limit > 0 and not self.exhausted:
            data = self.read(min(CHUNK, limit))
            limit -= len(data)
        return self.exhausted

    def _next_chunk(self) -> bool:
        """Begin the next chunk; False when that was the last one."""
        if self._started and self._reader.readline(3) not in (b"\r\n", b"\n"):
            raise InvalidInput("a chunk of the request body does not end where it says")
        self._started = True
        line = self._reader.readline(1024)
        if not line:
            raise ConnectionFailed("the client closed the connection", host="client")
        match = _CHUNK_SIZE.fullmatch(line)
        if match is None:
            raise InvalidInput("the request body has a malformed chunk size")
        self._left = int(match[1], 16)
        if not self._left:
            self._skip_trailers()
            self.exhausted = True
        return not self.exhausted

    def _skip_trailers(self) -> None:
        budget = _LINE_LIMIT
        while True:
            line = self._reader.readline(8192)
            if line in (b"\r\n", b"\n"):
                return
            budget -= len(line)
            if not line.endswith(b"\n") or budget < 0:
                raise InvalidInput("the request body has malformed trailers")


def body_length(headers: Mapping[str, str]) -> int | None:
    """The length of a request's body in bytes, None when it is chunked.

    `headers` has lower-case names. Raises InvalidInput for a length that is no number, a
    coding we do not know, or both a length and a coding (RFC 9112 section 6.3).
    """
    coding = headers.get("transfer-encoding")
    length = headers.get("content-length")
    if coding is not None:
        if coding.strip().lower() != "chunked":
            raise InvalidInput("the request has a transfer coding other than chunked")
        if length is not None:
            raise InvalidInput("the request has both Content-Length and Transfer-Encoding")
        return None
    if length is None:
        return 0
    if not re.fullmatch(r"[0-9]{1,18}", length.strip()):
        raise InvalidInput("the request has a malformed Content-Length")
    return int(length)


def read_head(reader: SocketReader) -> tuple[str, str, str, dict[str, str]] | None:
    """Method, target, version and headers of the next request; None at the connection's end.

    Repeated headers are joined with commas. Raises InvalidInput, LimitExceeded or OSError.
    """
    line = reader.readline()
    if not line:
        return None
    parts = line.decode("latin-1").split()
    if len(parts) != 3 or not line.endswith(b"\n") or not parts[2].startswith("HTTP/1."):
        raise InvalidInput("malformed request line")
    headers: dict[str, str] = {}
    budget = _LINE_LIMIT
    while (line := reader.readline()) not in (b"\r\n", b"\n"):
        budget -= len(line)
        if budget < 0:
            raise LimitExceeded("the request's headers", _LINE_LIMIT)
        name, colon, value = line.decode("latin-1").partition(":")
        if not line.endswith(b"\n") or not colon or name != name.strip():
            raise InvalidInput("malformed header line")
        key = name.lower()
        text = value.strip()
        headers[key] = f"{headers[key]}, {text}" if key in headers else text
    return parts[0], parts[1], parts[2], headers
