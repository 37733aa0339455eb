"""The registry application on cheroot: HTTP/1.1, threads, TLS, and an orderly end.

cheroot's own body reader holds whole chunks in memory and its writer is pure Python, so
request bodies are read by `RequestBody` and files are sent with sendfile(2).
"""

from __future__ import annotations

import logging
import socket
import ssl
import threading
import time
from collections.abc import Callable
from typing import Any

from cheroot import server as cheroot_server
from cheroot import wsgi as cheroot_wsgi

from imgtools.blob.reader import CHUNK
from imgtools.errors import Error, InvalidInput, StorageError
from imgtools.frozen import dataclass
from imgtools.serve.app import RegistryApp
from imgtools.serve.message import FileBody
from imgtools.serve.wire import RequestBody, SocketReader, body_length
from imgtools.serve.wsgi import WsgiBody, make_wsgi

log = logging.getLogger(__name__)

_DRAIN_LIMIT = 256 * 1024
_LINGER_SECONDS = 10.0
_HEADER_LIMIT = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerOptions:
    """Where and how to listen.

    `port` 0 takes a free one. `tls_cert` and `tls_key` are PEM files, given together.
    `timeout` is how many seconds a silent connection is kept, `grace` how many running
    requests get when the server stops.
    """

    host: str = "127.0.0.1"
    port: int = 5000
    threads: int = 16
    tls_cert: str | None = None
    tls_key: str | None = None
    timeout: int = 60
    grace: int = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """One answered request, for a log; `sent` and `received` are body bytes."""

    client: str
    method: str
    target: str
    status: int
    received: int
    sent: int
    seconds: float


class RegistryServer:
    """A registry that listens; `run` serves until `stop` is called from elsewhere."""

    def __init__(
        self,
        app: RegistryApp,
        options: ServerOptions | None = None,
        *,
        on_access: Callable[[Access], object] | None = None,
    ) -> None:
        """Listen. Raises StorageError when the address or the certificate cannot be used."""
        self._options = options or ServerOptions()
        self._ended = threading.Event()
        self._server = _Server(app, self._options, on_access)
        where = f"{self._options.host}:{self._options.port}"
        try:
            if self._options.tls_cert is not None and self._options.tls_key is not None:
                self._server.ssl_adapter = _tls(self._options.tls_cert, self._options.tls_key)
            self._server.prepare()
        except ssl.SSLError as e:
            raise InvalidInput(f"the TLS certificate or key cannot be used: {e.reason}") from e
        except OSError as e:
            raise StorageError(
                f"cannot listen on {where}: {(e.strerror or str(e)).lower()}",
                path=where,
                hint="choose another address with --listen, port 0 for any free one",
            ) from e

    @property
    def url(self) -> str:
        """The address clients use, with the real port."""
        host, port = self._server.bind_addr[:2]
        scheme = "https" if self._options.tls_cert else "http"
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"

    def run(self) -> None:
        """Serve until `stop` or `end`; raises whatever a signal handler raises in this thread.

        The loop has a thread of its own: somewhere in it an exception raised by a signal
        handler can be swallowed, and the server would not end.
        """
        failures: list[BaseException] = []

        def loop() -> None:
            try:
                self._server.serve()
            except BaseException as e:  # noqa: BLE001 - raised again in the caller's thread
                failures.append(e)
            finally:
                self._ended.set()

        threading.Thread(target=loop, name="accept", daemon=True).start()
        self._ended.wait()
        if failures:
            raise failures[0]

    def end(self) -> None:
        """Let `run` return; safe from any thread and in a signal handler."""
        self._ended.set()

    def stop(self) -> None:
        """Accept nothing more, let running requests end within the grace, close everything."""
        timer = threading.Timer(self._options.grace, self._server.cut_all)
        timer.daemon = True
        timer.start()
        try:
            self._server.stop()
        finally:
            timer.cancel()


class _Connection(cheroot_server.HTTPConnection):
    """A connection with readers and writers that do not copy."""

    def __init__(self, server: Any, sock: Any, makefile: object = None) -> None:
        super().__init__(server, sock, makefile=_make_file)


def _make_file(sock: socket.socket, mode: str = "r", bufsize: int = 0) -> object:
    return SocketReader(sock) if "r" in mode else _SocketWriter(sock)


