"""From `process.args` and `process.cwd` to a program and a directory inside the container, and
how it is said that there is none.

The texts are worded as engines expect them of a runtime: podman tells "not found" (127) from
"cannot be run" (126) by looking for them.
"""

from __future__ import annotations

import errno
import os
import stat

from engine.runtime.errors import (
    CommandNotExecutable,
    CommandNotFound,
    Failure,
    InvalidConfig,
    KernelRefused,
    refused,
)
from engine.runtime.kernel.paths import (
    O_PATH,
    RESOLVE_NO_MAGICLINKS,
    make_directories,
    open_in_root,
    openat2,
)

DEFAULT_PATH = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Searched if the process has no PATH (POSIX leaves the choice to us)."""

_MISSING = (errno.ENOENT, errno.ENOTDIR)
_PASSED_OVER = (*_MISSING, errno.EACCES, errno.ELOOP, errno.ENAMETOOLONG)


def search_path(environment: tuple[bytes, ...]) -> bytes:
    """PATH of an environment of NAME=VALUE entries; the first one counts, as for getenv(3)."""
    return next((entry[5:] for entry in environment if entry.startswith(b"PATH=")), DEFAULT_PATH)


def find_program(name: bytes, path: bytes) -> bytes:
    """The path to execute for `name`, looked up as execvp(3) does in the current root.

    A name with a slash is that path itself, relative to the working directory; an empty
    component of `path` is the working directory. Raises CommandNotFound and
    CommandNotExecutable; what only execve(2) can tell it tells later.
    """
    if not name:
        raise CommandNotFound('exec: "": executable file not found in $PATH')
    if b"/" in name:
        number = _look(name)
        if number:
            raise exec_failure(name, number)
        return name
    denied = 0
    for directory in path.split(b":"):
        candidate = directory.rstrip(b"/") + b"/" + name if directory else b"./" + name
        number = _look(candidate)
        if not number:
            return candidate
        if number not in _PASSED_OVER and number != errno.EISDIR:
            raise exec_failure(name, number)
        if number == errno.EACCES:
            denied = number
    if denied:
        raise exec_failure(name, denied)
    raise CommandNotFound(
        f"exec: {quoted(name)}: executable file not found in $PATH",
        hint=f"PATH is {path.decode('utf-8', 'backslashreplace')}",
        errno=errno.ENOENT,
    )


def _look(path: bytes) -> int:
    """0 if `path` is a file that we may execute, else the error number."""
    try:
        mode = os.stat(path).st_mode
    except OSError as e:
        return e.errno or errno.EIO
    except ValueError:  # a NUL byte
        return errno.ENOENT
    if stat.S_ISDIR(mode):
        return errno.EISDIR
    return 0 if stat.S_ISREG(mode) and os.access(path, os.X_OK) else errno.EACCES


def exec_failure(name: bytes, number: int) -> Failure:
    """The error for a program that execve(2) refuses with `number`."""
    subject = f"exec: {quoted(name)}"
    if number in _MISSING:
        hint = "the file is missing, or the interpreter that its first line or header names"
        return CommandNotFound(f"{subject}: {_text(number)}", hint=hint, errno=number)
    if number == errno.EISDIR:
        return CommandNotExecutable(f"{subject}: is a directory: permission denied", errno=number)
    hint = ""
    if number == errno.ENOEXEC:
        hint = "it is built for another architecture, or a script without a #! line"
    elif number == errno.EACCES:
        hint = "the file needs execute permission for the user, on a mount without noexec"
    return CommandNotExecutable(f"{subject}: {_text(number)}", hint=hint, errno=number)


def _text(number: int) -> str:
    return os.strerror(number).lower()


def quoted(name: bytes) -> str:
    """`name` in double quotes with what could confuse a terminal escaped."""
    text = name.decode("utf-8", "backslashreplace")
    shown = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
    return f'"{shown}"'


def make_cwd(root_fd: int, cwd: bytes) -> None:
    """Make the working directory inside `root_fd` if it is missing.

    Called with the credentials of the container's root, who becomes its owner, so that links
    in the image lead nowhere else (openat2(2), RESOLVE_IN_ROOT). A directory on a read-only
    file system is left for `enter_cwd` to miss. Raises KernelRefused, and InvalidConfig for a
    path over links of procfs.
    """
    try:
        os.close(open_in_root(root_fd, cwd, O_PATH | os.O_DIRECTORY))
        return
    except FileNotFoundError:
        pass
    except OSError as e:
        raise _cwd_failure(cwd, e) from e
    try:
        os.close(make_directories(root_fd, cwd))
    except OSError as e:
        if e.errno != errno.EROFS:
            raise refused(f"make cwd ({quoted(cwd)})", e) from e


def enter_cwd(cwd: bytes, *, may_be_denied: bool = False) -> bool:
    """Change to the working directory and make sure that it lies in the container.

    Called as the container's user. With `may_be_denied` False is returned if permissions say
    no: for a first attempt before the change of user, since images have a working directory
    that only root may enter (runc and crun admit it). A path over a link of procfs, such as
    /proc/self/fd/7, is refused, and so is a directory whose path the kernel does not know:
    both could be a directory of the host (CVE-2024-21626). Raises InvalidConfig, KernelRefused.
    """
    try:
        fd = openat2(-100, cwd, O_PATH | os.O_DIRECTORY, RESOLVE_NO_MAGICLINKS)
        try:
            os.fchdir(fd)
        finally:
            os.close(fd)
    except OSError as e:
        if may_be_denied and e.errno in (errno.EACCES, errno.EPERM):
            return False
        raise _cwd_failure(cwd, e) from e
    except ValueError as e:
        raise InvalidConfig(f"process.cwd {quoted(cwd)} holds a NUL byte") from e
    try:
        inside = os.getcwdb().startswith(b"/")
    except FileNotFoundError:
        inside = False
    if not inside:
        raise InvalidConfig(f"cwd ({quoted(cwd)}) is outside of the container's root")
    return True


def _cwd_failure(cwd: bytes, error: OSError) -> Failure:
    text = f"chdir to cwd ({quoted(cwd)}) set in config.json failed"
    number = error.errno or errno.EIO
    if number == errno.ELOOP:
        return InvalidConfig(
            f"{text}: it leads over links of /proc or too many links", errno=number
        )
    return KernelRefused(f"{text}: {_text(number)}", errno=number)
