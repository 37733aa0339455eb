"""A root made of layers: an overlay (overlayfs) as a detached mount.

Since Linux 6.5 each layer is an option of its own. Before, all of them share one page of
options, so they are named by the numbers of descriptors; that also keeps every character out
that would have to be escaped.
"""

from __future__ import annotations

import errno
import os

from engine.runtime.errors import Failure, Unsupported, refused
from engine.runtime.kernel import mounting
from engine.runtime.kernel.files import close_all
from engine.runtime.kernel.paths import O_PATH, proc_path
from engine.runtime.rootfs.filesystems import MAX_VALUE_BYTES, new_filesystem
from engine.runtime.rootfs.names import shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from engine.runtime.rootfs.model import RootOverlay

MAX_LAYERS = 500  # OVL_MAX_STACK of the kernel
_PAGE = 4096
_SCRATCH = b"/proc"
_FIXED = ((b"index", b"off"), (b"metacopy", b"off"), (b"redirect_dir", b"nofollow"))
"""What distributions may have on by default and what a later diff could not read."""


def root_overlay(overlay: RootOverlay, *, own_namespace: bool) -> int:
    """A detached mount of the layers of `overlay`.

    `own_namespace`: this process is alone in its mount namespace, and may mount something for
    a moment, as kernels before 6.5 need. Raises KernelRefused or Unsupported.
    """
    if not overlay.lower:
        raise Unsupported("an overlay needs at least one layer")
    if len(overlay.lower) > MAX_LAYERS:
        raise Unsupported(
            f"the root has {len(overlay.lower)} layers, the kernel takes {MAX_LAYERS}",
            hint="squash the image",
        )
    opened: list[int] = []
    try:
        return _by_keys(overlay, opened)
    except Failure as e:
        if e.errno != errno.EINVAL or not e.message.startswith("option lowerdir+"):
            raise
    finally:
        close_all(opened)
    if not own_namespace:
        raise Unsupported("an overlay opened for a user namespace needs Linux 6.5")
    return overlay_by_numbers(overlay)


def _by_keys(overlay: RootOverlay, opened: list[int]) -> int:
    data: list[tuple[bytes, bytes | None]] = []
    data += [(b"lowerdir+", _value(path, opened)) for path in overlay.lower]
    if overlay.upper:
        data.append((b"upperdir", _value(overlay.upper, opened)))
        data.append((b"workdir", _value(overlay.work, opened)))
    data += _FIXED
    data += [(name, None) for name in _switches(overlay)]
    return new_filesystem(b"overlay", source=b"overlay", data=data, attributes=_attributes(overlay))


def _value(path: bytes, opened: list[int]) -> bytes:
    """`path`, or the name of a descriptor of it where it is too long for an option or has a
    character that overlayfs would take for an escape."""
    if len(path) <= MAX_VALUE_BYTES and b"\\" not in path:
        return path
    opened.append(_open(path))
    return proc_path(opened[-1])


def _open(path: bytes) -> int:
    try:
        return os.open(path, O_PATH | os.O_CLOEXEC | os.O_DIRECTORY)
    except OSError as e:
        raise refused(f"open the layer {shown(path)[:200]}", e) from e


def _switches(overlay: RootOverlay) -> list[bytes]:
    chosen = ((b"userxattr", overlay.userxattr), (b"volatile", overlay.volatile))
    return [name for name, wanted in chosen if wanted]


def _attributes(overlay: RootOverlay) -> int:
    return mounting.MOUNT_ATTR_NODEV if overlay.nodev else 0


def overlay_by_numbers(overlay: RootOverlay) -> int:
    """As `root_overlay`, by mount(2). The mount lies over /proc while it is copied."""
    opened: list[int] = []
    here = os.open(b".", O_PATH | os.O_CLOEXEC | os.O_DIRECTORY)
    try:
        opened += [_open(path) for path in overlay.lower]
        data = [b"lowerdir=" + b":".join(b"%d" % fd for fd in opened)]
        if overlay.upper:
            opened += [_open(overlay.upper), _open(overlay.work)]
            data += [b"upperdir=%d" % opened[-2], b"workdir=%d" % opened[-1]]
        fixed = (name + b"=" + value for name, value in _FIXED)
        text = b",".join((*data, *fixed, *_switches(overlay)))
        if len(text) >= _PAGE:
            raise Unsupported(f"{len(overlay.lower)} layers need Linux 6.5")
        os.chdir(b"/proc/self/fd")
        flags = mounting.MS_NODEV if overlay.nodev else 0
        mounting.mount(b"overlay", _SCRATCH, b"overlay", flags, text)
        try:
            return mounting.open_tree(mounting.AT_FDCWD, _SCRATCH, mounting.OPEN_TREE_CLONE)
        finally:
            mounting.umount(_SCRATCH, mounting.MNT_DETACH)
    except OSError as e:
        raise refused("mount the layers of the root", e) from e
    finally:
        os.fchdir(here)
        close_all((here, *opened))
