"""What the runtime process opens for the container's init: sources the init may not reach, and
those whose ids are mapped, which takes rights over their file system."""

from __future__ import annotations

import os

from engine.runtime.errors import Failure, refused
from engine.runtime.kernel import mounting
from engine.runtime.kernel.mounting import MS_SHARED, MS_SLAVE
from engine.runtime.rootfs.attach import clone_source
from engine.runtime.rootfs.idmap import mapping_namespace
from engine.runtime.rootfs.layers import root_overlay
from engine.runtime.rootfs.names import shown
from engine.runtime.rootfs.nodes import host_node

TYPE_CHECKING = False
if TYPE_CHECKING:
    from engine.runtime.rootfs.model import MountStep, RootfsPlan, RootStep

ROOT = -1


class Sources:
    """Open detached mounts: by the number of the mount, ROOT for the root, and by the path of
    the device node. Descriptors are close-on-exec and inherited by clone3."""

    def __init__(self, mounts: dict[int, int], nodes: dict[bytes, int]) -> None:
        self.mounts = mounts
        self.nodes = nodes

    def close(self) -> None:
        """Close all; in the runtime process as soon as the init exists."""
        for table in (self.mounts, self.nodes):
            while table:
                os.close(table.popitem()[1])


def open_sources(plan: RootfsPlan) -> Sources:
    """Open what `plan` marks with parent_opens, and map the ids of idmapped mounts. Raises
    Failure naming the mount."""
    sources = Sources({}, {})
    try:
        if plan.root.parent_opens:
            sources.mounts[ROOT] = _open_root(plan.root)
        for step in plan.mounts:
            if step.parent_opens and not _is_copied_link(step):
                sources.mounts[step.number] = _open_mount(step)
        for node in plan.nodes:
            if node.parent_opens:
                sources.nodes[node.path] = host_node(node)
    except BaseException:
        sources.close()
        raise
    return sources


def _is_copied_link(step: MountStep) -> bool:
    """Whether a link is made instead of a mount (copy-symlink)."""
    return step.options.copy_symlink and os.path.islink(step.source)


def _open_root(root: RootStep) -> int:
    if root.overlay is not None:
        return root_overlay(root.overlay, own_namespace=False)
    fd = clone_source(root.path, recursive=True, what="open the root file system")
    _cut_off(fd, "the root")
    return fd


def _open_mount(step: MountStep) -> int:
    what = f"mount {shown(step.destination)}"
    options = step.options
    try:
        fd = clone_source(
            step.source, recursive=options.recursive, nofollow=options.source_nofollow
        )
    except Failure as e:
        raise type(e)(f"{what}: {e.message}", hint=e.hint, errno=e.errno) from e
    try:
        if not any(flag == MS_SHARED for flag, _ in options.propagation):
            _cut_off(fd, what)
        if step.uid_mappings:
            _map_ids(fd, step, what)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _cut_off(fd: int, what: str) -> None:
    """Keep mounts made below the copy from appearing on the host: it was made in the host's
    mount namespace, so that it is a peer of the original."""
    if not mounting.has_mount_setattr():
        return  # The init does it when the mount is attached.
    try:
        mounting.mount_setattr(fd, propagation=MS_SLAVE, recursive=True)
    except OSError as e:
        raise refused(f"{what}: set the propagation", e) from e


def _map_ids(fd: int, step: MountStep, what: str) -> None:
    namespace = mapping_namespace(step.uid_mappings, step.gid_mappings)
    try:
        mounting.mount_setattr(
            fd,
            attr_set=mounting.MOUNT_ATTR_IDMAP,
            userns_fd=namespace,
            recursive=step.options.idmap_recursive,
        )
    except OSError as e:
        hint = "this takes root, Linux 5.12, and a file system that supports mapped ids"
        raise refused(f"{what}: map the ids of the mount", e, hint=hint) from e
    finally:
        os.close(namespace)
