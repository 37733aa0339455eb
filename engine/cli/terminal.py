"""Joins the caller's terminal with that of a container: keys one way, output the other, and
the window's size.

The container's terminal arrives as the master end over a socket, as it does for any caller
with a console socket.
"""

from __future__ import annotations

import _socket
import fcntl
import os
import select
import struct
import sys
import termios

from engine.runtime.errors import Failure, InvalidConfig, refused
from engine.runtime.kernel.files import close_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

STDIN, STDOUT, STDERR = 0, 1, 2
CHUNK = 4096  # no more than a pipe or terminal that is writable takes without blocking
NO_TERMINAL = "cannot allocate a terminal: there is none to join it with"
# The indexes of tcgetattr(3)'s fields in what the termios module gives.
IFLAG, OFLAG, CFLAG, LFLAG, CC = 0, 1, 2, 3, 6


class Relay:
    """The terminals of one program: made before it, served while it runs."""

    def __init__(self, *, keys: bool = True, required: bool = True) -> None:
        """`keys` says whether what is typed goes to the program: if not, the caller's terminal
        stays as it is, and keys such as Ctrl-C are signals. Raises InvalidConfig if the caller
        has no terminal and one is `required`, KernelRefused."""
        self.opened = -1
        self.console = self._find_console(required)
        self.ours, self.theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM)
        self.master = -1
        self.saved: list[Any] | None = None
        self.poll: select.poll | None = None
        self.keys = b""
        self.shown = b""
        self.raw = keys and os.isatty(STDIN)
        self.stdin_open = keys
        self.stdout_open = True
        self.master_open = False

    @property
    def console_fd(self) -> int:
        """The end of the socket that the container's side sends the master to."""
        return self.theirs.fileno()

    def size(self) -> tuple[int, int] | None:
        """Rows and columns of the caller's terminal, for the container's to begin with: the
        program may ask before `begin`. None where there is none."""
        if self.console < 0:
            return None
        try:
            size = fcntl.ioctl(self.console, termios.TIOCGWINSZ, bytes(8))
        except OSError:
            return None
        rows, columns = struct.unpack("HHHH", size)[:2]
        return (rows, columns) if rows and columns else None

    def _find_console(self, required: bool) -> int:
        for fd in (STDERR, STDOUT, STDIN):
            if os.isatty(fd):
                return fd
        try:
            self.opened = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
        except OSError as e:
            if not required:
                return -1
            raise InvalidConfig(
                f"{NO_TERMINAL}: open /dev/tty: {os.strerror(e.errno or 0).lower()}",
                hint="run it in a terminal, name a console socket, or set process.terminal false",
            ) from e
        return self.opened

    def begin(self, poll: select.poll) -> None:
        """Take the master and make the caller's terminal raw."""
        self.master = receive_master(self.ours)
        self.master_open = True
        self.poll = poll
        try:
            os.set_blocking(self.master, False)
            self.resize()
            if self.raw:
                self.saved = termios.tcgetattr(self.console)
                termios.tcsetattr(self.console, termios.TCSANOW, raw_mode(self.saved))
        except (OSError, termios.error) as e:
            raise refused("set up the terminal", OSError(*e.args)) from e
        self._wait_for_more()

    def serve(self, events: dict[int, int]) -> None:
        """Move what `events` of the poll say can be moved."""
        if events.get(STDIN) and self.stdin_open and not self.keys:
            self._read_keys(events[STDIN])
        if self.master in events and not self.shown:
            self._read_output()
        if self.keys:
            self._write_keys()
        if self.shown and (events.get(STDOUT) or self._writable()):
            self._write_output()
        self._wait_for_more()

    def resize(self) -> None:
        """Give the container's terminal the size of the caller's; a size that cannot be had is
        no reason to end."""
        if self.console < 0:
            return
        try:
            size = fcntl.ioctl(self.console, termios.TIOCGWINSZ, bytes(8))
            fcntl.ioctl(self.master, termios.TIOCSWINSZ, size)
        except OSError:
            return

    def end(self) -> None:
        """Show what the program has left in its terminal, and restore the caller's."""
        try:
            while self.stdout_open and (self.shown or self._read_output()):
                self._write_output()
        finally:
            self.restore()

    def restore(self) -> None:
        """Put the caller's terminal back in order; safe to call twice."""
        if self.saved is not None:
            saved, self.saved = self.saved, None
            try:
                termios.tcsetattr(self.console, termios.TCSADRAIN, saved)
            except termios.error:
                return  # it has been hung up

    def close(self) -> None:
        """Restore, and give back every descriptor."""
        self.restore()
        self.ours.close()
        self.theirs.close()
        close_all((self.master, self.opened))
        self.master = self.opened = -1

    def _read_keys(self, events: int) -> None:
        try:
            self.keys = os.read(STDIN, CHUNK)
        except OSError:
            self.keys = b""
        if not self.keys or events & select.POLLNVAL:
            self.stdin_open = False

    def _write_keys(self) -> None:
        if not self.master_open:
            self.keys = b""
            return
        try:
            self.keys = self.keys[os.write(self.master, self.keys) :]
        except BlockingIOError:
            return
        except OSError:
            self.keys = b""

    def _read_output(self) -> bool:
        """Fill `shown`; False if there is nothing (any more)."""
        if not self.master_open:
            return False
        try:
            self.shown = os.read(self.master, CHUNK)
        except BlockingIOError:
            return False
        except OSError:
            # EIO: nobody has the other side open.
            self.shown = b""
        self.master_open = bool(self.shown)
        return self.master_open

    def _write_output(self) -> None:
        try:
            self.shown = self.shown[os.write(STDOUT, self.shown) :]
        except BlockingIOError:
            # Somebody has made our standard output non-blocking.
            select.select([], [STDOUT], [])
        except OSError:
            self.shown, self.stdout_open = b"", False

    def _writable(self) -> bool:
        return bool(select.select([], [STDOUT], [], 0)[1])

    def _wait_for_more(self) -> None:
        """Ask the poll for what can be used now, and for nothing else: a side that is full
        stops the other, so no memory grows."""
        assert self.poll is not None
        wanted = {
            STDIN: select.POLLIN if self.stdin_open and not self.keys else 0,
            STDOUT: select.POLLOUT if self.shown else 0,
            self.master: (0 if self.shown else select.POLLIN)
            | (select.POLLOUT if self.keys else 0),
        }
        if not self.master_open:
            wanted[self.master] = 0
        for fd, mask in wanted.items():
            if mask:
                self.poll.register(fd, mask)
            else:
                _forget(self.poll, fd)


