"""Standard streams: who owns them, so that a program of another user can open /dev/stdout."""

from __future__ import annotations

import errno
import os
import stat

from engine.runtime.errors import refused
from engine.runtime.kernel.paths import DEVPTS_SUPER_MAGIC, filesystem_type

_PIPEFS_MAGIC = 0x50495045
_NOT_POSSIBLE = (errno.EINVAL, errno.EPERM, errno.EROFS)


def give_stdio(uid: int, *, terminal: bool, gid: int = -1) -> None:
    """Make `uid` the owner of those of descriptors 0 to 2 that are pipes, and with `terminal`
    of those that are pseudo terminals. Pipes get the group `gid` too unless it is -1; that of
    a terminal is what lets write(1) write to it.

    Called before the change of user. Files, devices such as /dev/null, sockets and named pipes
    belong to others and stay as they are, and so does a terminal that is the caller's own. An
    owner that the user namespace does not map cannot be changed, which is no error. Raises
    KernelRefused.
    """
    for fd in range(3):
        try:
            st = os.fstat(fd)
            group = gid if stat.S_ISFIFO(st.st_mode) else -1
            given = st.st_uid == uid and group in (-1, st.st_gid)
            if not given and _is_ours(fd, st.st_mode, terminal):
                os.fchown(fd, uid, group)
        except OSError as e:
            if e.errno not in (*_NOT_POSSIBLE, errno.EBADF):
                raise refused(f"give descriptor {fd} to uid {uid}", e) from e


def _is_ours(fd: int, mode: int, terminal: bool) -> bool:
    if stat.S_ISFIFO(mode):
        return filesystem_type(fd) == _PIPEFS_MAGIC
    return terminal and stat.S_ISCHR(mode) and filesystem_type(fd) == DEVPTS_SUPER_MAGIC
