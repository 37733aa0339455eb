"""The default profile against a table of facts, and profiles that users bring."""

from __future__ import annotations

import pytest

from engine.runtime.errors import InvalidConfig, Unsupported
from engine.runtime.process.capabilities import DEFAULT as CAPABILITIES
from engine.runtime.seccomp.architectures import RUNNABLE
from engine.runtime.seccomp.compiler import compile_profile
from engine.runtime.seccomp.default_profile import default_profile
from engine.runtime.seccomp.profile_file import resolve_profile
from engine.runtime.seccomp.tables import numbers
from engine.runtime.spec.model import Seccomp
from tests.engine import bpf
from tests.engine.bpf import ALLOW, ERRNO, Call, run

EPERM, EINVAL, ENOSYS = ERRNO | 1, ERRNO | 22, ERRNO | 38
KERNEL = (6, 18)
# The three ways into an x86_64 kernel: token, table, what marks the number.
WAYS = [
    (bpf.X86_64, "x86_64", 0),
    (bpf.X86, "i386", 0),
    (bpf.X86_64, "x32", 0x40000000),
]


def answer(profile: Seccomp, way: tuple[int, str, int], name: str, *args: int) -> int:
    """What the profile answers on x86_64."""
    token, table, offset = way
    call = Call(numbers(table)[name] + offset, token, (args + (0,) * 6)[:6])
    return run(compile_profile(profile, "x86_64").program, call)


@pytest.mark.parametrize(
    ("name", "args", "without", "capability", "with_it"),
    [
        ("read", (), ALLOW, "CAP_SYS_ADMIN", ALLOW),
        ("clone", (0x10000000,), ALLOW, "CAP_SYS_ADMIN", ALLOW),
        ("clone3", (), ALLOW, "CAP_SYS_ADMIN", ALLOW),
        ("unshare", (), ALLOW, "CAP_SYS_ADMIN", ALLOW),
        ("setns", (), ALLOW, "CAP_SYS_ADMIN", ALLOW),
        ("mount", (), ALLOW, "CAP_SYS_ADMIN", ALLOW),
        ("pivot_root", (), ALLOW, "CAP_SYS_ADMIN", ALLOW),
        ("keyctl", (), ALLOW, "CAP_SYS_ADMIN", ALLOW),
        ("add_key", (), ENOSYS, "CAP_SYS_ADMIN", ENOSYS),
        ("request_key", (), ENOSYS, "CAP_SYS_ADMIN", ENOSYS),
        ("io_uring_setup", (), ENOSYS, "CAP_SYS_ADMIN", ENOSYS),
        ("mseal", (), ENOSYS, "CAP_SYS_ADMIN", ENOSYS),
        ("faccessat2", (), ALLOW, "CAP_SYS_ADMIN", ALLOW),
        ("openat2", (), ALLOW, "CAP_SYS_ADMIN", ALLOW),
        ("fchmodat2", (), ALLOW, "CAP_SYS_ADMIN", ALLOW),
        ("userfaultfd", (), EPERM, "CAP_SYS_PTRACE", EPERM),
        ("kexec_load", (), EPERM, "CAP_SYS_BOOT", EPERM),
        ("ptrace", (), ALLOW, "CAP_SYS_PTRACE", ALLOW),
        ("process_vm_readv", (), ALLOW, "CAP_SYS_PTRACE", ALLOW),
        ("kcmp", (), EPERM, "CAP_SYS_PTRACE", ALLOW),
        ("process_madvise", (), EPERM, "CAP_SYS_PTRACE", ALLOW),
        ("open_by_handle_at", (), EPERM, "CAP_DAC_READ_SEARCH", ALLOW),
        ("bpf", (), EPERM, "CAP_SYS_ADMIN", ALLOW),
        ("bpf", (), EPERM, "CAP_BPF", ALLOW),
        ("perf_event_open", (), EPERM, "CAP_SYS_ADMIN", ALLOW),
        ("perf_event_open", (), EPERM, "CAP_PERFMON", ALLOW),
        ("quotactl", (), EPERM, "CAP_SYS_ADMIN", ALLOW),
        ("sethostname", (), EPERM, "CAP_SYS_ADMIN", ALLOW),
        ("chroot", (), EPERM, "CAP_SYS_CHROOT", ALLOW),
        ("init_module", (), EPERM, "CAP_SYS_MODULE", ALLOW),
        ("finit_module", (), EPERM, "CAP_SYS_MODULE", ALLOW),
        ("acct", (), EPERM, "CAP_SYS_PACCT", ALLOW),
        ("iopl", (), EPERM, "CAP_SYS_RAWIO", ALLOW),
        ("settimeofday", (), EPERM, "CAP_SYS_TIME", ALLOW),
        ("clock_settime", (), EPERM, "CAP_SYS_TIME", ALLOW),
        ("vhangup", (), EPERM, "CAP_SYS_TTY_CONFIG", ALLOW),
        ("personality", (0,), ALLOW, "CAP_SYS_ADMIN", ALLOW),
        ("personality", (0x20008,), ALLOW, "CAP_SYS_ADMIN", ALLOW),
        ("personality", (0xFFFFFFFF,), ALLOW, "CAP_SYS_ADMIN", ALLOW),
        ("personality", (0x0040000,), ENOSYS, "CAP_SYS_ADMIN", ENOSYS),
        ("socket", (1, 1, 0), ALLOW, "CAP_AUDIT_WRITE", ALLOW),
        ("socket", (2, 1, 6), ALLOW, "CAP_AUDIT_WRITE", ALLOW),
        ("socket", (10, 2, 9), ALLOW, "CAP_AUDIT_WRITE", ALLOW),
        ("socket", (16, 3, 0), ALLOW, "CAP_AUDIT_WRITE", ALLOW),
        ("socket", (16, 3, 15), ALLOW, "CAP_AUDIT_WRITE", ALLOW),
        ("socket", (16, 3, 9), EINVAL, "CAP_AUDIT_WRITE", ALLOW),
        ("socket", (17, 3, 9), ALLOW, "CAP_AUDIT_WRITE", ALLOW),
        ("socket", (40, 1, 0), ENOSYS, "CAP_AUDIT_WRITE", ENOSYS),
        ("socket", (45, 1, 0), ALLOW, "CAP_AUDIT_WRITE", ALLOW),
    ],
)
@pytest.mark.parametrize("way", WAYS, ids=("x86_64", "i386", "x32"))
def test_k1_table(
    way: tuple[int, str, int],
    name: str,
    args: tuple[int, ...],
    without: int,
    capability: str,
    with_it: int,
) -> None:
    """Calls without any capability and with one, on each way into the kernel."""
    assert answer(default_profile((), "x86_64", KERNEL), way, name, *args) == without
    held = default_profile((capability,), "x86_64", KERNEL)
    assert answer(held, way, name, *args) == with_it


