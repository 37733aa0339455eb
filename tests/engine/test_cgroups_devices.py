"""Device rules: what a program or list decides is what the sequence of rules says.

A reference reads the rules one by one as config-linux.md tells; an interpreter of the few eBPF
instructions that occur runs the programs, and another one plays the kernel's list.
"""

from __future__ import annotations

import struct

import hypothesis
import pytest
from hypothesis import strategies

from engine.runtime.cgroups.devices import (
    ALWAYS_ALLOWED,
    allows_everything,
    device_list,
    device_program,
    effective_rules,
    letters,
    line,
)
from engine.runtime.cgroups.model import DeviceList
from engine.runtime.errors import InvalidConfig, Unsupported
from engine.runtime.spec.model import DeviceRule

BITS = {"m": 1, "r": 2, "w": 4}
Request = tuple[str, int, int, int]

numbers = strategies.none() | strategies.integers(min_value=0, max_value=2)
rules_lists = strategies.lists(
    strategies.builds(
        DeviceRule,
        allow=strategies.booleans(),
        type=strategies.sampled_from("abc"),
        major=numbers,
        minor=numbers,
        access=strategies.sampled_from(["r", "w", "m", "rw", "rm", "wm", "rwm"]),
    ),
    max_size=6,
).map(tuple)
requests = strategies.tuples(
    strategies.sampled_from("bc"),
    strategies.integers(min_value=0, max_value=3),
    strategies.integers(min_value=0, max_value=3),
    strategies.integers(min_value=1, max_value=7),
)


def allowed_by_rules(rules: tuple[DeviceRule, ...], request: Request) -> bool:
    """The reference: for each kind of access the last rule that names it decides."""
    kind, major, minor, access = request
    for bit in (1, 2, 4):
        verdict = False
        for rule in rules:
            named = any(BITS[letter] == bit for letter in rule.access)
            device = rule.major in (None, major) and rule.minor in (None, minor)
            if rule.type in ("a", kind) and device and named:
                verdict = rule.allow
        if access & bit and not verdict:
            return False
    return True


def run(program: bytes, request: Request) -> bool:
    """What the kernel answers: the program on the context of the request."""
    kind, major, minor, access = request
    context = {0: access << 16 | {"b": 1, "c": 2}[kind], 4: major, 8: minor}
    registers = [0] * 11
    position = 0
    while True:
        code, pair, offset, value = struct.unpack_from("=BBhi", program, position * 8)
        target, source = pair & 15, pair >> 4
        position += 1
        match code:
            case 0x61:
                registers[target] = context[offset]
            case 0xB7:
                registers[target] = value
            case 0xBF:
                registers[target] = registers[source]
            case 0x54:
                registers[target] &= value
            case 0x74:
                registers[target] >>= value
            case 0x15:
                position += offset if registers[target] == value else 0
            case 0x55:
                position += offset if registers[target] != value else 0
            case 0x95:
                return registers[0] == 1
            case _:
                raise AssertionError(f"opcode {code:#x}")


def allowed_by_list(devices: DeviceList, request: Request) -> bool:
    """The kernel's list of version 1 (devices.rst): an allowing exception has to cover the whole
    request, a denying one only to meet it."""
    kind, major, minor, access = request
    for one in devices.exceptions:
        covered = sum(BITS[letter] for letter in one.access)
        if one.type != kind or one.major not in (None, major) or one.minor not in (None, minor):
            continue
        if devices.allow and access & covered:
            return False
        if not devices.allow and not access & ~covered:
            return True
    return devices.allow


@hypothesis.settings(max_examples=400)
@hypothesis.given(rules_lists, requests)
def test_program_decides_as_the_rules(rules: tuple[DeviceRule, ...], request: Request) -> None:
    """Each rule with its exact meaning, holes in wider rules too."""
    assert run(device_program(rules), request) == allowed_by_rules(rules, request)


