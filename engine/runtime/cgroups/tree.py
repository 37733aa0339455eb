"""Directories and files of cgroups by descriptor: open, make, read, write, walk.

A hierarchy is entered at its mount and every path is resolved beneath that descriptor without
links, so that no name leads out of it. Functions raise OSError; their callers know what was tried.
"""

from __future__ import annotations

import errno
import os

from engine.runtime.kernel.files import close_all, read_if_there
from engine.runtime.kernel.paths import (
    RESOLVE_BENEATH,
    RESOLVE_NO_MAGICLINKS,
    RESOLVE_NO_SYMLINKS,
    openat2,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
MAX_LIST = 16 << 20
MAX_VALUE = 1 << 16
# rmdir of a cgroup that has processes or cgroups in it; which of the two is not told apart.
BUSY = (errno.EBUSY, errno.ENOTEMPTY)
GONE = (errno.ENOENT, errno.ENODEV)
MAX_RACES = 64


def open_mount(mount: str) -> int:
    """The directory where a hierarchy is mounted."""
    return os.open(mount, DIRECTORY)


def open_below(fd: int, path: str) -> int:
    """The cgroup `path` below `fd`."""
    flags = os.O_RDONLY | os.O_DIRECTORY
    resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS
    try:
        return openat2(fd, os.fsencode(path) or b".", flags, resolve)
    except OSError as e:
        if e.errno != errno.ENOSYS:
            raise
    return _open_stepwise(fd, path)


def _open_stepwise(fd: int, path: str) -> int:
    """The same on kernels before 5.6; `path` has no `..` (see `paths.components`)."""
    current = os.dup(fd)
    try:
        for name in path.split("/"):
            below = os.open(name or ".", DIRECTORY | os.O_NOFOLLOW, dir_fd=current)
            os.close(current)
            current = below
        result, current = current, -1
        return result
    finally:
        if current >= 0:
            os.close(current)


def open_cgroup(mount: str, path: str) -> int:
    """The cgroup `path` of the hierarchy at `mount`."""
    top = open_mount(mount)
    try:
        return open_below(top, path)
    finally:
        os.close(top)


def make_cgroup(mount: str, path: str, visit: Callable[[int, int | None], None]) -> tuple[int, int]:
    """Make the cgroup with the directories above it: (descriptor, how many were made).

    `visit(fd, above)` is called for every directory from the mount (above is None) down to the
    cgroup, when it is there. Another container's end may remove an empty directory above ours
    meanwhile; then it is made again.
    """
    for _ in range(MAX_RACES):
        try:
            return _make_once(mount, path, visit)
        except OSError as e:
            if e.errno not in GONE:
                raise
            last = e
    raise last


def _make_once(mount: str, path: str, visit: Callable[[int, int | None], None]) -> tuple[int, int]:
    above, current = -1, open_mount(mount)
    made = 0
    reached: list[str] = []
    try:
        visit(current, None)
        for name in path.split("/"):
            reached.append(name)
            try:
                os.mkdir(name, 0o755, dir_fd=current)
                made += 1
            except FileExistsError:
                made = 0
            below = os.open(name, DIRECTORY | os.O_NOFOLLOW, dir_fd=current)
            if above >= 0:
                os.close(above)
            above, current = current, below
            visit(current, above)
        result, current = current, -1
        return result, made
    except BaseException:
        remove_upwards(mount, "/".join(reached), made)
        raise
    finally:
        close_all((above, current))


def remove_upwards(mount: str, path: str, count: int) -> None:
    """Remove the cgroup `path` and those above it, `count` in all; what is in use or gone, and
    all above it, stays."""
    for _ in range(count):
        above, _, name = path.rpartition("/")
        try:
            fd = open_cgroup(mount, above)
            try:
                os.rmdir(name, dir_fd=fd)
            finally:
                os.close(fd)
        except OSError as e:
            if e.errno not in GONE:
                return
        path = above


def write_file(fd: int, name: str, value: str) -> None:
    """Write `value` to a file of the cgroup `fd` in one write(2)."""
    file = os.open(name, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=fd)
    try:
        os.write(file, os.fsencode(value))
    finally:
        os.close(file)


def read_file(fd: int, name: str, limit: int = MAX_VALUE) -> str:
    """A file of the cgroup `fd`; empty where it cannot be read."""
    return os.fsdecode(read_if_there(name, limit, fd))


def has_file(fd: int, name: str) -> bool:
    """Whether the cgroup `fd` has the file."""
    return os.access(name, os.F_OK, dir_fd=fd, follow_symlinks=False)


def event(fd: int, key: str) -> str:
    """The value of a line of cgroup.events (populated, frozen); empty where there is none."""
    for line in read_file(fd, "cgroup.events").split("\n"):
        name, _, value = line.partition(" ")
        if name == key:
            return value
    return ""


def processes(fd: int) -> list[int]:
    """The processes of the cgroup `fd` itself that this PID namespace can see."""
    found = read_file(fd, "cgroup.procs", MAX_LIST).split()
    return [int(pid) for pid in found if pid.isdecimal() and pid != "0"]


def _children(fd: int) -> list[str]:
    """The names of the cgroups in `fd`."""
    try:
        with os.scandir(fd) as entries:
            return [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError as e:
        if e.errno in GONE:
            return []
        raise


def walk(fd: int, enter: Callable[[int], None], leave: Callable[[int, str], None]) -> None:
    """Go through all cgroups below `fd`, as deep as they are, with one descriptor at a time.

    `enter(fd)` is called for each (`fd` itself too) before what is in it, and
    `leave(parent, name)` for each but `fd` after. cgroup file systems move no directory to
    another parent, so `..` leads back the way that was come.
    """
    current = os.dup(fd)
    try:
        enter(current)
        pending = [_children(current)]
        names: list[str] = []
        while pending:
            if pending[-1]:
                name = pending[-1].pop()
                below = _open_or_none(name, current)
                if below is None:
                    continue
                os.close(current)
                current = below
                names.append(name)
                enter(current)
                pending.append(_children(current))
                continue
            pending.pop()
            if pending:
                above = os.open("..", DIRECTORY, dir_fd=current)
                os.close(current)
                current = above
                leave(current, names.pop())
    finally:
        os.close(current)


def _open_or_none(name: str, fd: int) -> int | None:
    try:
        return os.open(name, DIRECTORY | os.O_NOFOLLOW, dir_fd=fd)
    except OSError as e:
        if e.errno in GONE:
            return None
        raise


def each_above(mount: str, path: str, visit: Callable[[int], None]) -> None:
    """Call `visit` for every directory from the mount down to the one above the cgroup."""
    current = open_mount(mount)
    try:
        for name in path.split("/"):
            visit(current)
            below = os.open(name, DIRECTORY | os.O_NOFOLLOW, dir_fd=current)
            os.close(current)
            current = below
    finally:
        os.close(current)
