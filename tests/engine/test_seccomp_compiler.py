"""Compiled filters say what the profile says: by an interpreter, for profiles that hypothesis
invents and for each case of the specification."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.runtime.errors import InvalidConfig, Unsupported
from engine.runtime.seccomp.architectures import RUNNABLE, X32_BIT, Architecture
from engine.runtime.seccomp.assembler import JEQ, JGE, Assembler
from engine.runtime.seccomp.compiler import compile_profile
from engine.runtime.seccomp.filter import Filter
from engine.runtime.seccomp.tables import TABLES, numbers
from engine.runtime.spec.model import Seccomp, SeccompArg, SeccompSyscall
from tests.engine import bpf
from tests.engine.bpf import ALLOW, ERRNO, KILL_THREAD, NOTIFY, TRACE, Call, run

NATIVE = numbers("x86_64")
ALL_X86 = ("SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32")
# Without the calls that also have a way through socketcall and ipc: those have their own tests.
PLAIN = ("read", "write", "open", "close", "mkdir", "clone", "prctl", "ioctl", "openat", "chown")


def rule(
    name: str, action: str = "SCMP_ACT_ALLOW", *args: SeccompArg, errno: int | None = None
) -> SeccompSyscall:
    """A rule about one call."""
    return SeccompSyscall(names=(name,), action=action, errno_ret=errno, args=args)


def condition(index: int, op: str, value: int, value_two: int = 0) -> SeccompArg:
    """A condition, without the prefix of its operator."""
    return SeccompArg(index=index, op=f"SCMP_CMP_{op}", value=value, value_two=value_two)


def denying(*rules: SeccompSyscall, architectures: tuple[str, ...] = ()) -> Seccomp:
    """A profile that refuses with EPERM what no rule admits."""
    return Seccomp(default_action="SCMP_ACT_ERRNO", architectures=architectures, syscalls=rules)


def built(*rules: SeccompSyscall, architectures: tuple[str, ...] = ()) -> bytes:
    """The program of `denying` for x86_64."""
    return compile_profile(denying(*rules, architectures=architectures), "x86_64").program


def answer(compiled: Filter, name: str, *args: int) -> int:
    """The filter's answer to a native call."""
    return run(compiled.program, Call(NATIVE[name], args=(args + (0,) * 6)[:6]))


WORDS = st.sampled_from((0, 1, 2, 38, 0xFFFFFFFF, 1 << 32, (1 << 32) + 1, (1 << 64) - 1))
CONDITIONS = st.builds(
    condition,
    st.integers(0, 5),
    st.sampled_from(("NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ")),
    WORDS | st.integers(0, (1 << 64) - 1),
    WORDS,
)
ACTIONS = st.sampled_from(
    [(name, None) for name in bpf.VALUES if name != "SCMP_ACT_NOTIFY"]
    + [("SCMP_ACT_ERRNO", 0), ("SCMP_ACT_ERRNO", 4095), ("SCMP_ACT_TRACE", 7)]
)
RULES = st.builds(
    lambda names, action, args: SeccompSyscall(
        names=tuple(names), action=action[0], errno_ret=action[1], args=tuple(args)
    ),
    st.lists(st.sampled_from((*PLAIN, "no_such_call")), min_size=1, max_size=4),
    ACTIONS,
    st.lists(CONDITIONS, max_size=3),
)
PROFILES = st.builds(
    lambda default, rules, architectures: Seccomp(
        default_action=default[0],
        default_errno_ret=default[1],
        architectures=tuple(architectures),
        syscalls=tuple(rules),
    ),
    ACTIONS,
    st.lists(RULES, max_size=12),
    st.lists(st.sampled_from((*ALL_X86, "SCMP_ARCH_ARM", "SCMP_ARCH_S390")), unique=True),
)


