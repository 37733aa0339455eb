"""User, groups and umask of a container's process, in the order that lets each step succeed:
groups, gid, uid with PR_SET_KEEPCAPS, capabilities (credentials(7))."""

from __future__ import annotations

import errno
import os

from engine.runtime.errors import KernelRefused, Unsupported, refused
from engine.runtime.kernel.files import read_if_there
from engine.runtime.kernel.processes import PR_SET_KEEPCAPS, prctl
from engine.runtime.process.capabilities import CapabilityPlan, set_sets
from engine.runtime.record import Record
from engine.runtime.spec.model import User


class CredentialPlan(Record):
    """`groups` None leaves the supplementary groups as they are, `umask` None the umask."""

    uid: int
    gid: int
    groups: tuple[int, ...] | None
    umask: int | None


def plan_credentials(
    user: User, setgroups_allowed: bool, keep: tuple[int, ...] = ()
) -> CredentialPlan:
    """The ids to take.

    The supplementary groups become exactly `additionalGids`, never what the caller happened to
    have (CVE-2022-2989). Where setgroups(2) was denied to the user namespace, the caller's
    groups cannot be dropped, which the kernel wants that way: they may be what *denies* access
    to a file. Asking for other groups than `keep`, those it has as the container sees them,
    raises Unsupported there.
    """
    groups: tuple[int, ...] | None = tuple(dict.fromkeys(user.additional_gids))
    if not setgroups_allowed:
        missing = [str(gid) for gid in groups or () if gid not in keep]
        if missing:
            raise Unsupported(
                f"cannot take the additional groups {', '.join(missing)}:"
                " setgroups is denied in this user namespace",
                hint="map a range of ids (/etc/subgid), or leave process.user.additionalGids out",
            )
        groups = None
    return CredentialPlan(uid=user.uid, gid=user.gid, groups=groups, umask=user.umask)


def setgroups_allowed(pid: int | None = None) -> bool:
    """Whether the user namespace of process `pid`, by default our own, admits setgroups(2)."""
    path = b"/proc/self/setgroups" if pid is None else b"/proc/%d/setgroups" % pid
    return read_if_there(path, 16).strip() != b"deny"


def apply(plan: CredentialPlan, capabilities: CapabilityPlan) -> None:
    """Take the ids and the capabilities, and look whether they are what we have now.

    Raises KernelRefused. `capabilities.drop_bounding` has been called before.
    """
    if plan.groups is not None:
        _step("set the additional groups", lambda: os.setgroups(plan.groups or ()))
    _step(f"take gid {plan.gid}", lambda: os.setresgid(plan.gid, plan.gid, plan.gid))
    _step("keep capabilities", lambda: prctl(PR_SET_KEEPCAPS, 1))
    _step(f"take uid {plan.uid}", lambda: os.setresuid(plan.uid, plan.uid, plan.uid))
    _step("keep capabilities", lambda: prctl(PR_SET_KEEPCAPS, 0))
    set_sets(capabilities)
    if plan.umask is not None:
        os.umask(plan.umask)
    if os.getresuid() != (plan.uid,) * 3 or os.getresgid() != (plan.gid,) * 3:
        raise KernelRefused("take the user's ids: the kernel kept others than it was given")
    if plan.groups is not None and sorted(os.getgroups()) != sorted(plan.groups):
        raise KernelRefused("take the user's groups: the kernel kept others than it was given")


def _step(action: str, step: object) -> None:
    try:
        step()  # type: ignore[operator]
    except OSError as e:
        hint = ""
        if e.errno == errno.EINVAL:
            hint = "the id is not mapped in the container's user namespace"
        raise refused(action, e, hint=hint) from e
