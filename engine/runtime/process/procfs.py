"""Writes to a process's own files in a procfs that is known to be one.

A write to what only looks like /proc/self/attr/exec would leave a container without its
confinement (CVE-2019-16884, CVE-2025-52881), so the root of procfs is opened while the host's
is in view, and every file below is verified.
"""

from __future__ import annotations

import os

from engine.runtime.errors import Failure, refused
from engine.runtime.kernel.paths import (
    O_PATH,
    PROC_SUPER_MAGIC,
    RESOLVE_BENEATH,
    RESOLVE_NO_MAGICLINKS,
    RESOLVE_NO_XDEV,
    filesystem_type,
    openat2,
)

_PROC_ROOT_INO = 1


def open_proc() -> int:
    """A descriptor of the /proc in view, for `write_own`; raises Failure if it is no procfs."""
    try:
        fd = os.open("/proc", O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as e:
        raise refused("open /proc", e) from e
    if filesystem_type(fd) != PROC_SUPER_MAGIC or os.fstat(fd).st_ino != _PROC_ROOT_INO:
        os.close(fd)
        raise Failure("/proc is not a procfs")
    return fd


def write_own(proc_fd: int, name: bytes, content: bytes) -> None:
    """Write `content` in one write(2) to `name` below `proc_fd`, such as self/oom_score_adj.

    Raises OSError, and Failure if `name` is not on that procfs.
    """
    resolve = RESOLVE_BENEATH | RESOLVE_NO_XDEV | RESOLVE_NO_MAGICLINKS
    fd = openat2(proc_fd, name, os.O_WRONLY, resolve)
    try:
        if filesystem_type(fd) != PROC_SUPER_MAGIC:
            raise Failure(f"/proc/{name.decode()} is not on a procfs")
        os.write(fd, content)
    finally:
        os.close(fd)
