"""Profiles that users give, in the form of docker and podman: the runtime-spec's `seccomp`, with
conditions on capabilities, architecture and kernel that are decided here.
"""

from __future__ import annotations

import errno

from engine.runtime.errors import InvalidConfig
from engine.runtime.seccomp.architectures import runnable
from engine.runtime.spec.model import Seccomp, SeccompSyscall
from engine.runtime.spec.seccomp import read_arguments
from engine.runtime.spec.values import UINT32, Object

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

# uname's word -> what `arches` calls it (Go's word).
_GO_NAMES = {
    "x86_64": "amd64",
    "aarch64": "arm64",
    "riscv64": "riscv64",
    "ppc64le": "ppc64le",
    "s390x": "s390x",
    "loongarch64": "loong64",
}


def resolve_profile(
    document: object, capabilities: Iterable[str], machine: str, kernel: tuple[int, int]
) -> Seccomp:
    """The profile that a JSON `document` describes for a container with `capabilities` in its
    bounding set, on `machine` (uname's word) under `kernel` (major, minor).

    Names of system calls are not looked at here. Raises InvalidConfig naming the place.
    """
    at = Object(document, "seccomp profile")
    resolver = _Resolver(frozenset(capabilities), _GO_NAMES.get(machine, machine), kernel)
    return Seccomp(
        default_action=at.required_text("defaultAction"),
        default_errno_ret=_errno(at, "defaultErrno", "defaultErrnoRet"),
        architectures=_architectures(at, machine),
        flags=at.texts("flags") if at.members.get("flags") is not None else None,
        listener_path=at.absolute("listenerPath"),
        listener_metadata=at.text("listenerMetadata"),
        syscalls=tuple(_rule(one) for one in at.objects("syscalls") if resolver.applies(one)),
    )


def _architectures(at: Object, machine: str) -> tuple[str, ...]:
    """The list of architectures, or what the map says of the native one."""
    listed = at.texts("architectures")
    mapped = {
        one.required_text("architecture"): one.texts("subArchitectures")
        for one in at.objects("archMap")
    }
    if listed and mapped:
        raise InvalidConfig(f"{at.path}: has both architectures and archMap")
    native = runnable(machine)[0].name
    return (native, *mapped[native]) if native in mapped else listed


def _rule(at: Object) -> SeccompSyscall:
    single, names = at.text("name"), at.texts("names")
    if single and names:
        raise InvalidConfig(f"{at.path}: has both name and names")
    if not single and not names:
        raise at.wrong("names", "at least one system call")
    return SeccompSyscall(
        names=names or (single,),
        action=at.required_text("action"),
        errno_ret=_errno(at, "errno", "errnoRet"),
        args=read_arguments(at),
    )


def _errno(at: Object, name: str, number: str) -> int | None:
    """An error number given by name (EPERM, or digits), which goes first, or as a number."""
    text = at.text(name)
    value = at.number(number, UINT32)
    if not text:
        return value
    if text.isascii() and text.isdigit() and len(text) <= 4:
        return int(text)
    known = getattr(errno, text, None) if text.isascii() and text.startswith("E") else None
    if not isinstance(known, int):
        raise at.wrong(name, "the name of an error")
    return known


class _Resolver:
    """Decides `includes` and `excludes` of a rule."""

    def __init__(self, held: frozenset[str], arch: str, kernel: tuple[int, int]) -> None:
        self._held = held
        self._arch = arch
        self._kernel = kernel

    def applies(self, at: Object) -> bool:
        """Whether the rule counts: all of `includes` and nothing of `excludes` is so."""
        excludes, includes = at.object("excludes"), at.object("includes")
        if excludes is not None:
            newest = _version(excludes)
            if (
                self._arch in excludes.texts("arches")
                or self._held.intersection(excludes.texts("caps"))
                or (newest is not None and self._kernel >= newest)
            ):
                return False
        if includes is None:
            return True
        arches, oldest = includes.texts("arches"), _version(includes)
        return (
            (not arches or self._arch in arches)
            and self._held.issuperset(includes.texts("caps"))
            and (oldest is None or self._kernel >= oldest)
        )


def _version(at: Object) -> tuple[int, int] | None:
    """`minKernel`: "4.8"."""
    text = at.text("minKernel")
    if not text:
        return None
    major, _, minor = text.partition(".")
    if not all(part.isascii() and part.isdigit() and len(part) < 6 for part in (major, minor)):
        raise at.wrong("minKernel", "a kernel version such as 4.8")
    return int(major), int(minor)
