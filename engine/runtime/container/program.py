"""The container's program from the runtime's side: it begins, or is known not to; it ends."""

from __future__ import annotations

import _socket
import os
import select
import struct

from engine.runtime.container.channel import Channel
from engine.runtime.container.status import RUNNING, describe
from engine.runtime.errors import Damaged, InvalidConfig, KernelRefused, from_document, refused
from engine.runtime.jsontext import encode
from engine.runtime.process.hooks import run_hooks
from engine.runtime.process.signals import exit_code

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from engine.runtime.container.options import Attend
    from engine.runtime.container.state import State, StateDir
    from engine.runtime.spec.model import Config

    Tell = Callable[[str, dict[str, object], tuple[int, ...]], object]


def await_program(
    channel: Channel,
    config: Config,
    state: dict[str, Any],
    engine_filters: int,
    tell: Tell | None,
) -> None:
    """Return when the program has been executed, which closes `channel`; raise why it was not.

    The listeners of the first `engine_filters` seccomp filters are for `tell`, that of
    config.json goes to its listenerPath.
    """
    while True:
        received = channel.receive()
        if received is None:
            return
        message, fds = received
        try:
            match message.get("type"):
                case "failed":
                    raise from_document(message)
                case "warning":
                    continue
                case "listener" if len(fds) == 1:
                    number = message.get("number")
                    if isinstance(number, int) and 0 <= number < engine_filters:
                        if tell is not None:
                            tell("listener", {}, fds)
                    else:
                        _send_listener(config, state, fds[0])
                case kind:
                    raise Damaged(f"unexpected message {kind!r} of a container's init")
        finally:
            for fd in fds:
                os.close(fd)


def _send_listener(config: Config, state: dict[str, Any], listener: int) -> None:
    """Send the listener to linux.seccomp.listenerPath with the container process state
    (runtime-spec config-linux.md "Seccomp")."""
    seccomp = config.linux.seccomp
    path = seccomp.listener_path if seccomp else ""
    if not seccomp or not path:
        raise InvalidConfig("linux.seccomp: SCMP_ACT_NOTIFY needs a listenerPath")
    document = {
        "ociVersion": state["ociVersion"],
        "fds": ["seccompFd"],
        "pid": state["pid"],
        "metadata": seccomp.listener_metadata,
        "state": state,
    }
    end = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        end.connect(os.fsencode(path))
        rights = (_socket.SOL_SOCKET, _socket.SCM_RIGHTS, struct.pack("i", listener))
        end.sendmsg([encode(document).encode()], [rights], _socket.MSG_NOSIGNAL)
    except OSError as e:
        raise refused(f"send the seccomp listener to {path}", e) from e
    finally:
        end.close()


def poststart(config: Config, directory: StateDir, state: State) -> None:
    """Run the poststart hooks; raises HookFailed."""
    hooks = config.hooks.poststart
    if hooks:
        document = {**describe(directory, state, RUNNING), "pid": state.pid}
        run_hooks(hooks, encode(document).encode(), "poststart", os.fsencode(state.bundle))


def wait_for(pid: int, pidfd: int, attend: Attend | None, seconds: float | None = None) -> int:
    """Wait until the process has ended; the exit code of our child `pid`, 0 for pid 0.

    Closes nothing. Raises KernelRefused if it takes more than `seconds`.
    """
    if attend is not None:
        attend(pid)
    else:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        if not poll.poll(None if seconds is None else seconds * 1000):
            raise KernelRefused("a process does not end although it was killed")
    if pid == 0:
        return 0
    _, status = os.waitpid(pid, 0)
    return exit_code(status)