@pytest.mark.parametrize("way", WAYS, ids=("x86_64", "i386", "x32"))
@pytest.mark.parametrize("capabilities", [CAPABILITIES, (*CAPABILITIES, "CAP_AUDIT_WRITE")])
def test_k2_no_alg_sockets(way: tuple[int, str, int], capabilities: tuple[str, ...]) -> None:
    """CVE-2026-31431: on no way in, and not with bits set that the kernel cuts off."""
    profile = default_profile(capabilities, "x86_64", KERNEL)
    for family in (38, (1 << 32) | 38, (0xFFFFFFFF << 32) | 38):
        assert answer(profile, way, "socket", family, 5, 0) == ENOSYS
    for family in (37, 39, (1 << 32) | 1):
        assert answer(profile, way, "socket", family, 5, 0) == ALLOW


def test_k2_socketcall_makes_no_new_socket() -> None:
    """It could be any; its other calls, on sockets that are there, go on."""
    closed = default_profile(CAPABILITIES, "x86_64", KERNEL)
    opened = default_profile(CAPABILITIES, "x86_64", KERNEL, allow_socketcall=True)
    assert answer(closed, WAYS[1], "socketcall", 1, 0xFFFF) == ENOSYS
    assert answer(closed, WAYS[1], "socketcall", 3, 0xFFFF) == ALLOW
    assert answer(closed, WAYS[1], "socketcall", 9, 0xFFFF) == ALLOW
    assert answer(opened, WAYS[1], "socketcall", 1, 0xFFFF) == ALLOW


