"""The gate between `create` and `start`: a listening socket that a created container's init
waits at.

Whoever connects and says "start" lets it go on, and hears how that went: an error, or the end
of the connection when the program has been executed. A container is created as long as its
socket listens, so there is no note of that which could be wrong.
"""

from __future__ import annotations

import _socket
import os
import select

from engine.runtime.container.channel import Channel
from engine.runtime.container.state import SOCKET, StateDir
from engine.runtime.errors import Failure, refused

BACKLOG = 16


def _address(directory: StateDir) -> bytes:
    # A socket's name is limited to 107 bytes, a directory's is not.
    return b"/proc/self/fd/%d/%s" % (directory.fd, SOCKET.encode())


def make_gate(directory: StateDir) -> int:
    """A listening socket in the container's directory, close-on-exec."""
    gate = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
    try:
        gate.bind(_address(directory))
        gate.listen(BACKLOG)
    except OSError as e:
        gate.close()
        raise refused(f"make {directory.path}/{SOCKET}", e) from e
    return gate.detach()


def knock(directory: StateDir) -> Channel | None:
    """A connection to the init that waits; None if none does."""
    end = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
    try:
        end.connect(_address(directory))
    except OSError:
        end.close()
        return None
    return Channel(end.detach())


def is_waiting(directory: StateDir) -> bool:
    """Whether an init waits to be started."""
    end = knock(directory)
    if end is None:
        return False
    end.close()
    return True


def wait_at(gate_fd: int) -> Channel:
    """In the init: wait until somebody says "start"; the connection to answer on.

    Connections that say nothing only wanted to know whether anybody waits; one that stays open
    for that, since its process was stopped, holds nobody else up.
    """
    gate = _socket.socket(fileno=gate_fd)
    poll = select.poll()
    poll.register(gate_fd, select.POLLIN)
    ends: dict[int, Channel] = {}
    while True:
        for ready, _ in poll.poll():
            if ready == gate_fd:
                fd, _ = gate._accept()  # type: ignore[attr-defined]
                ends[fd] = Channel(fd)
                poll.register(fd, select.POLLIN)
                continue
            poll.unregister(ready)
            end = ends.pop(ready)
            if _says_start(end):
                gate.close()
                for other in ends.values():
                    other.close()
                return end
            end.close()


def _says_start(end: Channel) -> bool:
    try:
        received = end.receive()
    except (Failure, OSError):
        return False
    if received is None:
        return False
    for other in received[1]:
        os.close(other)
    return received[0].get("type") == "start"
