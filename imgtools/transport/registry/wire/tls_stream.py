"""TLS on top of something that is TLS already: a connection through an https proxy.

The standard library's sockets speak TLS on plain sockets only; here records pass through
memory, and the stream has what `http.client` and the connection pool want of a socket.
"""

from __future__ import annotations

import io
import socket
import ssl
from typing import Any

_RECORD = 32 * 1024


class TlsStream:
    """TLS over an SSLSocket; used by one thread at a time, `shutdown` by any."""

    def __init__(self, under: ssl.SSLSocket, context: ssl.SSLContext, server_name: str) -> None:
        """Does the handshake; raises ssl.SSLError, OSError. `under` belongs to the stream
        from then on, also when this fails."""
        self._under = under
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=server_name)
        self._readers = 0
        self._closed = False
        try:
            self._run(self._tls.do_handshake)
        except BaseException:
            under.close()
            raise

    def _run(self, operation: Any, *arguments: Any) -> Any:
        """Call `operation`, moving records until it has what it wants."""
        while True:
            try:
                result = operation(*arguments)
            except ssl.SSLWantReadError:
                self._flush()
                data = self._under.recv(_RECORD)
                if data:
                    self._incoming.write(data)
                else:
                    self._incoming.write_eof()
            except ssl.SSLError:
                # An alert says why; the other side should hear it.
                self._flush()
                raise
            else:
                self._flush()
                return result

    def _flush(self) -> None:
        data = self._outgoing.read()
        if data:
            self._under.sendall(data)

    def sendall(self, data: bytes) -> None:
        """Send all bytes."""
        view = memoryview(data)
        while view:
            view = view[self._run(self._tls.write, view[:_RECORD]) :]

    def recv_into(self, buffer: memoryview | bytearray) -> int:
        """Read into `buffer`; 0 at the end, whether TLS was ended properly or not."""
        try:
            return int(self._run(self._tls.read, len(buffer), buffer))
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            # As Python's own TLS sockets do: lengths and digests find what is missing.
            return 0

    def makefile(self, mode: str, *_: Any, **__: Any) -> io.BufferedReader:
        """A buffered reader, which keeps the connection open until it is closed itself."""
        self._readers += 1
        return io.BufferedReader(_Reader(self))

    def cipher(self) -> tuple[str, str, int] | None:
        """As SSLSocket has it."""
        return self._tls.cipher()

    def getpeercert(self, binary_form: bool = False) -> Any:
        """As SSLSocket has it."""
        return self._tls.getpeercert(binary_form)

    def settimeout(self, seconds: float | None) -> None:
        """Seconds until an operation fails."""
        self._under.settimeout(seconds)

    def fileno(self) -> int:
        """The number of the socket below."""
        return self._under.fileno()

    def shutdown(self, how: int) -> None:
        """End the connection for whoever waits on it."""
        socket.socket.shutdown(self._under, how)

    def close(self) -> None:
        """Close, once the last reader is closed too."""
        self._closed = True
        if not self._readers:
            self._under.close()

    def _reader_closed(self) -> None:
        self._readers -= 1
        if self._closed and not self._readers:
            self._under.close()


class _Reader(io.RawIOBase):
    def __init__(self, stream: TlsStream) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._stream.recv_into(buffer)

    def close(self) -> None:
        if not self.closed:
            super().close()
            self._stream._reader_closed()
