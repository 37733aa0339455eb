"""The plan carried out, by the container's init: the steps in the order they are called in.

Nothing in here imports, looks anything up by a path the container could have changed, or
leaves a descriptor behind.
"""

from __future__ import annotations

import os
import stat

from engine.runtime.errors import Failure, InvalidConfig, refused
from engine.runtime.kernel import mounting, processes
from engine.runtime.kernel.files import close_all
from engine.runtime.kernel.paths import DEVPTS_SUPER_MAGIC, O_PATH, Stub, filesystem_type
from engine.runtime.rootfs.attach import Attacher, clone_source
from engine.runtime.rootfs.entry import (
    attach_root,
    cut_off,
    enter_root,
    open_root,
    require_kernel,
    set_propagation,
)
from engine.runtime.rootfs.model import BIND, MountOptions
from engine.runtime.rootfs.mounts import Mounter
from engine.runtime.rootfs.nodes import NodeMaker
from engine.runtime.rootfs.seal import Sealer, write_sysctls
from engine.runtime.rootfs.sources import ROOT
from engine.runtime.rootfs.targets import Targets

TYPE_CHECKING = False
if TYPE_CHECKING:
    from engine.runtime.rootfs.model import RootfsPlan
    from engine.runtime.rootfs.sources import Sources

_HERE = O_PATH | os.O_DIRECTORY | os.O_CLOEXEC


class Rootfs:
    """The root file system of one container while it is made.

    take_root, mount_all, make_devices, (bind_console), enter, (bind_console), finish: each once
    and in this order; each raises Failure with the step in its text. `stubs` is complete after
    make_devices. What is made has the modes it is said to have, whatever the umask is.
    """

    def __init__(self, plan: RootfsPlan, sources: Sources) -> None:
        self.plan = plan
        self.sources = sources
        self.root_fd = -1
        self.stubs: tuple[Stub, ...] = ()
        self._host_root = self._host_proc = self._console = -1
        self._attacher = Attacher(modern=mounting.has_mount_setattr())
        self._targets: Targets | None = None
        self._late: list[int] = []

    @property
    def terminal_fd(self) -> int:
        """The root whose /dev/pts a terminal comes from."""
        return self.root_fd

    def take_root(self) -> None:
        """Cut the mount namespace off from the host's and attach the root file system, which is
        "/" only after `enter`."""
        root = self.plan.root
        try:
            self._host_root = os.open(b"/", _HERE)
            self._host_proc = os.open(b"/proc", _HERE)
        except OSError as e:
            raise refused("open the host's / and /proc", e) from e
        require_kernel(self._host_root)
        cut_off(root)
        self.root_fd = self.sources.mounts.pop(ROOT, -1)
        if self.root_fd < 0:
            self.root_fd = open_root(root)
        if not stat.S_ISDIR(os.fstat(self.root_fd).st_mode):
            raise InvalidConfig("root.path is not a directory")
        self._open_binds_of_the_host_root()
        attach_root(root, self.root_fd, self._host_root, self._attacher)
        self._targets = Targets(self.root_fd)

    def _open_binds_of_the_host_root(self) -> None:
        """Copy the host's whole tree, where a bind asks for it, before the container's root lies
        on top of it and would be part of the copy."""
        host = os.fstat(self._host_root)
        for step in self.plan.mounts:
            if step.kind != BIND or not step.options.recursive or step.parent_opens:
                continue
            try:
                found = os.stat(step.source)
            except OSError:
                continue  # Said with the name of the mount when its turn comes.
            if (found.st_dev, found.st_ino) == (host.st_dev, host.st_ino):
                self.sources.mounts[step.number] = clone_source(step.source, recursive=True)

    def mount_all(self) -> None:
        """Make the mounts of the plan, in its order."""
        targets = self._made_targets()
        mounter = Mounter(targets, self._attacher, self.sources.mounts)
        umask = os.umask(0)
        try:
            for step in self.plan.mounts:
                mounter.make(step)
                if step.late_readonly:
                    self._late.append(targets.existing(step.destination))
        finally:
            os.umask(umask)

    def make_devices(self) -> None:
        """Make device nodes, the links of /dev and the place of /dev/console."""
        targets = self._made_targets()
        maker = NodeMaker(targets, self._attacher, self.sources.nodes)
        umask = os.umask(0)
        try:
            for node in self.plan.nodes:
                maker.node(node)
            for link in self.plan.links:
                if not link.needs or self._in_host_proc(link.needs):
                    maker.link(link)
            if self.plan.console:
                self._console = targets.file(b"/dev/console")
                targets.check(self._console, self._console)
        finally:
            os.umask(umask)
            maker.close()
        device = os.fstat(self.root_fd).st_dev
        self.stubs = tuple(s for s in targets.made if s.parent_device == device)

    def bind_console(self, slave_fd: int) -> None:
        """Put the terminal `slave_fd`, the slave of a pty, on /dev/console."""
        what = "mount /dev/console"
        if self._console < 0:
            raise InvalidConfig("a console is only for a process with a terminal")
        if (
            not stat.S_ISCHR(os.fstat(slave_fd).st_mode)
            or filesystem_type(slave_fd) != DEVPTS_SUPER_MAGIC
        ):
            raise InvalidConfig(f"{what}: this is not a pty of a devpts")
        try:
            fd = mounting.clone_mount(slave_fd)
        except OSError as e:
            raise refused(what, e) from e
        try:
            self._attacher.attach(fd, self._console, MountOptions(), what)
        finally:
            os.close(fd)

    def enter(self) -> None:
        """Set sysctls, make paths read-only or cover them, make the root read-only; then make
        it "/" and let go of the host's mounts."""
        write_sysctls(self.plan.sysctls, self._host_proc)
        sealer = Sealer(self.root_fd, self._attacher)
        try:
            for path in self.plan.readonly_paths:
                sealer.make_readonly(path)
            for path in self.plan.masked_paths:
                sealer.mask(path)
        finally:
            sealer.close()
        for fd in self._late:
            self._attacher.make_readonly(fd, "make /dev read-only")
        if self.plan.root.readonly:
            self._attacher.make_readonly(self.root_fd, "make the root read-only")
        enter_root(self.plan.root, self.root_fd, self._host_root, self._host_proc)
        self._close_roots()

    def finish(self) -> None:
        """Set the host name and the root's propagation, and close what is still open."""
        try:
            if self.plan.hostname:
                processes.sethostname(self.plan.hostname)
            if self.plan.domainname:
                processes.setdomainname(self.plan.domainname)
        except OSError as e:
            raise refused("set the host name", e) from e
        set_propagation(self.plan.root)
        self.close()

    def close(self) -> None:
        """Close every descriptor; after an error instead of `finish`."""
        self._close_roots()
        close_all((self._console,))
        self._console = -1
        self.sources.close()

    def _close_roots(self) -> None:
        close_all((self.root_fd, self._host_root, self._host_proc, *self._late))
        self.root_fd = self._host_root = self._host_proc = -1
        self._late.clear()

    def _made_targets(self) -> Targets:
        if self._targets is None:
            raise Failure("take_root has not been called")
        return self._targets

    def _in_host_proc(self, name: bytes) -> bool:
        try:
            os.stat(name, dir_fd=self._host_proc, follow_symlinks=False)
        except OSError:
            return False
        return True
