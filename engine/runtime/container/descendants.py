"""Everything that a container left running, where neither a PID namespace nor a cgroup holds its
processes together: whatever lost its parent is a child of the subreaper that this process is."""

from __future__ import annotations

import os
import time

from engine.runtime.kernel.processes import SIGKILL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container

SECONDS = 10.0
PAUSE = 0.002


def end_descendants(keep: Container[int] = ()) -> bool:
    """Kill all children of this process but `keep`, then the ones that these leave it, until
    there are none. False if some do not end within ten seconds."""
    deadline = time.monotonic() + SECONDS
    while True:
        found = [pid for pid in _children() if pid not in keep]
        left = [pid for pid in found if not _reaped(pid)]
        for pid in left:
            # A child that was not waited for keeps its number.
            os.kill(pid, SIGKILL)
        if not found:
            return True
        if left:
            if time.monotonic() > deadline:
                return False
            time.sleep(PAUSE)


def _reaped(pid: int) -> bool:
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        return True


def _children() -> list[int]:
    """The children of this process, which has one thread."""
    own = os.getpid()
    try:
        fd = os.open(f"/proc/self/task/{own}/children", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return [int(name) for name in os.listdir("/proc") if _has_parent(name, own)]
    parts = []
    try:
        while part := os.read(fd, 1 << 16):
            parts.append(part)
    finally:
        os.close(fd)
    return [int(word) for word in b"".join(parts).split()]


def _has_parent(name: str, parent: int) -> bool:
    """For kernels without the list of children (CONFIG_PROC_CHILDREN)."""
    if not name.isdigit():
        return False
    try:
        fd = os.open(f"/proc/{name}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        content = os.read(fd, 4096)
    except OSError:
        return False
    finally:
        os.close(fd)
    fields = content[content.rfind(b")") + 2 :].split()
    return len(fields) > 1 and int(fields[1]) == parent
