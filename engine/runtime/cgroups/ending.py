"""The end of a container's cgroups: list, freeze, signal and kill its processes, remove.

Everything can be done again after it was cut off, takes a bounded time, and counts what is gone
already as done. No process escapes by forking: the kernel kills a whole cgroup2 at once, and
elsewhere the processes are stopped before they are signalled.
"""

from __future__ import annotations

import errno
import os
import select
import time

from engine.runtime.cgroups import tree
from engine.runtime.cgroups.model import Cgroup, CgroupDirectory
from engine.runtime.errors import KernelRefused, refused
from engine.runtime.kernel.files import read_if_there
from engine.runtime.kernel.processes import SIGKILL, pidfd_open, signal_pidfd

SECONDS = 10.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.0005, 0.05


class _Deadline:
    """A bounded time with pauses that grow."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds
        self._pause = _FIRST_PAUSE

    def left(self) -> float:
        return max(0.0, self._end - time.monotonic())

    def wait(self) -> bool:
        """Pause once; False where no time is left."""
        if not self.left():
            return False
        time.sleep(min(self._pause, self.left()))
        self._pause = min(self._pause * 2, _LONGEST_PAUSE)
        return True


def _open(directory: CgroupDirectory) -> int:
    """The open directory, -1 where it is gone."""
    try:
        return tree.open_cgroup(directory.mount, directory.path)
    except OSError as e:
        if e.errno in tree.GONE:
            return -1
        raise refused(f"open the cgroup {directory.mount}/{directory.path}", e) from e


def pids(cgroup: Cgroup, recursive: bool = True) -> tuple[int, ...]:
    """The container's processes in ascending order, as this PID namespace numbers them; those of
    cgroups below it too with `recursive`. Raises KernelRefused."""
    found: set[int] = set()

    def collect(fd: int) -> None:
        found.update(tree.processes(fd))

    for directory in _tracking(cgroup):
        fd = _open(directory)
        if fd < 0:
            continue
        try:
            if recursive:
                tree.walk(fd, collect, lambda parent, name: None)
            else:
                collect(fd)
        except OSError as e:
            raise refused(f"list the processes of {directory.mount}/{directory.path}", e) from e
        finally:
            os.close(fd)
    return tuple(sorted(found))


def _tracking(cgroup: Cgroup) -> tuple[CgroupDirectory, ...]:
    """The directories that tell the container's processes: cgroup2, and one of version 1, since
    a container that may write to one of them may not be able to leave the other."""
    version_1 = cgroup.of_controller("freezer") or cgroup.of_controller("devices")
    if version_1 is None:
        version_1 = next((d for d in cgroup.directories if d.version == 1), None)
    return tuple(d for d in (cgroup.unified(), version_1) if d is not None)


def _freezer(cgroup: Cgroup) -> tuple[int, bool]:
    """(open directory, whether it is cgroup2) of what freezes the container, (-1, False) where
    nothing does. cgroup2 is preferred: what it has frozen can still be killed."""
    directory = cgroup.unified()
    if directory is not None:
        fd = _open(directory)
        if fd >= 0 and tree.has_file(fd, "cgroup.freeze"):
            return fd, True
        if fd >= 0:
            os.close(fd)
    directory = cgroup.of_controller("freezer")
    return (-1 if directory is None else _open(directory)), False


def freeze(cgroup: Cgroup, *, seconds: float = SECONDS) -> None:
    """Stop all processes and wait until they are. Where that takes more than `seconds`, they are
    thawed again. Raises KernelRefused, also where this machine cannot freeze."""
    fd, version_2 = _freezer(cgroup)
    if fd < 0:
        raise KernelRefused("freeze the container: there is no cgroup that could")
    try:
        if not (_freeze_v2 if version_2 else _freeze_v1)(fd, _Deadline(seconds)):
            _thaw(fd, version_2)
            raise KernelRefused(
                f"freeze the container: it did not stop within {seconds:g} s",
                errno=errno.ETIMEDOUT,
            )
    except OSError as e:
        raise refused("freeze the container", e) from e
    finally:
        os.close(fd)


def _freeze_v2(fd: int, deadline: _Deadline) -> bool:
    tree.write_file(fd, "cgroup.freeze", "1")
    return _await_event(fd, "frozen", "1", deadline)


def _freeze_v1(fd: int, deadline: _Deadline) -> bool:
    """FREEZING lasts while a process is forking or in the kernel; asking again hurries it, and
    where that does not help, a thaw in between does (freezer-subsystem.rst)."""
    rounds = 0
    while True:
        tree.write_file(fd, "freezer.state", "FROZEN")
        if tree.read_file(fd, "freezer.state").strip() == "FROZEN":
            return True
        rounds += 1
        if rounds % 32 == 0:
            tree.write_file(fd, "freezer.state", "THAWED")
        if not deadline.wait():
            return False


def thaw(cgroup: Cgroup) -> None:
    """Let the processes go on; nothing where they are not frozen or the cgroup is gone. Raises
    KernelRefused."""
    fd, version_2 = _freezer(cgroup)
    if fd < 0:
        return
    try:
        _thaw(fd, version_2)
    except OSError as e:
        if e.errno not in tree.GONE:
            raise refused("thaw the container", e) from e
    finally:
        os.close(fd)


def _thaw(fd: int, version_2: bool) -> None:
    if version_2:
        tree.write_file(fd, "cgroup.freeze", "0")
    else:
        tree.write_file(fd, "freezer.state", "THAWED")


def is_frozen(cgroup: Cgroup) -> bool:
    """Whether the container is frozen, or on the way to it. Raises KernelRefused."""
    fd, version_2 = _freezer(cgroup)
    if fd < 0:
        return False
    try:
        if version_2:
            return tree.read_file(fd, "cgroup.freeze").strip() == "1"
        return tree.read_file(fd, "freezer.state").strip() in ("FROZEN", "FREEZING")
    finally:
        os.close(fd)


def _await_event(fd: int, key: str, value: str, deadline: _Deadline) -> bool:
    """Wait until cgroup.events says so: the file polls as POLLPRI when it changes."""
    try:
        events = os.open("cgroup.events", os.O_RDONLY | os.O_CLOEXEC, dir_fd=fd)
    except FileNotFoundError:
        return True
    try:
        poll = select.poll()
        poll.register(events, select.POLLPRI)
        while True:
            os.lseek(events, 0, os.SEEK_SET)
            lines = os.read(events, tree.MAX_VALUE).split(b"\n")
            if f"{key} {value}".encode() in lines:
                return True
            if not deadline.left():
                return False
            poll.poll(min(deadline.left(), 1.0) * 1000)
    except OSError as e:
        if e.errno in tree.GONE:
            return True
        raise
    finally:
        os.close(events)


def signal_all(cgroup: Cgroup, number: int) -> int:
    """Send the signal `number` to every process once; how many got it.

    They are frozen meanwhile where that is possible, so that none is missed for being born
    after the list was read. Raises KernelRefused.
    """
    frozen = is_frozen(cgroup)
    if not frozen:
        _try_freeze(cgroup)
    try:
        return _signal_listed(cgroup, number)
    finally:
        if not frozen or number == SIGKILL:
            thaw(cgroup)


def _try_freeze(cgroup: Cgroup) -> None:
    try:
        freeze(cgroup, seconds=1.0)
    except KernelRefused:
        # Signals reach running processes too; only a fork in this moment is missed.
        return


def _signal_listed(cgroup: Cgroup, number: int) -> int:
    reached = 0
    for pid in pids(cgroup):
        try:
            fd = pidfd_open(pid)
        except OSError:
            continue
        try:
            # The number may have become another process's between the list and the pidfd.
            if _is_member(cgroup, pid):
                signal_pidfd(fd, number)
                reached += 1
        except OSError as e:
            if e.errno != errno.ESRCH:
                raise refused(f"send signal {number} to process {pid}", e) from e
        finally:
            os.close(fd)
    return reached


def _is_member(cgroup: Cgroup, pid: int) -> bool:
    """Whether the process is in one of the container's cgroups. The kernel's paths may begin
    elsewhere than the mount, but they end alike."""
    table = read_if_there(f"/proc/{pid}/cgroup", tree.MAX_VALUE)
    paths = [os.fsdecode(line).split(":", 2)[-1] + "/" for line in table.split(b"\n")]
    return any(f"/{d.path}/" in path for d in _tracking(cgroup) for path in paths)


def kill_all(cgroup: Cgroup, *, seconds: float = SECONDS) -> tuple[int, ...]:
    """Kill every process and wait until none is left, at most `seconds`; the processes that
    would not die (in an uninterruptible sleep). Raises KernelRefused."""
    deadline = _Deadline(seconds)
    unified = cgroup.unified()
    if unified is not None:
        _kill_v2(unified, deadline)
    while True:
        left = pids(cgroup)
        if not left:
            return ()
        signal_all(cgroup, SIGKILL)
        if not deadline.wait():
            return pids(cgroup)


def _kill_v2(directory: CgroupDirectory, deadline: _Deadline) -> None:
    """cgroup.kill (5.14): no process of the tree survives it, newborn or frozen."""
    fd = _open(directory)
    if fd < 0:
        return
    try:
        tree.write_file(fd, "cgroup.kill", "1")
        _await_event(fd, "populated", "0", deadline)
    except OSError as e:
        # Without the file, and where the cgroup is threaded, processes are killed one by one.
        if e.errno not in (*tree.GONE, errno.EOPNOTSUPP, errno.EINVAL, errno.EACCES, errno.EPERM):
            raise refused("kill the container's cgroup", e) from e
    finally:
        os.close(fd)


def remove(cgroup: Cgroup, *, seconds: float = SECONDS) -> None:
    """Remove the cgroups with those that the container made below them, and the directories
    above that were made for them and are empty.

    A process that was just killed keeps its cgroup for a moment, so a busy one is tried again
    for `seconds`. Raises KernelRefused where one stays busy, after trying all.
    """
    deadline = _Deadline(seconds)
    stuck: OSError | None = None
    name = ""
    thawed = False
    for directory in cgroup.directories:
        while True:
            error = _remove_one(directory)
            if error is None or error.errno not in tree.BUSY:
                break
            if not thawed:
                # A frozen process cannot die under version 1.
                thaw(cgroup)
                thawed = True
            if not deadline.wait():
                break
        if error is not None:
            stuck, name = error, f"{directory.mount}/{directory.path}"
    if stuck is not None:
        raise refused(f"remove the cgroup {name}", stuck) from stuck


def _remove_one(directory: CgroupDirectory) -> OSError | None:
    """One attempt at one hierarchy; why the cgroup is still there."""
    above, _, name = directory.path.rpartition("/")
    try:
        fd = tree.open_cgroup(directory.mount, above)
        try:
            _remove_named(fd, name)
        finally:
            os.close(fd)
    except OSError as e:
        if e.errno not in tree.GONE:
            return e
    # Those above may have been made without the cgroup itself, by someone who was killed then.
    tree.remove_upwards(directory.mount, above, directory.made - 1)
    return None


def _remove_named(fd: int, name: str) -> None:
    try:
        os.rmdir(name, dir_fd=fd)
    except OSError as e:
        if e.errno not in tree.BUSY:
            raise
        _remove_below(fd, name)
        os.rmdir(name, dir_fd=fd)


def _remove_below(fd: int, name: str) -> None:
    """Remove what is in the cgroup `name`, children before parents, as far as it is idle."""

    def rmdir(parent: int, child: str) -> None:
        try:
            os.rmdir(child, dir_fd=parent)
        except OSError as e:
            if e.errno not in (*tree.GONE, *tree.BUSY):
                raise

    below = tree.open_below(fd, name)
    try:
        tree.walk(below, lambda current: None, rmdir)
    finally:
        os.close(below)