def test_a_register_does_not_hide_netlink_audit() -> None:
    """Both arguments are compared as int."""
    profile = default_profile((), "x86_64", KERNEL)
    for family, protocol in ((16, 9), (16 | 1 << 32, 9), (16, 9 | 1 << 40)):
        assert answer(profile, WAYS[0], "socket", family, 3, protocol) == EINVAL


def test_ptrace_waits_for_the_kernel_that_makes_it_safe() -> None:
    """Before 4.8 a tracer changes calls behind the filter's back."""
    assert answer(default_profile((), "x86_64", (4, 7)), WAYS[0], "ptrace") == EPERM
    assert answer(default_profile((), "x86_64", (4, 8)), WAYS[0], "ptrace") == ALLOW


@pytest.mark.parametrize("machine", sorted(RUNNABLE))
def test_the_default_profile_fits_every_machine(machine: str) -> None:
    """It compiles, knows all its names, and lets a program read, write and end."""
    profile = default_profile(CAPABILITIES, machine, KERNEL)
    compiled = compile_profile(profile, machine)
    assert compiled.unknown_names == ()
    native = RUNNABLE[machine][0]
    for architecture in RUNNABLE[machine]:
        table = numbers(architecture.table)
        for name in ("read", "write", "openat", "execve", "exit_group", "mount", "clone"):
            call = Call(table[name] + architecture.offset, architecture.token)
            assert run(compiled.program, call, big_endian=native.big_endian) == ALLOW
        call = Call(table["socket"] + architecture.offset, architecture.token, (38, 5, 0, 0, 0, 0))
        assert run(compiled.program, call, big_endian=native.big_endian) == ENOSYS
        call = Call(425 + architecture.offset, architecture.token)
        assert run(compiled.program, call, big_endian=native.big_endian) == ENOSYS


def test_each_machine_has_its_own_calls() -> None:
    """As arch_prctl on x86_64."""
    x86 = default_profile((), "x86_64", KERNEL).syscalls[0].names
    arm = default_profile((), "aarch64", KERNEL).syscalls[0].names
    assert "arch_prctl" in x86
    assert "arch_prctl" not in arm
    assert "cacheflush" in arm
    assert len(set(x86)) == len(x86)


def test_no_default_profile_for_an_unknown_machine() -> None:
    """There would be no numbers for it."""
    with pytest.raises(Unsupported, match="alpha"):
        default_profile((), "alpha", KERNEL)


