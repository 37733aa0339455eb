"""Messages between the runtime and a container's init: one JSON object a packet, with the
descriptors that go along. Both ends treat what arrives as if a stranger had sent it."""

from __future__ import annotations

import _socket
import os
import struct

from engine.runtime.errors import Damaged, Failure, from_document
from engine.runtime.jsontext import encode, parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_MESSAGE = 1 << 18
MAX_DESCRIPTORS = 64
FD_SIZE = struct.calcsize("i")


class Channel:
    """One end of a SOCK_SEQPACKET pair."""

    def __init__(self, fd: int) -> None:
        """Takes `fd` over."""
        self._socket = _socket.socket(fileno=fd)

    def fileno(self) -> int:
        """The descriptor, for poll."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close this end; safe to call twice."""
        self._socket.close()

    def send(self, message: dict[str, object], fds: tuple[int, ...] = ()) -> None:
        """Send one message; raises OSError, EPIPE if the other end is gone."""
        ancillary = []
        if fds:
            rights = struct.pack(f"{len(fds)}i", *fds)
            ancillary = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, rights)]
        self._socket.sendmsg([encode(message).encode()], ancillary, _socket.MSG_NOSIGNAL)

    def receive(self) -> tuple[dict[str, object], tuple[int, ...]] | None:
        """The next message and its descriptors (close-on-exec); None if the other end is gone.

        Raises Damaged for what is no message of ours.
        """
        size = _socket.CMSG_SPACE(MAX_DESCRIPTORS * 4)
        flags = _socket.MSG_CMSG_CLOEXEC
        try:
            content, ancillary, flags, _ = self._socket.recvmsg(MAX_MESSAGE, size, flags)
        except ConnectionResetError:
            return None
        fds: list[int] = []
        for level, kind, data in ancillary:
            if level == _socket.SOL_SOCKET and kind == _socket.SCM_RIGHTS:
                fds += struct.unpack_from(f"{len(data) // FD_SIZE}i", data)
        try:
            if not content:
                _close(fds)
                return None
            document = parse(content, "message")
            if flags & (_socket.MSG_TRUNC | _socket.MSG_CTRUNC) or not isinstance(document, dict):
                raise Damaged("a message between the runtime's processes was cut")
        except BaseException:
            _close(fds)
            raise
        return document, tuple(fds)

    def expect(self, *kinds: str) -> tuple[dict[str, object], tuple[int, ...]]:
        """The next message, whose "type" is one of `kinds`.

        Raises the error that a "failed" message carries, Damaged for another type, and
        Failure if the other end is gone.
        """
        received = self.receive()
        if received is None:
            raise Failure("the process on the other side ended without a word")
        document, fds = received
        kind = document.get("type")
        if kind in kinds:
            return document, fds
        _close(fds)
        if kind == "failed":
            raise from_document(document)
        raise Damaged(f"expected a message {' or '.join(kinds)}, got {kind!r}")

    def fail(self, failure: Failure) -> None:
        """Tell the other end; that it is gone already is no further error."""
        try:
            self.send({"type": "failed", **failure.to_document()})
        except OSError:
            return


def _close(fds: Iterable[int]) -> None:
    for fd in fds:
        os.close(fd)


def pair() -> tuple[Channel, Channel]:
    """Two connected ends, both close-on-exec."""
    first, second = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
    return Channel(first.detach()), Channel(second.detach())
