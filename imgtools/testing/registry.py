"""`ScriptedRegistry`: a registry for tests that can be told to misbehave, byte by byte.

    with ScriptedRegistry(auth="bearer") as registry:
        digest = registry.push_blob("library/app", b"...")
        registry.fail(method="GET", path=r"/blobs/", nth=1, cut_after=3_000_000)
        ...
        assert registry.count("GET", "/blobs/") == 2

It speaks the protocol of `imgtools.serve`, listens on a loopback port that the kernel
chose, and is gone, threads included, when its block ends.
"""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

from imgtools.serve.app import AppOptions, RegistryApp
from imgtools.serve.message import Request, Response
from imgtools.spec.digest import Digest
from imgtools.spec.manifest import RawManifest
from imgtools.testing.authority import TOKEN_PATH, AuthOptions, Authority, IssuedToken, Scheme
from imgtools.testing.connection import Connection, Exchange
from imgtools.testing.dialects import Dialect, Speaker
from imgtools.testing.faults import Fault, FaultScript
from imgtools.testing.memory_store import MemoryStore, Repository

_IDLE_SECONDS = 60.0


class ScriptedRegistry:
    """A registry in memory; use it in a `with` block."""

    def __init__(
        self,
        *,
        auth: Scheme | AuthOptions = "none",
        dialect: Dialect | None = None,
        tls_cert: str | None = None,
        tls_key: str | None = None,
        latency: float = 0.0,
        app_options: AppOptions | None = None,
    ) -> None:
        """Describe the registry.

        `tls_cert` and `tls_key` are PEM files; `latency` is in seconds before each answer.
        `auth` may be a scheme (user "user", password "secret") or all of its options.
        """
        options = auth if isinstance(auth, AuthOptions) else AuthOptions(scheme=auth)
        self.dialect = dialect or Dialect()
        self.store = MemoryStore()
        self.authority = Authority(options)
        self.faults = FaultScript()
        self.latency = latency
        self._app_options = app_options or AppOptions()
        self._tls = (tls_cert, tls_key) if tls_cert and tls_key else None
        self._lock = threading.Lock()
        self._log: list[Exchange] = []
        self._closing = threading.Event()
        self._threads: list[threading.Thread] = []
        self._sockets: set[socket.socket] = set()
        self._connections = 0
        self._listener: socket.socket | None = None
        self.port = 0

    # --- where it is ------------------------------------------------------------------------

    @property
    def host(self) -> str:
        """HOST:PORT as in a reference."""
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """Scheme, host and port."""
        return f"{'https' if self._tls else 'http'}://{self.host}"

    # --- the script -------------------------------------------------------------------------

    def fail(self, **fault: Any) -> int:
        """Add a `Fault`, given by its fields; its number, for `faults.applied`."""
        return self.faults.add(Fault(**fault))

    # --- what happened ----------------------------------------------------------------------

    @property
    def requests(self) -> list[Exchange]:
        """Every request so far, in the order of arrival."""
        with self._lock:
            return list(self._log)

    def count(self, method: str | None = None, path: str = "") -> int:
        """How many requests had this method and match this regular expression."""
        wanted = Fault(method=method, path=path)
        return sum(wanted.wants(exchange.method, exchange.target) for exchange in self.requests)

    def lines(self) -> list[str]:
        """`METHOD target status` of every request: what a failing test wants to print."""
        return [f"{e.method} {e.target} {e.status}" for e in self.requests]

    def forget_requests(self) -> None:
        """Empty the log, so that a test sees only what comes next."""
        with self._lock:
            self._log.clear()

    @property
    def connections(self) -> int:
        """How many connections were accepted."""
        return self._connections

    @property
    def tokens(self) -> Sequence[IssuedToken]:
        """Every token that was issued."""
        return tuple(self.authority.issued)

    # --- the content ------------------------------------------------------------------------

    def repository(self, name: str) -> Repository:
        """The content of a repository, which a test may change at will."""
        return self.store.repository(name)

    def push_blob(self, name: str, content: bytes, *, algorithm: str = "sha256") -> Digest:
        """Put a blob in without a request."""
        digest = Digest.of(content, algorithm)
        self.repository(name).blobs[digest] = content
        return digest

    def push_manifest(
        self, name: str, content: bytes, media_type: str = "", *, tags: Sequence[str] = ()
    ) -> RawManifest:
        """Put a manifest in without a request; it need not be complete, but must be one."""
        raw = RawManifest.of(content, media_type)
        self.store.put_manifest(name, raw, tags)
        return raw

    # --- life -------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        """Listen."""
        context = None
        if self._tls is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*self._tls)
        app = RegistryApp(self.store, self._options())
        self._speaker = Speaker(self.dialect, app.handle, lambda: self.url)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = self._listener.getsockname()[1]
        self._start(self._accept, self._listener, context)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Cut everything and wait for every thread."""
        self._closing.set()
        assert self._listener is not None, "it was entered"
        _shutdown(self._listener)
        self._listener.close()
        with self._lock:
            sockets = list(self._sockets)
        for sock in sockets:
            _shutdown(sock)
        while True:
            with self._lock:
                threads, self._threads = self._threads, []
            if not threads:
                break
            for thread in threads:
                thread.join()
        self.store.close()

    def _options(self) -> AppOptions:
        if self.dialect.page_size is None:
            return self._app_options
        return replace(self._app_options, page_size=self.dialect.page_size)

    def _start(self, target: Any, *args: Any) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)
        with self._lock:
            self._threads.append(thread)
        thread.start()

    def _accept(self, listener: socket.socket, context: ssl.SSLContext | None) -> None:
        while not self._closing.is_set():
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            with self._lock:
                self._connections += 1
                number = self._connections
                self._sockets.add(sock)
            self._start(self._serve, sock, number, context)

    def _serve(self, sock: socket.socket, number: int, context: ssl.SSLContext | None) -> None:
        current = sock
        try:
            current.settimeout(_IDLE_SECONDS)
            current.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if context is not None:
                current = context.wrap_socket(sock, server_side=True)
                with self._lock:
                    self._sockets.discard(sock)
                    self._sockets.add(current)
            if self._closing.is_set():
                return
            Connection(
                current,
                number,
                handle=self._handle,
                choose=self.faults.choose,
                record=self._record,
                latency=lambda: self.latency,
                closing=self._closing,
            ).serve()
        except OSError:
            # A client that does not trust the certificate ends the handshake.
            return
        finally:
            with self._lock:
                self._sockets.discard(current)
                self._sockets.discard(sock)
            current.close()

    def _record(self, exchange: Exchange) -> None:
        with self._lock:
            self._log.append(exchange)

    def _handle(self, request: Request) -> Response:
        if request.path == TOKEN_PATH and self.authority.options.scheme == "bearer":
            return self.authority.token_response(request)
        refused = self.authority.refusal(request, self.url)
        if refused is not None:
            return refused
        return self._speaker.handle(request)


def _shutdown(sock: socket.socket) -> None:
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        # It was closed by its thread meanwhile.
        return