def expected(
    profile: Seccomp, architecture: Architecture, number: int, args: tuple[int, ...]
) -> int:
    """The naive answer, with the call's own rules and the one about calls that are too new."""
    table = numbers(architecture.table)
    default = bpf.value_of(profile.default_action, profile.default_errno_ret)
    known = [table[n] for r in profile.syscalls for n in r.names if n in table]
    known = [n for n in known if n <= 0xFFFF]
    names = frozenset(name for name, n in table.items() if n == number)
    said = any(n in names for r in profile.syscalls for n in r.names)
    hidden = default & 0xFFFF0000 not in (ALLOW, TRACE, bpf.LOG) and default != ERRNO | 38
    if hidden and known and number > max(known) and not said:
        return ERRNO | 38
    if hidden and number == 0 and architecture.table in ("s390", "s390x"):
        return ERRNO | 38
    return bpf.verdict(profile, names, args, wide=architecture.wide)


CALLS = st.lists(
    st.tuples(st.sampled_from(PLAIN), st.lists(WORDS, min_size=6, max_size=6)), max_size=20
)


@settings(max_examples=150, deadline=None)
@given(
    PROFILES,
    st.sampled_from(sorted(RUNNABLE)),
    st.lists(
        st.tuples(st.sampled_from(PLAIN), st.lists(WORDS, min_size=6, max_size=6)), max_size=20
    ),
    st.integers(0, 600),
)
def test_a_filter_answers_as_the_profile_reads(
    profile: Seccomp, machine: str, calls: list[tuple[str, list[int]]], number: int
) -> None:
    """Every architecture of every machine, with calls that rules name and others."""
    compiled = compile_profile(profile, machine)
    native = RUNNABLE[machine][0]
    for architecture in RUNNABLE[machine]:
        table = numbers(architecture.table)
        asked = [(table[name], tuple(args)) for name, args in calls if name in table]
        for nr, args in [*asked, (number, (0,) * 6)]:
            call = Call(nr + architecture.offset, architecture.token, args)
            got = run(compiled.program, call, big_endian=native.big_endian)
            if architecture is native or architecture.name in profile.architectures:
                assert got == expected(profile, architecture, nr, args)
            else:
                assert got == KILL_THREAD


def test_every_number_of_a_large_profile_is_right() -> None:
    """More rules than one conditional jump reaches over."""
    names = sorted(NATIVE)
    rules = [
        rule(name, "SCMP_ACT_ERRNO", condition(0, "EQ", n << 33), errno=n % 200)
        for n, name in enumerate(names)
        if n % 2
    ]
    profile = Seccomp(default_action="SCMP_ACT_ALLOW", syscalls=tuple(rules))
    compiled = compile_profile(profile, "x86_64")
    assert len(compiled.program) > 8 * 700
    for n, name in enumerate(names):
        assert answer(compiled, name, n << 33) == (ERRNO | n % 200 if n % 2 else ALLOW)
        assert answer(compiled, name, 1) == ALLOW


def test_a_profile_larger_than_the_kernel_takes_is_refused() -> None:
    """BPF_MAXINSNS is 4096."""
    many = [rule("read", "SCMP_ACT_LOG", condition(0, "EQ", n)) for n in range(2000)]
    with pytest.raises(Unsupported, match="4096"):
        compile_profile(denying(*many), "x86_64")


