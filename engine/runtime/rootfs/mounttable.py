"""The mounts of this process's namespace, seen through a /proc that is known to be the host's."""

from __future__ import annotations

from engine.runtime.kernel.files import CHUNK, read_file
from engine.runtime.kernel.mountinfo import MAX_TABLE, MountEntry, parse_mountinfo


def mount_number(proc_fd: int, fd: int) -> int:
    """The number of the mount that `fd` is on; `proc_fd` is a trusted /proc. Raises OSError."""
    for line in read_file(b"self/fdinfo/%d" % fd, CHUNK, proc_fd).splitlines():
        key, _, value = line.partition(b":")
        if key == b"mnt_id":
            return int(value)
    raise ProcessLookupError


def read_mounts(proc_fd: int) -> tuple[MountEntry, ...]:
    """The mounts this process sees; `proc_fd` is a trusted /proc. Raises OSError."""
    return parse_mountinfo(read_file(b"self/mountinfo", MAX_TABLE, proc_fd))
