"""Opening what is below a directory, through no symbolic link and never outside of it.

openat2(2) does this in one call. Where a sandbox refuses the call, or a path is longer than
the kernel takes at once, the path is walked component by component with the same result.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct

_OPENAT2 = 437
"""The same on all architectures, as for every call since Linux 5.1."""
_RESOLVE_NO_MAGICLINKS, _RESOLVE_NO_SYMLINKS, _RESOLVE_BENEATH = 0x02, 0x04, 0x08
_RESOLVE = _RESOLVE_NO_MAGICLINKS | _RESOLVE_NO_SYMLINKS | _RESOLVE_BENEATH
_PATH_FLAGS = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_STEP_FLAGS = _PATH_FLAGS | os.O_DIRECTORY
_MAX_TRIES = 64

_SANDBOXED = (errno.ENOSYS, errno.EPERM, errno.E2BIG, errno.EINVAL)
"""What seccomp filters, and emulations of the call, answer to those they do not admit."""
_AGAIN = (errno.EAGAIN, errno.EINTR)

_syscall = ctypes.CDLL(None, use_errno=True).syscall
_syscall.restype = ctypes.c_long
_syscall.argtypes = (
    ctypes.c_long,
    ctypes.c_int,
    ctypes.c_char_p,
    ctypes.c_char_p,
    ctypes.c_size_t,
)


def open_beneath(root: int, path: bytes, flags: int) -> int:
    """A close-on-exec descriptor of `path` below the directory `root`; b"" is the root.

    A symbolic link on the way is ELOOP or ENOTDIR, one at the end ELOOP unless `flags` has
    O_PATH with O_NOFOLLOW: then the link itself is opened. Raises OSError.
    """
    if b"\0" in path:
        raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
    how = struct.pack("QQQ", flags | os.O_CLOEXEC, 0, _RESOLVE)
    for _ in range(_MAX_TRIES):
        fd: int = _syscall(_OPENAT2, root, path or b".", how, len(how))
        if fd >= 0:
            return fd
        code = ctypes.get_errno()
        if code not in _AGAIN:
            break
    if code == errno.ENAMETOOLONG or code in _SANDBOXED or code in _AGAIN:
        return _walk(root, path, flags)
    raise OSError(code, os.strerror(code), os.fsdecode(path))


def _walk(root: int, path: bytes, flags: int) -> int:
    """As open_beneath, by one openat(2) for each component."""
    *upper, last = path.split(b"/")
    if b".." in (*upper, last) or path.startswith(b"/"):
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), os.fsdecode(path))
    current = os.open(b".", _STEP_FLAGS, dir_fd=root)
    try:
        for name in upper:
            below = os.open(name, _STEP_FLAGS, dir_fd=current)
            os.close(current)
            current = below
        return os.open(last or b".", flags | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=current)
    finally:
        os.close(current)
