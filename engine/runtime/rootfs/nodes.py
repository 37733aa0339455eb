"""Device nodes and links made in the root: by mknod(2), or by binding the host's node where
that is not allowed. A host's node is checked through the descriptor that is bound."""

from __future__ import annotations

import ctypes
import errno
import os
import stat

from engine.runtime.errors import InvalidConfig, Unsupported, refused
from engine.runtime.kernel import mounting
from engine.runtime.kernel.calls import c_char_p, c_int, checked, function
from engine.runtime.kernel.paths import O_PATH, proc_path
from engine.runtime.rootfs.attach import clone_source
from engine.runtime.rootfs.model import MountOptions
from engine.runtime.rootfs.names import shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from engine.runtime.rootfs.attach import Attacher
    from engine.runtime.rootfs.model import LinkStep, NodeStep
    from engine.runtime.rootfs.targets import Targets

_fchownat = function("fchownat", c_int, c_char_p, ctypes.c_uint, ctypes.c_uint, c_int)
# A node is there to be read and written, in whatever file system the host keeps it.
_NODE = MountOptions(attr_set=mounting.MOUNT_ATTR_NOSUID | mounting.MOUNT_ATTR_NOEXEC)
_TYPES = {"c": stat.S_IFCHR, "b": stat.S_IFBLK, "p": stat.S_IFIFO}


def is_null(fd: int) -> bool:
    """Whether `fd` is the null device."""
    found = os.fstat(fd)
    return stat.S_ISCHR(found.st_mode) and found.st_rdev == os.makedev(1, 3)


def clone_host_node(step: NodeStep) -> int:
    """A detached mount of the host's node at the step's path. Raises KernelRefused, or
    Unsupported where the node there is another one."""
    try:
        fd = clone_source(step.path, recursive=False)
    except OSError as e:
        raise refused(f"open the host's {shown(step.path)}", e) from e
    if not _matches(os.fstat(fd), step):
        os.close(fd)
        raise Unsupported(
            f"device {shown(step.path)}: the host's node is not {_described(step)}",
            hint="in a user namespace only the host's own nodes can be given",
        )
    return fd


def host_node(step: NodeStep) -> int:
    """In the runtime process: a detached mount of the node for the container. Raises as
    `clone_host_node` does, whose node it is where none can be made."""
    if step.owner is None:
        return clone_host_node(step)
    try:
        return _new_node(step, *step.owner)
    except OSError as e:
        # Without CAP_MKNOD, and before Linux 6.15, which copies no mount that is not attached.
        if e.errno not in (errno.EPERM, errno.EINVAL):
            raise refused(f"make device {shown(step.path)}", e) from e
        return clone_host_node(step)


