"""An answer as it came over the wire: status, headers, and a body that is read once.

Bodies are never decoded, because digests are of the bytes on the wire.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from http.client import HTTPException, HTTPResponse
from typing import TYPE_CHECKING

from imgtools.blob.reader import CHUNK
from imgtools.errors import Error, LimitExceeded
from imgtools.transport.closing import Closing
from imgtools.transport.registry.wire.network import network_failure
from imgtools.transport.registry.wire.url import Origin

if TYPE_CHECKING:
    from imgtools.transport.registry.wire.connection import Lease
    from imgtools.transport.registry.wire.http import HttpClient
    from imgtools.transport.registry.wire.limits import Bucket

_DRAIN_LIMIT = 64 * 1024
TRANSPORT_ERRORS = (HTTPException, OSError, ValueError)
"""What the standard library raises for what goes wrong on a connection."""


class Response(Closing):
    """Status and headers, and a body that is read as it came over the wire.

    The connection goes back to its pool when the body is at its end; closing earlier gives
    the connection up.
    """

    def __init__(
        self, client: HttpClient, method: str, url: str, lease: Lease, raw: HTTPResponse
    ) -> None:
        self.method = method
        self.url = url
        self.status: int = raw.status
        self._client = client
        self._lease: Lease | None = lease
        self._raw = raw
        if self._raw.length == 0:
            self._finish()

    @property
    def origin(self) -> Origin:
        """Whose answer this is."""
        return Origin.of(self.url)

    def header(self, name: str) -> str:
        """The value of a header, several joined by commas, "" when absent."""
        return ", ".join(self.header_list(name))

    def header_list(self, name: str) -> list[str]:
        """Every line of a header that may come several times."""
        return self._raw.headers.get_all(name) or []

    @property
    def content_length(self) -> int | None:
        """Bytes the headers announce (of a HEAD: what GET would give), None if unknown."""
        text = self.header("Content-Length")
        return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes, fewer only at the end; raises ExchangeFailed when cut."""
        return self._read(size, self._raw.read)

    def read1(self, size: int, /) -> bytes:
        """At most `size` bytes, as soon as there are some, so that none are lost when the
        connection is cut; raises ExchangeFailed then."""
        if (meter := self._client.meter) is not None:
            size = min(size, meter.piece)
        return self._read(size, self._raw.read1)

    def _read(self, size: int, read: Callable[[int], bytes]) -> bytes:
        if self._lease is None or size <= 0:
            return b""
        meter = self._client.meter
        try:
            data = read(size) if meter is None else self._read_metered(meter, size, read)
            if not data and self._raw.length:
                raise ConnectionResetError(None, f"it ended {self._raw.length} bytes early")
        except TRANSPORT_ERRORS as e:
            lease = self._lease
            self.close()
            self._client.check()
            silence = f"nothing more came for {lease.seconds:g} s"
            raise network_failure(e, lease.origin, "receive", silence=silence) from e
        if not data or self._raw.length == 0:
            self._finish()
        return data

    def _read_metered(self, meter: Bucket, size: int, read: Callable[[int], bytes]) -> bytes:
        """As the connection's read, in pieces that keep to the limit of bandwidth."""
        parts = []
        while size and (data := read(min(size, meter.piece))):
            parts.append(data)
            size -= len(data)
            self._client.pause(
                meter.reserve(len(data)), self._lease.cancel if self._lease else None
            )
        return b"".join(parts)

    def body(self, limit: int, what: str) -> bytes:
        """The whole body; raises LimitExceeded (naming `what`) beyond `limit` bytes."""
        parts = []
        left = limit + 1
        while left and (data := self.read(min(left, CHUNK))):
            parts.append(data)
            left -= len(data)
        if not left:
            self.close()
            raise LimitExceeded(what, limit)
        return b"".join(parts)

    def drain(self) -> None:
        """Read a small rest so that the connection can be used again, else give it up."""
        with suppress(Error):
            self.read(_DRAIN_LIMIT)
            self.read(1)
        self.close()

    def abort(self) -> None:
        """End a read that another thread is waiting in; safe at any time."""
        lease = self._lease
        if lease is not None:
            lease.abort()

    def close(self) -> None:
        """Give up what was not read; safe to call twice."""
        lease, self._lease = self._lease, None
        if lease is not None:
            self._client._discard(lease)
            # Where the connection was not to be kept, only this holds the socket.
            self._raw.close()

    def _finish(self) -> None:
        lease, self._lease = self._lease, None
        if lease is not None:
            self._raw.close()
            self._client._release(lease)
