"""Tries each kind of isolation as containers use it: get the ids, get a mount namespace, mount
a root with /proc in it, enter the root."""

from __future__ import annotations

import os

from engine.ids.model import CAP_SYS_ADMIN, IdFacts, IdMode, IdOptions
from engine.ids.plan import plan_id_maps
from engine.ids.session import enter
from engine.probe.attempt import Refused, Trial, step
from engine.runtime.kernel.mounting import (
    MNT_DETACH,
    MS_BIND,
    MS_MOVE,
    MS_PRIVATE,
    MS_REC,
    mount,
    pivot_root,
    umount,
)
from engine.runtime.kernel.processes import CLONE_NEWNS, unshare
from imgtools.errors import Unsupported

# Somewhere to mount on; nothing is written there.
MOUNT_POINTS = (b"/tmp", b"/var/tmp", b"/run", b"/mnt", b"/etc")
OTHER_ID = 12
SECCOMP_REMEDY = (
    "a seccomp profile that admits it (containerd's and Docker's default admit no mounts "
    "without CAP_SYS_ADMIN)"
)


def isolation_trials(facts: IdFacts, options: IdOptions) -> list[Trial]:
    """One trial for each kind, strongest first; their names are what `choose_isolation` reads."""
    return [
        ("isolation-root", lambda: try_root(facts)),
        ("isolation-ranges", lambda: try_ids("ranges", facts, options)),
        ("isolation-single", lambda: try_ids("single", facts, options)),
        ("isolation-chroot", try_chroot),
    ]


def try_root(facts: IdFacts) -> str:
    """Namespaces as the root that this process is, without a user namespace."""
    if facts.effective_uid != 0 or not facts.has(CAP_SYS_ADMIN):
        who = f"this is uid {facts.effective_uid}"
        missing = "" if facts.has(CAP_SYS_ADMIN) else " without CAP_SYS_ADMIN"
        raise Unsupported(f"{who}{missing}", hint="run as root, or in a privileged container")
    how = enter_root(own_mounts=True)
    return f"{how} {change_owner(b'/probe')}".strip()


def try_ids(mode: IdMode, facts: IdFacts, options: IdOptions) -> str:
    """A user namespace in `mode`; the detail names who writes the maps and how the root is
    entered."""
    maps = plan_id_maps(facts, mode)
    enter(maps, facts, options)
    how = enter_root(own_mounts=True)
    if mode == "ranges":
        change_owner(b"/probe")
    return f"{maps.writer} {how}"


def try_chroot() -> str:
    """chroot(2) alone, into the root we have."""
    with step("chroot", remedy="the capability SYS_CHROOT"):
        os.chroot("/")
    return ""


def enter_root(*, own_mounts: bool) -> str:
    """Mount a tmpfs with /proc in it and make it the root; "pivot_root" or "move" for MS_MOVE
    with chroot(2), which seccomp profiles admit in different places."""
    if own_mounts:
        private_mounts()
    target = mount_point()
    with step("mount tmpfs", remedy=SECCOMP_REMEDY):
        mount(b"tmpfs", target, b"tmpfs", 0, b"mode=755")
    os.mkdir(target + b"/proc")
    with step("mount --rbind /proc", remedy=SECCOMP_REMEDY):
        mount(b"/proc", target + b"/proc", None, MS_BIND | MS_REC, None)
    os.chdir(target)
    try:
        pivot_root(b".", b".")
        umount(b".", MNT_DETACH)
    except OSError:
        with step("pivot_root refused, and MS_MOVE", remedy=SECCOMP_REMEDY):
            mount(b".", b"/", None, MS_MOVE, None)
        with step("pivot_root and chroot", remedy=SECCOMP_REMEDY):
            os.chroot(".")
        how = "move"
    else:
        how = "pivot_root"
    os.chdir("/")
    return how


def private_mounts() -> None:
    """A mount namespace whose mounts nobody else sees."""
    with step("unshare(CLONE_NEWNS)", remedy=SECCOMP_REMEDY):
        unshare(CLONE_NEWNS)
    with step("mount --make-rprivate /", remedy=SECCOMP_REMEDY):
        mount(None, b"/", None, MS_REC | MS_PRIVATE, None)


def mount_point() -> bytes:
    """A directory to mount on."""
    for path in MOUNT_POINTS:
        if os.path.isdir(path):
            return path
    raise Refused("find a directory to mount on", 2)


def change_owner(path: bytes) -> str:
    """Whether a file can be given to somebody else; raises Refused."""
    fd = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    try:
        with step("chown to another uid", remedy="the capability CHOWN"):
            os.fchown(fd, OTHER_ID, OTHER_ID)
    finally:
        os.close(fd)
    return ""