def _new_node(step: NodeStep, uid: int, gid: int) -> int:
    """A node in a file system of its own, which lasts as long as it is mounted somewhere."""
    directory = fd = -1
    context = mounting.fsopen(b"tmpfs")
    try:
        mounting.fsconfig_create(context)
        directory = mounting.fsmount(context)
        device = os.makedev(step.major, step.minor)
        os.mknod(b"node", _TYPES[step.type] | step.mode, device, dir_fd=directory)
        fd = os.open(b"node", O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
        checked(_fchownat(fd, b"", uid, gid, mounting.AT_EMPTY_PATH))
        os.chmod(proc_path(fd), step.mode)
        return mounting.clone_mount(fd)
    finally:
        for one in (context, directory, fd):
            if one >= 0:
                os.close(one)


def _matches(found: os.stat_result, step: NodeStep) -> bool:
    if stat.S_IFMT(found.st_mode) != _TYPES[step.type]:
        return False
    return step.type == "p" or found.st_rdev == os.makedev(step.major, step.minor)


def _described(step: NodeStep) -> str:
    return "a FIFO" if step.type == "p" else f"{step.type} {step.major}:{step.minor}"


class NodeMaker:
    """Makes nodes and links, with the descriptor of the directory of the last one at hand:
    nearly all are in /dev."""

    def __init__(self, targets: Targets, attacher: Attacher, nodes: dict[bytes, int]) -> None:
        self._targets = targets
        self._attacher = attacher
        self._nodes = nodes
        self._directory = b""
        self._directory_fd = -1

    def close(self) -> None:
        """Close what is kept."""
        if self._directory_fd >= 0:
            os.close(self._directory_fd)
            self._directory_fd = -1
            self._directory = b""

    def _parent(self, path: bytes) -> tuple[int, bytes]:
        directory, _, name = path.rstrip(b"/").rpartition(b"/")
        if name in (b"", b".", b".."):
            raise InvalidConfig(f"{shown(path)} does not name a file")
        if self._directory_fd < 0 or directory != self._directory:
            self.close()
            self._directory_fd = self._targets.directory(directory or b"/")
            self._directory = directory
        return self._directory_fd, name

    def node(self, step: NodeStep) -> None:
        """Make one node. Raises KernelRefused, InvalidConfig (something else is there) or
        Unsupported (the host has no such node to bind)."""
        what = f"device {shown(step.path)}"
        parent, name = self._parent(step.path)
        if not step.bind:
            try:
                device = 0 if step.type == "p" else os.makedev(step.major, step.minor)
                os.mknod(name, _TYPES[step.type] | step.mode, device, dir_fd=parent)
            except FileExistsError:
                pass
            except OSError as e:
                if e.errno != errno.EPERM or step.type == "p":
                    raise refused(f"make {what}", e) from e
                # Root of the initial user namespace, but without CAP_MKNOD.
                self._bind(step, parent, name, what)
                return
            self._own(step, parent, name, what)
        else:
            self._bind(step, parent, name, what)

    def _own(self, step: NodeStep, parent: int, name: bytes, what: str) -> None:
        """Check what is there and give it the owner and mode of the step."""
        fd = os.open(name, O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
        try:
            found = os.fstat(fd)
            if not _matches(found, step):
                raise InvalidConfig(f"{what}: a file that is not {_described(step)} is there")
            if (found.st_uid, found.st_gid) != (step.uid, step.gid):
                checked(_fchownat(fd, b"", step.uid, step.gid, mounting.AT_EMPTY_PATH))
            if stat.S_IMODE(os.fstat(fd).st_mode) != step.mode:
                os.chmod(proc_path(fd), step.mode)
        except OSError as e:
            raise refused(f"set the owner and mode of {what}", e) from e
        finally:
            os.close(fd)

    def _bind(self, step: NodeStep, parent: int, name: bytes, what: str) -> None:
        """Bind the host's node on a new empty file."""
        target = self._place(step, parent, name, what)
        if target < 0:
            return
        try:
            fd = self._nodes.pop(step.path, -1)
            if fd < 0:
                fd = clone_host_node(step)
            try:
                self._attacher.attach(fd, target, _NODE, what)
            finally:
                os.close(fd)
        finally:
            os.close(target)

    def _place(self, step: NodeStep, parent: int, name: bytes, what: str) -> int:
        """An empty file to bind a node on; -1 where the node is already there."""
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            return os.open(name, flags, 0o644, dir_fd=parent)
        except FileExistsError:
            fd = os.open(name, O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
        except OSError as e:
            raise refused(f"make {what}", e) from e
        found = os.fstat(fd)
        if stat.S_ISREG(found.st_mode) and found.st_size == 0:
            return fd
        os.close(fd)
        if not _matches(found, step):
            raise InvalidConfig(f"{what}: a file that is not {_described(step)} is there")
        return -1

    def link(self, step: LinkStep) -> None:
        """Make one symbolic link; one that is there already stays unless it is to be replaced.
        Raises KernelRefused."""
        parent, name = self._parent(step.path)
        try:
            try:
                os.symlink(step.target, name, dir_fd=parent)
            except FileExistsError:
                if step.replace:
                    self._replace(step, parent, name)
        except OSError as e:
            raise refused(f"make the link {shown(step.path)}", e) from e

    def _replace(self, step: LinkStep, parent: int, name: bytes) -> None:
        try:
            if os.readlink(name, dir_fd=parent) == step.target:
                return
        except OSError as e:
            if e.errno != errno.EINVAL:
                raise
        os.unlink(name, dir_fd=parent)
        os.symlink(step.target, name, dir_fd=parent)
