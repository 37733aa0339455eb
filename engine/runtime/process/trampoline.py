"""The last execve(2): by way of a tiny sealed program, so that nothing in the container can
reach the runtime's interpreter through /proc/self/exe.

Until a process has executed something else, /proc/self/exe is the file it runs from; for a
runtime in Python that is the host's interpreter. A container whose program is /proc/self/exe,
or a script or ELF file with that as interpreter, would run it and could then overwrite it
(CVE-2019-5736). So the interpreter first executes a program of a few hundred bytes in a sealed
memfd, and that executes the container's: what the container finds is the memfd.

Capabilities, ids, securebits and PR_SET_PDEATHSIG come through two execve(2) as through one:
the memfd has neither set-id bits nor file capabilities, and reading it is allowed.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct

from engine.runtime.errors import (
    CommandNotExecutable,
    CommandNotFound,
    Failure,
    InvalidConfig,
    refused,
)
from engine.runtime.kernel.calls import MACHINE, named, syscall
from engine.runtime.kernel.mounting import AT_EMPTY_PATH
from engine.runtime.kernel.processes import execve, string_vector
from engine.runtime.process.command import exec_failure, quoted
from engine.runtime.process.interpreter import refuse_own_interpreter
from engine.runtime.process.trampoline_code import BASE, ELF_MACHINES, MARKER, ORDERS, machine_code
from engine.runtime.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    from engine.runtime.seccomp.filter import Filter
    from engine.runtime.seccomp.load import Loader

    Report = Callable[[Failure], bytes]

_ENTRY = BASE + 0xB0
_ORDERS_SIZE = 64
_EXIT_NOT_FOUND, _EXIT_NOT_EXECUTABLE = 127, 126
_TOLD_APART = (
    errno.ENOENT,
    errno.EACCES,
    errno.ENOEXEC,
    errno.EPERM,
    errno.E2BIG,
    errno.EAGAIN,
    errno.ETXTBSY,
    errno.ELOOP,
    errno.ENOTDIR,
)
"""What execve(2) fails with in practice and has a text of its own."""

_MFD_CLOEXEC, _MFD_ALLOW_SEALING, _MFD_EXEC = 1, 2, 0x10
_F_ADD_SEALS = 1033
_SEAL_ALL, _SEAL_EXEC = 0x1 | 0x2 | 0x4 | 0x8, 0x20
_REFUSED_FIRST = (errno.EACCES, errno.EPERM, errno.ENOSYS, errno.EINVAL, errno.ENOEXEC)
"""What execveat(2) of the memfd fails with where policy forbids it."""


class Launch(Record):
    """All that the last step needs, prepared before the container is entered.

    `memfd` is -1, and `why_direct` says why, where the program has to be executed directly.
    `interpreter` is (device, inode) of the file this process runs from. `loader` is for the
    direct way what the memfd holds for the other.
    """

    memfd: int
    arguments: tuple[bytes, ...]
    environment: tuple[bytes, ...]
    interpreter: tuple[int, int]
    loader: Loader | None = None
    why_direct: str = ""


def prepare(
    arguments: tuple[bytes, ...],
    environment: tuple[bytes, ...],
    *,
    seccomp: Filter | None = None,
    report: Report | None = None,
    direct: str = "",
) -> Launch:
    """Build the trampoline for a container's program; before rlimits, which could forbid it.

    `seccomp` is loaded right before the program is executed, so that nothing but execve(2)
    happens under it. That is for processes with no_new_privs and filters without listener; the
    others have to be loaded earlier, by the caller, and have to allow execveat(2).
    `report` turns the failure of the last execve(2) into what is written to the reporting
    descriptor, by default one line of text. `direct` is a reason to do without trampoline: an
    SELinux label is one, since its policy knows no such file and keeps the host's files from
    being written anyway. The memfd is close-on-exec and belongs to the caller. Raises
    InvalidConfig for texts that no argument can be, KernelRefused.
    """
    for words, where in ((arguments, "process.args"), (environment, "process.env")):
        if any(b"\0" in word for word in words):
            raise InvalidConfig(f"{where}: a text holds a NUL byte")
    try:
        st = os.stat(b"/proc/self/exe")
    except OSError as e:
        raise refused("look at /proc/self/exe", e) from e
    memfd = -1
    loader = _loader(seccomp) if seccomp else None
    if not direct and MACHINE not in ELF_MACHINES:
        direct = f"there is no trampoline for {MACHINE}"
    if not direct:
        program, flags = (seccomp.program, loader.flags) if seccomp and loader else (b"", 0)
        image = build_image(MACHINE, arguments[0], program, flags, report or _line_of_text)
        try:
            memfd = sealed_memfd(image)
        except OSError as e:
            direct = f"cannot make an executable memfd: {os.strerror(e.errno or 0).lower()}"
    return Launch(
        memfd=memfd,
        arguments=arguments,
        environment=environment,
        interpreter=(st.st_dev, st.st_ino),
        loader=loader,
        why_direct=direct,
    )


def _loader(seccomp: Filter) -> Loader:
    # Here and not above: most of what starts has no filter and need not wait for the import.
    from engine.runtime.seccomp.load import Loader

    return Loader(seccomp)


def _line_of_text(failure: Failure) -> bytes:
    return failure.message.encode("utf-8", "backslashreplace") + b"\n"


def build_image(
    machine: str, name: bytes, filter_program: bytes, filter_flags: int, report: Report
) -> bytes:
    """The ELF file; `trampoline_code` says how it is laid out."""
    orders = ORDERS - BASE
    body = bytearray(filter_program)
    texts = orders + _ORDERS_SIZE

    def add_table(entries: list[tuple[int, Failure]]) -> int:
        rows = []
        for number, failure in entries:
            text = report(failure)
            rows.append((number, _exit_code(failure), BASE + texts + len(body), len(text)))
            body.extend(text)
        body.extend(bytes(-len(body) % 8))
        address = BASE + texts + len(body)
        body.extend(b"".join(struct.pack("<IIQQ", *row) for row in rows))
        return address

    def other(text: str) -> Failure:
        return CommandNotExecutable(f"exec: {quoted(name)}: {text}")

    last_step = [(n, exec_failure(name, n)) for n in _TOLD_APART]
    exec_table = add_table([*last_step, (0, other("cannot be executed"))])
    filter_table = add_table([(0, other("its seccomp filter cannot be loaded"))])
    fcntl_table = add_table([(0, other("its descriptors cannot be prepared"))])
    report = _line_of_text
    stranger_table = add_table([(0, other("permission denied: it is or has /proc/self/exe"))])
    head = struct.pack(
        "<8sIIH6xQQQQQ",
        MARKER,
        filter_flags,
        1 if filter_program else 0,
        len(filter_program) // 8,
        BASE + texts,
        exec_table,
        filter_table,
        fcntl_table,
        stranger_table,
    )
    code = machine_code(machine)
    size = texts + len(body)
    return b"".join(
        (
            _elf_headers(ELF_MACHINES[machine], size),
            code,
            bytes(orders - (_ENTRY - BASE) - len(code)),
            head,
            body,
        )
    )


def _exit_code(failure: Failure) -> int:
    return _EXIT_NOT_FOUND if isinstance(failure, CommandNotFound) else _EXIT_NOT_EXECUTABLE


def _elf_headers(machine: int, size: int) -> bytes:
    """ELF header of a static executable, one segment to read and execute, a stack without."""
    ident = b"\x7fELF\x02\x01\x01" + bytes(9)
    load = struct.pack("<IIQQQQQQ", 1, 5, 0, BASE, BASE, size, size, 0x10000)
    stack = struct.pack("<IIQQQQQQ", 0x6474E551, 6, 0, 0, 0, 0, 0, 16)
    header = struct.pack(
        "<16sHHIQQQIHHHHHH", ident, 2, machine, 1, _ENTRY, 64, 0, 0, 64, 56, 2, 0, 0, 0
    )
    return header + load + stack


def sealed_memfd(content: bytes) -> int:
    """A close-on-exec memfd that can be executed but not be changed; raises OSError."""
    flags = _MFD_CLOEXEC | _MFD_ALLOW_SEALING
    try:
        fd = os.memfd_create("imgtools-exec", flags | _MFD_EXEC)
    except OSError as e:
        if e.errno != errno.EINVAL:  # before Linux 6.3
            raise
        fd = os.memfd_create("imgtools-exec", flags)
    try:
        if os.write(fd, content) != len(content):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        try:
            fcntl.fcntl(fd, _F_ADD_SEALS, _SEAL_ALL | _SEAL_EXEC)
        except OSError:  # before Linux 6.3
            fcntl.fcntl(fd, _F_ADD_SEALS, _SEAL_ALL)
    except BaseException:
        os.close(fd)
        raise
    return fd


def launch(prepared: Launch, program: bytes, report_fd: int = 2) -> NoReturn:
    """Execute `program` (a path, see `command.find_program`); returns only by raising.

    `report_fd` gets the text about a failure that comes after this process is gone, and is
    closed if there is none (2, standard error, stays). Raises CommandNotFound,
    CommandNotExecutable, and KernelRefused where the seccomp filter cannot be loaded.
    """
    name = prepared.arguments[0]
    if prepared.memfd >= 0:
        environment = string_vector(prepared.environment)
        first = (MARKER + b"%d" % report_fd, program)
        arguments = string_vector(first + prepared.arguments)
        if report_fd > 2:
            os.set_inheritable(report_fd, True)
        try:
            number = named("execveat")
            syscall(number, prepared.memfd, b"", arguments, environment, AT_EMPTY_PATH)
        except OSError as e:
            if report_fd > 2:
                os.set_inheritable(report_fd, False)
            if e.errno not in _REFUSED_FIRST:
                raise exec_failure(name, e.errno or errno.EIO) from e
    refuse_own_interpreter(program, name, prepared.interpreter)
    if prepared.loader:
        prepared.loader.load()
    try:
        execve(program, prepared.arguments, prepared.environment)
    except OSError as e:
        raise exec_failure(name, e.errno or errno.EIO) from e
    raise AssertionError("unreachable")
