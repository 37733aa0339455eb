"""The check that stands in for the trampoline where the kernel admits none: that a program does
not lead back to the file this process runs from.

It can only speak of the moment it is made: a program in a container that is running already
could be exchanged before execve(2). The trampoline has no such gap.
"""

from __future__ import annotations

import errno
import os
import struct

from engine.runtime.errors import CommandNotExecutable
from engine.runtime.process.command import exec_failure, quoted

_MAX_SCRIPTS = 5
_HEAD = 256
"""Bytes of a file that the kernel looks at (BINPRM_BUF_SIZE)."""

_MAX_PROGRAM_HEADERS = 1 << 16
_MAX_INTERPRETER = 4096
_PT_INTERP = 3


def refuse_own_interpreter(program: bytes, name: bytes, own: tuple[int, int]) -> None:
    """Raise CommandNotExecutable if executing `program` would run the file `own` (device,
    inode): itself, as the interpreter of a script (of a script ...) or of an ELF file.

    `name` is how errors call the program. A program that cannot be read cannot be checked and
    is refused too.
    """
    path = program
    for _ in range(_MAX_SCRIPTS):
        interpreter = _interpreter_of(path, name, own)
        if interpreter is None:
            return
        path = interpreter
    raise exec_failure(name, errno.ELOOP)


def _interpreter_of(path: bytes, name: bytes, own: tuple[int, int]) -> bytes | None:
    """What `path` is interpreted by; None if that cannot be a script or is nothing."""
    fd = _open(path, name, own)
    try:
        head = os.pread(fd, _HEAD, 0)
        if head.startswith(b"#!"):
            line = head[2:].partition(b"\n")[0].strip(b" \t")
            return line.replace(b"\t", b" ").partition(b" ")[0].partition(b"\0")[0] or None
        loader = _elf_interpreter(fd, head)
    except OSError as e:
        raise exec_failure(name, e.errno or errno.EIO) from e
    finally:
        os.close(fd)
    if loader:
        os.close(_open(loader, name, own))
    return None


def _open(path: bytes, name: bytes, own: tuple[int, int]) -> int:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError as e:
        raise exec_failure(name, e.errno or errno.EIO) from e
    st = os.fstat(fd)
    if (st.st_dev, st.st_ino) == own:
        os.close(fd)
        raise CommandNotExecutable(
            f"exec: {quoted(name)}: permission denied: it leads to the runtime's own interpreter",
            errno=errno.EACCES,
        )
    return fd


def _elf_interpreter(fd: int, head: bytes) -> bytes:
    """PT_INTERP of an ELF file of any class and byte order; empty if there is none."""
    if not head.startswith(b"\x7fELF") or len(head) < 64:
        return b""
    order = ">" if head[5] == 2 else "<"
    if head[4] == 2:
        where, at, entry, fields = ("Q", 32), 54, "IIQQQQ", (2, 5)
    else:
        where, at, entry, fields = ("I", 28), 42, "IIIII", (1, 4)
    (offset,) = struct.unpack_from(order + where[0], head, where[1])
    size, count = struct.unpack_from(order + "HH", head, at)
    if size < struct.calcsize(order + entry) or size * count > _MAX_PROGRAM_HEADERS:
        return b""
    table = os.pread(fd, size * count, offset)
    for start in range(0, len(table) - size + 1, size):
        header = struct.unpack_from(order + entry, table, start)
        if header[0] == _PT_INTERP:
            length = min(header[fields[1]], _MAX_INTERPRETER)
            return os.pread(fd, length, header[fields[0]]).partition(b"\0")[0]
    return b""
