"""Opens connections to origins: name, proxy, TLS, each with a time of its own and a clear end.

A `Dialer` keeps the TLS contexts of one set of options, and refuses what the registry may not
lead us to.
"""

from __future__ import annotations

import logging
import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import closing, suppress
from http.client import HTTPConnection
from typing import TYPE_CHECKING

from imgtools.blob.reader import CHUNK
from imgtools.errors import Error
from imgtools.task import CancelToken
from imgtools.transport.options import RegistryOptions
from imgtools.transport.registry.wire.admission import Admission
from imgtools.transport.registry.wire.admission import Network as Network
from imgtools.transport.registry.wire.connect import Check, dial
from imgtools.transport.registry.wire.exchange import ExchangeFailed
from imgtools.transport.registry.wire.framing import BoundedResponse
from imgtools.transport.registry.wire.network import failed, network_failure
from imgtools.transport.registry.wire.response import TRANSPORT_ERRORS
from imgtools.transport.registry.wire.url import Origin

if TYPE_CHECKING:
    from imgtools.transport.registry.wire.proxies import Proxy
    from imgtools.transport.registry.wire.tls_stream import TlsStream

    Stream = socket.socket | TlsStream

log = logging.getLogger(__name__)

Watch = Callable[["Stream"], object]
"""Told of a stream whose end would end the work; may raise to end it."""


class Lease:
    """A connection while one exchange uses it."""

    def __init__(self, connection: HTTPConnection, origin: Origin) -> None:
        self.connection = connection
        self.origin = origin
        self.broken = False
        self.used = connection.sock is not None
        self.cancel: CancelToken | None = None
        self.seconds = 0.0
        """The time-out in force."""
        self._socket = connection.sock

    def watch(self, stream: Stream) -> None:
        """Have `abort` end what is being done on a stream that is not open yet."""
        self._socket = stream

    def attach(self, stream: Stream) -> None:
        """Use a stream that was opened."""
        self.connection.sock = self._socket = stream

    def timeout(self, seconds: float) -> None:
        """Seconds until the socket's next operation fails; kept by what reads after us."""
        self.seconds = seconds
        self.connection.timeout = seconds
        if self._socket is not None:
            self._socket.settimeout(seconds)

    def abort(self) -> None:
        """End whatever the connection is doing; safe from any thread."""
        stream = self._socket
        with suppress(OSError):
            if isinstance(stream, socket.socket):
                # Not the method of TLS sockets, which takes TLS away from who is using it.
                socket.socket.shutdown(stream, socket.SHUT_RDWR)
            elif stream is not None:
                stream.shutdown(socket.SHUT_RDWR)


