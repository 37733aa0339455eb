"""What can be read of the host without trying anything: kernel, credentials, limits, security
modules, cgroups, helper programs. Unreadable is "", never an error."""

from __future__ import annotations

import os
import resource

from engine.ids.model import IdFacts
from engine.ids.refusals import survey_limits
from engine.ids.survey import parse_status
from engine.runtime.cgroups.survey import survey as survey_cgroups
from engine.runtime.kernel.files import find_program, text_if_there
from engine.runtime.kernel.proc import boot_id

CAPABILITIES = {
    "CHOWN": 0,
    "SETGID": 6,
    "SETUID": 7,
    "NET_ADMIN": 12,
    "SYS_CHROOT": 18,
    "SYS_PTRACE": 19,
    "SYS_ADMIN": 21,
    "SYS_RESOURCE": 24,
    "MKNOD": 27,
    "SETFCAP": 31,
}
SECCOMP_MODES = {"0": "none", "1": "strict", "2": "filter"}
CONTAINER_MARKS = (
    ("/run/.containerenv", "podman or CRI-O"),
    ("/.dockerenv", "docker"),
    ("/var/run/secrets/kubernetes.io", "Kubernetes"),
)

Facts = dict[str, dict[str, str]]


def survey_host(ids: IdFacts, path: tuple[str, ...]) -> Facts:
    """Facts by topic: "host", "process", "limits", "cgroups", "ids", "helpers"."""
    return {
        "host": _host(),
        "process": _process(ids),
        "limits": _limits(),
        "cgroups": _cgroups(),
        "ids": _ids(ids),
        "helpers": _helpers(ids, path),
    }


def _host() -> dict[str, str]:
    system = os.uname()
    inside = [name for mark, name in CONTAINER_MARKS if os.path.exists(mark)]
    return {
        "kernel": f"{system.sysname} {system.release}",
        "machine": system.machine,
        "bootId": boot_id(),
        "container": inside[0] if inside else "",
        "lsm": _text("/sys/kernel/security/lsm"),
        "cpus": str(len(os.sched_getaffinity(0))),
    }


def _process(ids: IdFacts) -> dict[str, str]:
    status = parse_status(_text("/proc/self/status"))
    held = [name for name, number in CAPABILITIES.items() if ids.has(number)]
    return {
        "uid": str(ids.effective_uid),
        "gid": str(os.getegid()),
        "user": ids.identity.name,
        "capabilities": " ".join(held),
        "effective": status.get("CapEff", ""),
        "bounding": status.get("CapBnd", ""),
        "noNewPrivileges": "yes" if ids.no_new_privileges else "no",
        "seccomp": SECCOMP_MODES.get(status.get("Seccomp", ""), ""),
        "securityLabel": _text("/proc/self/attr/current").strip("\0"),
    }


def _limits() -> dict[str, str]:
    bounds = survey_limits()
    found = {
        "maxUserNamespaces": _shown(bounds.max_user_namespaces),
        "unprivilegedUsernsClone": _shown(bounds.unprivileged_clone),
        "apparmorRestrictsUserns": "yes" if bounds.apparmor_restricts else "no",
        "chroot": "yes" if bounds.chrooted else "no",
        "ptraceScope": _text("/proc/sys/kernel/yama/ptrace_scope"),
        "pingGroupRange": " ".join(_text("/proc/sys/net/ipv4/ping_group_range").split()),
        "unprivilegedPortStart": _text("/proc/sys/net/ipv4/ip_unprivileged_port_start"),
    }
    for name, number in (("nofile", resource.RLIMIT_NOFILE), ("nproc", resource.RLIMIT_NPROC)):
        hard = resource.getrlimit(number)[1]
        found[name] = "unlimited" if hard == resource.RLIM_INFINITY else str(hard)
    return found


def _cgroups() -> dict[str, str]:
    host = survey_cgroups()
    offered = {c for h in host.hierarchies for c in h.controllers}
    usable = {c for h in host.hierarchies if h.own_writable for c in h.controllers}
    return {
        "mode": host.mode,
        "controllers": " ".join(sorted(offered)),
        "delegated": " ".join(sorted(usable)),
        "systemd": "yes" if host.systemd else "no",
    }


def _ids(ids: IdFacts) -> dict[str, str]:
    return {
        "uidMap": _extents([(m.container_id, m.host_id, m.size) for m in ids.uid_extents]),
        "gidMap": _extents([(m.container_id, m.host_id, m.size) for m in ids.gid_extents]),
        "setgroups": "allow" if ids.setgroups_allowed else "deny",
        "subuids": " ".join(f"{r.first}+{r.count}" for r in ids.subuids),
        "subgids": " ".join(f"{r.first}+{r.count}" for r in ids.subgids),
        "problems": "; ".join(ids.subid_problems),
    }


def _helpers(ids: IdFacts, path: tuple[str, ...]) -> dict[str, str]:
    found = {
        name: helper.problem.why if helper.problem else helper.path
        for name, helper in (("newuidmap", ids.newuidmap), ("newgidmap", ids.newgidmap))
    }
    for name in ("pasta", "slirp4netns", "crun", "runc", "fuse-overlayfs"):
        found[name] = find_program(name, path) or "not installed"
    return found


def _text(path: str) -> str:
    return text_if_there(path).strip()


def _extents(lines: list[tuple[int, int, int]]) -> str:
    return ", ".join(" ".join(map(str, line)) for line in lines)


def _shown(number: int | None) -> str:
    return "" if number is None else str(number)
