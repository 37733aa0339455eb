"""Extended attributes that belong into a layer, and how they are read from and put on files.

Kept: `security.capability`, `user.*` and POSIX ACLs. Left out: what only means something to
the host or to an overlay mount (`trusted.*`, `security.selinux`, `user.overlay.*`,
`user.containers.*`), which in a hostile layer could redirect a mount.
"""

from __future__ import annotations

import errno
import os

CAPABILITY = "security.capability"
ACLS = ("system.posix_acl_access", "system.posix_acl_default")
PRIVATE = ("user.overlay.", "user.containers.")

NOT_THERE = (errno.ENOTSUP, errno.ENODATA)


def kept(name: str) -> bool:
    """Whether the extended attribute `name` belongs into a layer."""
    if name.startswith("user."):
        return not name.startswith(PRIVATE)
    return name == CAPABILITY or name in ACLS


def without_rootid(capability: bytes) -> bytes:
    """A file capability as revision 2.

    Revision 3, which the kernel stores for a setcap in a user namespace, ends with the uid of
    that namespace's root on this host (linux/capability.h, struct vfs_ns_cap_data).
    """
    if len(capability) == 24 and capability[3] == 3:
        return capability[:3] + b"\x02" + capability[4:20]
    return capability


def read(target: int | str | bytes, names: list[str]) -> dict[str, bytes]:
    """Values of those of `names` that belong into a layer; links are not followed.

    An attribute that vanishes meanwhile is left out. Raises OSError.
    """
    return _values(target, names, follow=isinstance(target, int))


def read_through(target: str, names: list[str]) -> dict[str, bytes]:
    """As `read`, of what the link `target` leads to: a descriptor's name in /proc."""
    return _values(target, names, follow=True)


def _values(target: int | str | bytes, names: list[str], *, follow: bool) -> dict[str, bytes]:
    found = {}
    for name in sorted(names):
        if kept(name):
            try:
                value = os.getxattr(target, name, follow_symlinks=follow)
            except OSError as e:
                if e.errno not in NOT_THERE:
                    raise
                continue
            found[name] = without_rootid(value) if name == CAPABILITY else value
    return found
