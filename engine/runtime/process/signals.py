"""Signals by name and number, the dispositions a program starts with, and exit codes.

Only the interpreter's built-in `_signal` is used: the `signal` module costs 1.7 ms at import,
and reading handlers with it would call into Python.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import os

from engine.runtime.errors import InvalidConfig
from engine.runtime.kernel.processes import default_action

_NAMES = (
    "HUP INT QUIT ILL TRAP ABRT BUS FPE KILL USR1 SEGV USR2 PIPE ALRM TERM STKFLT CHLD CONT STOP "
    "TSTP TTIN TTOU URG XCPU XFSZ VTALRM PROF WINCH IO PWR SYS"
)
NAMES = tuple(_NAMES.split())
"""signal(7) from number 1 on, as on x86 and ARM."""

ALIASES = {"IOT": 6, "CLD": 17, "POLL": 29}
SIGRTMIN, SIGRTMAX = 34, 64
"""As the C libraries count them: 32 and 33 are their own."""

_FIXED = (_signal.SIGKILL, _signal.SIGSTOP)
_LIBC_OWN = (32, 33)


def signal_number(text: str) -> int:
    """The number of a signal given as `SIGTERM`, `term`, `15` or `SIGRTMIN+3`.

    Raises InvalidConfig for anything else, 0 and numbers above 64 among them.
    """
    name = text.upper().removeprefix("SIG")
    if name.isascii() and name.isdecimal():
        number = int(name) if len(name) <= 3 else 0
        if 1 <= number <= SIGRTMAX and not text.upper().startswith("SIG"):
            return number
    elif name in NAMES:
        return NAMES.index(name) + 1
    elif name in ALIASES:
        return ALIASES[name]
    else:
        number = _real_time(name)
        if number:
            return number
    raise InvalidConfig(f"unknown signal {text!r}", hint="give a name such as TERM, or 1 to 64")


def _real_time(name: str) -> int:
    """The number that RTMIN, RTMIN+n, RTMAX or RTMAX-n stands for, else 0."""
    for base, sign, start in (("RTMIN", "+", SIGRTMIN), ("RTMAX", "-", SIGRTMAX)):
        if name == base:
            return start
        digits = name.removeprefix(base + sign)
        if digits != name and digits.isascii() and digits.isdecimal() and len(digits) <= 2:
            number = start + int(digits) if sign == "+" else start - int(digits)
            return number if SIGRTMIN <= number <= SIGRTMAX else 0
    return 0


def signal_name(number: int) -> str:
    """`SIGTERM` for 15, `SIGRTMIN+3` for 37, `signal 32` for what has no name."""
    if 1 <= number <= len(NAMES):
        return f"SIG{NAMES[number - 1]}"
    if SIGRTMIN <= number <= SIGRTMAX:
        offset = number - SIGRTMIN
        return f"SIGRTMIN+{offset}" if offset else "SIGRTMIN"
    return f"signal {number}"


def reset_signals() -> None:
    """Give every signal its default action and block none.

    execve(2) keeps what is ignored, and Python ignores SIGPIPE and SIGXFSZ; a container's
    program that inherits that prints "Broken pipe" where it should end quietly.
    """
    for number in range(1, SIGRTMAX + 1):
        if number in _LIBC_OWN:
            default_action(number)
        elif number not in _FIXED:
            _signal.signal(number, _signal.SIG_DFL)
    _signal.pthread_sigmask(_signal.SIG_SETMASK, ())


def exit_code(status: int) -> int:
    """The exit code for a wait(2) status: the program's own, or 128 and the signal's number.

    Raises ValueError for a process that has not ended.
    """
    if os.WIFEXITED(status):
        return os.WEXITSTATUS(status)
    if os.WIFSIGNALED(status):
        return 128 + os.WTERMSIG(status)
    raise ValueError(f"status {status:#x} is not that of a process that ended")
