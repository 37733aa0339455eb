"""A program for tests: runs its arguments in the foreground as `run` does a container, with the
runtime's part (a session of its own, a terminal sent over the socket) played by os.fork.

Usage: foreground_program.py plain|terminal COMMAND [arguments...]; ends with its exit code.
"""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import sys
import termios

from engine.cli.foreground import Foreground
from engine.runtime.errors import Failure
from engine.runtime.process.signals import exit_code, reset_signals


def main(kind: str, *command: str) -> int:
    """The exit code of `command`."""
    with Foreground(terminal=kind == "terminal") as foreground:
        slave = -1
        if foreground.console_fd >= 0:
            master, slave = os.openpty()
            with socket.socket(fileno=os.dup(foreground.console_fd)) as end:
                socket.send_fds(end, [b"pty"], [master])
            os.close(master)
        pid = os.fork()
        if pid == 0:
            become(slave, command)
        if slave >= 0:
            os.close(slave)
        foreground.attend(pid)
        return exit_code(os.waitpid(pid, 0)[1])


def become(slave: int, command: tuple[str, ...]) -> None:
    """In the child: what the container's init does last."""
    os.setsid()
    if slave >= 0:
        fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
        for fd in (0, 1, 2):
            os.dup2(slave, fd)
    reset_signals()
    os.execvp(command[0], command)


if __name__ == "__main__":
    try:
        code = main(*sys.argv[1:])
    except Failure as e:
        print(e.message, file=sys.stderr)
        code = 1
    # The mask has to be what it was, or what is executed next inherits it.
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == set()
    sys.exit(code)
