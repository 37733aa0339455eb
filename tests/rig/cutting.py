"""A TCP proxy that cuts connections: a link that drops again and again, at seeded places.

Bytes pass as they are. The places are counted over all connections in one direction, so that a
transfer of a known size meets every one of them; after the last the link is good.
"""

from __future__ import annotations

import contextlib
import random
import socket
import struct
import threading
from typing import Literal, Self

_PIECE = 32 * 1024
_BUFFERS = 64 * 1024
"""Bytes that each socket of the proxy holds, so that little is lost with a connection."""

Direction = Literal["down", "up"]


class CuttingProxy:
    """Passes connections on to `host`; use it in a `with` block."""

    def __init__(
        self, host: str, *, cuts: int, over: int, direction: Direction = "down", seed: int = 0
    ) -> None:
        """Cut `cuts` times, at random among the first `over` bytes that go "down" (from the
        server) or "up" (to it); every other cut is a reset."""
        self._target = (host.rpartition(":")[0], int(host.rpartition(":")[2]))
        self._random = random.Random(seed)
        self._places = sorted((self._random.randrange(over) for _ in range(cuts)), reverse=True)
        self._direction = direction
        self._lock = threading.Lock()
        self._sockets: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._closing = False
        self.passed = {"down": 0, "up": 0}
        self.made = 0
        """Cuts so far."""

    @property
    def host(self) -> str:
        """HOST:PORT of the proxy."""
        address, port = self._listener.getsockname()
        return f"{address}:{port}"

    def __enter__(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._closing = True
            sockets = [self._listener, *self._sockets]
        for each in sockets:
            _shutdown(each)
        self._listener.close()
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
            try:
                server = socket.create_connection(self._target)
            except OSError:
                client.close()
                continue
            with self._lock:
                if self._closing:
                    client.close()
                    server.close()
                    return
                self._sockets.update((client, server))
            for each in (client, server):
                each.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFERS)
                each.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFERS)
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            ended = threading.Barrier(2)
            self._start(self._pump, client, server, "up", ended)
            self._start(self._pump, server, client, "down", ended)

    def _pump(
        self, source: socket.socket, sink: socket.socket, way: Direction, ended: threading.Barrier
    ) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(_PIECE):
                left, reset = self._allowed(len(data), way)
                sink.sendall(data[:left])
                if left < len(data):
                    _cut(source, sink, reset=reset)
                    break
        _shutdown(sink)
        ended.wait()
        # Both directions are over: each closes the socket that it read.
        with self._lock:
            self._sockets.discard(source)
        source.close()

    def _allowed(self, count: int, way: Direction) -> tuple[int, bool]:
        """How many of the next `count` bytes pass before a cut, and whether that is a reset."""
        with self._lock:
            begin = self.passed[way]
            if way == self._direction and self._places and self._places[-1] < begin + count:
                count = max(0, self._places.pop() - begin)
                self.made += 1
            self.passed[way] += count
            return count, self.made % 2 == 0


def _cut(*sockets: socket.socket, reset: bool) -> None:
    for each in sockets:
        if reset:
            with contextlib.suppress(OSError):
                each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        _shutdown(each)


def _shutdown(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
