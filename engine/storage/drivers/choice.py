"""Which driver works here, found out by using it on the very file system it is for.

An overlay mount may be refused (no privileges, a seccomp filter), may not go on top of this
file system (an overlay itself, NFS), or may work but for one operation: in a user namespace a
directory in place of a deleted one gives EIO unless `userxattr` is on. So all is tried.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable

from engine.storage.drivers.mounts import open_root, overlay
from engine.storage.options import DriverChoice, Ownership
from imgtools.errors import Error, InvalidInput, StorageError

NAMES = ("overlay", "flat")
OPAQUE = {False: "trusted.overlay.opaque", True: "user.overlay.opaque"}


def choose_driver(
    wanted: str, directory: Callable[[], str], ownership: Ownership, *, superuser: bool
) -> DriverChoice:
    """The driver `wanted`, or the best for "".

    `directory` gives a new empty directory to try in, on the file system of the store.
    Raises InvalidInput for an unknown name, StorageError where "overlay" was wanted in vain.
    """
    if wanted not in ("", *NAMES):
        raise InvalidInput(
            f"unknown storage driver {wanted!r}", hint=f"use one of {', '.join(NAMES)}"
        )
    if wanted == "flat":
        return _flat("it was asked for", ownership)
    if not superuser:
        reason = "only the superuser of a user namespace may mount"
    else:
        reasons = []
        for userxattr in (False, True):
            found = probe_overlay(directory(), userxattr=userxattr)
            if not found:
                how = "works with user.overlay attributes" if userxattr else "works"
                return DriverChoice(
                    name="overlay",
                    userxattr=userxattr,
                    ownership=ownership,
                    reason=f"an overlay mount on this file system {how}",
                )
            reasons.append(f"{found} ({'with' if userxattr else 'without'} userxattr)")
        reason = "; ".join(reasons)
    if wanted:
        raise StorageError(
            f"the overlay driver does not work here: {reason}",
            path="overlay",
            hint="use the flat driver, or another file system",
        )
    return _flat(f"overlay does not work here: {reason}", ownership)


def _flat(reason: str, ownership: Ownership) -> DriverChoice:
    return DriverChoice(name="flat", userxattr=False, ownership=ownership, reason=reason)


def probe_overlay(directory: str, *, userxattr: bool) -> str:
    """Try overlay in the empty `directory`; what does not work, "" if all does."""
    lower, upper, work = (os.path.join(directory, name) for name in ("lower", "upper", "work"))
    try:
        for path in (lower, upper, work, os.path.join(lower, "d")):
            os.mkdir(path, 0o700)
        with open(os.path.join(lower, "f"), "wb"):
            pass
        root = open_root(overlay((lower,), upper, work, userxattr=userxattr))
    except Error as e:
        return e.message
    except OSError as e:
        return f"{directory}: {e.strerror}"
    try:
        return _try(root, upper, OPAQUE[userxattr])
    finally:
        os.close(root)


def _try(root: int, upper: str, opaque: str) -> str:
    step = "removing a file of a lower layer"
    try:
        os.unlink("f", dir_fd=root)
        st = os.lstat(os.path.join(upper, "f"))
        if not stat.S_ISCHR(st.st_mode) or st.st_rdev != 0:
            return "no whiteout in place of a removed file"
        step = "a directory in place of a removed one"
        os.rmdir("d", dir_fd=root)
        os.mkdir("d", dir_fd=root)
        if os.getxattr(os.path.join(upper, "d"), opaque) != b"y":
            return "no opaque mark on a new directory"
    except OSError as e:
        return f"{step}: {e.strerror}"
    return ""
