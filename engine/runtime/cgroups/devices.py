"""Device rules: the list of cgroup version 1 and the eBPF filter of cgroup2 that they come to.

Pure. `linux.resources.devices` is a sequence in which later rules win, each for the kinds of
access it names; before the first everything is denied, and after the last come the devices every
container has. Source: config-linux.md "Allowed Device list"; the kernel's devices.rst and
include/uapi/linux/bpf.h.
"""

from __future__ import annotations

import struct

from engine.runtime.cgroups.model import DeviceException, DeviceList
from engine.runtime.errors import InvalidConfig, Unsupported
from engine.runtime.spec.model import DeviceRule

MAX_RULES = 2048
MAX_MAJOR, MAX_MINOR = (1 << 12) - 1, (1 << 20) - 1

# What runc allows every container: making any node (which alone opens nothing), the standard
# devices, pseudo-terminals, and /dev/net/tun.
ALWAYS_ALLOWED = (
    DeviceRule(allow=True, type="c", access="m"),
    DeviceRule(allow=True, type="b", access="m"),
    *(
        DeviceRule(allow=True, type="c", major=major, minor=minor)
        for major, minor in (
            (1, 3),
            (1, 5),
            (1, 7),
            (1, 8),
            (1, 9),
            (5, 0),
            (5, 2),
            (136, None),
            (10, 200),
        )
    ),
)

_BITS = {"m": 1, "r": 2, "w": 4}
_TYPES = {"b": 1, "c": 2}
_ALL = 7

# eBPF: opcodes, and registers by what they hold (r1 is the context when the program begins).
_LOAD_WORD, _MOVE, _MOVE_REGISTER, _AND, _SHIFT_RIGHT = 0x61, 0xB7, 0xBF, 0x54, 0x74
_JUMP_EQUAL, _JUMP_NOT_EQUAL, _EXIT = 0x15, 0x55, 0x95
_RESULT, _CONTEXT, _TYPE, _ACCESS, _MAJOR, _MINOR = 0, 1, 2, 3, 4, 5


def effective_rules(rules: tuple[DeviceRule, ...]) -> tuple[DeviceRule, ...]:
    """`rules` and what every container has, without those that a later rule for everything makes
    moot. Raises InvalidConfig for numbers that no device has and for too many rules."""
    if len(rules) > MAX_RULES:
        raise InvalidConfig(f"linux.resources.devices: more than {MAX_RULES} rules")
    for rule in rules:
        if (rule.major or 0) > MAX_MAJOR or (rule.minor or 0) > MAX_MINOR:
            raise InvalidConfig(
                f"linux.resources.devices: {rule.major}:{rule.minor} is no device number"
            )
    last = max((n for n, rule in enumerate(rules) if _is_everything(rule)), default=0)
    kept = rules[last:]
    if kept and _is_everything(kept[-1]) and kept[-1].allow:
        return kept
    return (*kept, *ALWAYS_ALLOWED)


def _is_everything(rule: DeviceRule) -> bool:
    """Whether the rule is for all devices; "a" with numbers is for those of either type."""
    everywhere = rule.type == "a" and rule.major is None and rule.minor is None
    return everywhere and _access(rule) == _ALL


def _access(rule: DeviceRule) -> int:
    return sum(_BITS[letter] for letter in set(rule.access))


def allows_everything(rules: tuple[DeviceRule, ...]) -> bool:
    """Whether `effective_rules` restrict nothing."""
    return all(rule.allow for rule in rules) and any(map(_is_everything, rules))


def device_list(rules: tuple[DeviceRule, ...]) -> DeviceList:
    """What `effective_rules` come to under version 1.

    Raises Unsupported where a rule takes a part out of a wider exception: the kernel's list
    cannot say that, and would ignore the rule.
    """
    allow = False
    held: dict[tuple[str, int | None, int | None], int] = {}
    for rule in rules:
        if _is_everything(rule):
            allow, held = rule.allow, {}
            continue
        for kind in "bc" if rule.type == "a" else rule.type:
            key = (kind, rule.major, rule.minor)
            if rule.allow != allow:
                held[key] = held.get(key, 0) | _access(rule)
            else:
                _remove(held, key, _access(rule))
    return DeviceList(
        allow=allow,
        exceptions=tuple(
            DeviceException(type=kind, major=major, minor=minor, access=letters(access))
            for (kind, major, minor), access in held.items()
        ),
    )


