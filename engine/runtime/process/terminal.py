"""The container's terminal: opened and verified by descriptor, made the controlling one, and
its other end handed over.

Imported only where a terminal is asked for. The pty comes from the container's own /dev/pts,
which the image may have tampered with, so nothing is opened by the name of a slave
(CVE-2025-52565).
"""

from __future__ import annotations

import _socket
import fcntl
import os
import stat
import struct

from engine.runtime.errors import Failure, InvalidConfig, KernelRefused, refused
from engine.runtime.kernel.files import close_all
from engine.runtime.kernel.mounting import clone_mount, move_mount
from engine.runtime.kernel.paths import (
    DEVPTS_SUPER_MAGIC,
    O_PATH,
    RESOLVE_IN_ROOT,
    RESOLVE_NO_SYMLINKS,
    filesystem_type,
    make_file,
    open_in_root,
    openat2,
)
from engine.runtime.record import Record

_TIOCSPTLCK, _TIOCGPTPEER = 0x40045431, 0x5441
_TIOCSCTTY, _TIOCSWINSZ = 0x540E, 0x5414
_PTMX = os.makedev(5, 2)
_SLAVE_MAJORS = range(136, 144)
_MAX_NAME = 107
_PTY_NAME = b"/dev/pts/ptmx"


class Terminal(Record):
    """Both ends of a pty, close-on-exec."""

    master: int
    slave: int


def connect_console(path: bytes) -> int:
    """A close-on-exec descriptor connected to the unix socket `path`, for `send_master`.

    Called before the container is entered; a longer path than a socket address holds goes by
    way of its directory. Raises InvalidConfig where nobody listens.
    """
    end = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    directory = -1
    try:
        address = path
        if len(path) > _MAX_NAME:
            parent, _, name = path.rpartition(b"/")
            directory = os.open(parent or b"/", O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            address = b"/proc/self/fd/%d/%s" % (directory, name)
        end.connect(address)
        return end.detach()
    except OSError as e:
        text = os.strerror(e.errno).lower() if e.errno else "its name is too long"
        shown = path.decode("utf-8", "backslashreplace")
        raise InvalidConfig(f"connect to console socket {shown}: {text}", errno=e.errno or 0) from e
    finally:
        end.close()
        if directory >= 0:
            os.close(directory)


def open_terminal(root_fd: int, size: tuple[int, int] | None) -> Terminal:
    """A new pty of the devpts at dev/pts inside `root_fd`, of `size` (rows, columns).

    Raises KernelRefused, and Failure if what is there is not a devpts and its ptmx.
    """
    flags = os.O_RDWR | os.O_NOCTTY
    try:
        master = openat2(root_fd, b"dev/pts/ptmx", flags, RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS)
    except OSError as e:
        raise refused("open /dev/pts/ptmx of the container", e, hint="mount a devpts") from e
    slave = -1
    try:
        st = os.fstat(master)
        if not _is_devpts(master) or not stat.S_ISCHR(st.st_mode) or st.st_rdev != _PTMX:
            raise Failure("/dev/pts/ptmx of the container is not that of a devpts")
        fcntl.ioctl(master, _TIOCSPTLCK, struct.pack("i", 0))
        slave = fcntl.ioctl(master, _TIOCGPTPEER, flags | os.O_CLOEXEC)
        st = os.fstat(slave)
        if not _is_devpts(slave) or os.major(st.st_rdev) not in _SLAVE_MAJORS:
            raise Failure("the terminal of the container is not that of a devpts")
        if size:
            set_size(slave, *size)
    except BaseException as e:
        os.close(master)
        if slave >= 0:
            os.close(slave)
        if isinstance(e, OSError):
            raise refused("open a terminal", e) from e
        raise
    return Terminal(master=master, slave=slave)


def _is_devpts(fd: int) -> bool:
    return filesystem_type(fd) == DEVPTS_SUPER_MAGIC


def set_size(fd: int, rows: int, columns: int) -> None:
    """Set a terminal's size; raises OSError."""
    fcntl.ioctl(fd, _TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def bind_console(root_fd: int, slave: int) -> None:
    """Mount the slave on dev/console inside `root_fd`, made as a file if it is missing.

    By descriptors only, so that a link planted there leads nowhere else. Raises KernelRefused.
    """
    target = mount = -1
    try:
        try:
            flags = RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS
            target = openat2(root_fd, b"dev/console", O_PATH, flags)
        except FileNotFoundError:
            os.close(open_in_root(root_fd, b"dev", O_PATH | os.O_DIRECTORY))
            target = make_file(root_fd, b"dev/console", 0o600)
        mount = clone_mount(slave)
        move_mount(mount, target)
    except OSError as e:
        raise refused("mount the terminal on /dev/console", e) from e
    finally:
        close_all((target, mount))


def send_master(console_fd: int, master: int) -> None:
    """Send the master over a connected unix socket as runc does: one message, whose text is the
    terminal's name and whose ancillary data is the descriptor. Closes both.

    Raises KernelRefused.
    """
    end = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM, 0, console_fd)
    try:
        rights = (_socket.SOL_SOCKET, _socket.SCM_RIGHTS, struct.pack("i", master))
        if end.sendmsg([_PTY_NAME], [rights], _socket.MSG_NOSIGNAL) != len(_PTY_NAME):
            raise KernelRefused("send the terminal to the console socket: cut short")
    except OSError as e:
        raise refused("send the terminal to the console socket", e) from e
    finally:
        end.close()
        os.close(master)


def take_terminal(slave: int) -> None:
    """Begin a session with `slave` as controlling terminal and as descriptors 0, 1 and 2.

    `slave` is closed unless it is one of these. Raises KernelRefused.
    """
    try:
        begin_session()
        fcntl.ioctl(slave, _TIOCSCTTY, 0)
        for fd in range(3):
            os.dup2(slave, fd)
        if slave > 2:
            os.close(slave)
    except OSError as e:
        raise refused("take the terminal", e) from e


def begin_session() -> None:
    """setsid(2); that we lead a session already is no error."""
    try:
        os.setsid()
    except PermissionError:
        if os.getsid(0) != os.getpid():
            raise