@given(st.lists(st.integers(0, 600), min_size=2, max_size=60))
def test_far_jumps_get_stepping_stones(gaps: list[int]) -> None:
    """Whatever lies between a jump and its target."""
    assembler = Assembler()
    entry = assembler.finish(0)
    for number, gap in enumerate(gaps):
        for _ in range(min(gap, 1200 // len(gaps))):
            assembler.load(0, assembler.finish(9))
        value = assembler.finish(number + 1)
        entry = assembler.branch(JEQ, number, value, entry)
    assembler.load(0, entry)
    program = assembler.program(big_endian=False)
    for number in range(len(gaps)):
        assert run(program, Call(number)) == number + 1
    assert run(program, Call(len(gaps))) == 0


def test_equal_targets_need_no_test() -> None:
    """A branch whose ways are one is not written."""
    assembler = Assembler()
    end = assembler.finish(ALLOW)
    assert assembler.branch(JGE, 7, end, end) == end


@pytest.mark.parametrize(
    ("op", "value", "two", "true", "false"),
    [
        ("EQ", (5 << 32) + 7, 0, [(5 << 32) + 7], [7, 5 << 32, (7 << 32) + 5]),
        ("NE", (5 << 32) + 7, 0, [7, 5 << 32], [(5 << 32) + 7]),
        ("LT", (5 << 32) + 7, 0, [0, (5 << 32) + 6, (4 << 32) + 9], [(5 << 32) + 7, 6 << 32]),
        ("LE", (5 << 32) + 7, 0, [(5 << 32) + 7, (4 << 32) + 9], [(5 << 32) + 8, 6 << 32]),
        ("GE", (5 << 32) + 7, 0, [(5 << 32) + 7, 6 << 32], [(5 << 32) + 6, (4 << 32) + 9]),
        ("GT", (5 << 32) + 7, 0, [(5 << 32) + 8, 6 << 32], [(5 << 32) + 7, (4 << 32) + 9]),
        ("MASKED_EQ", 0xF0000000F, 0x300000005, [0x300000005, 0x13000000F5], [0x200000005, 5]),
        ("MASKED_EQ", 0xF0, 0x3F, [0x30, 0x9999999930], [0x40]),
        ("MASKED_EQ", 0, 1, [0, 99], []),
    ],
)
def test_comparisons_are_of_64_bits(
    op: str, value: int, two: int, true: list[int], false: list[int]
) -> None:
    """Both halves count, in the right order."""
    compiled = compile_profile(
        denying(rule("ioctl", "SCMP_ACT_ALLOW", condition(2, op, value, two))), "x86_64"
    )
    assert [answer(compiled, "ioctl", 0, 0, v) for v in true] == [ALLOW] * len(true)
    assert [answer(compiled, "ioctl", 0, 0, v) for v in false] == [ERRNO | 1] * len(false)


def test_conditions_of_one_rule_all_have_to_hold() -> None:
    """AND over different arguments, OR over one argument (runc's reading)."""
    both = rule("ioctl", "SCMP_ACT_ALLOW", condition(0, "EQ", 1), condition(1, "EQ", 2))
    either = rule("prctl", "SCMP_ACT_ALLOW", condition(0, "EQ", 1), condition(0, "EQ", 2))
    compiled = compile_profile(denying(both, either), "x86_64")
    assert answer(compiled, "ioctl", 1, 2) == ALLOW
    assert answer(compiled, "ioctl", 1, 3) == ERRNO | 1
    assert answer(compiled, "ioctl", 2, 2) == ERRNO | 1
    assert [answer(compiled, "prctl", n) for n in (1, 2)] == [ALLOW] * 2
    assert answer(compiled, "prctl", 3) == ERRNO | 1


def test_a_rule_without_conditions_decides_wherever_it_stands() -> None:
    """The order that runc's library gives rules."""
    conditional = rule("ioctl", "SCMP_ACT_TRAP", condition(0, "EQ", 1))
    always = rule("ioctl")
    later = rule("ioctl", "SCMP_ACT_LOG")
    for rules in ((conditional, always, later), (always, later, conditional)):
        assert answer(compile_profile(denying(*rules), "x86_64"), "ioctl", 1) == ALLOW


@pytest.mark.parametrize(
    ("action", "errno", "value"),
    [
        ("SCMP_ACT_KILL", None, KILL_THREAD),
        ("SCMP_ACT_KILL_THREAD", None, KILL_THREAD),
        ("SCMP_ACT_KILL_PROCESS", None, 0x80000000),
        ("SCMP_ACT_TRAP", None, 0x00030000),
        ("SCMP_ACT_ERRNO", None, 0x00050001),
        ("SCMP_ACT_ERRNO", 0, 0x00050000),
        ("SCMP_ACT_TRACE", None, 0x7FF00001),
        ("SCMP_ACT_TRACE", 0xFFFF, 0x7FF0FFFF),
        ("SCMP_ACT_LOG", None, 0x7FFC0000),
        ("SCMP_ACT_NOTIFY", None, 0x7FC00000),
        ("SCMP_ACT_ALLOW", None, 0x7FFF0000),
    ],
)
def test_every_action(action: str, errno: int | None, value: int) -> None:
    """As linux/seccomp.h numbers them."""
    profile = Seccomp(default_action="SCMP_ACT_LOG", syscalls=(rule("read", action, errno=errno),))
    assert answer(compile_profile(profile, "x86_64"), "read") == value


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"default_action": "ALLOW"}, "defaultAction: ALLOW is not an action"),
        ({"default_action": ""}, "defaultAction: an empty name"),
        ({"default_action": "SCMP_ACT_NOTIFY"}, "cannot be the default"),
        ({"default_action": "SCMP_ACT_KILL", "default_errno_ret": 1}, "takes no errno"),
        ({"default_errno_ret": 4096}, "4096 is no errno"),
        ({"default_errno_ret": -1}, "-1 is no errno"),
        ({"architectures": ("SCMP_ARCH_Z80",)}, "SCMP_ARCH_Z80 is not an architecture"),
        ({"architectures": ("x86_64",)}, "x86_64 is not an architecture"),
        ({"flags": ("SECCOMP_FILTER_FLAG_NEW_LISTENER",)}, "not a known flag"),
        (
            {"flags": ("SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",)},
            "needs a rule with SCMP_ACT_NOTIFY",
        ),
        ({"syscalls": (rule("read", "SCMP_ACT_NO"),)}, r"syscalls\[0\]: SCMP_ACT_NO is not"),
        ({"syscalls": (rule("read", errno=1),)}, r"syscalls\[0\]: SCMP_ACT_ALLOW takes no errno"),
        ({"syscalls": (rule("write", "SCMP_ACT_NOTIFY"),)}, "cannot be used for write"),
        ({"syscalls": (rule(""),)}, "without a name"),
        ({"syscalls": (SeccompSyscall(names=(), action="SCMP_ACT_ALLOW"),)}, "without a name"),
        ({"syscalls": (rule("no", "SCMP_ACT_ALLOW", condition(6, "EQ", 0)),)}, "argument 6"),
        ({"syscalls": (rule("no", "SCMP_ACT_ALLOW", condition(-1, "EQ", 0)),)}, "argument -1"),
        (
            {"syscalls": (rule("no", "SCMP_ACT_ALLOW", condition(0, "XOR", 0)),)},
            "CMP_XOR is not",
        ),
        ({"syscalls": (rule("no", "SCMP_ACT_ALLOW", condition(0, "EQ", 1 << 64)),)}, "64 bits"),
        ({"syscalls": (rule("no", "SCMP_ACT_ALLOW", condition(0, "EQ", 0, -1)),)}, "64 bits"),
    ],
)
def test_what_a_profile_may_not_say(change: dict[str, object], message: str) -> None:
    """Each refused by the name of its place, also in a rule about a call that does not exist."""
    profile = denying().with_values(**change)
    with pytest.raises(InvalidConfig, match=message):
        compile_profile(profile, "x86_64")


