"""The errors of the runtime, which also cross from a container's init to its creator.

`message` is one line, lower case and without a final stop: what failed and what was expected;
`hint` says what to do. `to_document` and `from_document` carry an error over a pipe.

    Failure
    ├── InvalidConfig        config.json, an option or a profile breaks its specification
    ├── Unsupported          valid, but this runtime or this kernel does not do it
    ├── KernelRefused        a system call failed; `errno` says how
    ├── NoSuchContainer      no container has this id
    ├── ContainerExists      a container has this id already
    ├── WrongState           the container's status does not admit the operation
    ├── CommandNotFound      the program is not in the container (exit code 127)
    ├── CommandNotExecutable it is there but cannot be run (exit code 126)
    ├── HookFailed           a hook ended badly
    └── Damaged              the runtime's own state cannot be read
"""

from __future__ import annotations

import os


class Failure(Exception):
    """Root of every error the runtime raises on purpose."""

    def __init__(self, message: str, *, hint: str = "", errno: int = 0) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.errno = errno

    def to_document(self) -> dict[str, object]:
        """The error as JSON values."""
        return {
            "error": type(self).__name__,
            "message": self.message,
            "hint": self.hint,
            "errno": self.errno,
        }


class InvalidConfig(Failure):
    """config.json, an option or a profile breaks its specification."""


class Unsupported(Failure):
    """Valid, but this runtime or this kernel does not do it."""


class KernelRefused(Failure):
    """A system call failed."""


class NoSuchContainer(Failure):
    """No container has this id."""


class ContainerExists(Failure):
    """A container has this id already."""


class WrongState(Failure):
    """The container's status does not admit the operation."""


class CommandNotFound(Failure):
    """The program is not in the container; the exit code is 127."""


class CommandNotExecutable(Failure):
    """The program is in the container but cannot be run; the exit code is 126."""


class HookFailed(Failure):
    """A hook ended badly."""


class Damaged(Failure):
    """The runtime's own state cannot be read."""


_KINDS = (
    InvalidConfig,
    Unsupported,
    KernelRefused,
    NoSuchContainer,
    ContainerExists,
    WrongState,
    CommandNotFound,
    CommandNotExecutable,
    HookFailed,
    Damaged,
)


def from_document(document: dict[str, object]) -> Failure:
    """The error that `to_document` described; an unknown kind is a plain Failure."""
    kind = next((k for k in _KINDS if k.__name__ == document.get("error")), Failure)
    number = document.get("errno")
    return kind(
        str(document.get("message", "")),
        hint=str(document.get("hint", "")),
        errno=number if isinstance(number, int) else 0,
    )


def refused(action: str, error: OSError, *, hint: str = "") -> KernelRefused:
    """The KernelRefused for `action` ("mount /proc") that failed with `error`."""
    number = error.errno or 0
    return KernelRefused(f"{action}: {os.strerror(number).lower()}", hint=hint, errno=number)
