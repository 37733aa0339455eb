"""HTTP/1.1 connections, kept alive per origin, and one exchange at a time on each.

Only what is below this imports an HTTP library, which is the standard one: requests costs
45 ms more at import and urllib3 15 ms, and a warm copy has no such time to give. Redirects,
credentials and retries are decided above.
"""

from __future__ import annotations

import logging
import select
import ssl
import threading
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import nullcontext, suppress
from http.client import HTTPConnection
from itertools import chain

from imgtools.errors import Cancelled
from imgtools.task import CancelToken
from imgtools.transport.options import RegistryOptions
from imgtools.transport.registry.wire.connection import Dialer, Lease, Network
from imgtools.transport.registry.wire.exchange import Body, ExchangeFailed
from imgtools.transport.registry.wire.network import ClientHint, network_failure
from imgtools.transport.registry.wire.response import TRANSPORT_ERRORS
from imgtools.transport.registry.wire.response import Response as Response
from imgtools.transport.registry.wire.traffic import TOLD_HEADERS, Traffic
from imgtools.transport.registry.wire.url import Origin, redact, target_of

log = logging.getLogger(__name__)

_PATIENCE = 120.0
"""Seconds that a limit may ask for before the next request, unless the caller has others."""

_MOST_HOSTS = 16
"""Hosts that idle connections are kept to: a registry may lead to any number of them."""

Pause = Callable[[float, "CancelToken | None"], None]
"""Waits, and raises Cancelled when that is to end."""