def _remove(
    held: dict[tuple[str, int | None, int | None], int],
    key: tuple[str, int | None, int | None],
    access: int,
) -> None:
    kind, major, minor = key
    for other, bits in list(held.items()):
        if other[0] != kind or not bits & access:
            continue
        if major in (None, other[1]) and minor in (None, other[2]):
            held[other] = bits & ~access
            if not held[other]:
                del held[other]
        elif _meet(other[1], major) and _meet(other[2], minor):
            raise Unsupported(
                f"linux.resources.devices: the rule for {line(kind, major, minor, access)} takes a"
                f" part out of {line(*other, bits)}, which cgroup version 1 cannot express"
            )


def _meet(one: int | None, other: int | None) -> bool:
    return one is None or other is None or one == other


def letters(access: int) -> str:
    """The kinds of access as the kernel writes them, in the order rwm."""
    return "".join(letter for letter in "rwm" if access & _BITS[letter])


def line(kind: str, major: int | None, minor: int | None, access: int | str) -> str:
    """A line of devices.allow: "c 1:3 rwm", with * for None."""
    text = access if isinstance(access, str) else letters(access)
    numbers = ("*" if number is None else str(number) for number in (major, minor))
    return f"{kind} {':'.join(numbers)} {text}"


def device_program(rules: tuple[DeviceRule, ...]) -> bytes:
    """The program for BPF_PROG_TYPE_CGROUP_DEVICE that decides as `effective_rules`.

    It goes through the rules from the last to the first and keeps, in one register, the kinds of
    access that no rule has decided: an allowing rule takes away its own, a denying one that meets
    any ends the program; what no rule decided is denied. Every rule has its exact meaning so.
    """
    code = bytearray()
    code += _instruction(_LOAD_WORD, _TYPE, _CONTEXT, 0)
    code += _instruction(_AND, _TYPE, value=0xFFFF)
    code += _instruction(_LOAD_WORD, _ACCESS, _CONTEXT, 0)
    code += _instruction(_SHIFT_RIGHT, _ACCESS, value=16)
    code += _instruction(_LOAD_WORD, _MAJOR, _CONTEXT, 4)
    code += _instruction(_LOAD_WORD, _MINOR, _CONTEXT, 8)
    for rule in reversed(rules):
        code += _rule(rule)
    code += _verdict(0)
    return bytes(code)


def _rule(rule: DeviceRule) -> bytes:
    tests = []
    if rule.type != "a":
        tests.append((_TYPE, _TYPES[rule.type]))
    if rule.major is not None:
        tests.append((_MAJOR, rule.major))
    if rule.minor is not None:
        tests.append((_MINOR, rule.minor))
    access = _access(rule)
    if rule.allow:
        body = _instruction(_AND, _ACCESS, value=_ALL & ~access)
        body += _instruction(_JUMP_NOT_EQUAL, _ACCESS, offset=2)
        body += _verdict(1)
    else:
        body = _instruction(_MOVE_REGISTER, _RESULT, _ACCESS)
        body += _instruction(_AND, _RESULT, value=access)
        body += _instruction(_JUMP_EQUAL, _RESULT, offset=2)
        body += _verdict(0)
    code = b""
    for number, (register, value) in enumerate(tests):
        beyond = len(tests) - number - 1 + len(body) // 8
        code += _instruction(_JUMP_NOT_EQUAL, register, offset=beyond, value=value)
    return code + body


def _verdict(result: int) -> bytes:
    return _instruction(_MOVE, _RESULT, value=result) + _instruction(_EXIT)


def _instruction(
    opcode: int, target: int = 0, source: int = 0, offset: int = 0, value: int = 0
) -> bytes:
    return struct.pack("=BBhi", opcode, target | source << 4, offset, value)