@hypothesis.settings(max_examples=200)
@hypothesis.given(rules_lists, requests)
def test_moot_rules_are_left_out_without_a_difference(
    rules: tuple[DeviceRule, ...], request: Request
) -> None:
    """What comes before a rule for everything does not count."""
    effective = effective_rules(rules)
    always = () if allows_everything(effective) else ALWAYS_ALLOWED
    assert allowed_by_rules(effective, request) == allowed_by_rules((*rules, *always), request)


@hypothesis.settings(max_examples=400)
@hypothesis.given(rules_lists, requests)
def test_list_decides_as_the_rules_or_is_refused(
    rules: tuple[DeviceRule, ...], request: Request
) -> None:
    """For one kind of access: the kernel's list does not add up those of several exceptions."""
    try:
        devices = device_list(rules)
    except Unsupported:
        return
    kind, major, minor, access = request
    lowest = (kind, major, minor, access & -access)
    assert allowed_by_list(devices, lowest) == allowed_by_rules(rules, lowest)


def test_always_allowed_devices_are_those_of_runc() -> None:
    """A container that denies everything has the standard devices, and may make any node."""
    effective = effective_rules((DeviceRule(allow=False),))
    program = device_program(effective)
    allowed = [("c", 1, 3), ("c", 1, 5), ("c", 1, 7), ("c", 1, 8), ("c", 1, 9)]
    allowed += [("c", 5, 0), ("c", 5, 2), ("c", 136, 77), ("c", 10, 200)]
    assert all(run(program, (*device, 7)) for device in allowed)
    assert run(program, ("b", 8, 0, 1))
    for device in (("b", 8, 0), ("c", 1, 1), ("c", 1, 11), ("c", 5, 1), ("c", 10, 229)):
        assert not run(program, (*device, 2))
        assert not run(program, (*device, 4))
    assert device_list(effective).allow is False


def test_no_rules_are_the_default_devices() -> None:
    """As with runc: what nobody allowed is denied."""
    assert not run(device_program(effective_rules(())), ("b", 8, 0, 2))


def test_privileged_is_no_filter_at_all() -> None:
    """One rule that allows everything."""
    assert allows_everything(effective_rules((DeviceRule(allow=False), DeviceRule(allow=True))))
    rules = effective_rules((DeviceRule(allow=True), DeviceRule(allow=False, type="b", major=8)))
    assert not allows_everything(rules)
    assert device_list(rules).allow


def test_a_hole_in_a_wider_exception_is_refused_under_version_1() -> None:
    """The kernel would ignore the rule, and the device stay open."""
    rules = (
        DeviceRule(allow=True, type="c", major=1),
        DeviceRule(allow=False, type="c", major=1, minor=11),
    )
    with pytest.raises(Unsupported, match=r"c 1:11 rwm .* c 1:\* rwm"):
        device_list(rules)
    assert not run(device_program(rules), ("c", 1, 11, 2))
    assert run(device_program(rules), ("c", 1, 3, 6))


@pytest.mark.parametrize(("major", "minor"), [(4096, None), (None, 1 << 20)])
def test_numbers_that_no_device_has(major: int | None, minor: int | None) -> None:
    """They would be cut in an instruction."""
    with pytest.raises(InvalidConfig, match="no device number"):
        effective_rules((DeviceRule(allow=True, type="c", major=major, minor=minor),))


def test_too_many_rules() -> None:
    """A program has a size limit in the kernel; ours comes first."""
    rule = DeviceRule(allow=True, type="c", major=1)
    assert len(effective_rules((rule,) * 2048)) > 2048
    with pytest.raises(InvalidConfig, match="2048"):
        effective_rules((rule,) * 2049)


def test_lines_of_the_list() -> None:
    """As devices.allow takes them."""
    assert line("c", 1, None, 7) == "c 1:* rwm"
    assert line("b", None, None, "m") == "b *:* m"
    assert letters(5) == "wm"
