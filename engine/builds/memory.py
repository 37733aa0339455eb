"""Small files that exist in memory only: secrets, scripts, sockets of agents.

They are made in a file system of their own that nobody else sees, and each is mounted by
itself; when the container and its mounts are gone, so are they, however it ended.
"""

from __future__ import annotations

import os
import socket

from engine.runtime.kernel import mounting
from engine.runtime.kernel.paths import O_PATH
from engine.runtime.rootfs.filesystems import new_filesystem
from imgtools.build.protocols import StepMount
from imgtools.errors import InvalidInput

ATTRIBUTES = mounting.MOUNT_ATTR_NOSUID | mounting.MOUNT_ATTR_NODEV
BACKLOG = 16


class Memory:
    """A file system in memory, seen through its descriptor. `owners` is whether files can be
    given away here; where they cannot, everybody in the container is their owner."""

    def __init__(self, *, owners: bool) -> None:
        """Raises Failure where the kernel refuses."""
        self.mount = new_filesystem(b"tmpfs", data=((b"mode", b"0700"),), attributes=ATTRIBUTES)
        self._owners = owners
        self._number = 0

    def file(self, mount: StepMount, mode: int) -> bytes:
        """Make a file with the content of `mount`; its name. `mode` is for one that says none.
        Raises InvalidInput for an owner that there is not, OSError."""
        name = self._name()
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        with open(os.open(name, flags, 0o600, dir_fd=self.mount), "wb") as file:
            file.write(mount.content)
        self._finish(name, mount, mode)
        return name

    def socket(self, mount: StepMount, mode: int) -> tuple[bytes, socket.socket]:
        """Make a socket that listens; its name, and it. Raises as `file`."""
        name = self._name()
        found = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            # The text has to be short, and leads to a mount that no path leads to.
            found.bind(b"/proc/self/fd/%d/%s" % (self.mount, name))
            self._finish(name, mount, mode)
            found.listen(BACKLOG)
        except BaseException:
            found.close()
            raise
        return name, found

    def clone(self, name: bytes) -> int:
        """A detached mount of one of the files; this has to be attached. Raises OSError."""
        fd = os.open(name, O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self.mount)
        try:
            return mounting.clone_mount(fd)
        finally:
            os.close(fd)

    def close(self) -> None:
        """Let go; what was cloned stays as long as the clones do."""
        os.close(self.mount)

    def _name(self) -> bytes:
        self._number += 1
        return b"%d" % self._number

    def _finish(self, name: bytes, mount: StepMount, mode: int) -> None:
        os.chmod(name, mode if mount.mode is None else mount.mode, dir_fd=self.mount)
        if not self._owners or not (mount.uid or mount.gid):
            return
        try:
            os.chown(name, mount.uid, mount.gid, dir_fd=self.mount)
        except OSError as e:
            raise InvalidInput(
                f"mount of {mount.target}: the owner {mount.uid}:{mount.gid} does not exist here",
                hint="give this user a larger range in /etc/subuid and /etc/subgid",
            ) from e
