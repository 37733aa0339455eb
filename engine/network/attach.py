"""Connects a container's network namespace, and ends the connection with the container.

pasta or slirp4netns run under a guard: a process that is PID 1 of a namespace of its own and
watches a pipe whose other end only this process has, the container, and the helper. When one of
them is gone the guard ends, and the kernel kills what is left in its namespace: nothing survives
kill -9 of this process, of the guard or of the container.
"""

from __future__ import annotations

import os
import select
import signal
import time
from dataclasses import dataclass, field
from typing import NoReturn

from engine.network.model import NetworkPlan
from engine.runtime.kernel.files import close_all
from engine.runtime.kernel.links import raise_link
from engine.runtime.kernel.mounting import MS_BIND, MS_PRIVATE, MS_REC, mount
from engine.runtime.kernel.processes import (
    CLONE_NEWNET,
    CLONE_NEWNS,
    CLONE_NEWPID,
    PR_SET_PDEATHSIG,
    close_others,
    pidfd_open,
    prctl,
    setns,
    unshare,
)
from imgtools.errors import StorageError, Unsupported

READY_SECONDS = 10.0
MAX_MESSAGE = 4096
NAMESPACE_FILE, READY_FILE = "netns", "ready"


@dataclass(slots=True)
class NetworkHandle:
    """A connection; `close` ends it. Without a helper there is nothing to end."""

    _guard: int = -1
    _life: int = -1
    _files: tuple[str, ...] = field(default=())

    def works(self) -> bool:
        """Whether the helper, if there is one, has not ended."""
        if self._guard > 0 and os.waitpid(self._guard, os.WNOHANG)[0]:
            self._guard = -1
        return self._life < 0 or self._guard > 0

    def close(self) -> None:
        """End the helper and wait for it; again does nothing."""
        if self._life >= 0:
            os.close(self._life)
            self._life = -1
        if self._guard > 0:
            os.waitpid(self._guard, 0)
            self._guard = -1
        for path in self._files:
            _unlink(path)
        self._files = ()


def attach(
    plan: NetworkPlan, pid: int, directory: str, *, seconds: float = READY_SECONDS
) -> NetworkHandle:
    """Connect the network namespace of process `pid`, as planned, and return when it works.

    `directory` is the container's own, for the helper's files. Raises Unsupported, with what
    the helper said, where it does not come up within `seconds`; StorageError for `directory`.
    """
    if not plan.private:
        return NetworkHandle()
    if not plan.helper:
        _raise_loopback(pid)
        return NetworkHandle()
    target, fifo = os.path.join(directory, NAMESPACE_FILE), os.path.join(directory, READY_FILE)
    fds: list[int] = []
    try:
        fds.append(_make_files(target, fifo))
        fds.append(os.memfd_create("helper", os.MFD_CLOEXEC))
        try:
            fds.append(pidfd_open(pid))
            handle, state = _start_guard(_command(plan, target, fifo), pid, target, fds)
        except OSError as e:
            text = (e.strerror or str(e)).lower()
            raise Unsupported(f"network {plan.mode}: process {pid}: {text}") from e
        fds.append(state)
        try:
            if not _wait_ready(fds[0], state, seconds):
                raise Unsupported(
                    f"network {plan.mode}: {_message(fds[1]) or 'the helper did not come up'}",
                    hint="choose --network host or none",
                )
        except BaseException:
            handle.close()
            raise
        return handle
    finally:
        close_all(fds)