def test_unknown_names_are_ignored_and_told() -> None:
    """As runc; a name of another architecture is known."""
    names = ("read", "no_such_call", "riscv_flush_icache", "cacheflush", "")
    profile = denying(SeccompSyscall(names=names[:4], action="SCMP_ACT_ALLOW"))
    compiled = compile_profile(profile, "x86_64")
    assert compiled.unknown_names == ("no_such_call",)
    assert answer(compiled, "read") == ALLOW


@pytest.mark.parametrize(
    ("flags", "rules", "wanted", "optional"),
    [
        (None, (), 0, 4),
        ((), (), 0, 0),
        (("SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW"), (), 6, 0),
        (("SECCOMP_FILTER_FLAG_TSYNC",), (), 1, 0),
        (("SECCOMP_FILTER_FLAG_TSYNC",), (rule("read", "SCMP_ACT_NOTIFY"),), 0x19, 0),
        (("SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",), (rule("read", "SCMP_ACT_NOTIFY"),), 0x28, 0),
    ],
)
def test_flags(
    flags: tuple[str, ...] | None, rules: tuple[SeccompSyscall, ...], wanted: int, optional: int
) -> None:
    """No list means SPEC_ALLOW where possible; a listener is asked for where one is needed."""
    compiled = compile_profile(denying(*rules).with_values(flags=flags), "x86_64")
    assert (compiled.flags, compiled.optional_flags) == (wanted, optional)


