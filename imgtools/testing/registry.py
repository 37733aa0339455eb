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
from collections.abc import Callable, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

from imgtools.serve.app import AppOptions, RegistryApp
from imgtools.serve.message import Request, Response
from imgtools.spec.digest import Digest
from imgtools.spec.manifest import RawManifest
from imgtools.testing.authority import TOKEN_PATH, AuthOptions, Authority, IssuedToken, Scheme
from imgtools.testing.connection import Connection, Exchange, Manners
from imgtools.testing.dialect_blobs import Storage
from imgtools.testing.dialects import Dialect, Speaker
from imgtools.testing.faults import Fault, FaultScript
from imgtools.testing.listener import Listener
from imgtools.testing.memory_store import MemoryStore, Repository


class ScriptedRegistry:
    """A registry in memory; use it in a `with` block."""

    def __init__(
        self,
        *,
        auth: Scheme | AuthOptions = "none",
        dialect: Dialect | None = None,
        tls_cert: str | None = None,
        tls_key: str | None = None,
        client_ca: str | None = None,
        tls_maximum: ssl.TLSVersion | None = None,
        latency: float = 0.0,
        app_options: AppOptions | None = None,
    ) -> None:
        """Describe the registry.

        `tls_cert` and `tls_key` are PEM files; `client_ca` is one too, and makes the server
        want a certificate of every client; `tls_maximum` is the newest version it speaks.
        `latency` is in seconds before each answer. `auth` may be a scheme (user "user",
        password "secret") or all of its options.
        """
        options = auth if isinstance(auth, AuthOptions) else AuthOptions(scheme=auth)
        self.dialect = dialect or Dialect()
        self.store = MemoryStore()
        self.authority = Authority(options, self.store.has_repository)
        self.faults = FaultScript()
        self.latency = latency
        self._app_options = app_options or AppOptions()
        self._tls = (tls_cert, tls_key) if tls_cert and tls_key else None
        self._client_ca = client_ca
        self._tls_maximum = tls_maximum
        self._lock = threading.Lock()
        self._log: list[Exchange] = []
        self._closing = threading.Event()
        self._listeners: list[Listener] = []
        self.server_names: list[str] = []
        self.port = 0
        self.storage_port = 0

    # --- where it is ------------------------------------------------------------------------

    @property
    def host(self) -> str:
        """HOST:PORT as in a reference."""
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """Scheme, host and port."""
        return f"{'https' if self._tls else 'http'}://{self.host}"

    @property
    def storage_url(self) -> str:
        """Scheme, host and port of the storage that a dialect redirects blobs to."""
        host = "localhost" if self.dialect.presigned == "host" else "127.0.0.1"
        return f"{'https' if self._tls else 'http'}://{host}:{self.storage_port}"

    def signed_url(self, name: str, digest: Digest) -> str:
        """A URL of the storage for a blob, as a foreign layer's `urls` might have it."""
        return self._storage.sign(name, str(digest))

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
        """How many connections were accepted, those of the storage included."""
        return sum(listener.connections for listener in self._listeners)

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
        app = RegistryApp(self.store, self._options())
        self._storage = Storage(self.dialect, app.handle, lambda: self.storage_url)
        self._speaker = Speaker(self.dialect, app.handle, lambda: self.url, self._storage)
        self.port = self._listen(self._handle, storage=False)
        if self.dialect.presigned != "no":
            self.storage_port = self._listen(self._storage.handle, storage=True)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Cut everything and wait for every thread."""
        self._closing.set()
        for listener in self._listeners:
            listener.stop()
        self.store.close()

    def _options(self) -> AppOptions:
        options = self._app_options
        if self.dialect.page_size is not None:
            options = replace(options, page_size=self.dialect.page_size)
        if self.dialect.sparse:
            options = replace(options, sparse_indexes=True, sparse_images=True)
        return options

    def _context(self) -> ssl.SSLContext | None:
        if self._tls is None:
            return None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self._tls)
        if self._client_ca is not None:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(self._client_ca)
        if self._tls_maximum is not None:
            context.maximum_version = self._tls_maximum
        context.sni_callback = lambda sock, name, own: self.server_names.append(name or "")
        return context

    def _listen(self, handle: Callable[[Request], Response], *, storage: bool) -> int:
        """Serve with `handle` on a new port, which is returned."""
        manners = Manners(keep_alive=self.dialect.keep_alive, expect=self.dialect.expect)

        def serve(sock: socket.socket, number: int) -> None:
            Connection(
                sock,
                number,
                handle=handle,
                choose=self.faults.choose,
                record=self._record,
                latency=lambda: self.latency,
                closing=self._closing,
                manners=manners,
                storage=storage,
            ).serve()

        listener = Listener(
            serve, self._closing, context=self._context(), http_on_tls=self.dialect.http_on_tls
        )
        self._listeners.append(listener)
        return listener.port

    def _record(self, exchange: Exchange) -> None:
        with self._lock:
            self._log.append(exchange)

    def _handle(self, request: Request) -> Response:
        if request.path == TOKEN_PATH and self.authority.options.scheme == "bearer":
            return self.authority.token_response(request)
        refused = self.authority.refusal(request, self.url)
        if refused is not None:
            if self.dialect.version_header:
                refused.headers["Docker-Distribution-API-Version"] = "registry/2.0"
            return refused
        return self._speaker.handle(request)
