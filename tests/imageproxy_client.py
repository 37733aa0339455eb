"""A client of the image proxy's protocol, for imgtools and for skopeo alike.

Written from the protocol's documentation: one JSON message per packet of a SOCK_SEQPACKET
pair, and pipes for data whose reading ends come with the replies.
"""

from __future__ import annotations

import array
import json
import os
import socket
import subprocess
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

PACKET = 32 * 1024


class ProxyRefused(Exception):
    """The proxy answered that a call failed."""

    def __init__(self, reply: dict[str, Any]) -> None:
        super().__init__(reply["error"])
        self.reply = reply


@dataclass
class Called:
    """A reply: its value, and the pipes that came with it, to be closed by whoever has it."""

    reply: dict[str, Any]
    fds: list[int] = field(default_factory=list)

    @property
    def value(self) -> Any:
        """What the call returned."""
        return self.reply["value"]

    def close(self) -> None:
        """Close the pipes."""
        fds, self.fds = self.fds, []
        for fd in fds:
            os.close(fd)


class ProxyClient:
    """Starts a proxy and speaks to it; use it in a `with` block."""

    def __init__(
        self,
        command: Sequence[str | Path],
        *,
        env: Mapping[str, str] | None = None,
        stderr: int | None = subprocess.PIPE,
    ) -> None:
        """`command` is the proxy without --sockfd."""
        self.socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.settimeout(60)
        with theirs:
            fd = theirs.fileno()
            self.process = subprocess.Popen(
                [*map(str, command), "--sockfd", str(fd)],
                env=None if env is None else dict(env),
                stdin=subprocess.DEVNULL,
                stderr=stderr,
                pass_fds=[fd],
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()
        try:
            self.process.wait(20)
        finally:
            self.process.kill()
            self.process.wait()
            if self.process.stderr is not None:
                self.process.stderr.close()

    def send(self, content: bytes) -> None:
        """Send one packet as it is."""
        self.socket.send(content)

    def receive(self) -> Called:
        """Receive one reply, failed or not."""
        room = array.array("i", [0] * 8)
        data, ancillary, _flags, _address = self.socket.recvmsg(
            PACKET, socket.CMSG_SPACE(len(room) * room.itemsize)
        )
        fds: list[int] = []
        for level, kind, content in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                received = array.array("i")
                received.frombytes(content[: len(content) - len(content) % received.itemsize])
                fds.extend(received)
        if not data:
            raise EOFError("the proxy closed the socket")
        return Called(json.loads(data), fds)

    def ask(self, method: str, *args: Any) -> Called:
        """Call a method; raises ProxyRefused."""
        self.send(json.dumps({"method": method, "args": list(args)}).encode())
        called = self.receive()
        if not called.reply["success"]:
            called.close()
            raise ProxyRefused(called.reply)
        return called

    def call(self, method: str, *args: Any) -> Any:
        """Call a method that gives no pipe; its value."""
        called = self.ask(method, *args)
        assert not called.fds, f"{method} gave a pipe"
        return called.value

    def read(self, method: str, *args: Any) -> tuple[Any, bytes]:
        """Call a method that gives a pipe, and read it while FinishPipe waits; the value and
        the content. Raises ProxyRefused when either call fails."""
        called = self.ask(method, *args)
        assert len(called.fds) == 1, called
        assert called.reply["pipeid"] > 0
        content: list[bytes] = []

        def drain() -> None:
            while data := os.read(called.fds[0], 1 << 16):
                content.append(data)

        thread = threading.Thread(target=drain)
        thread.start()
        try:
            self.call("FinishPipe", called.reply["pipeid"])
        finally:
            thread.join(60)
            called.close()
        return called.value, b"".join(content)

    def read_raw(self, image: int, digest: str) -> tuple[Any, bytes, dict[str, Any] | None]:
        """GetRawBlob: the size, what came, and the error if there was one."""
        called = self.ask("GetRawBlob", image, digest)
        assert len(called.fds) == 2, called
        assert called.reply["pipeid"] == 0
        try:
            parts = []
            while data := os.read(called.fds[0], 1 << 16):
                parts.append(data)
            said = b""
            while data := os.read(called.fds[1], 1 << 16):
                said += data
        finally:
            called.close()
        return called.value, b"".join(parts), json.loads(said) if said else None
