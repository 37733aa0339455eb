"""Keeps the open connections of a threaded server, so that they can be cut when it stops.

A keep-alive client may hold its connection for ever, and a server thread would wait with it.
"""

from __future__ import annotations

import contextlib
import socket
import threading


class Connections:
    """The sockets now open; safe to use from any thread."""

    def __init__(self) -> None:
        """None yet."""
        self._lock = threading.Lock()
        self._sockets: set[socket.socket] = set()
        self._closed = False

    def add(self, connection: socket.socket) -> None:
        """Take note of a new connection; cut at once if the server is stopping."""
        with self._lock:
            self._sockets.add(connection)
            if self._closed:
                _cut(connection)

    def discard(self, connection: socket.socket) -> None:
        """Forget one that ended."""
        with self._lock:
            self._sockets.discard(connection)

    def close(self) -> None:
        """Cut all; their threads see the end of the stream."""
        with self._lock:
            self._closed = True
            for connection in self._sockets:
                _cut(connection)


def _cut(connection: socket.socket) -> None:
    # The other side may have been quicker.
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
