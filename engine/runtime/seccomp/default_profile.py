"""The profile of containers that bring none: default_rules.py for one machine and one set of
capabilities.

Beyond its source it refuses AF_ALG sockets on every way in (CVE-2026-31431), compares socket
arguments as the kernel reads them (as int: the upper half of a register changes nothing), and
answers what it refuses by family as it answers unknown calls (ENOSYS).
"""

from __future__ import annotations

from engine.runtime.seccomp.architectures import runnable
from engine.runtime.seccomp.default_rules import (
    ALLOWED,
    ENTERING,
    GATED,
    OF_MACHINE,
    PERSONALITIES,
    REFUSED,
    TRACING,
    TRACING_SINCE,
)
from engine.runtime.spec.model import Seccomp, SeccompArg, SeccompSyscall

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_ALLOW, _ERRNO = "SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO"
_EPERM, _EINVAL, _ENOSYS = 1, 22, 38
AF_NETLINK, AF_ALG, AF_VSOCK = 16, 38, 40
NETLINK_AUDIT = 9
SYS_SOCKET = 1  # what socketcall(2) calls socket(2)
_INT = 0xFFFFFFFF


def default_profile(
    capabilities: Iterable[str],
    machine: str,
    kernel: tuple[int, int],
    *,
    allow_socketcall: bool = False,
) -> Seccomp:
    """The profile for a container with `capabilities` in its bounding set (CAP_... names), on
    `machine` (uname's word) under `kernel` (major, minor).

    socketcall(2), by which most 32-bit programs for i386 make sockets, hides the family in
    memory. Without `allow_socketcall` it makes no new socket (ENOSYS: newer C libraries then
    call socket(2)); with it AF_ALG is open to 32-bit programs.

    Raises Unsupported for a machine without tables.
    """
    held = frozenset(capabilities)
    allowed = [*" ".join(ALLOWED).split(), ENTERING, *OF_MACHINE.get(machine, "").split()]
    refused = REFUSED.split()
    if kernel >= TRACING_SINCE:
        allowed.append(TRACING)
    else:
        refused.append(TRACING)
    if allow_socketcall:
        allowed.append("socketcall")
    for names, needed in GATED:
        (allowed if held.intersection(needed) else refused).extend(names.split())
    rules = [
        SeccompSyscall(names=tuple(allowed), action=_ALLOW),
        SeccompSyscall(names=tuple(refused), action=_ERRNO, errno_ret=_EPERM),
    ]
    rules += [_when("personality", SeccompArg(index=0, value=one)) for one in PERSONALITIES]
    rules += _sockets(audit="CAP_AUDIT_WRITE" in held)
    if not allow_socketcall:
        other = SeccompArg(index=0, value=SYS_SOCKET, op="SCMP_CMP_NE")
        rules.append(_when("socketcall", other))
    return Seccomp(
        default_action=_ERRNO,
        default_errno_ret=_ENOSYS,
        architectures=tuple(one.name for one in runnable(machine)),
        syscalls=tuple(rules),
    )


def _when(name: str, *args: SeccompArg) -> SeccompSyscall:
    return SeccompSyscall(names=(name,), action=_ALLOW, args=args)


def _sockets(*, audit: bool) -> Iterator[SeccompSyscall]:
    """Rules for socket(2): every family but AF_ALG and AF_VSOCK, netlink but its audit.

    No two of them can both hold, so that they mean the same in any order and to libseccomp,
    which knows none. EINVAL is what tells audit libraries that there is no audit.
    """
    if audit:
        yield from (_when("socket", one) for one in _others(0, AF_ALG, AF_VSOCK))
        return
    netlink = _equal(0, AF_NETLINK)
    for protocol in _others(2, NETLINK_AUDIT):
        yield _when("socket", netlink, protocol)
    for family in _others(0, AF_ALG, AF_VSOCK, AF_NETLINK):
        yield _when("socket", family)
    yield SeccompSyscall(
        names=("socket",),
        action=_ERRNO,
        errno_ret=_EINVAL,
        args=(netlink, _equal(2, NETLINK_AUDIT)),
    )


def _equal(index: int, value: int) -> SeccompArg:
    """Argument `index` is `value` as an int."""
    return SeccompArg(index=index, value=_INT, value_two=value, op="SCMP_CMP_MASKED_EQ")


def _others(
    index: int, *excluded: int, bit: int = 5, mask: int = _INT & ~63, value: int = 0
) -> Iterator[SeccompArg]:
    """Conditions of which one holds if argument `index`, as an int, is below 64 and none of
    `excluded`: the profile has no "not this and not that" for one argument.

    The numbers are halved bit by bit until a half holds nothing that is excluded.
    """
    inside = [one for one in excluded if one & mask == value]
    if not inside:
        yield SeccompArg(index=index, value=mask, value_two=value, op="SCMP_CMP_MASKED_EQ")
    elif bit >= 0:
        for half in (0, 1 << bit):
            yield from _others(
                index, *inside, bit=bit - 1, mask=mask | 1 << bit, value=value | half
            )
