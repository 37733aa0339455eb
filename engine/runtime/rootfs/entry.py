"""The way into the root file system: attached on top of the host's "/", then made "/" itself,
with the host's mounts let go of (pivot_root(2) has the conditions)."""

from __future__ import annotations

import errno
import os

from engine.runtime.errors import KernelRefused, Unsupported, refused
from engine.runtime.kernel import mounting
from engine.runtime.kernel.mounting import MS_PRIVATE, MS_REC, MS_SHARED, MS_SLAVE
from engine.runtime.kernel.paths import O_PATH, open_in_root
from engine.runtime.rootfs.attach import clone_source
from engine.runtime.rootfs.layers import root_overlay
from engine.runtime.rootfs.mounttable import mount_number, read_mounts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from engine.runtime.rootfs.attach import Attacher
    from engine.runtime.rootfs.model import RootStep


def cut_off(root: RootStep) -> None:
    """Keep mounts made in this namespace from appearing on the host; first of all steps.

    Where `rootfsPropagation` is shared, mounts go on being shared but for the host's "/",
    which the root is attached to. Raises KernelRefused.
    """
    wanted = root.propagation[0] if root.propagation else MS_SLAVE
    try:
        if wanted == MS_SHARED:
            return
        flag = MS_SLAVE if wanted == MS_SLAVE else MS_PRIVATE
        mounting.mount(None, b"/", None, flag | MS_REC, None)
    except OSError as e:
        hint = (
            "the runtime is in a chroot; bind its root on itself" if e.errno == errno.EINVAL else ""
        )
        raise refused("cut the mounts off from the host's", e, hint=hint) from e


def open_root(root: RootStep) -> int:
    """A detached mount of the root. Raises KernelRefused or Unsupported."""
    if root.overlay is not None:
        return root_overlay(root.overlay, own_namespace=True)
    return clone_source(root.path, recursive=True, what="open the root file system")


def attach_root(root: RootStep, mount_fd: int, host_root: int, attacher: Attacher) -> None:
    """Attach the root on the host's "/": nothing has to be traversed to get there, and "/"
    still means the host's for this process. Where hooks are to find it, it is attached at its
    own path, if that can be reached. Raises KernelRefused."""
    what = "attach the root file system"
    place = _own_place(root) if root.in_place else -1
    shared = root.propagation is not None and root.propagation[0] == MS_SHARED
    try:
        if shared:
            mounting.mount(None, b"/", None, MS_PRIVATE, None)
        if attacher.modern:
            # A shared root could not be pivoted to; its propagation is set at the end.
            attacher.propagate(mount_fd, MS_PRIVATE if shared else MS_SLAVE, not shared, what)
        mounting.move_mount(mount_fd, host_root if place < 0 else place)
        if not attacher.modern:
            attacher.propagate(mount_fd, MS_PRIVATE if shared else MS_SLAVE, not shared, what)
    except OSError as e:
        raise refused(what, e) from e
    finally:
        if place >= 0:
            os.close(place)


def _own_place(root: RootStep) -> int:
    """The directory at the root's path, -1 for one that another user namespace cannot reach."""
    try:
        return os.open(root.path, O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return -1


def enter_root(root: RootStep, mount_fd: int, host_root: int, host_proc: int) -> None:
    """Make `mount_fd` this process's "/" and current directory, and detach the host's mounts.
    Raises KernelRefused."""
    try:
        os.fchdir(mount_fd)
        if root.no_pivot:
            _change_root(root, mount_fd, host_root, host_proc)
            return
        try:
            mounting.pivot_root(b".", b".")
        except OSError as e:
            if e.errno != errno.EINVAL:
                raise
            if not _is_initramfs(host_root, host_proc):
                raise KernelRefused(
                    "pivot_root: the current root cannot be exchanged",
                    hint="it is no mount of its own, as in a chroot; run with --no-pivot",
                    errno=errno.EINVAL,
                ) from e
            _change_root(root, mount_fd, host_root, host_proc)
            return
        os.fchdir(host_root)
        # Slaves first, so that unmounting does not reach the host. Not private: that would pin
        # what the host unmounts at this moment.
        mounting.mount(None, b".", None, MS_SLAVE | MS_REC, None)
        mounting.umount(b".", mounting.MNT_DETACH)
        os.chdir(b"/")
    except OSError as e:
        raise refused("pivot_root", e) from e


def _is_initramfs(host_root: int, host_proc: int) -> bool:
    """Whether the host's "/" is the first mount of the kernel, which can never be exchanged."""
    number = mount_number(host_proc, host_root)
    return any(m.number == number and m.fstype == b"rootfs" for m in read_mounts(host_proc))


def _change_root(root: RootStep, mount_fd: int, host_root: int, host_proc: int) -> None:
    """Without pivot_root: the root lies over the host's "/" already, so that ".." leads back
    to it from wherever a process may get to. The host's other mounts are detached; those that
    are locked (EINVAL) stay, under the root."""
    if root.in_place:
        mounting.move_mount(mount_fd, host_root)
    own, host = mount_number(host_proc, mount_fd), mount_number(host_proc, host_root)
    for entry in reversed(read_mounts(host_proc)):
        if entry.parent == host and entry.number != own:
            try:
                mounting.umount(entry.point, mounting.MNT_DETACH | mounting.UMOUNT_NOFOLLOW)
            except OSError as e:
                if e.errno != errno.EINVAL:
                    raise
    os.chroot(b".")
    os.chdir(b"/")


def set_propagation(root: RootStep) -> None:
    """Give "/" the propagation that `rootfsPropagation` asks for. Raises KernelRefused."""
    if root.propagation is None:
        return
    flag, recursive = root.propagation
    try:
        mounting.mount(None, b"/", None, flag | (MS_REC if recursive else 0), None)
    except OSError as e:
        raise refused("set the root's propagation", e) from e


def require_kernel(root_fd: int) -> None:
    """Refuse kernels on which a path could not be resolved safely. Raises Unsupported."""
    try:
        os.close(open_in_root(root_fd, b".", O_PATH))
    except OSError as e:
        if e.errno not in (errno.ENOSYS, errno.EPERM):
            raise refused("open the root file system", e) from e
        raise Unsupported(
            "openat2 is not there, and without it paths cannot be resolved safely",
            hint="Linux 5.6 has it; a seccomp profile may forbid it",
            errno=e.errno or 0,
        ) from e
