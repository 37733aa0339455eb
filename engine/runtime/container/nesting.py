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
from engine.runtime.kernel.processes import CLONE_NEWUSER, setns, unshare
from engine.runtime.process.attributes import set_dumpable
from engine.runtime.process.procfs import write_own


def enter_own_user(uid: int, gid: int, proc_fd: int) -> None:
    """Move this process, the root of a namespace with one id, to a new one as `uid` and `gid`,
    with all capabilities there. `proc_fd` is procfs. Raises KernelRefused, Failure."""
    what = f"take uid {uid} and gid {gid} in a user namespace of their own"
    outer = os.geteuid(), os.getegid()
    maps = (
        # Who has no rights outside may not map a group and still drop others.
        (b"self/setgroups", b"deny"),
        (b"self/gid_map", b"%d %d 1\n" % (gid, outer[1])),
        (b"self/uid_map", b"%d %d 1\n" % (uid, outer[0])),
    )
    try:
        unshare(CLONE_NEWUSER)
        try:
            _write(maps, proc_fd)
        except PermissionError:
            # The files of who is not dumpable are those of the root of the namespace that the
            # interpreter was started in. In the meantime nobody can trace us who has not our
            # capabilities: programs have others, and a namespace of their own.
            set_dumpable(True)
            try:
                _write(maps, proc_fd)
            finally:
                set_dumpable(False)
    except OSError as e:
        hint = "user.max_user_namespaces may be reached" if e.errno == errno.ENOSPC else ""
        raise refused(what, e, hint=hint) from e
    _check(uid, gid, what)


def join_own_user(uid: int, gid: int, namespace_fd: int) -> None:
    """Move this process, as `enter_own_user`, to the namespace that another program of this user
    has. Raises KernelRefused."""
    what = f"join the user namespace of uid {uid} and gid {gid}"
    try:
        setns(namespace_fd, CLONE_NEWUSER)
    except OSError as e:
        raise refused(what, e) from e
    _check(uid, gid, what)


def _check(uid: int, gid: int, what: str) -> None:
    if (os.geteuid(), os.getegid()) != (uid, gid):
        raise KernelRefused(f"{what}: the kernel has mapped another id")


def _write(maps: tuple[tuple[bytes, bytes], ...], proc_fd: int) -> None:
    for name, content in maps:
        write_own(proc_fd, name, content)