def _forget(poll: select.poll, fd: int) -> None:
    # An ended descriptor would be reported whether or not its events are wanted.
    try:
        poll.unregister(fd)
    except KeyError:
        return


def receive_master(end: _socket.socket) -> int:
    """The descriptor of a terminal's master that a runtime sent, close-on-exec; raises
    KernelRefused, Failure if none came."""
    size = struct.calcsize("i")
    try:
        flags = _socket.MSG_CMSG_CLOEXEC | _socket.MSG_DONTWAIT
        _, ancillary, _, _ = end.recvmsg(CHUNK, _socket.CMSG_SPACE(size), flags)
    except OSError as e:
        raise refused("receive the master of the terminal", e) from e
    for level, kind, content in ancillary:
        if level == _socket.SOL_SOCKET and kind == _socket.SCM_RIGHTS and len(content) >= size:
            return int.from_bytes(content[:size], sys.byteorder)
    raise Failure("the container's side sent no terminal")


def raw_mode(mode: list[Any]) -> list[Any]:
    """`mode` as cfmakeraw(3) has it: line ends are made CR LF by the container's terminal, so
    that what a program writes before anybody reads it looks no different."""
    raw = list(mode)
    raw[CC] = list(mode[CC])
    raw[IFLAG] &= ~(
        termios.IGNBRK
        | termios.BRKINT
        | termios.PARMRK
        | termios.ISTRIP
        | termios.INLCR
        | termios.IGNCR
        | termios.ICRNL
        | termios.IXON
    )
    raw[OFLAG] &= ~termios.OPOST
    raw[CFLAG] = raw[CFLAG] & ~(termios.CSIZE | termios.PARENB) | termios.CS8
    raw[LFLAG] &= ~(termios.ECHO | termios.ECHONL | termios.ICANON | termios.ISIG | termios.IEXTEN)
    raw[CC][termios.VMIN], raw[CC][termios.VTIME] = 1, 0
    return raw
