"""Small servers for tests that speak for themselves: one function for each connection."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from tests.rig.sockets import Connections

Serve = Callable[[socket.socket], object]


@contextmanager
def listening(serve: Serve, host: str = "127.0.0.1") -> Iterator[str]:
    """Serves every connection in a thread; gives HOST:PORT. Ends all when its block ends."""
    listener = socket.create_server((host, 0))
    connections = Connections()
    threads: list[threading.Thread] = []

    def one(sock: socket.socket) -> None:
        with suppress(OSError), sock:
            serve(sock)

    def accept() -> None:
        with suppress(OSError):
            while True:
                sock, _ = listener.accept()
                connections.add(sock)
                threads.append(threading.Thread(target=one, args=(sock,)))
                threads[-1].start()

    accepting = threading.Thread(target=accept)
    accepting.start()
    try:
        yield f"{host}:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        accepting.join()
        connections.close()
        for thread in threads:
            thread.join()


@contextmanager
def answering_over_tls(context: ssl.SSLContext) -> Iterator[str]:
    """Says 200 to one request of each connection over TLS; gives HOST:PORT."""

    def serve(plain: socket.socket) -> None:
        with context.wrap_socket(plain, server_side=True) as tls:
            tls.recv(65536)
            tls.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    with listening(serve) as address:
        yield address
