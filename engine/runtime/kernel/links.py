"""The loopback interface of a new network namespace, which is down until somebody raises it
(netdevice(7) SIOCSIFFLAGS)."""

from __future__ import annotations

import _socket
import fcntl

SIOCGIFFLAGS, SIOCSIFFLAGS = 0x8913, 0x8914
IFF_UP = 0x1
_NAME_SIZE, _REQUEST_SIZE = 16, 40


def raise_link(name: bytes = b"lo") -> None:
    """Set an interface of this network namespace up; needs CAP_NET_ADMIN in it. Raises
    OSError."""
    request = bytearray(_REQUEST_SIZE)
    request[: len(name)] = name
    link = _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC)
    try:
        fcntl.ioctl(link.fileno(), SIOCGIFFLAGS, request)
        request[_NAME_SIZE] |= IFF_UP
        fcntl.ioctl(link.fileno(), SIOCSIFFLAGS, request)
    finally:
        link.close()


def link_is_up(name: bytes = b"lo") -> bool:
    """Whether an interface of this network namespace is up; raises OSError."""
    request = bytearray(_REQUEST_SIZE)
    request[: len(name)] = name
    link = _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC)
    try:
        fcntl.ioctl(link.fileno(), SIOCGIFFLAGS, request)
    finally:
        link.close()
    return bool(request[_NAME_SIZE] & IFF_UP)
