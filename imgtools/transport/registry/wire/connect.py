"""From a host name to a connected socket: resolves within a bound, and tries all addresses.

Addresses are tried in the spirit of RFC 8305: families take turns, the next one begins a
quarter of a second after the last, the first to connect wins and the others are closed. So a
host whose IPv6 leads nowhere costs a moment instead of minutes.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from imgtools.frozen import dataclass

HEAD_START = 0.25
"""Seconds that an address has before the next one is tried beside it (RFC 8305 section 5)."""
MOST_ADDRESSES = 10
"""A name may have any number of addresses; this many are tried."""
_UNSENT = 512 * 1024
"""Bytes that the system takes of us before the network does. Without a bound it is megabytes:
a cut loses them, and an upload has to have them once more from where it reads."""
_LOOK_UP = 0.25
"""Seconds between looks at whether the wait was cancelled."""

# What says something about our network more than about the other side.
_UNREACHABLE = frozenset(
    {
        errno.ENETUNREACH,
        errno.EHOSTUNREACH,
        errno.EADDRNOTAVAIL,
        errno.EAFNOSUPPORT,
        errno.EINVAL,
    }
)

Check = Callable[[], object]
"""Raises to end a wait."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a socket of `family` connects to; `sockaddr` begins with the numeric address."""

    family: int
    sockaddr: tuple[Any, ...]

    @property
    def ip(self) -> str:
        """The numeric address."""
        return str(self.sockaddr[0])


Resolve = Callable[[str, int, float, Check], list[Address]]
"""Host, port, seconds, and a check that ends the wait, to addresses in order of preference."""


def resolve(host: str, port: int, seconds: float, check: Check) -> list[Address]:
    """The addresses of `host` by the system's resolver.

    Raises OSError (gaierror), TimeoutError after `seconds`, ValueError for what cannot be a
    host name, and what `check` raises.
    """
    # As bytes, because for text Python loads its codec of international names first.
    name = host.encode("ascii") if host.isascii() else host.encode("idna")
    try:
        return _look_up(name, port, socket.AI_NUMERICHOST)
    except socket.gaierror:
        pass
    outcome: list[list[Address] | OSError] = []
    done = threading.Event()

    def work() -> None:
        try:
            outcome.append(_look_up(name, port, 0))
        except OSError as e:
            outcome.append(e)
        done.set()

    # Nothing ends a resolver's wait, so a thread of its own is left behind with it.
    threading.Thread(target=work, name="resolver", daemon=True).start()
    deadline = time.monotonic() + seconds
    while not done.wait(max(0.0, min(_LOOK_UP, deadline - time.monotonic()))):
        check()
        if time.monotonic() >= deadline:
            raise TimeoutError(None, f"its name was not resolved within {seconds:g} s")
    found = outcome[0]
    if isinstance(found, OSError):
        raise found
    return found


def interleave(addresses: Sequence[Address]) -> list[Address]:
    """The addresses with families taking turns, the family of the first one first."""
    families: dict[int, list[Address]] = {}
    for address in addresses:
        of_family = families.setdefault(address.family, [])
        if address not in of_family:
            of_family.append(address)
    rounds = max(map(len, families.values()), default=0)
    return [of[n] for n in range(rounds) for of in families.values() if n < len(of)]


def dial(addresses: Sequence[Address], seconds: float, check: Check) -> socket.socket:
    """A socket connected to the first of `addresses` that answers.

    Raises OSError for the most telling failure when none does, TimeoutError after `seconds`,
    and what `check` raises.
    """
    race = _Race(interleave(addresses)[:MOST_ADDRESSES])
    deadline = time.monotonic() + seconds
    try:
        while True:
            winner = race.run(deadline)
            if winner is not None:
                winner.settimeout(seconds)
                with suppress(OSError):
                    winner.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    winner.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT)
                return winner
            check()
            if time.monotonic() >= deadline:
                raise TimeoutError(None, f"no connection within {seconds:g} s")
    finally:
        race.close()


class _Race:
    """Sockets on their way to the addresses of one host."""

    def __init__(self, waiting: list[Address]) -> None:
        self._waiting = waiting
        self._running: dict[int, socket.socket] = {}
        self._poll = select.poll()
        self._errors: list[OSError] = []
        self._next = 0.0

    def run(self, deadline: float) -> socket.socket | None:
        """One step: start an address or wait a moment; the winner if there is one now.

        Raises OSError when every address failed.
        """
        now = time.monotonic()
        if self._waiting and (not self._running or now >= self._next):
            self._next = now + HEAD_START
            return self._start(self._waiting.pop(0))
        if not self._running:
            raise _most_telling(self._errors)
        until = min(deadline, now + _LOOK_UP, self._next if self._waiting else deadline)
        for number, _ in self._poll.poll(max(0, int((until - now) * 1000) + 1)):
            candidate = self._running.pop(number)
            self._poll.unregister(number)
            code = candidate.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if not code:
                return candidate
            self._failed(candidate, code)
        return None

    def close(self) -> None:
        """Close every socket but the winner."""
        for candidate in self._running.values():
            candidate.close()

    def _start(self, address: Address) -> socket.socket | None:
        try:
            candidate = socket.socket(address.family, socket.SOCK_STREAM)
        except OSError as e:
            self._errors.append(e)
            return None
        try:
            candidate.setblocking(False)
            code = candidate.connect_ex(address.sockaddr)
        except BaseException:
            candidate.close()
            raise
        if not code:
            return candidate
        if code == errno.EINPROGRESS:
            self._running[candidate.fileno()] = candidate
            self._poll.register(candidate, select.POLLOUT)
        else:
            self._failed(candidate, code)
        return None

    def _failed(self, candidate: socket.socket, code: int) -> None:
        candidate.close()
        self._errors.append(OSError(code, os.strerror(code)))
        # Nobody waits for one that has failed.
        self._next = 0.0


def _look_up(name: bytes, port: int, flags: int) -> list[Address]:
    found = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM, flags=flags)
    return [Address(family, sockaddr) for family, _, _, _, sockaddr in found]


def _most_telling(errors: list[OSError]) -> OSError:
    if not errors:
        return socket.gaierror(socket.EAI_NONAME, "the name has no address")
    return next((e for e in errors if e.errno not in _UNREACHABLE), errors[0])
