"""The mounts of this process's namespace, as /proc/self/mountinfo tells them (proc(5))."""

from __future__ import annotations

import os

from engine.runtime.record import Record

_CHUNK = 1 << 16


class MountEntry(Record):
    """One mount: its number, that of the mount it is on, where it is and its type."""

    number: int
    parent: int
    point: bytes
    fstype: bytes


def parse_mountinfo(text: bytes) -> tuple[MountEntry, ...]:
    """The lines of mountinfo; those that are not of its form are left out."""
    return tuple(entry for line in text.splitlines() if (entry := _entry(line)) is not None)


def _entry(line: bytes) -> MountEntry | None:
    before, dash, after = line.partition(b" - ")
    fields, kind = before.split(b" "), after.split(b" ")
    if not dash or len(fields) < 6 or not (fields[0].isdigit() and fields[1].isdigit()):
        return None
    return MountEntry(
        number=int(fields[0]), parent=int(fields[1]), point=_plain(fields[4]), fstype=kind[0]
    )


def _plain(text: bytes) -> bytes:
    """`text` with its octal escapes (of blanks and backslashes) undone."""
    head, *rest = text.split(b"\\")
    return head + b"".join(bytes((int(part[:3], 8),)) + part[3:] for part in rest)


def mount_number(proc_fd: int, fd: int) -> int:
    """The number of the mount that `fd` is on; `proc_fd` is a trusted /proc. Raises OSError."""
    for line in _read(proc_fd, b"self/fdinfo/%d" % fd).splitlines():
        key, _, value = line.partition(b":")
        if key == b"mnt_id":
            return int(value)
    raise ProcessLookupError


def read_mounts(proc_fd: int) -> tuple[MountEntry, ...]:
    """The mounts this process sees; `proc_fd` is a trusted /proc. Raises OSError."""
    return parse_mountinfo(_read(proc_fd, b"self/mountinfo"))


def _read(proc_fd: int, name: bytes) -> bytes:
    fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=proc_fd)
    try:
        chunks = []
        while chunk := os.read(fd, _CHUNK):
            chunks.append(chunk)
        return b"".join(chunks)
    finally:
        os.close(fd)
