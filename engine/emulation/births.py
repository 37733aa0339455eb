"""When a file was made: with device and inode number it names a file for good, where those two
alone name whatever was given the number next."""

from __future__ import annotations

import ctypes
import os

from engine.runtime.kernel.calls import LIBC, checked

_AT_EMPTY_PATH = 0x1000
_STATX_BTIME = 0x800


class _Time(ctypes.Structure):
    _fields_ = (
        ("seconds", ctypes.c_int64),
        ("nanoseconds", ctypes.c_uint32),
        ("_", ctypes.c_int32),
    )


class _Statx(ctypes.Structure):
    """struct statx as far as it is read; the kernel writes 256 bytes."""

    _fields_ = (
        ("mask", ctypes.c_uint32),
        ("_before", ctypes.c_uint8 * 76),
        ("birth", _Time),
        ("_after", ctypes.c_uint8 * 160),
    )


def born(fd: int) -> int:
    """The birth time of what `fd` is (O_PATH will do) in nanoseconds since the epoch, 0 where
    the file system does not know it. Raises OSError."""
    found = _Statx()
    checked(
        LIBC.statx(
            ctypes.c_int(fd),
            b"",
            ctypes.c_int(_AT_EMPTY_PATH),
            ctypes.c_uint(_STATX_BTIME),
            ctypes.byref(found),
        )
    )
    if not found.mask & _STATX_BTIME:
        return 0
    return int(found.birth.seconds) * 1_000_000_000 + int(found.birth.nanoseconds)


def born_at(path: str | bytes, dir_fd: int | None = None) -> int:
    """`born` of a path, of which the last link is not followed."""
    flags = os.O_NOFOLLOW | os.O_CLOEXEC | getattr(os, "O_PATH", 0o10000000)
    fd = os.open(path, flags, dir_fd=dir_fd)
    try:
        return born(fd)
    finally:
        os.close(fd)
