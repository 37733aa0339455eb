"""A user namespace that only exists to say how the ids of a mount are mapped
(mount_setattr(2), MOUNT_ATTR_IDMAP)."""

from __future__ import annotations

import os

from engine.runtime.errors import refused
from engine.runtime.kernel.processes import CLONE_NEWUSER, clone3

TYPE_CHECKING = False
if TYPE_CHECKING:
    from engine.runtime.spec.model import IdMapping


def mapping_namespace(
    uid_mappings: tuple[IdMapping, ...], gid_mappings: tuple[IdMapping, ...]
) -> int:
    """A descriptor of a new user namespace with these mappings; nothing runs in it. Raises
    KernelRefused."""
    hold_read, hold_write = os.pipe2(os.O_CLOEXEC)
    try:
        pid, pidfd = clone3(CLONE_NEWUSER)
    except OSError as e:
        os.close(hold_read)
        os.close(hold_write)
        raise refused("make a user namespace for mapped ids", e) from e
    if pid == 0:
        # The child lives until the other end of the pipe is closed, whoever closes it.
        try:
            os.close(hold_write)
            os.read(hold_read, 1)
        finally:
            os._exit(0)
    try:
        _write_map(pid, "uid_map", uid_mappings)
        _write_map(pid, "gid_map", gid_mappings)
        return os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    except OSError as e:
        raise refused("map the ids of a mount", e) from e
    finally:
        os.close(hold_read)
        os.close(hold_write)
        os.close(pidfd)
        os.waitpid(pid, 0)


def _write_map(pid: int, name: str, mappings: tuple[IdMapping, ...]) -> None:
    text = b"".join(b"%d %d %d\n" % (m.container_id, m.host_id, m.size) for m in mappings)
    fd = os.open(f"/proc/{pid}/{name}", os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text)
    finally:
        os.close(fd)