class _SocketWriter:
    """What cheroot writes responses to."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self.bytes_written = 0

    def write(self, data: bytes) -> int:
        self._socket.sendall(data)
        self.bytes_written += len(data)
        return len(data)


class _Server(cheroot_wsgi.Server):
    """cheroot's server with our connections and gateway."""

    ConnectionClass = _Connection
    max_request_header_size = _HEADER_LIMIT
    # Waiting connections cost a descriptor, not a thread.
    keep_alive_conn_limit = 200

    def __init__(
        self,
        app: RegistryApp,
        options: ServerOptions,
        on_access: Callable[[Access], object] | None,
    ) -> None:
        super().__init__(
            (options.host, options.port),
            make_wsgi(app),
            numthreads=options.threads,
            server_name="imgtools",
            request_queue_size=128,
            timeout=options.timeout,
            shutdown_timeout=options.grace,
        )
        self.gateway = _Gateway
        self.on_access = on_access
        self._busy: set[socket.socket] = set()
        self._busy_lock = threading.Lock()

    def busy(self, sock: socket.socket, is_busy: bool) -> None:
        """Note that a request runs on a connection, or that it has ended."""
        with self._busy_lock:
            (self._busy.add if is_busy else self._busy.discard)(sock)

    def cut_all(self) -> None:
        """Cut the connections on which requests still run."""
        with self._busy_lock:
            for sock in self._busy:
                try:
                    sock.shutdown(socket.SHUT_RDWR)
                except OSError as e:
                    log.debug("a connection was gone already: %s", e)

    def error_log(self, msg: str = "", level: int = logging.INFO, traceback: bool = False) -> None:
        """cheroot's messages go to our log; a client that goes away is no event."""
        log.log(min(level, logging.WARNING), "%s", msg, exc_info=traceback)


class _Gateway(cheroot_wsgi.Gateway_10):
    """One request: our body reader in, sendfile out, and no connection reset on errors."""

    def respond(self) -> None:
        server: _Server = self.req.server
        started = time.monotonic()
        server.busy(self.req.conn.socket, True)
        sent = 0
        body: RequestBody | None = None
        try:
            body = self._replace_body()
            if body is not None:
                sent = self._respond(body)
        finally:
            server.busy(self.req.conn.socket, False)
            if server.on_access is not None:
                status = int(self.req.status[:3] or 0) if self.req.sent_headers else 0
                received = body.received if body is not None else 0
                server.on_access(self._access(status, received, sent, started))

    def _replace_body(self) -> RequestBody | None:
        """Put our reader in cheroot's place; None when the framing was refused."""
        headers = {
            key.decode("latin-1").lower(): value.decode("latin-1")
            for key, value in self.req.inheaders.items()
        }
        try:
            body = RequestBody(self.req.conn.rfile, body_length(headers))
        except InvalidInput as e:
            self.req.close_connection = True
            self.req.simple_response("400 Bad Request", e.message)
            self.req.ready = False
            return None
        self.req.rfile = body
        self.env["wsgi.input"] = body
        return body

    def _respond(self, body: RequestBody) -> int:
        response = self.req.server.wsgi_app(self.env, self.start_response)
        try:
            lingering = not self._settle(body)
            self.req.ensure_headers_sent()
            sent = self._send(response)
        finally:
            if hasattr(response, "close"):
                response.close()
        if lingering:
            self._linger(body)
        return sent

    def _settle(self, body: RequestBody) -> bool:
        """Read what little the application left of the body; False when it is too much.

        A connection whose request was not read to the end cannot be used again.
        """
        try:
            done = body.drain(_DRAIN_LIMIT)
        except Error:
            self.req.close_connection = True
            return True
        if not done:
            self.req.close_connection = True
        # cheroot would read the rest into memory, or wait for a chunk that never comes.
        self.req.chunked_read = True
        return done

    def _send(self, response: Any) -> int:
        if not isinstance(response, WsgiBody):
            return 0
        body, sock = response.body, self.req.conn.socket
        if self.req.method == b"HEAD":
            return 0
        if isinstance(body, FileBody) and not isinstance(sock, ssl.SSLSocket):
            with open(body.fd, "rb", buffering=0, closefd=False) as file:
                sent = int(sock.sendfile(file, body.offset, body.length)) if body.length else 0
        else:
            sent = 0
            for data in body:
                sock.sendall(data)
                sent += len(data)
        if sent != body.length:
            # The file shrank: only a closed connection tells the client so.
            self.req.close_connection = True
        return sent

    def _linger(self, body: RequestBody) -> None:
        """Let the client finish its body and read our answer, instead of resetting it."""
        try:
            end = time.monotonic() + _LINGER_SECONDS
            while time.monotonic() < end and not body.drain(16 * CHUNK):
                continue
        except Error as e:
            log.debug("the rest of a refused body was not read: %s", e.message)

    def _access(self, status: int, received: int, sent: int, started: float) -> Access:
        return Access(
            client=str(self.req.conn.remote_addr or ""),
            method=self.req.method.decode("latin-1"),
            target=self.req.uri.decode("latin-1"),
            status=status,
            received=received,
            sent=sent,
            seconds=time.monotonic() - started,
        )


def _tls(certificate: str, key: str) -> Any:
    from cheroot.ssl.builtin import BuiltinSSLAdapter

    adapter = BuiltinSSLAdapter(certificate, key)
    adapter.context.minimum_version = ssl.TLSVersion.TLSv1_2
    return adapter
