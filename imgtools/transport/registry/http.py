"""HTTP/1.1 connections, kept alive per origin, and one exchange at a time on each.

The only file that imports an HTTP library, which is the standard one: requests costs 45 ms more
at import and urllib3 15 ms, and a warm copy has no such time to give. Redirects,
credentials and retries are decided above; bodies are never decoded, because digests are of
the bytes on the wire.
"""

from __future__ import annotations

import logging
import select
import socket
import ssl
import threading
from collections.abc import Mapping
from contextlib import nullcontext, suppress
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from itertools import chain

from imgtools.blob.reader import CHUNK
from imgtools.errors import Cancelled, Error, LimitExceeded
from imgtools.task import CancelToken
from imgtools.transport.closing import Closing
from imgtools.transport.options import RegistryOptions
from imgtools.transport.registry.exchange import Body, ExchangeFailed, Stage
from imgtools.transport.registry.network import network_failure
from imgtools.transport.registry.proxies import proxy_for, proxy_headers
from imgtools.transport.registry.url import Origin, redact, target_of

log = logging.getLogger(__name__)

_DRAIN_LIMIT = 64 * 1024
_TRANSPORT_ERRORS = (HTTPException, OSError, ValueError)


class Response(Closing):
    """Status and headers, and a body that is read as it came over the wire.

    The connection goes back to its pool when the body is at its end; closing earlier gives
    the connection up.
    """

    def __init__(
        self, client: HttpClient, method: str, url: str, lease: _Lease, raw: HTTPResponse
    ) -> None:
        self.method = method
        self.url = url
        self.status: int = raw.status
        self._client = client
        self._lease: _Lease | None = lease
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
        if self._lease is None or size <= 0:
            return b""
        try:
            data = self._raw.read(size)
            if not data and self._raw.length:
                raise ConnectionResetError(None, f"it ended {self._raw.length} bytes early")
        except _TRANSPORT_ERRORS as e:
            lease = self._lease
            self.close()
            self._client.check()
            raise network_failure(e, lease.origin, "receive") from e
        if not data or self._raw.length == 0:
            self._finish()
        return data

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


class _Lease:
    """A connection while one exchange uses it."""

    def __init__(self, connection: HTTPConnection, origin: Origin, *, forwarded: bool) -> None:
        self.connection = connection
        self.origin = origin
        self.forwarded = forwarded
        self.broken = False
        self.used = connection.sock is not None
        self._socket: socket.socket | None = None

    def connect(self) -> None:
        if self.connection.sock is None:
            self.connection.connect()
        self._socket = self.connection.sock

    def timeout(self, seconds: float) -> None:
        """Seconds until the socket's next operation fails; kept by what reads after us."""
        self.connection.timeout = seconds
        if self._socket is not None:
            self._socket.settimeout(seconds)

    def abort(self) -> None:
        if self._socket is not None:
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)


