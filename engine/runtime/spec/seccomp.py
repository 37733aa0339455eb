"""Reads `linux.seccomp` of config.json (config-linux.md "Seccomp").

Only types and ranges are checked: what the names mean, and which of them the kernel knows, is
for the seccomp package, which also compiles them.
"""

from __future__ import annotations

from engine.runtime.spec.model import Seccomp, SeccompArg, SeccompSyscall
from engine.runtime.spec.values import UINT32, UINT64, Object

TYPE_CHECKING = False
if TYPE_CHECKING:
    from engine.runtime.spec.values import Range

ARGUMENT: Range = (0, 5, "the index of an argument from 0 to 5")


def read_seccomp(at: Object) -> Seccomp:
    """The Seccomp at a place of a document; raises InvalidConfig."""
    return Seccomp(
        default_action=at.required_text("defaultAction"),
        default_errno_ret=at.number("defaultErrnoRet", UINT32),
        architectures=at.texts("architectures"),
        flags=at.texts("flags") if at.members.get("flags") is not None else None,
        listener_path=at.absolute("listenerPath"),
        listener_metadata=at.text("listenerMetadata"),
        syscalls=at.each("syscalls", _read_syscall),
    )


def _read_syscall(at: Object) -> SeccompSyscall:
    names = at.texts("names")
    if not names:
        raise at.wrong("names", "at least one system call")
    return SeccompSyscall(
        names=names,
        action=at.required_text("action"),
        errno_ret=at.number("errnoRet", UINT32),
        args=read_arguments(at),
    )


def read_arguments(at: Object) -> tuple[SeccompArg, ...]:
    """The conditions `args` of a rule."""
    return at.each("args", _read_argument)


def _read_argument(at: Object) -> SeccompArg:
    return SeccompArg(
        index=at.required_number("index", ARGUMENT),
        value=at.required_number("value", UINT64),
        value_two=at.number("valueTwo", UINT64) or 0,
        op=at.required_text("op"),
    )
