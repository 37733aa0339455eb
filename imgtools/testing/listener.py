"""A listening socket of the test registry: a thread for each connection, TLS, and an end.

When it is stopped, every connection is cut and every thread is waited for.
"""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable
from typing import Any, Literal

_IDLE_SECONDS = 60.0
_TLS_HANDSHAKE = 0x16
_PLAIN = b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n"


class Listener:
    """Accepts on a free loopback port and serves each connection in a thread."""

    def __init__(
        self,
        serve: Callable[[socket.socket, int], object],
        closing: threading.Event,
        *,
        context: ssl.SSLContext | None = None,
        http_on_tls: Literal["400", "close", "hang"] = "400",
    ) -> None:
        """`serve` is given a socket, handshake done, and the connection's number."""
        self._serve = serve
        self._closing = closing
        self._context = context
        self._http_on_tls = http_on_tls
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._sockets: set[socket.socket] = set()
        self.connections = 0
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port: int = self._listener.getsockname()[1]
        self._start(self._accept)

    def stop(self) -> None:
        """Cut everything and wait for every thread; `closing` must be set."""
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

    def _start(self, target: Any, *args: Any) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)
        with self._lock:
            self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._closing.is_set():
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self.connections += 1
                number = self.connections
                self._sockets.add(sock)
            self._start(self._run, sock, number)

    def _run(self, sock: socket.socket, number: int) -> None:
        current = sock
        try:
            current.settimeout(_IDLE_SECONDS)
            current.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._context is not None:
                if self._is_plain(sock):
                    return
                current = self._context.wrap_socket(sock, server_side=True)
                with self._lock:
                    self._sockets.discard(sock)
                    self._sockets.add(current)
            if not self._closing.is_set():
                self._serve(current, number)
        except OSError:
            # A client that does not trust the certificate ends the handshake.
            return
        finally:
            with self._lock:
                self._sockets.discard(current)
                self._sockets.discard(sock)
            current.close()

    def _is_plain(self, sock: socket.socket) -> bool:
        """Whether a client speaks HTTP to a TLS port; it has its answer then."""
        first = sock.recv(1, socket.MSG_PEEK)
        if not first or first[0] == _TLS_HANDSHAKE:
            return False
        if self._http_on_tls == "400":
            # What is left unread would turn the end of the connection into a reset.
            sock.recv(65536)
            sock.sendall(_PLAIN)
        elif self._http_on_tls == "hang":
            while sock.recv(65536):
                continue
        return True


def _shutdown(sock: socket.socket) -> None:
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        # It was closed by its thread meanwhile.
        return
