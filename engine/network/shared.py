"""Networks for containers that follow each other: those that one thread runs share a network
namespace and its helper.

Starting pasta takes several times as long as starting a container, and ending it longer still.
Whatever opened a socket has ended with its container; what would leave traces in the namespace
itself (CAP_NET_ADMIN) is to be given one of its own by the caller.
"""

from __future__ import annotations

import os
import secrets
import signal
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from typing import NoReturn

from engine.network.attach import NetworkHandle, attach
from engine.network.model import NetworkPlan
from engine.runtime.kernel.links import raise_link
from engine.runtime.kernel.processes import (
    CLONE_NEWNET,
    PR_SET_PDEATHSIG,
    close_others,
    prctl,
    unshare,
)
from imgtools.errors import Unsupported
from imgtools.frozen import dataclass
from imgtools.transport.closing import Closing

Directories = Callable[[str], AbstractContextManager[str]]
"""Makes the directory of a helper's files, given a new id, for a block."""


@dataclass(frozen=True, slots=True)
class _Network:
    """A namespace, by the process that keeps it, and what connects it."""

    holder: int
    handle: NetworkHandle


class SharedNetworks(Closing):
    """The networks of one engine: one for each thread that runs containers, one at a time, and
    each mode. For several threads; a network ends with the thread it was made for."""

    def __init__(self, directories: Directories) -> None:
        self._directories = directories
        self._undo = ExitStack()
        self._mutex = threading.Lock()
        self._own = threading.local()

    def joined(self, plan: NetworkPlan) -> NetworkPlan:
        """`plan`, which has a helper, with the namespace of this thread, made if it has none
        that works. Raises as `attach`."""
        found: dict[str, _Network] = self._own.__dict__
        network = found.get(plan.mode)
        if network is None or not network.handle.works():
            network = found[plan.mode] = self._made(plan)
        return replace(plan, namespace=f"/proc/{network.holder}/ns/net")

    def close(self) -> None:
        """End all helpers and wait for them; safe to call twice."""
        self._undo.close()

    def _made(self, plan: NetworkPlan) -> _Network:
        with ExitStack() as undo:
            directory = undo.enter_context(self._directories(secrets.token_hex(32)))
            holder, life = _hold()
            undo.callback(_release, holder, life)
            handle = attach(plan, holder, directory)
            undo.callback(handle.close)
            with self._mutex:
                self._undo.push(undo.pop_all())
        return _Network(holder, handle)


def _hold() -> tuple[int, int]:
    """A process in a new network namespace, and the descriptor that it lives as long as."""
    reading, writing = os.pipe()
    watched, life = os.pipe()
    holder = os.fork()
    if holder == 0:
        _keep(watched, writing)
    os.close(writing)
    os.close(watched)
    try:
        said = os.read(reading, 16)
    finally:
        os.close(reading)
    if said != b"0":
        _release(holder, life)
        reason = os.strerror(int(said)).lower() if said else "its process was killed"
        raise Unsupported(
            f"make a network namespace: {reason}", hint="choose --network host or none"
        )
    return holder, life


def _release(holder: int, life: int) -> None:
    os.close(life)
    os.waitpid(holder, 0)


def _keep(watched: int, writing: int) -> NoReturn:
    """The holder: make the namespace, say so or the error's number, stay until the end."""
    number = 0
    try:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        os.setsid()
        for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE):
            signal.signal(each, signal.SIG_DFL)
        close_others((watched, writing))
        unshare(CLONE_NEWNET)
        raise_link()
    except OSError as e:
        number = e.errno or 5
    try:
        os.write(writing, b"%d" % number)
        os.close(writing)
        os.read(watched, 1)
    finally:
        os._exit(0)
