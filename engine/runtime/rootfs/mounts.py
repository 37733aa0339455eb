"""The mounts of config.json made one after the other: each is complete before it is attached,
and attached where a descriptor says."""

from __future__ import annotations

import errno
import os
import stat

from engine.runtime.errors import Failure, InvalidConfig, KernelRefused, refused
from engine.runtime.kernel import mounting
from engine.runtime.kernel.mounting import MOUNT_ATTR__ATIME, MOUNT_ATTR_RDONLY
from engine.runtime.rootfs.attach import clone_source
from engine.runtime.rootfs.cgroupfs import mount_cgroups
from engine.runtime.rootfs.copyup import copy_up
from engine.runtime.rootfs.filesystems import new_filesystem
from engine.runtime.rootfs.model import BIND, CGROUP, FILESYSTEM, PROPAGATION
from engine.runtime.rootfs.names import shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from engine.runtime.rootfs.attach import Attacher
    from engine.runtime.rootfs.model import MountOptions, MountStep
    from engine.runtime.rootfs.targets import Targets

_TTY_GROUP = (b"gid", b"5")
_REFUSED = (errno.EPERM, errno.EACCES, errno.ENODEV)


class Mounter:
    """Makes mounts in one root; `opened` are the sources that the runtime process opened."""

    def __init__(self, targets: Targets, attacher: Attacher, opened: dict[int, int]) -> None:
        self._targets = targets
        self._attacher = attacher
        self._opened = opened

    def make(self, step: MountStep) -> None:
        """Make one mount. Raises Failure, which says which one and why."""
        what = f"mount {shown(step.destination)}"
        try:
            if step.kind == BIND:
                self._bind(step, what)
            elif step.kind == FILESYSTEM:
                self._filesystem(step, what)
            elif step.kind == CGROUP:
                mount_cgroups(step, self._targets, self._attacher, what)
            else:
                self._change(step, what)
        except Failure as e:
            if e.message.startswith(what):
                raise
            raise type(e)(f"{what}: {e.message}", hint=e.hint, errno=e.errno) from e
        except OSError as e:
            raise refused(what, e) from e

    def _bind(self, step: MountStep, what: str) -> None:
        options = step.options
        if options.copy_symlink and self._copied_link(step):
            return
        fd = self._opened.pop(step.number, -1)
        if fd < 0:
            fd = clone_source(
                step.source, recursive=options.recursive, nofollow=options.source_nofollow
            )
        try:
            self._attach(step, fd, options, what)
        finally:
            os.close(fd)

    def _copied_link(self, step: MountStep) -> bool:
        """copy-symlink: where the source is a link, make the same link instead of a mount."""
        try:
            target = os.readlink(step.source)
        except OSError:
            return False
        directory, _, name = step.destination.rstrip(b"/").rpartition(b"/")
        parent = self._targets.directory(directory or b"/")
        try:
            os.symlink(target, name, dir_fd=parent)
        except FileExistsError as e:
            found = os.stat(name, dir_fd=parent, follow_symlinks=False)
            same = stat.S_ISLNK(found.st_mode) and os.readlink(name, dir_fd=parent) == target
            if not same:
                raise InvalidConfig("another file is where the link should be") from e
        finally:
            os.close(parent)
        return True

    def _attach(self, step: MountStep, fd: int, options: MountOptions, what: str) -> None:
        target = self._target(step, fd)
        try:
            self._targets.check(target, fd)
            self._attacher.attach(fd, target, options, what)
        finally:
            os.close(target)

    def _target(self, step: MountStep, fd: int) -> int:
        """What to mount on: made as a directory or a file, whatever the mount is."""
        if step.options.destination_nofollow:
            try:
                return self._targets.existing(step.destination, follow=False)
            except Failure as e:
                if e.errno != errno.ENOENT:
                    raise
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            return self._targets.directory(step.destination)
        return self._targets.file(step.destination)

    def _filesystem(self, step: MountStep, what: str) -> None:
        options = step.options
        early = options.attr_set
        if options.copy_up or step.late_readonly:
            early &= ~MOUNT_ATTR_RDONLY
        late = options.attr_set & ~early if not step.late_readonly else 0
        try:
            fd = _made(step, early)
        except KernelRefused as e:
            if not step.fallback or e.errno not in _REFUSED:
                hint = e.hint or (step.remedy if e.errno in _REFUSED else "")
                raise KernelRefused(e.message, hint=hint, errno=e.errno) from e
            self._fall_back(step, what)
            return
        try:
            if options.copy_up:
                self._copy_up(step, fd)
            self._attach(step, fd, options.with_values(attr_set=late, attr_clear=0), what)
        finally:
            os.close(fd)

    def _copy_up(self, step: MountStep, fd: int) -> None:
        known = len(self._targets.made)
        source = self._targets.directory(step.destination)
        try:
            if len(self._targets.made) == known:
                copy_up(source, fd)
        except OSError as e:
            raise refused("copy what the root has there", e) from e
        finally:
            os.close(source)

    def _fall_back(self, step: MountStep, what: str) -> None:
        """Bind the host's own mount of a file system that we may not make, with everything
        below it: what is covered there has to stay covered. Attributes go for all of it."""
        fd = clone_source(step.fallback, recursive=True)
        options = step.options
        safe = options.attr_set & ~MOUNT_ATTR__ATIME
        try:
            self._attach(
                step,
                fd,
                options.with_values(
                    attr_set=0, attr_clear=0, recursive_set=safe, flags=(), data=()
                ),
                what,
            )
        finally:
            os.close(fd)

    def _change(self, step: MountStep, what: str) -> None:
        """remount, and propagation alone: attributes of the mount that is there. Options of
        the whole file system change it for everybody who has it mounted, and only if given."""
        options = step.options
        fd = self._targets.existing(step.destination)
        try:
            if options.bind or step.kind == PROPAGATION or not (options.flags or options.data):
                self._attacher.change(fd, options, what)
                return
            self._attacher.change(fd, options, what)
            config = mounting.fspick(fd)
            try:
                for flag in options.flags:
                    mounting.fsconfig_flag(config, flag)
                for key, value in options.data:
                    if value is None:
                        mounting.fsconfig_flag(config, key)
                    else:
                        mounting.fsconfig_string(config, key, value)
                mounting.fsconfig_reconfigure(config)
            finally:
                os.close(config)
        finally:
            os.close(fd)


def _made(step: MountStep, attributes: int) -> int:
    """The new file system of a step. A terminal group that the user namespace does not have is
    left out: who is outside of it cannot always know."""
    options = step.options
    pairs = (options.data, tuple(pair for pair in options.data if pair != _TTY_GROUP))
    for data in pairs:
        try:
            return new_filesystem(
                step.fstype,
                source=step.source,
                flags=options.flags,
                data=data,
                attributes=attributes,
            )
        except KernelRefused as e:
            mine = step.fstype == b"devpts" and e.message.startswith("option gid=5:")
            if not mine or data is pairs[1]:
                raise
    raise AssertionError("unreachable")