def test_k4_calls_newer_than_the_profile_do_not_exist() -> None:
    """ENOSYS instead of EPERM, so that a C library takes the older call; not in the gaps."""
    compiled = compile_profile(denying(rule("read"), rule("openat2", "SCMP_ACT_LOG")), "x86_64")
    assert answer(compiled, "openat2") == bpf.LOG
    assert answer(compiled, "clone3") == ERRNO | 1
    assert answer(compiled, "faccessat2") == ERRNO | 38
    assert run(compiled.program, Call(100000)) == ERRNO | 38


@pytest.mark.parametrize(
    ("default", "errno", "new"),
    [
        ("SCMP_ACT_ERRNO", 13, ERRNO | 38),
        ("SCMP_ACT_ERRNO", 38, ERRNO | 38),
        ("SCMP_ACT_KILL_PROCESS", None, ERRNO | 38),
        ("SCMP_ACT_TRAP", None, ERRNO | 38),
        ("SCMP_ACT_ALLOW", None, ALLOW),
        ("SCMP_ACT_LOG", None, bpf.LOG),
        ("SCMP_ACT_TRACE", None, TRACE | 1),
    ],
)
def test_k4_depends_on_the_default(default: str, errno: int | None, new: int) -> None:
    """Where the default lets calls happen, new ones happen too."""
    profile = Seccomp(
        default_action=default,
        default_errno_ret=errno,
        syscalls=(rule("read", "SCMP_ACT_ERRNO", errno=9),),
    )
    assert answer(compile_profile(profile, "x86_64"), "landlock_create_ruleset") == new


def test_k4_private_calls_of_arm_are_not_new() -> None:
    """They are numbered from 0xf0000 on and do not make a profile newer than it is."""
    profile = denying(rule("cacheflush"), rule("read"), architectures=("SCMP_ARCH_ARM",))
    program = compile_profile(profile, "aarch64").program
    assert run(program, Call(0xF0002, bpf.ARM)) == ALLOW
    assert run(program, Call(0xF0003, bpf.ARM)) == ERRNO | 38
    assert run(program, Call(numbers("arm")["openat2"], bpf.ARM)) == ERRNO | 38


def test_x32_calls_are_killed_unless_selected() -> None:
    """They carry the token of x86_64; -1 is not one of them."""
    program = compile_profile(denying(rule("read")), "x86_64").program
    assert run(program, Call(X32_BIT)) == KILL_THREAD
    assert run(program, Call(X32_BIT | 512)) == KILL_THREAD
    assert run(program, Call(0xFFFFFFFF)) == ERRNO | 1
    assert run(program, Call(0xFFFFFFFE)) == KILL_THREAD
    program = compile_profile(
        denying(rule("read"), rule("ioctl", "SCMP_ACT_LOG"), architectures=("SCMP_ARCH_X32",)),
        "x86_64",
    ).program
    assert run(program, Call(X32_BIT)) == ALLOW
    assert run(program, Call(X32_BIT | 514)) == bpf.LOG
    assert run(program, Call(514)) == ERRNO | 38
    assert run(program, Call(16)) == bpf.LOG