class HttpClient:
    """Connections under one set of options; used from any number of threads."""

    def __init__(
        self,
        options: RegistryOptions,
        *,
        registry: str = "",
        home: Origin | None = None,
        traffic: Traffic | None = None,
        network: Network | None = None,
        pause: Pause | None = None,
        patience: float = _PATIENCE,
    ) -> None:
        """`registry` is the name by which certs.d has certificates, `home` the registry's
        own origin, see Dialer; None for a client that nobody leads anywhere.

        `traffic` is shared by all clients that keep to the same limits, `pause` does the
        waiting for them, and `patience` is the most seconds a host's limit may ask for.
        """
        self._options = options
        self._dialer = Dialer(options, registry=registry, home=home, network=network or Network())
        self._traffic = traffic or Traffic()
        self.meter = self._traffic.meter(options.limits.bandwidth)
        self._rate = options.limits.requests
        self._patience = patience
        self._ended = threading.Event()
        self.pause: Pause = pause or self._sleep
        self._lock = threading.Lock()
        self._idle: dict[Origin, list[tuple[HTTPConnection, bool]]] = {}
        self._leases: set[Lease] = set()
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

        With `Connection: close` it has a connection of its own, which nobody used before.
        Cancelling ends a wait for the other side. Raises ExchangeFailed, Cancelled, and
        what opening or reading `body` raises.
        """
        origin = Origin.of(url)
        if self._rate is not None or self._traffic.gates:
            self._take_turn(origin.authority, cancel)
        lease = self._take(origin, alone=headers.get("Connection") == "close")
        try:
            lease.cancel = cancel
            with cancel.calls(lease.abort) if cancel is not None else nullcontext():
                if lease.connection.sock is None:
                    self._connect(lease, self._options.timeouts.connect, cancel)
                self.check()
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
        self._ended.set()
        for lease in leases:
            lease.abort()

    def connect(self, origin: Origin, *, patience: float) -> None:
        """Make sure that `origin` can be reached, TLS included, and keep the connection.

        Raises ExchangeFailed, after `patience` seconds at the latest.
        """
        lease = self._take(origin)
        try:
            if lease.connection.sock is None:
                self._connect(lease, min(patience, self._options.timeouts.connect), None)
        except BaseException:
            self._discard(lease)
            raise
        self._release(lease, fresh=True)

    def close(self) -> None:
        """Close idle connections; those in use close when they are given back."""
        self._ended.set()
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, {}
        for connections in idle.values():
            for connection, _ in connections:
                connection.close()

    def _take(self, origin: Origin, *, alone: bool = False) -> Lease:
        self.check()
        lease = self._new(origin) if alone else self._idle_or_new(origin)
        with self._lock:
            self._leases.add(lease)
        return lease

    def _idle_or_new(self, origin: Origin) -> Lease:
        while True:
            with self._lock:
                kept = self._idle.get(origin)
                connection, fresh = kept.pop() if kept else (None, False)
            if connection is None:
                return self._new(origin)
            # Before its first use TLS 1.3 makes a connection readable, with session tickets;
            # afterwards, what can be read from an idle one is its end.
            if fresh or not _readable(connection):
                return Lease(connection, origin)
            connection.close()

    def _new(self, origin: Origin) -> Lease:
        return Lease(self._dialer.connection(origin), origin)

    def _connect(self, lease: Lease, seconds: float, cancel: CancelToken | None) -> None:
        def check() -> None:
            self.check()
            if cancel is not None:
                cancel.check()

        lease.attach(self._dialer.open(lease.origin, seconds, check, lease.watch))

    def _take_turn(self, host: str, cancel: CancelToken | None) -> None:
        """Wait until the limits, ours and the host's, let a request be sent."""
        if self._rate is not None:
            self.pause(self._traffic.reserve(host, self._rate), cancel)
        while seconds := self._traffic.held(host):
            self.pause(seconds, cancel)

    def _sleep(self, seconds: float, cancel: CancelToken | None) -> None:
        if cancel is not None and seconds > 0:
            cancel.wait(seconds)
        elif seconds > 0:
            self._ended.wait(seconds)
        self.check()

    def _send(
        self,
        lease: Lease,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: Body | None,
    ) -> None:
        target = target_of(url)
        sent = {
            "Host": lease.origin.authority,
            "User-Agent": self._options.user_agent,
            "Accept-Encoding": "identity",
            **headers,
        }
        proxy = self._dialer.forwarded(lease.origin)
        if proxy is not None:
            target = f"{lease.origin}{target}"
            sent |= proxy.headers()
        if body is not None:
            sent["Content-Length"] = str(body.length)
        # Who asks for the end of a connection does not wait for the other side to agree.
        lease.broken = sent.get("Connection") == "close"
        log.debug("%s %s", method, redact(url))
        lease.timeout(self._options.timeouts.idle)
        chunks = body.open() if body is not None else None
        try:
            # The first bytes are there before the request is begun: a server that works on
            # one request at a time could not give them to us in the middle of another one.
            first = next(chunks, b"") if chunks is not None else b""
            pieces = self._metered(first, chunks, lease.cancel) if chunks is not None else None
            lease.connection.request(method, target, body=pieces, headers=sent)
        except (BrokenPipeError, ConnectionResetError, ssl.SSLEOFError) as e:
            # A server that refuses early says why and closes: reading tells more.
            lease.broken = True
            log.debug("%s %s: %s", method, redact(url), e)
        except TRANSPORT_ERRORS as e:
            silence = f"the other side took nothing for {lease.seconds:g} s"
            raise network_failure(
                e, lease.origin, "send", silence=silence, client_hint=self._client_hint(lease)
            ) from e
        finally:
            if chunks is not None:
                chunks.close()

    def _receive(self, lease: Lease, method: str, url: str) -> Response:
        timeouts = self._options.timeouts
        lease.timeout(timeouts.first_byte)
        try:
            raw = lease.connection.getresponse()
        except TRANSPORT_ERRORS as e:
            stale = lease.used and isinstance(e, ConnectionError)
            if stale:
                # Those beside it have been idle as long, and the next try should find none.
                self._drop_idle(lease.origin)
            raise network_failure(
                e, lease.origin, "receive", stale=stale,
                silence=f"no answer within {lease.seconds:g} s",
                client_hint=self._client_hint(lease),
            ) from e  # fmt: skip
        # Before the response exists, because an empty one gives its connection back at once.
        lease.timeout(timeouts.idle)
        response = Response(self, method, url, lease, raw)
        log.debug("%s %s: %d", method, redact(url), response.status)
        if not TOLD_HEADERS.isdisjoint(map(str.lower, raw.headers.keys())):
            self._traffic.observe(
                lease.origin.authority,
                raw.status,
                response.header,
                response.header_list("Warning"),
                self._patience,
            )
        return response

    def _metered(
        self, first: bytes, rest: Iterator[bytes], cancel: CancelToken | None
    ) -> Iterator[bytes]:
        """A body's chunks, within the limit of bandwidth if there is one."""
        chunks = chain((first,), rest)
        return chunks if self.meter is None else self._paced(chunks, cancel)

    def _paced(
        self, chunks: Iterator[bytes], cancel: CancelToken | None
    ) -> Generator[bytes, None, None]:
        meter = self.meter
        assert meter is not None
        for chunk in chunks:
            view = memoryview(chunk)
            while view:
                piece, view = view[: meter.piece], view[meter.piece :]
                self.pause(meter.reserve(len(piece)), cancel)
                yield bytes(piece)

    def _client_hint(self, lease: Lease) -> ClientHint | None:
        return self._dialer.client_hint if lease.origin.scheme == "https" else None

    def _drop_idle(self, origin: Origin) -> None:
        with self._lock:
            kept = self._idle.pop(origin, [])
        for connection, _ in kept:
            connection.close()

    def _release(self, lease: Lease, *, fresh: bool = False) -> None:
        connection = lease.connection
        surplus = []
        with self._lock:
            self._leases.discard(lease)
            # The hosts used last come last, those that one is led to only once come first.
            kept = self._idle.pop(lease.origin, [])
            room = not self._closed and len(kept) < self._options.max_connections
            if connection.sock is not None:
                if room and not lease.broken:
                    kept.append((connection, fresh))
                else:
                    surplus.append((connection, fresh))
            if kept:
                self._idle[lease.origin] = kept
            if len(self._idle) > _MOST_HOSTS:
                surplus += self._idle.pop(next(iter(self._idle)))
        for each, _ in surplus:
            each.close()

    def _discard(self, lease: Lease) -> None:
        with self._lock:
            self._leases.discard(lease)
        # A response holds the socket open beside the connection: end it for both.
        lease.abort()
        with suppress(*TRANSPORT_ERRORS):
            lease.connection.close()


def _readable(connection: HTTPConnection) -> bool:
    """Whether an idle connection has something to say, which can only be its end."""
    poll = select.poll()
    poll.register(connection.sock, select.POLLIN)
    return bool(poll.poll(0))
