"""bpf(2), as far as device filters of cgroup2 need it: load, attach, find, replace, detach.

An attached program lives as long as its cgroup, so no descriptor has to be kept. Source: the
kernel's include/uapi/linux/bpf.h, bpf(2).
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct

from engine.runtime.kernel.calls import named, syscall
from engine.runtime.kernel.files import close_all

PROGRAM_LOAD, PROGRAM_ATTACH, PROGRAM_DETACH = 5, 8, 9
PROGRAM_FD_BY_ID, PROGRAM_QUERY = 13, 16
CGROUP_DEVICE_PROGRAM, CGROUP_DEVICE_ATTACH = 15, 6
ALLOW_MULTI, REPLACE = 2, 4
LICENSE = b"Apache-2.0\0"
MAX_PROGRAMS = 64


def set_device_program(cgroup_fd: int, program: bytes) -> None:
    """Make `program` (instructions) the only device filter attached to the cgroup2 directory;
    empty bytes remove every filter. Raises OSError.

    There is no moment without a filter: an old one goes, or is exchanged, after the new one is
    loaded.
    """
    old = [_open_program(number) for number in attached(cgroup_fd)]
    try:
        if program:
            _attach(cgroup_fd, program, old)
        else:
            for fd in old:
                _detach(cgroup_fd, fd)
    finally:
        close_all(old)


def _attach(cgroup_fd: int, program: bytes, old: list[int]) -> None:
    new = _load(program)
    try:
        head = struct.pack("=IIII", cgroup_fd, new, CGROUP_DEVICE_ATTACH, ALLOW_MULTI)
        if len(old) == 1:
            exchange = struct.pack(
                "=IIIII", cgroup_fd, new, CGROUP_DEVICE_ATTACH, ALLOW_MULTI | REPLACE, old[0]
            )
            try:
                _bpf(PROGRAM_ATTACH, exchange)
            except OSError as e:
                # Kernels before 5.6 cannot exchange.
                if e.errno != errno.EINVAL:
                    raise
            else:
                return
        _bpf(PROGRAM_ATTACH, head)
        for fd in old:
            _detach(cgroup_fd, fd)
    finally:
        os.close(new)


def attached(cgroup_fd: int) -> list[int]:
    """The ids of the device programs attached to this very cgroup. Raises OSError."""
    ids = (ctypes.c_uint32 * MAX_PROGRAMS)()
    address = ctypes.addressof(ids)
    query = struct.pack("=IIIIQII", cgroup_fd, CGROUP_DEVICE_ATTACH, 0, 0, address, MAX_PROGRAMS, 0)
    buffer = ctypes.create_string_buffer(query, len(query))
    _bpf(PROGRAM_QUERY, buffer)
    count = struct.unpack_from("=I", buffer.raw, 24)[0]
    return list(ids[:count])


def _load(program: bytes) -> int:
    try:
        return _load_once(program)
    except OSError as e:
        if e.errno != errno.EPERM:
            raise
    import resource

    # Before 5.11 programs counted as locked memory, of which 64 kB are usual.
    _, hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (hard, hard))
    return _load_once(program)


def _load_once(program: bytes) -> int:
    instructions = ctypes.create_string_buffer(program, len(program))
    license_text = ctypes.create_string_buffer(LICENSE)
    attributes = struct.pack(
        "=IIQQIIQII",
        CGROUP_DEVICE_PROGRAM,
        len(program) // 8,
        ctypes.addressof(instructions),
        ctypes.addressof(license_text),
        0,
        0,
        0,
        0,
        0,
    )
    return _bpf(PROGRAM_LOAD, attributes)


def _detach(cgroup_fd: int, program_fd: int) -> None:
    _bpf(PROGRAM_DETACH, struct.pack("=IIII", cgroup_fd, program_fd, CGROUP_DEVICE_ATTACH, 0))


def _open_program(number: int) -> int:
    return _bpf(PROGRAM_FD_BY_ID, struct.pack("=III", number, 0, 0))


def _bpf(command: int, attributes: bytes | ctypes.Array[ctypes.c_char]) -> int:
    return syscall(named("bpf"), command, attributes, len(attributes))
