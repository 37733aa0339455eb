"""Network interfaces and their addresses, asked of the kernel and told to it by rtnetlink(7)."""

from __future__ import annotations

import _socket
import errno
import os
import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

RTM_NEWLINK, RTM_NEWADDR, RTM_GETADDR = 16, 20, 22
IFLA_IFNAME, IFLA_NET_NS_FD = 3, 28
IFA_ADDRESS, IFA_LOCAL, IFA_BROADCAST = 1, 2, 4
IFF_UP = 1

_AF_NETLINK, _NETLINK_ROUTE = 16, 0
_REQUEST, _ACK, _DUMP, _CREATE, _REPLACE = 1, 4, 0x300, 0x400, 0x100
_ERROR, _DONE = 2, 3
_HEADER = struct.Struct("=IHHII")
_LINK = struct.Struct("=BxHiII")
_ATTRIBUTE = struct.Struct("=HH")
ADDRESS = struct.Struct("=BBBBi")
"""Of an address: family, length of its prefix, flags, scope, number of the interface."""

_SIZE = 1 << 16


class Netlink:
    """A conversation with the kernel about the network namespace it was begun in."""

    def __init__(self) -> None:
        """Raises OSError."""
        kind = _socket.SOCK_RAW | _socket.SOCK_CLOEXEC
        self._socket = _socket.socket(_AF_NETLINK, kind, _NETLINK_ROUTE)

    def __enter__(self) -> Netlink:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def addresses(self) -> Iterator[bytes]:
        """All addresses, each as an address message: ADDRESS, then attributes. Raises OSError."""
        self._send(RTM_GETADDR, _REQUEST | _DUMP, ADDRESS.pack(0, 0, 0, 0, 0))
        while True:
            for kind, content in self._receive():
                if kind == _DONE:
                    return
                yield content

    def move_link(self, index: int, namespace_fd: int, name: str) -> None:
        """Give the interface `index` to another network namespace, under a new name. Raises
        OSError."""
        content = _LINK.pack(0, 0, index, 0, 0)
        content += attribute(IFLA_NET_NS_FD, struct.pack("=I", namespace_fd))
        content += attribute(IFLA_IFNAME, os.fsencode(name) + b"\0")
        self._tell(RTM_NEWLINK, 0, content)

    def raise_link(self, index: int) -> None:
        """Set an interface up. Raises OSError."""
        self._tell(RTM_NEWLINK, 0, _LINK.pack(0, 0, index, IFF_UP, IFF_UP))

    def add_address(self, message: bytes) -> None:
        """Add the address of an address message; one that is there is replaced. Raises OSError."""
        self._tell(RTM_NEWADDR, _CREATE | _REPLACE, message)

    def _send(self, kind: int, flags: int, content: bytes) -> None:
        message = _HEADER.pack(_HEADER.size + len(content), kind, flags, 1, 0) + content
        self._socket.sendto(message, (0, 0))

    def _tell(self, kind: int, flags: int, content: bytes) -> None:
        self._send(kind, _REQUEST | _ACK | flags, content)
        for _ in self._receive():
            # The only answer is an error, the number 0 among them, which was not raised.
            return

    def _receive(self) -> list[tuple[int, bytes]]:
        """The messages of one datagram; raises the OSError that one of them is."""
        data = self._socket.recv(_SIZE)
        found = []
        while len(data) >= _HEADER.size:
            length, kind, *_ = _HEADER.unpack_from(data)
            if not _HEADER.size <= length <= len(data):
                raise OSError(errno.EBADMSG, os.strerror(errno.EBADMSG))
            content, data = data[_HEADER.size : length], data[(length + 3) & ~3 :]
            if kind == _ERROR:
                (code,) = struct.unpack_from("=i", content)
                if code:
                    raise OSError(-code, os.strerror(-code))
            found.append((kind, content))
        return found


def attribute(kind: int, value: bytes) -> bytes:
    """One attribute, padded."""
    padding = -len(value) % 4
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), kind) + value + b"\0" * padding


def attributes(content: bytes) -> Iterator[tuple[int, bytes]]:
    """The attributes at the end of a message."""
    while len(content) >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(content)
        if not _ATTRIBUTE.size <= length <= len(content):
            return
        yield kind & 0x3FFF, content[_ATTRIBUTE.size : length]
        content = content[(length + 3) & ~3 :]
