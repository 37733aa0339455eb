"""An interpreter of classic BPF as seccomp runs it, and what a profile means, spelled out naively.

The interpreter follows the kernel's checker (kernel/seccomp.c): it refuses what that refuses.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from engine.runtime.spec.model import Seccomp, SeccompArg

ALLOW, ERRNO, KILL_THREAD, KILL_PROCESS = 0x7FFF0000, 0x00050000, 0, 0x80000000
TRAP, TRACE, LOG, NOTIFY = 0x00030000, 0x7FF00000, 0x7FFC0000, 0x7FC00000
X86_64, X86, AARCH64, ARM = 0xC000003E, 0x40000003, 0xC00000B7, 0x40000028
S390X, S390 = 0x80000016, 0x16
VALUES = {
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


@dataclass(frozen=True)
class Call:
    """A system call as a filter sees it."""

    number: int
    token: int = X86_64
    args: tuple[int, ...] = (0, 0, 0, 0, 0, 0)


def run(program: bytes, call: Call, *, big_endian: bool = False) -> int:
    """The value that `program` returns for `call`; AssertionError for an invalid program."""
    order = ">" if big_endian else "<"
    code = list(struct.iter_unpack(order + "HBBI", program))
    assert 0 < len(code) <= 4096
    data = struct.pack(order + "IIQ6Q", call.number, call.token, 0, *call.args)
    accumulator = 0
    at = 0
    while True:
        operation, true, false, value = code[at]
        at += 1
        if operation == 0x20:
            assert value in range(0, 64, 4)
            (accumulator,) = struct.unpack_from(order + "I", data, value)
        elif operation == 0x54:
            accumulator &= value
        elif operation == 0x05:
            at += value
        elif operation == 0x06:
            return int(value)
        else:
            assert operation in (0x15, 0x25, 0x35, 0x45)
            holds = {
                0x15: accumulator == value,
                0x25: accumulator > value,
                0x35: accumulator >= value,
                0x45: bool(accumulator & value),
            }[operation]
            at += true if holds else false


def value_of(action: str, errno_ret: int | None) -> int:
    """An action as a number."""
    value = VALUES[action]
    return value | (1 if errno_ret is None else errno_ret) if value in (ERRNO, TRACE) else value


def holds(arg: SeccompArg, value: int, *, wide: bool) -> bool:
    """Whether a condition holds for an argument's `value`."""
    bits = (1 << 64) - 1 if wide else (1 << 32) - 1
    value, wanted, second = value & bits, arg.value & bits, arg.value_two & bits
    return {
        "SCMP_CMP_NE": value != wanted,
        "SCMP_CMP_LT": value < wanted,
        "SCMP_CMP_LE": value <= wanted,
        "SCMP_CMP_EQ": value == wanted,
        "SCMP_CMP_GE": value >= wanted,
        "SCMP_CMP_GT": value > wanted,
        "SCMP_CMP_MASKED_EQ": value & wanted == second & wanted,
    }[arg.op]


def matches(args: Sequence[SeccompArg], values: Sequence[int], *, wide: bool) -> bool:
    """Whether a rule's conditions hold: all of them, or one where two are about one argument."""
    results = [holds(arg, values[arg.index], wide=wide) for arg in args]
    several = len({arg.index for arg in args}) < len(args)
    return any(results) if several else all(results)


def verdict(profile: Seccomp, names: frozenset[str], values: Sequence[int], *, wide: bool) -> int:
    """What `profile` says of a call that has all of `names`, by reading it from the top."""
    default = value_of(profile.default_action, profile.default_errno_ret)
    rules = [
        (rule.args, value_of(rule.action, rule.errno_ret))
        for rule in profile.syscalls
        for name in rule.names
        if name in names
    ]
    rules = [(args, value) for args, value in rules if value != default]
    for args, value in rules:
        if not args:
            return value
    for args, value in rules:
        if matches(args, values, wide=wide):
            return value
    return default
