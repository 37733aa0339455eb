"""Turns the calling process into one of a locked-down pod: its uid, capabilities, no_new_privs
and seccomp profile, without a container runtime. Only for children: there is no way back.

The rungs: A root; B a user with ranges in subuid; C one without; D container root under
Docker's profile; E a user under it without any privilege (Kubernetes `restricted`); D-crio and
E-crio the same under the profile of podman and CRI-O.
"""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Callable

from engine.runtime.kernel.mounting import MS_BIND, MS_PRIVATE, MS_RDONLY, MS_REC, mount
from engine.runtime.kernel.processes import (
    CLONE_NEWNS,
    PR_CAPBSET_DROP,
    PR_SET_DUMPABLE,
    PR_SET_NO_NEW_PRIVS,
    capset,
    prctl,
    unshare,
)
from engine.runtime.seccomp.compiler import compile_profile
from engine.runtime.seccomp.load import load
from engine.runtime.spec.model import Seccomp, SeccompArg, SeccompSyscall

USER = 23456
SUBORDINATE = (700000, 65536)
RUNGS = ("A", "B", "C", "D", "D-crio", "E", "E-crio")
LAST_CAPABILITY = 40
CRIO_CAPS = (0, 1, 3, 4, 5, 6, 7, 8, 10)
DOCKER_CAPS = (*CRIO_CAPS, 13, 18, 27, 29, 31)
ETC_FILES = ("nsswitch.conf", "ld.so.cache", "login.defs", "resolv.conf", "hosts")
EPERM, ENOSYS = 1, 38
NAMESPACE_BITS = (1 << 7, 1 << 17, 1 << 25, 1 << 26, 1 << 27, 1 << 28, 1 << 29, 1 << 30)
DOCKER_DENIES = (
    "unshare", "setns", "mount", "umount2", "pivot_root", "fsopen", "fsconfig", "fsmount",
    "fspick", "open_tree", "move_mount", "mount_setattr", "keyctl", "add_key", "bpf",
    "pidfd_getfd", "kcmp", "sethostname", "setdomainname", "perf_event_open",
)  # fmt: skip
CRIO_DENIES = ("setns", "sethostname", "setdomainname", "bpf", "kcmp", "perf_event_open")


def enter(
    rung: str,
    prepare: Callable[[], None] | None = None,
    *,
    ids: tuple[int, int] = (USER, USER),
) -> None:
    """Become a process of `rung`; the caller is root. `prepare` is called before privileges
    go, in a mount namespace of our own; `ids` are the user and group of those without any."""
    private_etc(granted=rung == "B")
    if prepare is not None:
        prepare()
    if rung == "A":
        return
    crio = rung.endswith("-crio")
    confined = rung[0] in "DE"
    if rung[0] == "D":
        load(compile_profile(_profile(crio, chroot=not crio), platform.machine()))
        _keep(CRIO_CAPS if crio else DOCKER_CAPS)
        return
    uid, gid = ids
    os.setgroups([])
    os.setresgid(gid, gid, gid)
    if confined:
        for number in range(LAST_CAPABILITY + 1):
            prctl(PR_CAPBSET_DROP, number)
    os.setresuid(uid, uid, uid)
    # As after execve(2), which a pod's process has behind it.
    prctl(PR_SET_DUMPABLE, 1)
    if confined:
        prctl(PR_SET_NO_NEW_PRIVS, 1)
        load(compile_profile(_profile(crio, chroot=False), platform.machine()))


def private_etc(*, granted: bool) -> None:
    """An /etc of our own, in a mount namespace of our own, where `USER` exists, with ranges in
    subuid and subgid if they are `granted`."""
    unshare(CLONE_NEWNS)
    mount(None, b"/", None, MS_REC | MS_PRIVATE, None)
    kept = {name: f"/etc/{name}" for name in ETC_FILES if os.path.exists(f"/etc/{name}")}
    contents = {}
    for name, path in kept.items():
        with open(path, "rb") as file:
            contents[name] = file.read()
    contents["passwd"] = b"root:x:0:0::/root:/bin/sh\njailed:x:%d:%d::/:/bin/sh\n" % (USER, USER)
    contents["group"] = b"root:x:0:\njailed:x:%d:\n" % USER
    line = b"jailed:%d:%d\n" % SUBORDINATE
    contents["subuid"] = contents["subgid"] = line if granted else b""
    mount(b"tmpfs", b"/etc", b"tmpfs", 0, b"mode=755")
    for name, content in contents.items():
        with open(f"/etc/{name}", "wb") as file:
            file.write(content)


def hide_proc() -> None:
    """Mount over a part of /proc, as runtimes do by default."""
    mount(b"tmpfs", b"/proc/bus", b"tmpfs", MS_RDONLY, None)


def break_program(path: str) -> None:
    """Let a set-uid program fail whoever runs it."""
    shutil.copyfile("/bin/false", "/etc/broken")
    os.chmod("/etc/broken", 0o4755)
    mount(b"/etc/broken", os.path.realpath(path).encode(), None, MS_BIND, None)


def enter_chroot(directory: str) -> None:
    """Make `directory` the root by chroot(2), with the directories of the host bound in it."""
    for name in ("usr", "lib", "lib64", "bin", "etc", "proc", "dev", "tmp", "var", "run"):
        source, target = f"/{name}", os.path.join(directory, name)
        if os.path.isdir(source):
            os.mkdir(target)
            mount(source.encode(), target.encode(), None, MS_BIND | MS_REC, None)
    os.chroot(directory)
    os.chdir("/")


def unprivileged_copy(program: str, directory: str) -> None:
    """A copy without set-uid bit and file capabilities, as a careless COPY makes it."""
    shutil.copyfile(program, target := os.path.join(directory, os.path.basename(program)))
    os.chmod(target, 0o755)


def _keep(numbers: tuple[int, ...]) -> None:
    kept = sum(1 << number for number in numbers)
    for number in range(LAST_CAPABILITY + 1):
        if not kept >> number & 1:
            prctl(PR_CAPBSET_DROP, number)
    capset(kept, kept, 0)


def _profile(crio: bool, *, chroot: bool) -> Seccomp:
    denied = CRIO_DENIES if crio else DOCKER_DENIES
    names = denied if chroot else (*denied, "chroot")
    rules = [SeccompSyscall(names=names, action="SCMP_ACT_ERRNO", errno_ret=EPERM)]
    if not crio:
        rules.append(SeccompSyscall(names=("clone3",), action="SCMP_ACT_ERRNO", errno_ret=ENOSYS))
        rules += [
            SeccompSyscall(
                names=("clone",),
                action="SCMP_ACT_ERRNO",
                errno_ret=EPERM,
                args=(SeccompArg(index=0, value=bit, value_two=bit, op="SCMP_CMP_MASKED_EQ"),),
            )
            for bit in NAMESPACE_BITS
        ]
    return Seccomp(default_action="SCMP_ACT_ALLOW", syscalls=tuple(rules))
