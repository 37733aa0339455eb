"""The AArch64 listing of the trampoline, run instruction by instruction on any machine."""

from __future__ import annotations

import errno
import struct

import pytest

from engine.runtime.process.trampoline import _line_of_text, build_image
from engine.runtime.process.trampoline_code import BASE, MARKER, machine_code
from tests.engine.arm64 import Ended, Machine, stack_with

STACK = 0x7FFF0000
FCNTL, WRITE, EXIT, EXIT_GROUP, EXECVE, SECCOMP = 25, 64, 93, 94, 221, 277


class Kernel:
    """Answers system calls with `answers`, by default 0, and writes them down."""

    def __init__(self, arguments: list[bytes], filter_program: bytes = b"") -> None:
        image = build_image("aarch64", b"name", filter_program, 0x11, _line_of_text)
        (entry,) = struct.unpack_from("<Q", image, 24)
        stack = stack_with(STACK, arguments, [b"A=1", b"B=2"])
        self.calls: list[tuple[object, ...]] = []
        self.answers = {EXECVE: -errno.ENOENT}
        self._entry = entry
        self._machine = Machine({BASE: image, STACK: stack}, STACK, self._call)

    def run(self) -> list[tuple[object, ...]]:
        with pytest.raises(Ended):
            self._machine.run(self._entry)
        return self.calls

    def _call(self, number: int, arguments: list[int]) -> int:
        self.calls.append((number, *self._shown(number, arguments)))
        if number in (EXIT, EXIT_GROUP) and number not in self.answers:
            raise Ended("exit")
        return self.answers.get(number, 0)

    def _shown(self, number: int, found: list[int]) -> tuple[object, ...]:
        machine = self._machine
        if number == EXECVE:
            return (machine.text(found[0]), self._vector(found[1]), self._vector(found[2]))
        if number == WRITE:
            return (found[0], machine.text(found[1], found[2]))
        if number == SECCOMP:
            length, address = machine.read(found[2], 2), machine.read(found[2] + 8, 8)
            content = [machine.read(address + 8 * n, 8) for n in range(length)]
            return (found[0], found[1], content)
        return tuple(found[: {FCNTL: 3}.get(number, 1)])

    def _vector(self, address: int) -> list[bytes]:
        found = []
        while pointer := self._machine.read(address + 8 * len(found), 8):
            found.append(self._machine.text(pointer))
        return found


def started(report: int, *arguments: bytes, filter_program: bytes = b"") -> Kernel:
    return Kernel([MARKER + b"%d" % report, b"/bin/prog", *arguments], filter_program)


EXECUTED = (EXECVE, b"/bin/prog", [b"name", b"x", b""], [b"A=1", b"B=2"])


def test_the_program_is_executed_with_its_arguments_and_environment() -> None:
    calls = started(2, b"name", b"x", b"").run()
    assert calls == [
        EXECUTED,
        (WRITE, 2, b'exec: "name": no such file or directory\n'),
        (EXIT_GROUP, 127),
    ]


@pytest.mark.parametrize("report", [3, 10, 12345])
def test_the_reporting_descriptor_is_closed_on_exec(report: int) -> None:
    calls = started(report, b"name", b"x", b"").run()
    assert calls[:2] == [(FCNTL, report, 2, 1), EXECUTED]
    assert calls[2][:2] == (WRITE, report)


@pytest.mark.parametrize(
    ("number", "code", "text"),
    [
        (errno.EACCES, 126, b'exec: "name": permission denied\n'),
        (errno.ENOEXEC, 126, b'exec: "name": exec format error\n'),
        (errno.ENOTDIR, 127, b'exec: "name": not a directory\n'),
        (errno.EMULTIHOP, 126, b'exec: "name": cannot be executed\n'),
    ],
)
def test_each_error_has_its_text_and_code(number: int, code: int, text: bytes) -> None:
    kernel = started(2, b"name")
    kernel.answers[EXECVE] = -number
    assert kernel.run()[1:] == [(WRITE, 2, text), (EXIT_GROUP, code)]


def test_the_filter_is_loaded_before() -> None:
    program = struct.pack("<3Q", 11, 22, 33)
    calls = started(7, b"name", filter_program=program).run()
    assert [call[0] for call in calls] == [FCNTL, SECCOMP, EXECVE, WRITE, EXIT_GROUP]
    assert calls[1] == (SECCOMP, 1, 0x11, [11, 22, 33])


@pytest.mark.parametrize(
    ("call", "text"),
    [(SECCOMP, b"its seccomp filter cannot be loaded"), (FCNTL, b"its descriptors cannot be")],
)
def test_a_step_that_fails_is_the_last(call: int, text: bytes) -> None:
    kernel = started(7, b"name", filter_program=bytes(8))
    kernel.answers[call] = -errno.EPERM
    calls = kernel.run()
    assert EXECVE not in [one[0] for one in calls]
    assert text in bytes(calls[-2][2])  # type: ignore[arg-type]
    assert calls[-1] == (EXIT_GROUP, 126)


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        [b""],
        [MARKER + b"2"],
        [MARKER + b"2", b"/bin/prog"],
        [b"/proc/self/exe", b"/script", b"x"],
        [b"imgtool", b"/bin/prog", b"x"],
    ],
)
def test_d4_others_get_nothing_executed(arguments: list[bytes]) -> None:
    calls = Kernel(arguments).run()
    assert [call[0] for call in calls] == [WRITE, EXIT_GROUP]
    assert calls[0][1] == 2
    assert calls[1] == (EXIT_GROUP, 126)


def test_where_even_the_exit_is_denied_a_trap_ends_it() -> None:
    kernel = started(2, b"name")
    kernel.answers.update({EXIT_GROUP: -1, EXIT: -1, WRITE: -1})
    assert [call[0] for call in kernel.run()] == [EXECVE, WRITE, EXIT_GROUP, EXIT]


def test_every_byte_is_an_instruction() -> None:
    assert len(machine_code("aarch64")) % 4 == 0
