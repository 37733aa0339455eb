"""Capabilities, seccomp and masked paths of a container, and the words of --security-opt."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any

from engine.containers.options import Security
from engine.runtime import jsontext
from engine.runtime.errors import Failure
from engine.runtime.process.capabilities import DEFAULT, NAMES, default_capabilities
from engine.runtime.seccomp.default_profile import default_profile
from engine.runtime.seccomp.profile_file import resolve_profile
from engine.runtime.spec.model import Capabilities, Seccomp
from imgtools.errors import InvalidInput, StorageError, Unsupported
from imgtools.frozen import dataclass

MAX_PROFILE = 4 << 20

MASKED = (
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/dev/block",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
    "/sys/fs/selinux",
)
READONLY = (
    "/proc/asound",
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
)
"""As containers/common has them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SecurityPlan:
    """What config.json gets; `seccomp` None is no filter."""

    capabilities: dict[str, Any]
    seccomp: Seccomp | None
    masked_paths: tuple[str, ...]
    readonly_paths: tuple[str, ...]


def parse_security(words: Sequence[str], security: Security) -> Security:
    """`security` with the values of --security-opt; raises InvalidInput, Unsupported."""
    for word in words:
        name, sign, value = word.partition("=")
        if not sign:
            name, sign, value = word.partition(":")
        match name:
            case "no-new-privileges" if value in ("", "true", "false"):
                security = replace(security, no_new_privileges=value != "false")
            case "seccomp" if value:
                security = replace(security, seccomp=value)
            case "apparmor" if value:
                security = replace(security, apparmor=value)
            case "label" if value in ("disable", "nested") or ":" in value:
                security = replace(security, label="" if ":" not in value else value)
            case "mask" if value:
                security = replace(security, mask=(*security.mask, *value.split(":")))
            case "unmask" if value:
                security = replace(security, unmask=(*security.unmask, *value.split(":")))
            case "systempaths" if value == "unconfined":
                security = replace(security, unmask=("ALL",))
            case "proc-opts" if value:
                words_of = tuple(option for option in value.split(",") if option)
                security = replace(security, proc_options=(*security.proc_options, *words_of))
            case _:
                raise InvalidInput(f"invalid --security-opt {word!r}")
    if ":" in security.label:
        raise Unsupported(
            f"--security-opt label={security.label}: SELinux labels are not made here"
        )
    return security


def capability_names(security: Security) -> tuple[str, ...]:
    """The capabilities a container gets: the defaults, less what is dropped, with what is added.

    ALL means every one; adding and dropping the same is an error (InvalidInput), as in podman.
    """
    add, drop = _normal(security.cap_add), _normal(security.cap_drop)
    if "ALL" in add and "ALL" in drop:
        raise InvalidInput("adding and dropping all capabilities exclude each other")
    both = sorted(set(add) & set(drop))
    if both:
        raise InvalidInput(f"capability {both[0]} is both added and dropped")
    if security.privileged or "ALL" in add:
        found = set(NAMES)
    else:
        found = set() if "ALL" in drop else {*DEFAULT, *security.cap_usual}
    found = (found | set(add)) - set(drop)
    return tuple(name for name in NAMES if name in found)


def _normal(names: Sequence[str]) -> tuple[str, ...]:
    found = []
    for name in names:
        upper = name.upper()
        full = upper if upper.startswith("CAP_") or upper == "ALL" else f"CAP_{upper}"
        if full != "ALL" and full not in NAMES:
            raise InvalidInput(f"unknown capability {name!r}")
        found.append(full)
    return tuple(found)


def side_channels(processors: str = "/sys/devices/system/cpu") -> tuple[str, ...]:
    """Directories that tell how hot the host's processors are, and so what others compute on
    them: one for each processor of a machine that measures it."""
    found = []
    try:
        with os.scandir(processors) as entries:
            names = [entry.name for entry in entries]
    except OSError:
        return ()
    for name in sorted(names):
        path = f"{processors}/{name}/thermal_throttle"
        if name[:3] == "cpu" and name[3:].isdigit() and os.path.isdir(path):
            found.append(path)
    return tuple(found)


def plan_security(
    security: Security,
    uid: int,
    machine: str,
    kernel: tuple[int, int],
    also_masked: tuple[str, ...] = (),
) -> SecurityPlan:
    """What follows for a process of user `uid` on this machine, whose `also_masked` paths are
    covered as the usual ones are; raises InvalidInput."""
    names = capability_names(security)
    sets = default_capabilities(names, uid)
    if uid and security.cap_add:
        # podman: what was asked for by name a user that is not root gets too.
        added = tuple(name for name in names if name in _normal(security.cap_add))
        sets = sets.with_values(effective=added, permitted=added, inheritable=added, ambient=added)
    masked, readonly = _paths(security, also_masked)
    return SecurityPlan(
        capabilities={name: list(getattr(sets, name)) for name in Capabilities._fields},
        seccomp=_profile(security, names, machine, kernel),
        masked_paths=masked,
        readonly_paths=readonly,
    )


def _paths(
    security: Security, also_masked: tuple[str, ...]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    if security.privileged or "ALL" in (word.upper() for word in security.unmask):
        return tuple(security.mask), ()
    masked = [path for path in (*MASKED, *also_masked) if not _unmasked(path, security)]
    readonly = [path for path in READONLY if not _unmasked(path, security)]
    return (*masked, *security.mask), tuple(readonly)


def _unmasked(path: str, security: Security) -> bool:
    """Whether a path is one of --security-opt unmask; patterns count component by component."""
    parts = path.split("/")
    for pattern in security.unmask:
        wanted = pattern.rstrip("/").split("/")
        if len(wanted) == len(parts) and all(map(fnmatchcase, parts, wanted)):
            return True
    return False


def _profile(
    security: Security, names: Sequence[str], machine: str, kernel: tuple[int, int]
) -> Seccomp | None:
    if security.seccomp == "unconfined" or (security.privileged and not security.seccomp):
        return None
    try:
        if not security.seccomp:
            return default_profile(names, machine, kernel)
        try:
            with open(security.seccomp, "rb") as file:
                content = file.read(MAX_PROFILE)
        except OSError as e:
            raise StorageError(
                f"read the seccomp profile {security.seccomp}: {e.strerror}", path=security.seccomp
            ) from e
        return resolve_profile(jsontext.parse(content, security.seccomp), names, machine, kernel)
    except Failure as e:
        raise InvalidInput(e.message, hint=e.hint or None) from e
