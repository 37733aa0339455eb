"""The seccomp filters of root emulation, as profiles for engine.runtime.seccomp's compiler.

They go on beside the profile's filter, not into it. Of several filters the kernel takes the
strictest answer, so what the profile refuses stays refused; between answers of one kind that of
the filter loaded last counts, so these are loaded first.

They have to come after the init's own setresuid, setgroups and capset, which they would answer
too: a container with root emulation runs with no_new_privs, which costs nothing, as with a
single id neither set-user-id nor file capabilities give anybody anything.
"""

from __future__ import annotations

import stat

from engine.runtime.seccomp.architectures import runnable
from engine.runtime.seccomp.compiler import compile_profile
from engine.runtime.seccomp.filter import Filter
from engine.runtime.spec.model import Seccomp, SeccompArg, SeccompSyscall

# Success is a lie without consequence for these: there is one id, and it has all capabilities.
IDENTITY = (
    "setuid",
    "setgid",
    "setreuid",
    "setregid",
    "setresuid",
    "setresgid",
    "setgroups",
    "setfsuid",
    "setfsgid",
    "capset",
    "setuid32",
    "setgid32",
    "setreuid32",
    "setregid32",
    "setresuid32",
    "setresgid32",
    "setgroups32",
    "setfsuid32",
    "setfsgid32",
)
# What a user who is not root is asked about; the rest of IDENTITY the kernel refuses or ignores.
CREDENTIALS = tuple(
    name for name in IDENTITY if name[:3] == "set" and not name.startswith(("setfs", "setgroups"))
)
GROUPS = ("getgroups", "getgroups32")
OWNERSHIP = ("chown", "fchown", "lchown", "fchownat", "chown32", "fchown32", "lchown32")
# A filter cannot read the name of the attribute: faking means faking all of them.
ATTRIBUTES = ("setxattr", "lsetxattr", "fsetxattr", "setxattrat")
REMOVALS = ("removexattr", "lremovexattr", "fremovexattr", "removexattrat")
# Before these are carried out it is noted whose file gets another name.
MOVES = ("rename", "renameat", "renameat2", "link", "linkat")
# Call -> where its mode is; its device number follows.
NODES = (("mknod", 1), ("mknodat", 2))

_FAKE, _RECORD = "SCMP_ACT_ERRNO", "SCMP_ACT_NOTIFY"
_TYPE_BITS = 0o170000


def fake_filter(machine: str, *, nodes: bool = True) -> Filter:
    """The filter of mode "fake": calls that change ids or owners, make device nodes (with
    `nodes`) or set attributes succeed and do nothing. Raises Unsupported for a machine without
    tables."""
    faked = (*IDENTITY, *OWNERSHIP, *ATTRIBUTES)
    return _compiled(machine, _rule(_FAKE, faked), *(_devices(_FAKE) if nodes else ()))


def record_filter(machine: str, *, nodes: bool = True) -> Filter:
    """The filter of mode "record": its listener is for an OwnershipRecorder. Changes of ids
    succeed as in mode "fake"; the rest is asked of the recorder.

    The kernel allows one listener for a process: a profile with SCMP_ACT_NOTIFY cannot be
    loaded beside it (EBUSY). Without `nodes` no device node can be made, as by a real root
    without CAP_MKNOD.
    """
    asked = (*OWNERSHIP, *ATTRIBUTES, *REMOVALS, *GROUPS, *MOVES)
    rules = [_rule(_FAKE, IDENTITY), _rule(_RECORD, asked)]
    return _compiled(machine, *rules, *(_devices(_RECORD) if nodes else ()))


def user_filter(machine: str, *, nodes: bool = False) -> Filter:
    """As `record_filter`, for a program that is not root: the recorder is asked about changes of
    ids too, which the kernel would refuse with an errno that has users' programs wonder."""
    asked = (*OWNERSHIP, *ATTRIBUTES, *REMOVALS, *GROUPS, *MOVES, *CREDENTIALS)
    return _compiled(machine, _rule(_RECORD, asked), *(_devices(_RECORD) if nodes else ()))


def _compiled(machine: str, *rules: SeccompSyscall) -> Filter:
    profile = Seccomp(
        default_action="SCMP_ACT_ALLOW",
        architectures=tuple(one.name for one in runnable(machine)),
        syscalls=rules,
    )
    return compile_profile(profile, machine)


def _rule(action: str, names: tuple[str, ...], *args: SeccompArg) -> SeccompSyscall:
    number = 0 if action == _FAKE else None
    return SeccompSyscall(names=names, action=action, errno_ret=number, args=args)


def _devices(action: str) -> list[SeccompSyscall]:
    """Rules for device nodes: FIFOs, sockets and files are the kernel's, and so is the character
    device 0:0, an overlay's whiteout, which takes no privilege."""
    rules = []
    for name, mode in NODES:
        rules.append(_rule(action, (name,), _type(mode, stat.S_IFBLK)))
        number = SeccompArg(index=mode + 1, value=0, op="SCMP_CMP_NE")
        rules.append(_rule(action, (name,), _type(mode, stat.S_IFCHR), number))
    return rules


def _type(index: int, kind: int) -> SeccompArg:
    return SeccompArg(index=index, value=_TYPE_BITS, value_two=kind, op="SCMP_CMP_MASKED_EQ")
