"""TCP proxies that do harm: links that drop at seeded places, doors that let nobody through.

Bytes pass as they are until a proxy decides otherwise. Places are counted over all connections
in one direction, so that a transfer of a known size meets every one of them.
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
End = Literal["reset", "close", "stall"]
Harm = Literal["reset", "close", "stall", "flip"]


class TcpProxy:
    """Passes connections on to `host`; use it in a `with` block. Subclasses do the harm."""

    def __init__(self, host: str) -> None:
        self._target = (host.rpartition(":")[0], int(host.rpartition(":")[2]))
        self._lock = threading.Lock()
        self._sockets: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._closing = threading.Event()
        self.passed = {"down": 0, "up": 0}
        self.connections = 0

    def allow(self, number: int, way: Direction, data: bytes) -> tuple[bytes, End | None]:
        """What passes of `data`, which comes on connection `number` (from 1), and how the
        connection ends then; called with a lock held."""
        return data, None

    def greet(self, number: int) -> End | None:
        """How a connection ends before it began."""
        return None

    def delay(self, way: Direction, count: int) -> float:
        """Seconds that `count` bytes take."""
        return 0.0

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
        self._closing.set()
        _shutdown(self._listener)
        # From here on nobody adds to the sockets and threads.
        self._threads.pop(0).join()
        self._listener.close()
        with self._lock:
            sockets = list(self._sockets)
        for each in sockets:
            _shutdown(each)
        for thread in self._threads:
            thread.join()

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
            self.connections += 1
            number = self.connections
            end = self.greet(number)
            try:
                server = socket.create_connection(self._target)
            except OSError:
                client.close()
                continue
            with self._lock:
                self._sockets.update((client, server))
            if self._closing.is_set() or end in ("reset", "close"):
                _cut(client, server, reset=end == "reset")
            for each in (client, server):
                each.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFERS)
                each.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFERS)
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            ended = threading.Barrier(2)
            stalled = threading.Event()
            if end == "stall":
                stalled.set()
            self._start(self._pump, client, server, "up", number, stalled, ended)
            self._start(self._pump, server, client, "down", number, stalled, ended)

    def _pump(
        self,
        source: socket.socket,
        sink: socket.socket,
        way: Direction,
        number: int,
        stalled: threading.Event,
        ended: threading.Barrier,
    ) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(_PIECE):
                if stalled.is_set():
                    continue
                with self._lock:
                    data, end = self.allow(number, way, data)
                    self.passed[way] += len(data)
                sink.sendall(data)
                self._closing.wait(self.delay(way, len(data)))
                if end == "stall":
                    stalled.set()
                elif end is not None:
                    _cut(source, sink, reset=end == "reset")
                    break
        _shutdown(sink)
        ended.wait()
        # Both directions are over: each closes the socket that it read.
        with self._lock:
            self._sockets.discard(source)
        source.close()


class CuttingProxy(TcpProxy):
    """A link that is cut now and then; after the last cut it is good."""

    def __init__(
        self, host: str, *, cuts: int, over: int, direction: Direction = "down", seed: int = 0
    ) -> None:
        """Cut `cuts` times, at random among the first `over` bytes that go "down" (from the
        server) or "up" (to it); every other cut is a reset."""
        super().__init__(host)
        generator = random.Random(seed)
        self._places = sorted((generator.randrange(over) for _ in range(cuts)), reverse=True)
        self._direction = direction
        self.made = 0
        """Cuts so far."""

    def allow(self, number: int, way: Direction, data: bytes) -> tuple[bytes, End | None]:
        """Everything up to the next place."""
        begin = self.passed[way]
        if way != self._direction or not self._places:
            return data, None
        if self._places[-1] >= begin + len(data):
            return data, None
        data = data[: max(0, self._places.pop() - begin)]
        self.made += 1
        return data, "reset" if self.made % 2 == 0 else "close"


class CutLink(TcpProxy):
    """A link that is slow, or carries only so much to the server on each connection."""

    def __init__(
        self, host: str, *, cut_after: int | None = None, cuts: int = 1 << 30, pace: float = 0.0
    ) -> None:
        """The first `cuts` connections that carry `cut_after` bytes are reset there; `pace` is
        the seconds that each 64 KiB take."""
        super().__init__(host)
        self._cut_after, self._most_cuts, self.pace = cut_after, cuts, pace
        self._room: dict[int, int] = {}
        self.cuts = 0
        """Cuts so far."""

    @property
    def carried(self) -> int:
        """Bytes that went to the server."""
        return self.passed["up"]

    def allow(self, number: int, way: Direction, data: bytes) -> tuple[bytes, End | None]:
        """What fits into the connection."""
        if way != "up" or self._cut_after is None or self.cuts >= self._most_cuts:
            return data, None
        data = data[: self._room.get(number, self._cut_after)]
        room = self._room[number] = self._room.get(number, self._cut_after) - len(data)
        if room:
            return data, None
        self.cuts += 1
        return data, "reset"

    def delay(self, way: Direction, count: int) -> float:
        """Only the way to the server is slow."""
        return self.pace * count / 65536 if way == "up" else 0.0


class Door(TcpProxy):
    """Does one kind of harm, once or to every connection, at one place."""

    def __init__(
        self, host: str, harm: Harm, *, at: int | None, way: Direction = "up", always: bool = False
    ) -> None:
        """`at` is the byte, going `way`, at which a connection ends, stalls or has that byte
        inverted; None: before the first. Without `always` it is counted over all
        connections, and the harm is done once; else from the start of each."""
        super().__init__(host)
        self._harm, self._at, self._way, self._always = harm, at, way, always
        self._begun: dict[int, int] = {}
        self._done = False

    def greet(self, number: int) -> End | None:
        """The harm that is done before the first byte."""
        if self._at is not None or self._harm == "flip" or (number > 1 and not self._always):
            return None
        return self._harm

    def allow(self, number: int, way: Direction, data: bytes) -> tuple[bytes, End | None]:
        """Everything, but for the one place."""
        begin = self.passed[way]
        if self._always:
            begin = self._begun.get(number, 0)
        if way != self._way or self._at is None or (self._done and not self._always):
            return data, None
        self._begun[number] = begin + len(data)
        if not begin <= self._at < begin + len(data):
            return data, None
        self._done = True
        place = self._at - begin
        if self._harm == "flip":
            return data[:place] + bytes([data[place] ^ 0xFF]) + data[place + 1 :], None
        return data[:place], self._harm


def _cut(*sockets: socket.socket, reset: bool) -> None:
    for each in sockets:
        if reset:
            with contextlib.suppress(OSError):
                each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        _shutdown(each)


def _shutdown(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
