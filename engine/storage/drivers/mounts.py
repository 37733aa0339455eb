"""A snapshot's root put together by the kernel, as a descriptor that no namespace knows.

The mount is detached: it can be read and written through the descriptor and is gone when that
is closed, killed processes included; nothing shows up in any mount table. Mounting needs
privileges over the mount namespace. A process in a user namespace may be without one of its
own, so a thread takes one for as long as the call lasts.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TypeVar

from engine.runtime.kernel import mounting, processes
from engine.storage.options import RootMount
from imgtools.blob.files import storage_errors
from imgtools.errors import StorageError

DIR_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
MAX_VALUE = 255
"""Bytes of one value that fsconfig(2) takes."""
ESCAPE = b"\\"
"""Goes out of names of upper and work directories, even in fsconfig(2), but not of lower ones."""
MAX_DATA = 4095
"""Bytes of all options that mount(2) takes: a page with its NUL."""
MAX_LOWER = 200
"""Stacked directories that every kernel takes: their descriptors fit the page of mount(2)."""
T = TypeVar("T")


def open_root(mount: RootMount) -> int:
    """A descriptor of the root directory that `mount` describes; the caller closes it.

    Without `upper` nothing can be written through it. Raises StorageError, its text with
    the kernel's own words where it has some.
    """
    path = mount.path or (mount.lower[0] if len(mount.lower) == 1 and not mount.upper else "")
    if path:
        with storage_errors(path):
            return os.open(path, DIR_FLAGS)
    what = os.path.dirname(mount.upper or mount.lower[0])
    with _errors(what):
        mounted = mount_overlay(mount)
    try:
        with storage_errors(what):
            return os.open(b".", DIR_FLAGS, dir_fd=mounted)
    finally:
        os.close(mounted)


def is_mount_point(path: str) -> bool:
    """Whether something is mounted at the directory `path`, which need not be there."""
    try:
        here, above = os.lstat(path), os.lstat(os.path.dirname(path))
    except OSError:
        return False
    return here.st_dev != above.st_dev


def attach_root(mount: RootMount, target: str) -> None:
    """Mount the root at the directory `target` of this mount namespace, until `detach_root`.

    Raises StorageError.
    """
    with _errors(target):
        _attach(mount, target)


def detach_root(target: str) -> None:
    """Take away what is mounted at `target`, once nobody uses it. Raises StorageError."""
    with _errors(target):
        mounting.umount(os.fsencode(target), mounting.MNT_DETACH)


@contextmanager
def mounted(mount: RootMount, target: str) -> Iterator[None]:
    """Have the root `mount` at the directory `target` of this mount namespace for a while.

    Raises StorageError.
    """
    attach_root(mount, target)
    try:
        yield
    finally:
        detach_root(target)


def _attach(mount: RootMount, target: str) -> None:
    if mount.path:
        tree = mounting.open_tree(
            mounting.AT_FDCWD, os.fsencode(mount.path), mounting.OPEN_TREE_CLONE
        )
    else:
        tree = mount_overlay(mount)
    try:
        if mount.read_only:
            mounting.mount_setattr(tree, attr_set=mounting.MOUNT_ATTR_RDONLY)
        at = os.open(target, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            mounting.move_mount(tree, at)
        finally:
            os.close(at)
    finally:
        os.close(tree)


def mount_overlay(mount: RootMount) -> int:
    """A detached overlay mount, as fsmount(2) gives; raises OSError.

    Kernels before 6.7 take one lower directory at a time only through mount(2).
    """
    try:
        return _with_namespace(lambda: _by_fsconfig(mount))
    except OSError as e:
        if e.errno not in (errno.EINVAL, errno.ENOSYS):
            raise
        try:
            return in_own_namespace(lambda: _by_mount(mount))
        except OSError as second:
            raise e from second


def _by_fsconfig(mount: RootMount) -> int:
    with ExitStack() as stack:
        fd = mounting.fsopen(b"overlay")
        stack.callback(os.close, fd)
        try:
            mounting.fsconfig_string(fd, b"source", b"overlay")
            for key, value in _settings(mount, b"lowerdir+", stack):
                if value:
                    mounting.fsconfig_string(fd, key, value)
                else:
                    mounting.fsconfig_flag(fd, key)
            mounting.fsconfig_create(fd)
        except OSError as e:
            raise OSError(e.errno, mounting.fs_messages(fd) or os.strerror(e.errno or 0)) from e
        return mounting.fsmount(fd, 0)


def _by_mount(mount: RootMount) -> int:
    """mount(2) with descriptors for names, on a directory that only this thread sees changed."""
    target = os.fsencode(mount.lower[-1] if mount.lower else mount.upper)
    with ExitStack() as stack:
        lower = []
        options = []
        for key, value in _settings(mount, b"", stack, short=True):
            if not key:
                lower.append(value)
            else:
                options.append(key + b"=" + value if value else key)
        if lower:
            options.append(b"lowerdir=" + b":".join(lower))
        data = b",".join(options)
        if len(data) > MAX_DATA:
            raise OSError(errno.E2BIG, f"{len(lower)} layers do not fit one mount")
        mounting.mount(b"overlay", target, b"overlay", 0, data)
        try:
            return mounting.open_tree(mounting.AT_FDCWD, target, mounting.OPEN_TREE_CLONE)
        finally:
            mounting.umount(target, mounting.MNT_DETACH)


def _settings(
    mount: RootMount, lower: bytes, stack: ExitStack, *, short: bool = False
) -> Iterator[tuple[bytes, bytes]]:
    """Options of the overlay file system; b"" is the value of a flag.

    With `short`, and for names that fsconfig(2) would not take, a directory is named by a
    descriptor that `stack` closes.
    """

    def name(path: str) -> bytes:
        raw = os.fsencode(path)
        if not short and len(raw) <= MAX_VALUE and ESCAPE not in raw:
            return raw
        fd = os.open(raw, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        stack.callback(os.close, fd)
        return b"/proc/self/fd/%d" % fd

    for path in mount.lower:
        yield lower, name(path)
    if mount.upper:
        yield b"upperdir", name(mount.upper)
        yield b"workdir", name(mount.work)
    for key, value in mount.options:
        yield key.encode(), value.encode()


def _with_namespace(call: Callable[[], int]) -> int:
    """`call()`, if need be in a mount namespace made for it."""
    try:
        return call()
    except PermissionError:
        return in_own_namespace(call)


def in_own_namespace(call: Callable[[], T]) -> T:
    """`call()` in a thread with a private mount namespace, which ends with it: what is mounted
    there nobody else sees. Descriptors of it stay. Raises what `call` raises, OSError."""
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            processes.unshare(processes.CLONE_NEWNS)
            mounting.mount(None, b"/", None, mounting.MS_REC | mounting.MS_PRIVATE, None)
            results.append(call())
        except BaseException as e:  # noqa: BLE001 - raised where the call was asked for
            errors.append(e)

    thread = threading.Thread(target=run, name="mounts")
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


@contextmanager
def _errors(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as e:
        text = e.strerror or str(e)
        raise StorageError(f"cannot mount {what}: {text}", path=what) from e


def overlay(lower: Sequence[str], upper: str = "", work: str = "", *, userxattr: bool) -> RootMount:
    """An overlay of our own, whose content nobody but we writes: no fsync needed."""
    return RootMount(
        lower=tuple(lower), upper=upper, work=work, userxattr=userxattr, volatile=bool(upper)
    )