def test_calls_of_other_architectures_are_killed() -> None:
    """As libseccomp's default for bad architectures; those selected have their own numbers."""
    program = compile_profile(denying(rule("read")), "x86_64").program
    assert run(program, Call(3, bpf.X86)) == KILL_THREAD
    program = compile_profile(
        denying(rule("read"), architectures=("SCMP_ARCH_X86",)), "x86_64"
    ).program
    assert run(program, Call(3, bpf.X86)) == ALLOW
    assert run(program, Call(0, bpf.X86)) == ERRNO | 1
    assert run(program, Call(63, bpf.AARCH64)) == KILL_THREAD


def test_an_architecture_that_cannot_run_here_changes_nothing() -> None:
    """Its calls never arrive."""
    plain = compile_profile(denying(rule("read")), "x86_64")
    other = compile_profile(
        denying(rule("read"), architectures=("SCMP_ARCH_MIPS", "SCMP_ARCH_AARCH64")), "x86_64"
    )
    assert plain.program == other.program


def test_a_machine_without_tables_is_refused() -> None:
    """Rather than filtered by the wrong numbers."""
    with pytest.raises(Unsupported, match="no system call table for the machine mips64"):
        compile_profile(denying(), "mips64")


NOT_ALG = rule("socket", "SCMP_ACT_ALLOW", condition(0, "NE", 38))
NO_ALG = rule("socket", "SCMP_ACT_ERRNO", condition(0, "EQ", 38))


@pytest.mark.parametrize(
    ("rules", "default", "sub_call", "value"),
    [
        # Without conditions the way through the multiplexer is the call's own.
        ((rule("socket"),), "SCMP_ACT_ERRNO", 1, ALLOW),
        ((rule("socket"),), "SCMP_ACT_ERRNO", 2, ERRNO | 1),
        ((rule("sendmmsg"),), "SCMP_ACT_ERRNO", 20, ALLOW),
        # What cannot be checked is not let through ...
        (
            (rule("socket", "SCMP_ACT_ALLOW", condition(0, "NE", 38)),),
            "SCMP_ACT_ERRNO",
            1,
            ERRNO | 1,
        ),
        # ... and refused where a rule refuses part of it.
        (
            (rule("socket", "SCMP_ACT_ERRNO", condition(0, "EQ", 38)),),
            "SCMP_ACT_ALLOW",
            1,
            ERRNO | 1,
        ),
        ((rule("socket", "SCMP_ACT_ERRNO", condition(0, "EQ", 38)),), "SCMP_ACT_ALLOW", 2, ALLOW),
        # A rule for the multiplexer itself decides.
        ((rule("socketcall"), rule("socket", "SCMP_ACT_TRAP")), "SCMP_ACT_ERRNO", 1, ALLOW),
    ],
)
@pytest.mark.parametrize(
    ("machine", "token"), [("x86_64", bpf.X86), ("s390x", bpf.S390), ("s390x", bpf.S390X)]
)
def test_socketcall(
    rules: tuple[SeccompSyscall, ...],
    default: str,
    sub_call: int,
    value: int,
    machine: str,
    token: int,
) -> None:
    """i386 and s390 make the socket calls through one number."""
    profile = Seccomp(
        default_action=default, architectures=("SCMP_ARCH_X86", "SCMP_ARCH_S390"), syscalls=rules
    )
    program = compile_profile(profile, machine).program
    call = Call(102, token, (sub_call, 0xFFFF, 0, 0, 0, 0))
    assert run(program, call, big_endian=machine == "s390x") == value