class Dialer:
    """Opens connections under one set of options; used from any number of threads."""

    def __init__(
        self, options: RegistryOptions, *, registry: str, home: Origin | None, network: Network
    ) -> None:
        """`registry` is the name by which certs.d has certificates, `home` the registry's own
        origin: the only host that is shown client certificates, and the one whose address
        says which others it may lead us to."""
        self._options = options
        self._registry = registry
        self._home = home
        self._network = network
        self._lock = threading.Lock()
        self._contexts: dict[bool, ssl.SSLContext] = {}
        self._proxied = bool(options.proxies.http or options.proxies.https)
        self._admission = Admission(
            options,
            registry=registry,
            home=home,
            network=network,
            proxied=lambda origin: self.proxy(origin) is not None,
        )

    def proxy(self, origin: Origin) -> Proxy | None:
        """The proxy for `origin`; raises Unsupported, InvalidInput."""
        if not self._proxied:
            return None
        from imgtools.transport.registry.wire.proxies import proxy_for

        return proxy_for(origin, self._options.proxies)

    def forwarded(self, origin: Origin) -> Proxy | None:
        """The proxy that requests to `origin` are sent to whole, without a tunnel."""
        proxy = self.proxy(origin) if origin.scheme == "http" else None
        return None if proxy is None or proxy.socks else proxy

    def connection(self, origin: Origin) -> HTTPConnection:
        """A connection that is not open yet; its socket is what `open` returns."""
        connection = HTTPConnection(origin.host, origin.port, blocksize=CHUNK)
        connection.response_class = BoundedResponse
        return connection

    def open(
        self, origin: Origin, seconds: float, check: Check, watch: Watch = lambda stream: None
    ) -> Stream:
        """A stream to `origin`, TLS included, `seconds` for each stage at most.

        `check` is called now and then, and what it raises ends the work; `watch` is told of
        streams whose end would end it. Raises ExchangeFailed, and what tls.make_context
        raises.
        """

        def watched(stream: Stream) -> None:
            watch(stream)
            check()

        # Before connecting, so that nobody waits for us while authorities are loaded.
        context = self._context(origin) if origin.scheme == "https" else None
        stream = self._open_plain(origin, seconds, check, watched)
        if context is None:
            return stream
        try:
            return self._handshake(stream, context, origin, seconds, watched)
        except ssl.SSLCertVerificationError as e:
            raise self._refused_certificate(e, origin, seconds, check) from e
        except TRANSPORT_ERRORS as e:
            silence = f"the TLS handshake did not end within {seconds:g} s"
            raise network_failure(
                e, origin, "tls", silence=silence, client_hint=self.client_hint
            ) from e

    def client_hint(self) -> str:
        """What to say where a client certificate may be missing."""
        from imgtools.transport.registry.wire.tls_errors import client_hint

        return client_hint(self._options, self._registry)

    def _open_plain(
        self, origin: Origin, seconds: float, check: Check, watched: Watch
    ) -> socket.socket:
        """What TLS with `origin` is spoken on: a socket, or a tunnel through a proxy."""
        proxy = self.proxy(origin)
        if proxy is None:
            sock, address = self._dial(origin, None, seconds, check)
            self._admission.reached(origin, address)
            return sock
        self._admission.check_proxied(origin, seconds, check)
        stream, _ = self._dial(origin, proxy, seconds, check)
        try:
            watched(stream)
            if proxy.scheme == "https":
                stream = self._tls_to_proxy(stream, proxy, seconds, watched)
            if proxy.socks or origin.scheme == "https":
                from imgtools.transport.registry.wire.tunnel import connect_through

                connect_through(
                    stream, proxy, origin, seconds=seconds, user_agent=self._options.user_agent
                )
        except BaseException as e:
            stream.close()
            if isinstance(e, TRANSPORT_ERRORS):
                silence = f"it did not answer within {seconds:g} s"
                raise network_failure(e, origin, "connect", silence=silence, via=str(proxy)) from e
            raise
        return stream

    def _dial(
        self, origin: Origin, proxy: Proxy | None, seconds: float, check: Check
    ) -> tuple[socket.socket, str]:
        """A socket to `origin`, or to the proxy before it, and the address it is at."""
        to = proxy or origin
        via = str(proxy) if proxy is not None else ""
        try:
            addresses = self._network.resolve(to.host, to.port, seconds, check)
            if proxy is None:
                addresses = self._admission.admitted(origin, addresses, seconds, check)
            sock = dial(addresses, seconds, check)
        except TRANSPORT_ERRORS as e:
            raise network_failure(e, origin, "connect", via=via) from e
        try:
            return sock, str(sock.getpeername()[0])
        except OSError as e:
            sock.close()
            raise network_failure(e, origin, "connect", via=via) from e

    def _context(self, origin: Origin | None) -> ssl.SSLContext:
        """The context for `origin`, or (None) for a proxy."""
        identity = self._home is not None and origin is not None and origin.host == self._home.host
        with self._lock:
            context = self._contexts.get(identity)
            if context is None:
                from imgtools.transport.registry.wire.tls import make_context

                context = make_context(
                    self._options, registry=self._registry, client_identity=identity
                )
                self._contexts[identity] = context
            return context

    def _handshake(
        self,
        stream: socket.socket,
        context: ssl.SSLContext,
        origin: Origin,
        seconds: float,
        watched: Watch,
    ) -> ssl.SSLSocket | TlsStream:
        """TLS on `stream`, which is closed when it fails."""
        name = origin.host.removesuffix(".")
        stream.settimeout(seconds)
        tls: ssl.SSLSocket | TlsStream
        if isinstance(stream, ssl.SSLSocket):
            from imgtools.transport.registry.wire.tls_stream import TlsStream

            tls = TlsStream(stream, context, name)
        else:
            tls = _wrap(stream, context, name, watched)
        if self._options.tls.cipher_suites:
            from imgtools.transport.registry.wire.tls import unwanted_cipher

            unwanted = unwanted_cipher(tls.cipher(), self._options.tls)
            if unwanted:
                tls.close()
                raise failed(
                    f"it chose the cipher suite {unwanted}, which --tls-details does not allow",
                    origin,
                    "tls",
                    final=True,
                )
        return tls

    def _tls_to_proxy(
        self, stream: socket.socket, proxy: Proxy, seconds: float, watched: Watch
    ) -> socket.socket:
        """TLS with an https proxy, under the same rules of trust as with registries."""
        stream.settimeout(seconds)
        try:
            return _wrap(stream, self._context(None), proxy.host.removesuffix("."), watched)
        except ssl.SSLCertVerificationError as e:
            raise ExchangeFailed(
                f"cannot establish TLS with {proxy}: its certificate is not trusted: "
                f"{e.verify_message}",
                host=proxy.authority,
                stage="connect",
                final=True,
                hint="name a file with the CA of the proxy in SSL_CERT_FILE",
            ) from e

    def _refused_certificate(
        self, error: ssl.SSLCertVerificationError, origin: Origin, seconds: float, check: Check
    ) -> ExchangeFailed:
        from imgtools.transport.registry.wire.tls_errors import explain_refused

        def go_on(stream: Stream) -> None:
            check()

        def fetch() -> bytes | None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            try:
                stream = self._open_plain(origin, seconds, check, go_on)
                with closing(self._handshake(stream, context, origin, seconds, go_on)) as tls:
                    seen: bytes | None = tls.getpeercert(binary_form=True)
                    return seen
            except (Error, *TRANSPORT_ERRORS) as e:
                log.debug("the certificate of %s was not seen again: %s", origin, e)
            return None

        reason, hint = explain_refused(error, origin, self._options, self._registry, fetch)
        return failed(reason, origin, "tls", final=True, hint=hint)


def _wrap(sock: socket.socket, context: ssl.SSLContext, name: str, watched: Watch) -> ssl.SSLSocket:
    """TLS on a socket, which is closed when that fails."""
    try:
        # As bytes, see connect.resolve.
        encoded = name.encode("ascii") if name.isascii() else name.encode("idna")
        tls = context.wrap_socket(sock, server_hostname=encoded, do_handshake_on_connect=False)
    except BaseException:
        sock.close()
        raise
    try:
        watched(tls)
        tls.do_handshake()
    except BaseException:
        tls.close()
        raise
    return tls
