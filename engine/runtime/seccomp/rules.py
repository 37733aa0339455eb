"""What a profile says about each system call number of one architecture.

The order of rules matters little in practice, but it has to mean something: a rule without
conditions decides alone, wherever it stands (the first of several), and otherwise the first
rule whose conditions all hold. A rule whose action is the default one is left out, as runc and
libseccomp do. Two conditions on one argument in one rule are alternatives (runc's rule).

Some architectures reach the socket and IPC calls also through `socketcall` and `ipc`, where the
real arguments are in memory that a filter cannot read. A rule for `socket` counts for
`socketcall(SYS_SOCKET)` too if it has no conditions, or if it is stricter than the default:
what cannot be checked is refused rather than let through.
"""

from __future__ import annotations

from engine.runtime.errors import InvalidConfig
from engine.runtime.seccomp.actions import (
    ACTION_MASK,
    ALLOW,
    ENOSYS,
    ERRNO,
    LOG,
    NOTIFY,
    TRACE,
    action_value,
    check_argument,
    strictness,
)
from engine.runtime.seccomp.architectures import Architecture
from engine.runtime.spec.model import Seccomp, SeccompArg, SeccompSyscall

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    Conditions = tuple[SeccompArg, ...]
    Choice = tuple[tuple[Conditions, int], ...]  # first match; a last one without conditions

_MULTIPLEXED = {
    "socketcall": (
        0xFFFFFFFF,
        "- socket bind connect listen accept getsockname getpeername socketpair send recv sendto"
        " recvfrom shutdown setsockopt getsockopt sendmsg recvmsg accept4 recvmmsg sendmmsg",
    ),
    # The upper half of ipc's first argument is a version.
    "ipc": (
        0xFFFF,
        "- semop semget semctl semtimedop - - - - - - msgsnd msgrcv msgget msgctl - - - - - -"
        " shmat shmdt shmget shmctl",
    ),
}
# arm's private calls lie far above all others and say nothing about how new a profile is.
_HIGHEST_ORDINARY = 0xFFFF


class Rule(SeccompSyscall):
    """A rule of a profile with `value`, its action as a filter returns it."""

    value: int


def default_value(profile: Seccomp) -> int:
    """The value of the default action, which may not be NOTIFY: nothing could run then."""
    where = "linux.seccomp.defaultAction"
    value = action_value(profile.default_action, profile.default_errno_ret, where)
    if value == NOTIFY:
        raise InvalidConfig(f"{where}: SCMP_ACT_NOTIFY cannot be the default")
    return value


def checked_rules(profile: Seccomp) -> tuple[Rule, ...]:
    """The rules of `profile`, each looked over; raises InvalidConfig naming the place."""
    found = []
    for number, rule in enumerate(profile.syscalls):
        where = f"linux.seccomp.syscalls[{number}]"
        if not rule.names or not all(rule.names):
            raise InvalidConfig(f"{where}: a system call without a name")
        value = action_value(rule.action, rule.errno_ret, where)
        if value == NOTIFY and "write" in rule.names:
            # The init tells its creator of the listener by write(2), after the filter is on.
            raise InvalidConfig(f"{where}: SCMP_ACT_NOTIFY cannot be used for write")
        for arg in rule.args:
            check_argument(arg, where)
        found.append(Rule(**rule.__dict__, value=value))
    return tuple(found)


def alternatives(args: tuple[SeccompArg, ...]) -> tuple[Conditions, ...]:
    """The sets of conditions of which one has to hold as a whole."""
    if len({arg.index for arg in args}) < len(args):
        return tuple((arg,) for arg in args)
    return (args,)


def choices(
    rules: tuple[Rule, ...], default: int, names: Mapping[str, int], architecture: Architecture
) -> dict[int, Choice]:
    """The numbers of `architecture` about which the rules say something other than `default`.

    `names` is its table. Numbers carry the architecture's offset.
    """
    always: dict[int, int] = {}
    conditional: dict[int, list[tuple[Conditions, int]]] = {}
    multiplexed = _multiplexed(names)
    for rule in rules:
        if rule.value == default:
            continue
        for name in rule.names:
            number = names.get(name)
            if number is not None:
                if not rule.args:
                    always.setdefault(number, rule.value)
                for conditions in alternatives(rule.args):
                    conditional.setdefault(number, []).append((conditions, rule.value))
            checkable = not rule.args or strictness(rule.value) < strictness(default)
            if name in multiplexed and checkable:
                number, condition = multiplexed[name]
                conditional.setdefault(number, []).append(((condition,), rule.value))
    return {
        number + architecture.offset: (
            (((), always[number]),) if number in always else (*found, ((), default))
        )
        for number, found in conditional.items()
    }


def _multiplexed(names: Mapping[str, int]) -> dict[str, tuple[int, SeccompArg]]:
    """Call -> (number of the call it hides in, condition that it is meant)."""
    found = {}
    for carrier, (mask, calls) in _MULTIPLEXED.items():
        if carrier in names:
            for code, name in enumerate(calls.split()):
                condition = SeccompArg(index=0, value=mask, value_two=code, op="SCMP_CMP_MASKED_EQ")
                found[name] = (names[carrier], condition)
    found.pop("-", None)
    return found


def newest_known(rules: tuple[Rule, ...], names: Mapping[str, int]) -> int | None:
    """The highest number that the rules name, whatever they say of it; None if they name none."""
    numbers = [names[name] for rule in rules for name in rule.names if name in names]
    return max([n for n in numbers if n <= _HIGHEST_ORDINARY], default=None)


def hides_new_calls(default: int) -> bool:
    """Whether calls newer than the profile are answered ENOSYS instead of by `default`.

    A C library asks by calling: with EPERM it would give up where with ENOSYS it takes the
    older call. runc's rule; defaults that let calls happen stay as they are.
    """
    return default & ACTION_MASK not in (ALLOW, LOG, TRACE) and default != ERRNO | ENOSYS
