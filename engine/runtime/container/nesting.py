"""A user namespace for one process, in which its user is the only id there is.

Where a container has a single id, that id is root, who makes everything: mounts, devices, the
root itself. A program of another user then moves one namespace further in, where the same id of
the host has the number that the program is to have. What was made stays root's of the namespace
outside, so that nothing needs to be made differently for such a program; all it has inside are
rights over that one id (user_namespaces(7)).
"""

from __future__ import annotations

import errno
import os

from engine.runtime.errors import KernelRefused, refused
from engine.runtime.kernel.processes import CLONE_NEWUSER, unshare
from engine.runtime.process.procfs import write_own


def enter_own_user(uid: int, gid: int, proc_fd: int) -> None:
    """Move this process, the root of a namespace with one id, to a new one as `uid` and `gid`,
    with all capabilities there. `proc_fd` is procfs. Raises KernelRefused, Failure."""
    what = f"take uid {uid} and gid {gid} in a user namespace of their own"
    outer = os.geteuid(), os.getegid()
    try:
        unshare(CLONE_NEWUSER)
        # Who has no rights outside may not map a group and still drop others.
        write_own(proc_fd, b"self/setgroups", b"deny")
        write_own(proc_fd, b"self/gid_map", b"%d %d 1\n" % (gid, outer[1]))
        write_own(proc_fd, b"self/uid_map", b"%d %d 1\n" % (uid, outer[0]))
    except OSError as e:
        hint = "user.max_user_namespaces may be reached" if e.errno == errno.ENOSPC else ""
        raise refused(what, e, hint=hint) from e
    if (os.geteuid(), os.getegid()) != (uid, gid):
        raise KernelRefused(f"{what}: the kernel has mapped another id")
