"""Compiled filters kept in a directory, so that a profile is compiled once for each machine.

A file is one filter, named by the digest of everything that it was made from. It carries a
digest of its own content: a torn or foreign file is compiled anew, and never loaded.
"""

from __future__ import annotations

import os
import stat
import struct

from engine.runtime.record import Record
from engine.runtime.seccomp.filter import INSTRUCTION_SIZE, MAX_INSTRUCTIONS, Filter
from engine.runtime.spec.model import Seccomp

try:
    from _sha2 import sha256  # type: ignore[import-not-found, unused-ignore]
except ImportError:  # Python 3.11
    from _sha256 import sha256  # type: ignore[import-not-found, unused-ignore]

# Changes with the compiler's output, the tables and the layout of the file.
VERSION = 1
_HEADER = struct.Struct("<8sIII")  # magic, flags, optional flags, bytes of program
_MAGIC = b"imgbpf\0" + bytes((VERSION,))
_DIGEST_SIZE = 32
_MAX_NAMES = 64 << 10
_MAX_FILE = _HEADER.size + MAX_INSTRUCTIONS * INSTRUCTION_SIZE + _MAX_NAMES + _DIGEST_SIZE


def cached(directory: str, profile: Seccomp, machine: str) -> Filter:
    """The filter of `profile` for `machine`, from `directory` or compiled and put there.

    A directory that cannot be written only costs the time to compile; one that others can
    write is not believed. Raises what compile_profile raises.
    """
    try:
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return _compile(profile, machine)
    try:
        state = os.fstat(fd)
        if state.st_uid != os.geteuid() or state.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            return _compile(profile, machine)
        name = key(profile, machine)
        found = _read(fd, name)
        if found is None:
            found = _compile(profile, machine)
            _write(fd, name, found)
        return found
    finally:
        os.close(fd)


def key(profile: Seccomp, machine: str) -> str:
    """The name of the file: a digest of what the filter depends on."""
    parts = (
        VERSION,
        machine,
        profile.default_action,
        profile.default_errno_ret,
        profile.architectures,
        profile.flags,
        [(r.names, r.action, r.errno_ret, _values(r.args)) for r in profile.syscalls],
    )
    # repr of strings, numbers and None is unambiguous; lone surrogates it escapes.
    digest: str = sha256(ascii(parts).encode()).hexdigest()
    return digest


def _values(records: tuple[Record, ...]) -> list[tuple[object, ...]]:
    return [tuple(getattr(one, name) for name in one._fields) for one in records]


def _compile(profile: Seccomp, machine: str) -> Filter:
    # Imported here because a filter from the cache needs none of it.
    from engine.runtime.seccomp.compiler import compile_profile

    return compile_profile(profile, machine)


def encode(compiled: Filter) -> bytes:
    """The content of a file."""
    names = "\0".join(compiled.unknown_names).encode("utf-8", "surrogatepass")
    head = _HEADER.pack(_MAGIC, compiled.flags, compiled.optional_flags, len(compiled.program))
    content = head + compiled.program + names
    return content + bytes(sha256(content).digest())


def decode(content: bytes) -> Filter | None:
    """The filter in a file's `content`, None if it is not one that `encode` made."""
    body, digest = content[:-_DIGEST_SIZE], content[-_DIGEST_SIZE:]
    if len(content) > _MAX_FILE or len(body) < _HEADER.size or sha256(body).digest() != digest:
        return None
    magic, flags, optional, size = _HEADER.unpack_from(body)
    program = body[_HEADER.size : _HEADER.size + size]
    if magic != _MAGIC or size % INSTRUCTION_SIZE or not 0 < size == len(program):
        return None
    names = body[_HEADER.size + size :].decode("utf-8", "surrogatepass")
    return Filter(
        program=program,
        flags=flags,
        optional_flags=optional,
        unknown_names=tuple(names.split("\0")) if names else (),
    )


def _read(directory: int, name: str) -> Filter | None:
    try:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        fd = os.open(name, flags, dir_fd=directory)
    except OSError:
        return None
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return None
        return decode(os.read(fd, _MAX_FILE + 1))
    finally:
        os.close(fd)


def _write(directory: int, name: str, compiled: Filter) -> None:
    """Put `compiled` there whole or not at all; a disk that refuses is no error here.

    Not synced: after a power cut the digest tells, and a sync takes longer than compiling.
    """
    content = encode(compiled)
    if len(content) > _MAX_FILE:
        return
    partial = f"{name}.{os.getpid()}"
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(partial, flags, 0o600, dir_fd=directory)
    except OSError:
        return
    try:
        with open(fd, "wb", buffering=0) as file:
            file.write(content)
        os.rename(partial, name, src_dir_fd=directory, dst_dir_fd=directory)
    except OSError:
        _remove(directory, partial)


def _remove(directory: int, name: str) -> None:
    try:
        os.unlink(name, dir_fd=directory)
    except OSError:
        return
