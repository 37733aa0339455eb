"""Reads and writes the small JSON files that commands are given."""

from __future__ import annotations

import os

from engine.runtime.errors import InvalidConfig, refused
from engine.runtime.jsontext import parse
from engine.runtime.kernel.files import read_all, write_all

MAX_SIZE = 16 << 20
STDIN = 0


def read_document(path: str) -> object:
    """The value of a JSON file, or of standard input if `path` is `-`.

    Raises InvalidConfig, KernelRefused.
    """
    name = "standard input" if path == "-" else path
    try:
        fd = os.dup(STDIN) if path == "-" else os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            content = read_all(fd, MAX_SIZE + 1)
        finally:
            os.close(fd)
    except OSError as e:
        raise refused(f"read {name}", e) from e
    if len(content) > MAX_SIZE:
        raise InvalidConfig(f"{name}: expected at most {MAX_SIZE} bytes")
    return parse(content, name)


def write_new(path: str, content: bytes) -> None:
    """Make a file that was not there, as a whole or not at all.

    Raises InvalidConfig if there is one, KernelRefused.
    """
    directory, _, name = path.rpartition("/")
    temporary = f"{directory}/.{name}.{os.getpid()}" if directory else f".{name}.{os.getpid()}"
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        try:
            try:
                write_all(fd, content)
                os.fsync(fd)
            finally:
                os.close(fd)
            os.link(temporary, path)
        finally:
            os.unlink(temporary)
    except FileExistsError as e:
        raise InvalidConfig(f"{path} exists already", hint="remove it first") from e
    except OSError as e:
        raise refused(f"write {path}", e) from e