DOCUMENT: dict[str, object] = {
    "defaultAction": "SCMP_ACT_ERRNO",
    "defaultErrnoRet": 1,
    "archMap": [
        {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": ["SCMP_ARCH_ARM"]},
        {
            "architecture": "SCMP_ARCH_X86_64",
            "subArchitectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        },
    ],
    "syscalls": [
        {"names": ["read", "write"], "action": "SCMP_ACT_ALLOW", "args": None, "comment": "x"},
        {"name": "close", "action": "SCMP_ACT_ALLOW", "includes": {}, "excludes": None},
        {
            "names": ["chroot"],
            "action": "SCMP_ACT_ERRNO",
            "errno": "ENOSYS",
            "errnoRet": 7,
            "excludes": {"caps": ["CAP_SYS_CHROOT", "CAP_SYS_ADMIN"]},
        },
        {
            "names": ["bpf"],
            "action": "SCMP_ACT_ALLOW",
            "includes": {"caps": ["CAP_SYS_ADMIN", "CAP_BPF"]},
        },
        {
            "names": ["arch_prctl"],
            "action": "SCMP_ACT_ALLOW",
            "includes": {"arches": ["amd64", "x32"]},
        },
        {"names": ["cacheflush"], "action": "SCMP_ACT_ALLOW", "excludes": {"arches": ["amd64"]}},
        {"names": ["ptrace"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "4.8"}},
        {"names": ["kcmp"], "action": "SCMP_ACT_ALLOW", "excludes": {"minKernel": "4.8"}},
        {
            "names": ["clone"],
            "action": "SCMP_ACT_ALLOW",
            "args": [{"index": 0, "value": 0x7E020000, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}],
        },
    ],
}


@pytest.mark.parametrize(
    ("capabilities", "machine", "kernel", "names"),
    [
        ((), "x86_64", KERNEL, "read close chroot arch_prctl ptrace clone"),
        ((), "x86_64", (4, 4), "read close chroot arch_prctl kcmp clone"),
        ((), "aarch64", KERNEL, "read close chroot cacheflush ptrace clone"),
        (("CAP_SYS_CHROOT",), "x86_64", KERNEL, "read close arch_prctl ptrace clone"),
        (("CAP_BPF",), "x86_64", KERNEL, "read close chroot arch_prctl ptrace clone"),
        (
            ("CAP_BPF", "CAP_SYS_ADMIN"),
            "x86_64",
            KERNEL,
            "read close bpf arch_prctl ptrace clone",
        ),
    ],
)
def test_conditions_of_a_profile_file(
    capabilities: tuple[str, ...], machine: str, kernel: tuple[int, int], names: str
) -> None:
    """What is included has to hold altogether, what is excluded must not hold at all."""
    profile = resolve_profile(DOCUMENT, capabilities, machine, kernel)
    assert [rule.names[0] for rule in profile.syscalls] == names.split()


def test_the_rest_of_a_profile_file() -> None:
    """Architectures by the map, errors by name first."""
    profile = resolve_profile(DOCUMENT, (), "x86_64", KERNEL)
    assert profile.architectures == ("SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32")
    assert profile.default_errno_ret == 1
    assert profile.flags is None
    assert profile.syscalls[2].errno_ret == 38
    assert profile.syscalls[0].names == ("read", "write")
    assert profile.syscalls[-1].args[0].op == "SCMP_CMP_MASKED_EQ"
    assert resolve_profile(DOCUMENT, (), "riscv64", KERNEL).architectures == ()
    assert answer(profile, WAYS[1], "read") == ALLOW


def test_a_profile_file_in_the_form_of_the_runtime_spec() -> None:
    """Its architectures, flags and listener are taken over."""
    document = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86"],
        "flags": [],
        "listenerPath": "/run/agent",
        "listenerMetadata": "m",
        "defaultErrno": "13",
    }
    profile = resolve_profile(document, (), "x86_64", KERNEL)
    assert profile == Seccomp(
        default_action="SCMP_ACT_ALLOW",
        default_errno_ret=13,
        architectures=("SCMP_ARCH_X86",),
        flags=(),
        listener_path="/run/agent",
        listener_metadata="m",
    )


RULE = {"names": ["read"], "action": "SCMP_ACT_ALLOW"}


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ([], "expected an object"),
        ({}, "defaultAction"),
        ({"defaultAction": 1}, "defaultAction: expected a string"),
        (DOCUMENT | {"architectures": ["SCMP_ARCH_X86"]}, "both architectures and archMap"),
        (DOCUMENT | {"archMap": [{}]}, r"archMap\[0\].architecture"),
        (DOCUMENT | {"defaultErrno": "ENOTHING"}, "defaultErrno: expected the name of an error"),
        (DOCUMENT | {"defaultErrno": "errorcode"}, "defaultErrno: expected the name of an error"),
        (DOCUMENT | {"syscalls": [RULE | {"name": "x"}]}, r"syscalls\[0\]: has both name"),
        (DOCUMENT | {"syscalls": [{"action": "SCMP_ACT_ALLOW"}]}, r"syscalls\[0\].names"),
        (DOCUMENT | {"syscalls": [RULE, {"names": ["x"]}]}, r"syscalls\[1\].action"),
        (DOCUMENT | {"syscalls": [RULE | {"includes": 3}]}, r"includes: expected an object"),
        (DOCUMENT | {"syscalls": [RULE | {"includes": {"minKernel": "5.x"}}]}, "minKernel"),
        (DOCUMENT | {"syscalls": [RULE | {"includes": {"minKernel": "5"}}]}, "minKernel"),
        (DOCUMENT | {"syscalls": [RULE | {"includes": {"caps": [1]}}]}, r"caps\[0\]"),
        (DOCUMENT | {"syscalls": [RULE | {"args": [{"index": 9}]}]}, r"args\[0\].index"),
        (DOCUMENT | {"syscalls": [RULE | {"errnoRet": -1}]}, "errnoRet"),
    ],
)
def test_a_profile_file_that_is_wrong(document: object, message: str) -> None:
    """Said by the name of the place."""
    with pytest.raises(InvalidConfig, match=message):
        resolve_profile(document, (), "x86_64", KERNEL)
