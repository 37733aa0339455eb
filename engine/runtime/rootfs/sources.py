"""What the runtime process opens for the container's init: sources the init may not reach."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from engine.runtime.rootfs.model import RootfsPlan

ROOT = -1


class Sources:
    """Open detached mounts: by the number of the mount, ROOT for the root, and by the path of
    the device node. Descriptors are close-on-exec and inherited by clone3."""

    def __init__(self, mounts: dict[int, int], nodes: dict[bytes, int]) -> None:
        self.mounts = mounts
        self.nodes = nodes

    def close(self) -> None:
        """Close all; in the runtime process as soon as the init exists."""
        raise NotImplementedError


def open_sources(plan: RootfsPlan) -> Sources:
    """Open what `plan` marks with parent_opens, and map the ids of idmapped mounts. Raises
    Failure naming the mount."""
    raise NotImplementedError