class HttpClient:
    """Connections under one set of options; used from any number of threads."""

    def __init__(
        self, options: RegistryOptions, *, registry: str = "", registry_host: str = ""
    ) -> None:
        """`registry` is the name by which certs.d has certificates, `registry_host` the only
        host that is shown client certificates."""
        self._options = options
        self._registry = registry
        self._registry_host = registry_host
        self._lock = threading.Lock()
        self._idle: dict[Origin, list[tuple[HTTPConnection, bool]]] = {}
        self._contexts: dict[bool, ssl.SSLContext] = {}
        self._leases: set[_Lease] = set()
        self._closed = False
        self._aborted = False

    def exchange(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: Body | None = None,
        *,
        cancel: CancelToken | None = None,
    ) -> Response:
        """Send one request and return the answer to it, whatever its status.

        Cancelling ends a wait for the other side. Raises ExchangeFailed, Cancelled, and
        what opening or reading `body` raises.
        """
        lease = self._take(Origin.of(url))
        try:
            self._connect(lease)
            self.check()
            with cancel.calls(lease.abort) if cancel is not None else nullcontext():
                self._send(lease, method, url, headers, body)
                return self._receive(lease, method, url)
        except BaseException as e:
            self._discard(lease)
            if isinstance(e, ExchangeFailed):
                self.check()
                if cancel is not None:
                    cancel.check()
            raise

    def check(self) -> None:
        """Raise Cancelled once `abort` was called."""
        if self._aborted:
            raise Cancelled

    def abort(self) -> None:
        """End every exchange under way, and refuse further ones; safe from any thread."""
        with self._lock:
            self._aborted = True
            leases = list(self._leases)
        for lease in leases:
            lease.abort()

    def connect(self, origin: Origin, *, patience: float) -> None:
        """Make sure that `origin` can be reached, TLS included, and keep the connection.

        Raises ExchangeFailed, after `patience` seconds at the latest.
        """
        lease = self._take(origin)
        lease.connection.timeout = min(patience, self._options.timeouts.connect)
        try:
            self._connect(lease)
        except BaseException:
            self._discard(lease)
            raise
        self._release(lease, fresh=True)

    def close(self) -> None:
        """Close idle connections; those in use close when they are given back."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, {}
        for connections in idle.values():
            for connection, _ in connections:
                connection.close()

    def _take(self, origin: Origin) -> _Lease:
        self.check()
        lease = self._idle_or_new(origin)
        with self._lock:
            self._leases.add(lease)
        return lease

    def _idle_or_new(self, origin: Origin) -> _Lease:
        while True:
            with self._lock:
                kept = self._idle.get(origin)
                connection, fresh = kept.pop() if kept else (None, False)
            if connection is None:
                return self._new(origin)
            # Before its first use TLS 1.3 makes a connection readable, with session tickets;
            # afterwards, what can be read from an idle one is its end.
            if fresh or not _readable(connection):
                return _Lease(connection, origin, forwarded=self._forwarded(origin))
            connection.close()

    def _new(self, origin: Origin) -> _Lease:
        proxy = proxy_for(origin, self._options.proxies)
        through = Origin.of(proxy) if proxy else origin
        timeout = self._options.timeouts.connect
        connection: HTTPConnection
        if origin.scheme == "https":
            connection = HTTPSConnection(
                through.host,
                through.port,
                timeout=timeout,
                blocksize=CHUNK,
                context=self._context(origin),
            )
        else:
            connection = HTTPConnection(
                through.host, through.port, timeout=timeout, blocksize=CHUNK
            )
        if proxy and origin.scheme == "https":
            connection.set_tunnel(origin.host, origin.port, proxy_headers(proxy))
        return _Lease(connection, origin, forwarded=self._forwarded(origin))

    def _forwarded(self, origin: Origin) -> bool:
        """Whether requests to `origin` are sent whole to a proxy, instead of through a tunnel."""
        return origin.scheme == "http" and bool(proxy_for(origin, self._options.proxies))

    def _context(self, origin: Origin) -> ssl.SSLContext:
        identity = origin.host == self._registry_host
        with self._lock:
            context = self._contexts.get(identity)
            if context is None:
                from imgtools.transport.registry.tls import make_context

                context = make_context(
                    self._options, registry=self._registry, client_identity=identity
                )
                self._contexts[identity] = context
            return context

    def _connect(self, lease: _Lease) -> None:
        try:
            lease.connect()
        except _TRANSPORT_ERRORS as e:
            stage: Stage = "connect"
            if lease.origin.scheme == "https" and lease.connection.sock is not None:
                stage = "tls"
            # A proxy's refusal leaves its response, which holds the socket, in the frames.
            from traceback import clear_frames

            clear_frames(e.__traceback__)
            raise network_failure(e, lease.origin, stage) from e

    def _send(
        self,
        lease: _Lease,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: Body | None,
    ) -> None:
        target = target_of(url)
        sent = {
            "User-Agent": self._options.user_agent,
            "Accept-Encoding": "identity",
            **headers,
        }
        if lease.forwarded:
            target = f"{lease.origin}{target}"
            proxy = proxy_for(lease.origin, self._options.proxies)
            sent = {**sent, "Host": lease.origin.authority, **proxy_headers(proxy or "")}
        if body is not None:
            sent["Content-Length"] = str(body.length)
        log.debug("%s %s", method, redact(url))
        lease.timeout(self._options.timeouts.idle)
        chunks = body.open() if body is not None else None
        try:
            # The first bytes are there before the request is begun: a server that works on
            # one request at a time could not give them to us in the middle of another one.
            first = next(chunks, b"") if chunks is not None else b""
            pieces = chain((first,), chunks) if chunks is not None else None
            lease.connection.request(method, target, body=pieces, headers=sent)
        except (BrokenPipeError, ConnectionResetError, ssl.SSLEOFError) as e:
            # A server that refuses early says why and closes: reading tells more.
            lease.broken = True
            log.debug("%s %s: %s", method, redact(url), e)
        except _TRANSPORT_ERRORS as e:
            raise network_failure(e, lease.origin, "send") from e
        finally:
            if chunks is not None:
                chunks.close()

    def _receive(self, lease: _Lease, method: str, url: str) -> Response:
        timeouts = self._options.timeouts
        lease.timeout(timeouts.first_byte)
        try:
            raw = lease.connection.getresponse()
        except _TRANSPORT_ERRORS as e:
            stale = lease.used and isinstance(e, ConnectionError)
            raise network_failure(e, lease.origin, "receive", stale=stale) from e
        # Before the response exists, because an empty one gives its connection back at once.
        lease.timeout(timeouts.idle)
        response = Response(self, method, url, lease, raw)
        log.debug("%s %s: %d", method, redact(url), response.status)
        return response

    def _release(self, lease: _Lease, *, fresh: bool = False) -> None:
        connection = lease.connection
        with self._lock:
            self._leases.discard(lease)
            kept = self._idle.setdefault(lease.origin, [])
            if connection.sock is None:
                return
            if not lease.broken and not self._closed and len(kept) < self._options.max_connections:
                kept.append((connection, fresh))
                return
        connection.close()

    def _discard(self, lease: _Lease) -> None:
        with self._lock:
            self._leases.discard(lease)
        # A response holds the socket open beside the connection: end it for both.
        lease.abort()
        with suppress(*_TRANSPORT_ERRORS):
            lease.connection.close()


def _readable(connection: HTTPConnection) -> bool:
    """Whether an idle connection has something to say, which can only be its end."""
    poll = select.poll()
    poll.register(connection.sock, select.POLLIN)
    return bool(poll.poll(0))
