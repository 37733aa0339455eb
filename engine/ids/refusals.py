"""Why the kernel did not let us have a user namespace, and what would change that.

The same errno has many causes: sysctls, security modules, seccomp filters, chroot, nesting.
The reasons are told apart by facts read beforehand; the decision is pure.
"""

from __future__ import annotations

import errno
import os

from engine.ids.model import Refusal
from engine.ids.survey import parse_status
from engine.runtime.kernel.files import text_if_there
from engine.runtime.kernel.mountinfo import survey_mounts
from imgtools.frozen import dataclass

_APPARMOR_REMEDY = (
    "an AppArmor profile with `userns,` for this program, or as root: "
    "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class UsernsLimits:
    """What bounds user namespaces here; None where the kernel has no such setting."""

    max_user_namespaces: int | None = None
    unprivileged_clone: int | None = None
    apparmor_restricts: bool = False
    seccomp: bool = False
    chrooted: bool = False
    supported: bool = True


def survey_limits() -> UsernsLimits:
    """Read the limits; what cannot be read is taken as not there."""
    status = parse_status(text_if_there("/proc/self/status"))
    mounts = survey_mounts()
    return UsernsLimits(
        max_user_namespaces=_number("/proc/sys/user/max_user_namespaces"),
        unprivileged_clone=_number("/proc/sys/kernel/unprivileged_userns_clone"),
        apparmor_restricts=_number("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == 1,
        seccomp=status.get("Seccomp", "0") == "2",
        # The root of a chroot is no mount point.
        chrooted=bool(mounts) and not any(entry.point == b"/" for entry in mounts),
        supported=os.path.exists("/proc/self/ns/user"),
    )


def explain_refusal(number: int, limits: UsernsLimits, *, privileged: bool) -> Refusal:
    """Why unshare(CLONE_NEWUSER) ended with errno `number`; `privileged` is whether the caller
    has CAP_SYS_ADMIN."""
    name = errno.errorcode.get(number, str(number))
    said = f"unshare(CLONE_NEWUSER): {name}"
    if not limits.supported:
        return Refusal(why=f"{said}: this kernel was built without user namespaces")
    if number in (errno.ENOSPC, errno.EUSERS):
        if limits.max_user_namespaces == 0:
            return Refusal(
                why=f"{said}: user.max_user_namespaces is 0",
                remedy="as root: sysctl -w user.max_user_namespaces=15000",
            )
        return Refusal(
            why=f"{said}: the limit of user namespaces, or of 32 nested ones, is reached",
            remedy="end other containers, or raise user.max_user_namespaces",
        )
    if number == errno.EINVAL:
        return Refusal(why=f"{said}: threads run in this process, or the kernel does not know it")
    if number == errno.EPERM and limits.unprivileged_clone == 0 and not privileged:
        return Refusal(
            why=f"{said}: kernel.unprivileged_userns_clone is 0",
            remedy="as root: sysctl -w kernel.unprivileged_userns_clone=1",
        )
    if number == errno.EPERM and limits.chrooted:
        return Refusal(
            why=f"{said}: this process runs in a chroot",
            remedy="enter the root with pivot_root, or run outside of the chroot",
        )
    return _by_security_module(said, number, limits)


def _by_security_module(said: str, number: int, limits: UsernsLimits) -> Refusal:
    if number in (errno.EPERM, errno.EACCES, errno.ENOSYS) and limits.seccomp:
        return Refusal(
            why=f"{said}: a seccomp filter denies it",
            remedy="a seccomp profile that admits unshare and clone (Docker's and "
            "containerd's default do not): seccompProfile Unconfined, or "
            "--security-opt seccomp=unconfined",
        )
    if number in (errno.EPERM, errno.EACCES) and limits.apparmor_restricts:
        return Refusal(
            why=f"{said}: kernel.apparmor_restrict_unprivileged_userns is 1",
            remedy=_APPARMOR_REMEDY,
        )
    return Refusal(why=f"{said}: {os.strerror(number).lower()}")


def explain_map_refusal(number: int, file: str, limits: UsernsLimits) -> Refusal:
    """Why writing the map `file` (such as uid_map) ended with errno `number`."""
    said = f"write {file}: {errno.errorcode.get(number, str(number))}"
    if number in (errno.EPERM, errno.EACCES) and limits.apparmor_restricts:
        return Refusal(
            why=f"{said}: AppArmor gives the namespace no capabilities",
            remedy=_APPARMOR_REMEDY,
        )
    return Refusal(why=f"{said}: {os.strerror(number).lower()}")


def _number(path: str) -> int | None:
    text = text_if_there(path).strip()
    return int(text) if text.isdigit() else None
