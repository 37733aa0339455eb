"""The last execve(2): what reaches the program, and how its failure is told."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
from pathlib import Path

import pytest

from engine.runtime.errors import CommandNotExecutable, Failure, InvalidConfig, from_document
from engine.runtime.jsontext import encode, parse
from engine.runtime.kernel.calls import MACHINE
from engine.runtime.kernel.processes import PR_SET_NO_NEW_PRIVS, close_on_exec, prctl
from engine.runtime.process.attributes import die_with_parent
from engine.runtime.process.rlimits import plan_rlimits, set_rlimits
from engine.runtime.process.trampoline import launch, prepare, sealed_memfd
from engine.runtime.process.trampoline_code import ELF_MACHINES, ORDERS, machine_code
from engine.runtime.seccomp.compiler import compile_profile
from engine.runtime.seccomp.filter import Filter
from engine.runtime.spec.model import Rlimit, Seccomp, SeccompSyscall
from tests.engine.process_children import Ended, executed
from tests.engine.rootfs_driver import fork, in_child

WAYS = ("", "for a test")
"""The second is a reason to do without trampoline."""


def started(
    program: str, *arguments: str, way: str = "", env: tuple[bytes, ...] = (), **options: Filter
) -> Ended:
    """What becomes of a program that is launched with these arguments, argv[0] its own name."""

    def work() -> None:
        every = tuple(a.encode() for a in (program, *arguments))
        prepared = prepare(every, env, direct=way, **options)
        if options:
            prctl(PR_SET_NO_NEW_PRIVS, 1)
        launch(prepared, program.encode())

    return executed(work)


@pytest.mark.parametrize("way", WAYS)
def test_arguments_and_environment_arrive(way: str) -> None:
    ended = started("/usr/bin/env", "A=1", "/bin/sh", "-c", 'echo "$0|$A|$B"', "x y", way=way)
    assert (ended.code, ended.out, ended.err) == (0, b"x y|1|\n", b"")
    ended = started("/usr/bin/env", way=way, env=(b"B=caf\xe9", b"B=2", b"C="))
    assert ended.out == b"B=caf\xe9\nB=2\nC=\n"


@pytest.mark.parametrize("machine", ELF_MACHINES)
def test_the_code_ends_before_its_orders(machine: str) -> None:
    assert 0 < len(machine_code(machine)) <= (ORDERS & 0xFFFF) - 0xB0
    assert MACHINE in ELF_MACHINES, "this machine has no trampoline: its tests prove little"


def test_d4_the_program_is_executed_from_a_memfd(tmp_path: Path) -> None:
    def work() -> None:
        prepared = prepare((b"true",), ())
        assert prepared.memfd >= 0
        assert prepared.why_direct == ""
        os.write(1, os.readlink(f"/proc/self/fd/{prepared.memfd}").encode())
        launch(prepared, b"/bin/true")

    assert executed(work).out.startswith(b"/memfd:imgtools-exec")


def test_d4_the_memfd_cannot_be_changed() -> None:
    fd = sealed_memfd(b"content")
    try:
        writer = os.open(f"/proc/self/fd/{fd}", os.O_RDWR)
        try:
            for change in (
                lambda: os.write(writer, b"x"),
                lambda: os.ftruncate(writer, 0),
                lambda: os.ftruncate(writer, 100),
                lambda: fcntl.fcntl(writer, 1033, 0),
            ):
                with pytest.raises(PermissionError):
                    change()
        finally:
            os.close(writer)
        assert os.pread(fd, 100, 0) == b"content"
    finally:
        os.close(fd)


def test_d2_only_the_standard_descriptors_reach_the_program() -> None:
    def work() -> None:
        for _ in range(5):
            os.dup(2)
            os.set_inheritable(os.dup(2), True)
        prepared = prepare((b"ls", b"/proc/self/fd"), ())
        close_on_exec(3)
        launch(prepared, b"/bin/ls", os.dup(2))

    # The fourth is the directory that ls itself reads.
    assert executed(work).out.split() == [b"0", b"1", b"2", b"3"]


def script(path: Path, content: str, mode: int = 0o755) -> str:
    path.write_text(content)
    path.chmod(mode)
    return str(path)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("content", "code", "text"),
    [
        ("#!/no/such\n", 127, "no such file or directory"),
        ("\x7fELF and no more", 126, "exec format error"),
        ("#!/etc\n", 126, "permission denied"),
    ],
)
def test_failures_of_the_last_step(
    tmp_path: Path, way: str, content: str, code: int, text: str
) -> None:
    program = script(tmp_path / "p", content)
    ended = started(program, way=way)
    error = ended.err.decode()
    if way:
        assert ended.code == 99
        assert error.startswith("CommandNotFound" if code == 127 else "CommandNotExecutable")
        assert error.endswith(text)
    else:
        assert (ended.code, error) == (code, f'exec: "{program}": {text}\n')


def test_a_failure_is_reported_in_the_caller_s_own_words(tmp_path: Path) -> None:
    program = script(tmp_path / "p", "#!/no/such\n")
    read, write = os.pipe()

    def report(failure: Failure) -> bytes:
        return encode(failure.to_document()).encode()

    ended = executed(lambda: launch(prepare((b"p",), (), report=report), program.encode(), write))
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        document = parse(pipe.read(), "report")
    assert isinstance(document, dict)
    failure = from_document(document)
    assert (type(failure).__name__, failure.errno) == ("CommandNotFound", errno.ENOENT)
    assert (ended.code, ended.err) == (127, b"")


def test_the_reporting_descriptor_closes_when_the_program_runs() -> None:
    read, write = os.pipe()
    pid = fork()
    if pid == 0:
        os.close(read)
        launch(prepare((b"sleep", b"60"), ()), b"/bin/sleep", write)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        assert pipe.read() == b""
    assert os.readlink(f"/proc/{pid}/exe") == os.path.realpath("/bin/sleep")
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def test_g2_small_limits_do_not_reach_the_trampoline() -> None:
    def work() -> None:
        prepared = prepare((b"sh", b"-c", b"ulimit -n; ulimit -f"), ())
        close_on_exec(3)
        limits = (
            Rlimit(type="RLIMIT_NOFILE", soft=4, hard=4),
            Rlimit(type="RLIMIT_FSIZE", soft=0, hard=0),
        )
        set_rlimits(plan_rlimits(limits, (), may_raise=True))
        launch(prepared, b"/bin/sh")

    assert started("/bin/sh", "-c", "exit 3").code == 3
    ended = executed(work)
    assert (ended.code, ended.err) in ((0, b""), (-signal.SIGXFSZ, b""))


def profile(default: str, action: str, *names: str) -> Filter:
    asked = Seccomp(
        default_action=default,
        default_errno_ret=errno.EPERM if default == "SCMP_ACT_ERRNO" else None,
        syscalls=(SeccompSyscall(names=names, action=action),),
    )
    return compile_profile(asked, MACHINE)


@pytest.mark.parametrize("way", WAYS)
def test_a_filter_is_in_force_in_the_program(way: str) -> None:
    compiled = profile("SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "mkdir", "mkdirat")
    ended = started(
        "/bin/sh", "-c", "mkdir /tmp/x; cat /proc/self/status", way=way, seccomp=compiled
    )
    assert b"\nSeccomp:\t2\n" in ended.out
    assert b"\nSeccomp_filters:\t" in ended.out or b"\nSeccomp_filter" not in ended.out
    assert b"not permitted" in ended.err


@pytest.mark.parametrize("default", ["SCMP_ACT_ERRNO", "SCMP_ACT_KILL_PROCESS"])
def test_under_a_filter_nothing_is_needed_but_execve(tmp_path: Path, default: str) -> None:
    """The program gets as far as the filter admits: to its first system call."""
    compiled = profile(default, "SCMP_ACT_ALLOW", "execve")
    ended = started("/bin/true", seccomp=compiled)
    assert b"exec:" not in ended.err
    if default == "SCMP_ACT_KILL_PROCESS":
        assert ended.code == -signal.SIGSYS
    missing = started(str(tmp_path / "missing"), seccomp=compiled)
    ends = {"SCMP_ACT_ERRNO": (-signal.SIGILL, -signal.SIGTRAP)}
    assert missing.code in ends.get(default, (-signal.SIGSYS,))


def test_with_write_and_exit_a_filter_lets_the_failure_be_told(tmp_path: Path) -> None:
    compiled = profile("SCMP_ACT_ERRNO", "SCMP_ACT_ALLOW", "execve", "write", "exit_group")
    ended = started(str(tmp_path / "missing"), seccomp=compiled)
    assert ended.code == 127
    assert ended.err.endswith(b"no such file or directory\n")


def test_a_filter_that_cannot_be_loaded_is_told() -> None:
    def work() -> None:
        compiled = profile("SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "mkdir")
        prepared = prepare((b"true",), (), seccomp=compiled)
        os.setresuid(4241, 4241, 4241)  # no privilege, and no no_new_privs
        launch(prepared, b"/bin/true")

    ended = executed(work)
    assert ended.code == 126
    assert ended.err == b'exec: "true": its seccomp filter cannot be loaded\n'


def test_without_execveat_the_program_is_executed_directly() -> None:
    def work() -> None:
        from engine.runtime.seccomp.load import Loader

        loader = Loader(profile("SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "execveat"))
        prepared = prepare((b"true",), ())
        loader.load()
        launch(prepared, b"/bin/true")

    assert executed(work).code == 0


def test_r3_the_bond_to_the_creator_comes_through() -> None:
    def creator() -> int:
        own = os.pidfd_open(os.getpid())
        prepared = prepare((b"sleep", b"60"), ())
        read, write = os.pipe()
        pid = fork()
        if pid == 0:
            os.close(read)
            os.setresuid(4241, 4241, 4241)
            die_with_parent(own)
            launch(prepared, b"/bin/sleep", write)
        os.close(write)
        os.read(read, 1)  # the program runs
        return pid

    with open("/proc/self/status", encoding="ascii") as status:
        assert status.read()
    prctl(36, 1)  # orphans come to this process
    try:
        pid = in_child(creator)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    finally:
        prctl(36, 0)


@pytest.mark.parametrize("way", WAYS)
def test_the_program_s_name_is_its_own(way: str) -> None:
    assert started("/bin/cat", "/proc/self/comm", way=way).out == b"cat\n"


def test_too_many_arguments_are_told_at_once() -> None:
    with pytest.raises(CommandNotExecutable, match="argument list too long"):
        in_child(lambda: launch(prepare((b"true", b"x" * (1 << 22)), ()), b"/bin/true"))


@pytest.mark.parametrize(
    ("arguments", "environment", "where"),
    [((b"a", b"b\0c"), (), "args"), ((b"a",), (b"A=1\0B=2",), "env")],
)
def test_a_text_that_would_be_cut_is_refused(
    arguments: tuple[bytes, ...], environment: tuple[bytes, ...], where: str
) -> None:
    with pytest.raises(InvalidConfig, match=rf"process\.{where}: a text holds a NUL byte"):
        prepare(arguments, environment)
