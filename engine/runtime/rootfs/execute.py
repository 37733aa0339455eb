"""The plan carried out, by the container's init: the steps in the order they are called in.

Nothing in here imports, looks anything up by a path the container could have changed, or
leaves a descriptor behind.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from engine.runtime.rootfs.model import RootfsPlan, Stub
    from engine.runtime.rootfs.sources import Sources


class Rootfs:
    """The root file system of one container while it is made.

    take_root, mount_all, make_devices, (bind_console), enter, (bind_console), finish: each once
    and in this order; each raises Failure with the step in its text. `stubs` is complete after
    make_devices.
    """

    def __init__(self, plan: RootfsPlan, sources: Sources) -> None:
        self.plan = plan
        self.sources = sources
        self.root_fd = -1
        self.stubs: list[Stub] = []

    def take_root(self) -> None:
        """Cut the mount namespace off from the host's and attach the root file system."""
        raise NotImplementedError

    def mount_all(self) -> None:
        """Make the mounts of the plan, in its order."""
        raise NotImplementedError

    def make_devices(self) -> None:
        """Make device nodes, the links of /dev and the place of /dev/console."""
        raise NotImplementedError

    def bind_console(self, slave_fd: int) -> None:
        """Put the terminal `slave_fd`, a pty of a devpts, on /dev/console."""
        raise NotImplementedError

    def enter(self) -> None:
        """Set sysctls, mask paths, make paths and the root read-only; then make the root "/"
        and let go of the host's mounts."""
        raise NotImplementedError

    def finish(self) -> None:
        """Set the host name and the root's propagation, and close what is still open."""
        raise NotImplementedError

    def close(self) -> None:
        """Close every descriptor; after an error instead of `finish`."""
        raise NotImplementedError