def test_ipc_versions_do_not_escape() -> None:
    """The upper half of ipc's first argument is a version that the kernel cuts off."""
    profile = Seccomp(
        default_action="SCMP_ACT_ALLOW",
        architectures=("SCMP_ARCH_X86",),
        syscalls=(rule("shmat", "SCMP_ACT_ERRNO"),),
    )
    program = compile_profile(profile, "x86_64").program
    assert run(program, Call(117, bpf.X86, (21, 0, 0, 0, 0, 0))) == ERRNO | 1
    assert run(program, Call(117, bpf.X86, (0x10015, 0, 0, 0, 0, 0))) == ERRNO | 1
    assert run(program, Call(117, bpf.X86, (22, 0, 0, 0, 0, 0))) == ALLOW


def test_setup_on_s390_is_how_the_kernel_spells_unknown() -> None:
    """Number 0 is answered ENOSYS there (runc's rule)."""
    program = compile_profile(denying(rule("read")), "s390x").program
    assert run(program, Call(0, bpf.S390X), big_endian=True) == ERRNO | 38


def test_native_calls_are_found_fast() -> None:
    """The number of instructions of a search, which is a tree and no list."""
    rules = [rule(name) for name in sorted(NATIVE)[::2]]
    program = built(*rules, architectures=("SCMP_ARCH_X32",))
    code = list(struct.iter_unpack("<HBBI", program))
    deepest = _depth(code, 0)
    assert deepest <= 20


def _depth(code: list[tuple[int, ...]], at: int) -> int:
    operation, true, false, value = code[at]
    if operation == 0x06:
        return 1
    if operation == 0x05:
        return 1 + _depth(code, at + 1 + value)
    if operation & 7 == 5:
        return 1 + max(_depth(code, at + 1 + true), _depth(code, at + 1 + false))
    return 1 + _depth(code, at + 1)


@pytest.mark.parametrize(
    ("table", "name", "number"),
    [
        ("x86_64", "read", 0),
        ("x86_64", "seccomp", 317),
        ("x86_64", "map_shadow_stack", 453),
        ("i386", "socketcall", 102),
        ("i386", "socket", 359),
        ("i386", "clock_gettime64", 403),
        ("x32", "ioctl", 514),
        ("x32", "read", 0),
        ("aarch64", "openat", 56),
        ("arm", "socket", 281),
        ("arm", "cacheflush", 983042),
        ("riscv64", "riscv_flush_icache", 259),
        ("ppc64le", "seccomp", 358),
        ("s390x", "seccomp", 348),
        ("s390", "setuid32", 213),
    ],
)
def test_numbers_of_each_table(table: str, name: str, number: int) -> None:
    """Samples of every table."""
    assert numbers(table)[name] == number


@pytest.mark.parametrize("table", TABLES)
def test_new_calls_are_numbered_alike_everywhere(table: str) -> None:
    """From 424 on all architectures count together; every table reaches Linux 6.18."""
    found = numbers(table)
    assert (found["pidfd_send_signal"], found["openat2"], found["clone3"]) == (424, 437, 435)
    assert (found["mseal"], found["file_setattr"], found["open_tree_attr"]) == (462, 469, 467)
    new = {number: name for name, number in found.items() if 424 <= number < 512}
    reference = {n: name for name, n in numbers("x86_64").items() if n >= 424}
    assert all(reference[number] == name for number, name in new.items())


def test_a_table_that_does_not_exist() -> None:
    """Only the listed ones are looked for."""
    with pytest.raises(ValueError, match="no system call table"):
        numbers("os")


def test_notify_may_stand_beside_other_rules() -> None:
    """It asks for a listener by a flag."""
    compiled = compile_profile(denying(rule("mkdir", "SCMP_ACT_NOTIFY")), "x86_64")
    assert answer(compiled, "mkdir") == NOTIFY
    assert compiled.flags & 8
