"""A TCP link that is cut again and again, between a client and whatever listens behind it.

Connections are cut after a number of bytes from the client, each counted for itself, and cut
means cut: both sides see the end at once, with bytes under way lost.
"""

from __future__ import annotations

import socket
import struct
import threading
import time
from contextlib import suppress
from typing import Self


class CutLink:
    """One listening port that forwards to `upstream`; use it in a `with` block."""

    def __init__(
        self, upstream: str, *, cut_after: int | None = None, cuts: int = 1 << 30, pace: float = 0.0
    ) -> None:
        """The first `cuts` connections that carry `cut_after` bytes are cut there; `pace` is
        the seconds that each 64 KiB take."""
        host, _, port = upstream.rpartition(":")
        self._upstream = (host, int(port))
        self._cut_after, self._left, self.pace = cut_after, cuts, pace
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self.carried = 0
        self.cuts = 0

    @property
    def host(self) -> str:
        """HOST:PORT."""
        return f"127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            for sock in self._open:
                with suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
        while self._threads:
            self._threads.pop().join()

    def _start(self, target: object, *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            # Small buffers, so that what is lost in a cut is what is under way on a real link.
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
            self._start(self._link, client)

    def _link(self, client: socket.socket) -> None:
        with client, socket.create_connection(self._upstream) as server:
            pair = (client, server)
            with self._lock:
                self._open.update(pair)
            back = threading.Thread(target=self._back, args=pair)
            back.start()
            try:
                if self._forth(client, server):
                    for sock in pair:
                        sock.setsockopt(
                            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
                        )
            except OSError:
                pass
            finally:
                for sock in pair:
                    with suppress(OSError):
                        sock.shutdown(socket.SHUT_RDWR)
                back.join()
                with self._lock:
                    self._open.difference_update(pair)

    def _forth(self, client: socket.socket, server: socket.socket) -> bool:
        """Whether the connection is to be cut."""
        carried = 0
        while data := client.recv(65536):
            with self._lock:
                limit = self._cut_after if self._left > 0 else None
            if limit is not None and carried + len(data) > limit:
                data = data[: limit - carried]
            server.sendall(data)
            carried += len(data)
            with self._lock:
                self.carried += len(data)
            time.sleep(self.pace * len(data) / 65536)
            if limit is not None and carried >= limit:
                with self._lock:
                    self._left -= 1
                    self.cuts += 1
                return True
        return False

    def _back(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while data := server.recv(65536):
                client.sendall(data)
            # The upstream has hung up, which the client is to see as well.
            client.shutdown(socket.SHUT_RDWR)