def _make_files(target: str, fifo: str) -> int:
    """The file on which the namespace is bound, and the FIFO by which the helper reports: a
    descriptor to read it."""
    directory = os.path.dirname(target)
    try:
        for path in (target, fifo):
            _unlink(path)
        os.mkfifo(fifo, 0o600)
        os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        return os.open(fifo, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as e:
        text = (e.strerror or str(e)).lower()
        raise StorageError(f"{directory}: {text}", path=directory) from e


def _start_guard(
    command: list[str], pid: int, target: str, fds: list[int]
) -> tuple[NetworkHandle, int]:
    """Fork the guard: the handle that ends it, and a descriptor that ends when it does."""
    _, said, container = fds
    state, telling = os.pipe()
    watched, life = os.pipe()
    guard = os.fork()
    if guard == 0:
        _guard(command, pid, target, (watched, telling, said, container))
    os.close(telling)
    os.close(watched)
    files = (target, os.path.join(os.path.dirname(target), READY_FILE))
    return NetworkHandle(guard, life, files), state


def _command(plan: NetworkPlan, target: str, fifo: str) -> list[str]:
    """The helper's command with the namespace and how it tells that it is ready."""
    if plan.mode == "pasta":
        # By a bound file: pasta gives up what it takes to look into /proc/PID of others.
        return [*plan.helper, "--pid", fifo, "--netns", target]
    return [*plan.helper, "--ready-fd=3", "--netns-type=path", target, plan.interface]


def _wait_ready(ready: int, state: int, seconds: float) -> bool:
    """Whether the helper reported before the guard ended and before the time was over."""
    poller = select.poll()
    poller.register(ready, select.POLLIN)
    poller.register(state, select.POLLIN)
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        for fd, events in poller.poll(left * 1000):
            if fd == ready and events & select.POLLIN:
                return bool(os.read(ready, 64))
            if fd == state:
                return False
            # The writer of a FIFO may have come and gone; the guard's end tells.
            poller.unregister(ready)
    return False


def _message(said: int) -> str:
    """What the helper wrote, on one line; it tries to tell syslog too, and complains."""
    text = os.pread(said, MAX_MESSAGE, 0).decode("utf-8", "replace")
    lines = [line.strip() for line in text.splitlines()]
    return "; ".join(line for line in lines if line and not line.endswith("to syslog"))


def _guard(command: list[str], pid: int, target: str, fds: tuple[int, ...]) -> NoReturn:
    """The outer half of the guard: get the namespaces, start the inner half, wait for it."""
    watched, telling, said, container = fds
    try:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        os.setsid()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE):
            signal.signal(number, signal.SIG_DFL)
        close_others(fds)
        os.dup2(os.open("/dev/null", os.O_RDWR), 0)
        os.dup2(said, 1)
        os.dup2(said, 2)
        unshare(CLONE_NEWNS | CLONE_NEWPID)
        mount(None, b"/", None, MS_REC | MS_PRIVATE, None)
        namespace = f"/proc/{pid}/ns/net".encode()
        mount(namespace, os.fsencode(target), None, MS_BIND, None)
        inner = os.fork()
        if inner == 0:
            _watch(command, os.path.join(os.path.dirname(target), READY_FILE), watched, container)
        # The state pipe stays open as long as the helper may come up.
        os.waitpid(inner, 0)
    except OSError as e:
        os.write(said, f"{(e.strerror or str(e)).lower()}\n".encode())
    finally:
        os.close(telling)
        os._exit(0)


def _watch(command: list[str], fifo: str, watched: int, container: int) -> NoReturn:
    """PID 1: start the helper, and end when it, the container or the engine does."""
    try:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        actions: list[tuple[int, int, int]] = []
        opened = -1
        if any(word.startswith("--ready-fd") for word in command):
            opened = os.open(fifo, os.O_WRONLY)
            actions = [(os.POSIX_SPAWN_DUP2, opened, 3)]
        helper = os.posix_spawn(command[0], command, {"PATH": "/bin"}, file_actions=actions)
        if opened >= 0:
            os.close(opened)
        ended = pidfd_open(helper)
        poller = select.poll()
        for fd in (watched, container, ended):
            poller.register(fd, select.POLLIN)
        poller.poll()
    except OSError as e:
        os.write(2, f"{command[0]}: {(e.strerror or str(e)).lower()}\n".encode())
    finally:
        os._exit(0)


def _raise_loopback(pid: int) -> None:
    """Set the loopback of a namespace up, in a child that enters it. Where init has done so
    there is nothing left to do, and nothing that seccomp profiles refuse, as they do setns."""
    if _has_loopback(pid):
        return
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        number = 0
        try:
            setns(os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC), CLONE_NEWNET)
            raise_link()
        except OSError as e:
            number = e.errno or 5
        finally:
            os.write(writing, b"%d" % number)
            os._exit(0)
    os.close(writing)
    try:
        number = int(os.read(reading, 16) or b"5")
    finally:
        os.close(reading)
        os.waitpid(child, 0)
    if number:
        raise Unsupported(f"network none: raising the loopback: {os.strerror(number).lower()}")


def _has_loopback(pid: int) -> bool:
    """Whether addresses of the loopback are in the routing table of a process's namespace:
    they are as long as it is up."""
    try:
        with open(f"/proc/{pid}/net/fib_trie", "rb") as file:
            return b"|-- 127.0.0.1\n" in file.read(1 << 20)
    except OSError:
        return False


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return
