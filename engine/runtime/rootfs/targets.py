"""Where mounts go: destinations resolved and made inside the root, and refused where a mount
would hide something from us or from the container that must not be hidden.

A destination is resolved once, to a descriptor; what is checked is what is mounted on.
"""

from __future__ import annotations

import errno
import os
import stat

from engine.runtime.errors import Failure, InvalidConfig, refused
from engine.runtime.kernel.paths import (
    O_PATH,
    PROC_SUPER_MAGIC,
    RESOLVE_BENEATH,
    RESOLVE_NO_MAGICLINKS,
    SYSFS_MAGIC,
    Stub,
    filesystem_type,
    make_directories,
    make_file,
    open_in_root,
    openat2,
)
from engine.runtime.rootfs.names import lexical, shown

# What may be covered below /proc: files that tools like lxcfs replace, and nothing through
# which the kernel or a security module is told something.
_PROC_NAMES = (
    b"cpuinfo",
    b"diskstats",
    b"loadavg",
    b"meminfo",
    b"net/dev",
    b"slabinfo",
    b"stat",
    b"swaps",
    b"uptime",
    b"sys/crypto/fips_enabled",
    b"sys/kernel/ns_last_pid",
    b"sys/fs/binfmt_misc",
)
# What may be covered below /sys, and (second list) whose entries may: places the kernel keeps
# for other file systems.
_SYS_NAMES = (
    b"firmware",
    b"firmware/efi/efivars",
    b"devices/system/cpu",
    b"devices/system/cpu/online",
)
_SYS_PARENTS = (b"fs", b"kernel", b"fs/fuse")


class Targets:
    """The root while things are mounted in it; `made` is what had to be made for that."""

    def __init__(self, root_fd: int) -> None:
        self.root_fd = root_fd
        self.made: list[Stub] = []
        self._root = _identity(root_fd)

    def directory(self, destination: bytes) -> int:
        """A descriptor of the directory to mount on, made if missing. Raises Failure."""
        self._refuse_link(destination)
        try:
            return make_directories(self.root_fd, destination, made=self.made)
        except OSError as e:
            raise _failed(destination, e) from e

    def file(self, destination: bytes) -> int:
        """A descriptor of the file to mount on, made empty if missing. Raises Failure."""
        try:
            return make_file(self.root_fd, destination, made=self.made)
        except OSError as e:
            raise _failed(destination, e) from e

    def existing(self, destination: bytes, *, follow: bool = True) -> int:
        """A descriptor of what is at `destination`. Raises Failure."""
        flags = O_PATH if follow else O_PATH | os.O_NOFOLLOW
        try:
            return open_in_root(self.root_fd, destination, flags)
        except OSError as e:
            raise _failed(destination, e) from e

    def _refuse_link(self, destination: bytes) -> None:
        """Refuse /dev, /proc and /sys that are links: what is mounted there has to be there."""
        name = lexical(destination)
        if name not in (b"dev", b"proc", b"sys"):
            return
        try:
            mode = os.stat(name, dir_fd=self.root_fd, follow_symlinks=False).st_mode
        except FileNotFoundError:
            return
        except OSError as e:
            raise _failed(destination, e) from e
        if stat.S_ISLNK(mode):
            raise InvalidConfig("the destination is a symbolic link in the root file system")

    def check(self, target_fd: int, mount_fd: int) -> None:
        """Refuse to mount `mount_fd` on `target_fd` where it must not be: on the root itself,
        on /proc unless it is a procfs, or on a name in /proc or /sys that is not listed. Nor can
        a file be mounted on a directory, or the reverse.

        Raises InvalidConfig.
        """
        target = _identity(target_fd)
        if _is_directory(target_fd) != _is_directory(mount_fd):
            raise InvalidConfig("of source and destination one is a directory and one is not")
        if target == self._root:
            raise InvalidConfig("the destination leads to the root itself")
        kind, new_kind = filesystem_type(target_fd), filesystem_type(mount_fd)
        if new_kind != PROC_SUPER_MAGIC and target == self._identity_of(b"proc"):
            raise InvalidConfig("only a procfs may be mounted on /proc")
        if kind == PROC_SUPER_MAGIC:
            self._check_proc(target, new_kind)
        elif kind == SYSFS_MAGIC:
            self._check_sys(target_fd, target, new_kind)

    def _identity_of(self, path: bytes) -> tuple[int, int] | None:
        try:
            fd = open_in_root(self.root_fd, path, O_PATH)
        except OSError:
            return None
        try:
            return _identity(fd)
        finally:
            os.close(fd)

    def _below(self, directory: bytes, names: tuple[bytes, ...]) -> list[tuple[int, int]]:
        """What the `names` below `directory` are, those that exist."""
        found: list[tuple[int, int]] = []
        try:
            top = open_in_root(self.root_fd, directory, O_PATH | os.O_DIRECTORY)
        except OSError:
            return found
        resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS
        try:
            for name in names:
                try:
                    fd = openat2(top, name, O_PATH, resolve)
                except OSError as e:
                    if e.errno not in (errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.ELOOP):
                        raise
                    continue
                found.append(_identity(fd))
                os.close(fd)
        finally:
            os.close(top)
        return found

    def _check_proc(self, target: tuple[int, int], new_kind: int) -> None:
        if target == self._identity_of(b"proc") and new_kind == PROC_SUPER_MAGIC:
            return
        if target not in self._below(b"proc", _PROC_NAMES):
            raise InvalidConfig(
                "the destination is inside /proc",
                hint="only these may be covered: " + ", ".join(n.decode() for n in _PROC_NAMES),
            )

    def _check_sys(self, target_fd: int, target: tuple[int, int], new_kind: int) -> None:
        if target == self._identity_of(b"sys") and new_kind == SYSFS_MAGIC:
            return
        if target in self._below(b"sys", _SYS_NAMES):
            return
        if _is_directory(target_fd):
            above = os.stat(b"..", dir_fd=target_fd)
            if (above.st_dev, above.st_ino) in self._below(b"sys", _SYS_PARENTS):
                return
        raise InvalidConfig(
            "the destination is inside /sys",
            hint="only what the kernel keeps for mounts, as in /sys/fs and /sys/kernel, may be "
            "covered",
        )


def _is_directory(fd: int) -> bool:
    return stat.S_ISDIR(os.fstat(fd).st_mode)


def _identity(fd: int) -> tuple[int, int]:
    found = os.fstat(fd)
    return found.st_dev, found.st_ino


def _failed(destination: bytes, error: OSError) -> Failure:
    hint = ""
    if error.errno == errno.EROFS:
        hint = "the mount point does not exist and the file system it is on is read-only"
    elif error.errno == errno.ENOTDIR:
        hint = "a component is a file"
    elif error.errno == errno.ELOOP:
        hint = "links go in a circle, or one is a magic link of /proc"
    return refused(f"make the mount point {shown(destination)}", error, hint=hint)
