"""The words of `linux.seccomp` and their numbers: actions, comparisons, flags.

Values are those of linux/seccomp.h; what a profile may say is in the runtime-spec's
config-linux.md, and where it leaves a choice we follow runc, as profiles are tested with it.
"""

from __future__ import annotations

from engine.runtime.errors import InvalidConfig
from engine.runtime.seccomp.filter import (
    FLAG_LOG,
    FLAG_SPEC_ALLOW,
    FLAG_TSYNC,
    FLAG_WAIT_KILLABLE_RECV,
)
from engine.runtime.spec.model import SeccompArg

KILL_PROCESS, KILL_THREAD, TRAP, ERRNO = 0x80000000, 0x00000000, 0x00030000, 0x00050000
NOTIFY, TRACE, LOG, ALLOW = 0x7FC00000, 0x7FF00000, 0x7FFC0000, 0x7FFF0000
ACTION_MASK = 0xFFFF0000
EPERM, ENOSYS = 1, 38
MAX_ERRNO = 4095

ACTIONS = {
    "SCMP_ACT_KILL": KILL_THREAD,
    "SCMP_ACT_KILL_THREAD": KILL_THREAD,
    "SCMP_ACT_KILL_PROCESS": KILL_PROCESS,
    "SCMP_ACT_TRAP": TRAP,
    "SCMP_ACT_ERRNO": ERRNO,
    "SCMP_ACT_TRACE": TRACE,
    "SCMP_ACT_ALLOW": ALLOW,
    "SCMP_ACT_LOG": LOG,
    "SCMP_ACT_NOTIFY": NOTIFY,
}
FLAGS = {
    "SECCOMP_FILTER_FLAG_TSYNC": FLAG_TSYNC,
    "SECCOMP_FILTER_FLAG_LOG": FLAG_LOG,
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW": FLAG_SPEC_ALLOW,
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV": FLAG_WAIT_KILLABLE_RECV,
}
OPERATORS = (
    "SCMP_CMP_NE",
    "SCMP_CMP_LT",
    "SCMP_CMP_LE",
    "SCMP_CMP_EQ",
    "SCMP_CMP_GE",
    "SCMP_CMP_GT",
    "SCMP_CMP_MASKED_EQ",
)
# The kernel's order, strictest first: of several filters the strictest verdict counts.
STRICTNESS = (KILL_PROCESS, KILL_THREAD, TRAP, ERRNO, NOTIFY, TRACE, LOG, ALLOW)


def action_value(name: str, errno_ret: int | None, where: str) -> int:
    """The value a filter returns for SCMP_ACT_... `name`; `where` is how errors call its place.

    ERRNO and TRACE carry a number, EPERM if none is given; with any other action a number is
    an error (runtime-spec: the runtime MUST fail).
    """
    action = ACTIONS.get(name)
    if action is None:
        raise InvalidConfig(f"{where}: {name or 'an empty name'} is not an action")
    if action not in (ERRNO, TRACE):
        if errno_ret is not None:
            raise InvalidConfig(f"{where}: {name} takes no errno")
        return action
    highest = MAX_ERRNO if action == ERRNO else 0xFFFF
    number = EPERM if errno_ret is None else errno_ret
    if not 0 <= number <= highest:
        raise InvalidConfig(f"{where}: {number} is no errno (0 to {highest})")
    return action | number


def strictness(value: int) -> int:
    """Where an action's value stands in STRICTNESS; 0 is the strictest."""
    return STRICTNESS.index(value & ACTION_MASK)


def flags_value(names: tuple[str, ...]) -> int:
    """The bits of SECCOMP_FILTER_FLAG_... names; an unknown one is an error."""
    value = 0
    for name in names:
        if name not in FLAGS:
            raise InvalidConfig(f"linux.seccomp.flags: {name} is not a known flag")
        value |= FLAGS[name]
    return value


def check_argument(arg: SeccompArg, where: str) -> SeccompArg:
    """`arg` if its index, operator and values are possible."""
    if not 0 <= arg.index <= 5:
        raise InvalidConfig(f"{where}: argument {arg.index} does not exist (0 to 5)")
    if arg.op not in OPERATORS:
        raise InvalidConfig(f"{where}: {arg.op or 'an empty name'} is not an operator")
    if not (0 <= arg.value < 1 << 64 and 0 <= arg.value_two < 1 << 64):
        raise InvalidConfig(f"{where}: a value is not an unsigned number of 64 bits")
    return arg
