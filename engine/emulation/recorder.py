"""Answers the calls of a container whose root is emulated, and notes what they asked for.

It runs beside the container, in a thread or a process, with the rights of the container's root
(best inside its user namespace), until no process of the container is left. Programs see the
errors that the kernel would give a real root: a missing file, a read-only mount, a bad pointer.
"""

from __future__ import annotations

import errno
import os
import select
import stat
from collections.abc import Callable
from dataclasses import replace

from engine.emulation.attributes import Attribute, Decision, decide, read_attribute, read_name
from engine.emulation.births import born
from engine.emulation.caller import CHOWN, ROOT, Caller
from engine.emulation.calls import (
    Kind,
    Place,
    Variant,
    become,
    ids,
    move,
    node,
    packed_groups,
    place,
    signed,
    variants,
)
from engine.emulation.moves import Moves, Recorded, no_directories
from engine.emulation.notes import Key, Note, Notes, chowned, mode_after_chown
from engine.emulation.notifications import Call, Gone, Listener
from engine.emulation.target import Target, read_text, umask
from engine.runtime.kernel.calls import error
from engine.storage.options import Owner

Base = Callable[[bytes], Owner | None]
"""The owner that the layers below record for a path (without leading slash)."""

Naming = Callable[[int, bytes], Key]
"""The key of the open file (O_PATH will do) at a path (without leading slash): a file that is
kept has to have the same one for as long as it is there."""

Fresh = Callable[[int, bytes], bool]
"""Whether the open file at a path, of which nothing is noted, was made by the caller."""

_ROOT = Owner(uid=0, gid=0)


def nothing_recorded(_path: bytes) -> Owner | None:
    """The Base of an image without recorded owners."""
    return None


def never_fresh(_fd: int, _path: bytes) -> bool:
    """The Fresh of root, whose files are those of nobody else."""
    return False


def by_device(fd: int, _path: bytes) -> Key:
    """The Naming of files that are on disk as the container sees them."""
    state = os.fstat(fd)
    return state.st_dev, state.st_ino


class OwnershipRecorder:
    """Serves the listener of `record_filter` or `user_filter`; `notes` has the result.
    `listener` becomes its own and is closed by `close`, `notes` stays the caller's.

    `base` tells the owners of files that the container has not touched yet, `naming` their
    keys in `notes`, `fresh` which are new, `recorded` what has a record below a directory.
    `caller` is who asks. `replacing` are new files, with the time they were made, that are to
    have the owner of what they replace.
    """

    def __init__(
        self,
        listener: int,
        notes: Notes,
        base: Base = nothing_recorded,
        naming: Naming = by_device,
        *,
        caller: Caller = ROOT,
        fresh: Fresh = never_fresh,
        recorded: Recorded = no_directories,
    ) -> None:
        self._listener = Listener(listener)
        self._notes = notes
        self._base = base
        self._naming = naming
        self._caller = caller
        self._fresh = fresh
        self._moves = Moves(self._listener, base, self._note_moved, recorded)
        self.replacing: set[tuple[Key, int]] = set()
        self._variants = variants(os.uname().machine)
        self._stop_read, self._stop_write = os.pipe2(os.O_CLOEXEC)

    def serve(self) -> None:
        """Answer until the last process under the filter has ended, or `stop`.

        Raises nothing for what a container does; OSError if the listener itself fails.
        """
        poll = select.poll()
        poll.register(self._listener.fd, select.POLLIN)
        poll.register(self._stop_read, select.POLLIN)
        while True:
            ready = dict(poll.poll())
            if self._stop_read in ready:
                return
            events = ready.get(self._listener.fd, 0)
            if events & select.POLLIN:
                call = self._listener.receive()
                if call is not None:
                    self.answer(call)
            elif events:
                return

    def stop(self) -> None:
        """Make `serve` return, from any thread; calls of the container then wait until `close`
        and fail with ENOSYS."""
        os.write(self._stop_write, b"x")

    def close(self) -> None:
        """Close the listener; not while `serve` runs."""
        self._listener.close()
        os.close(self._stop_read)
        os.close(self._stop_write)

    def answer(self, call: Call) -> None:
        """Carry out and answer one call."""
        variant = self._variants.get((call.token, call.number))
        if variant is None:
            self._listener.pass_on(call)
            return
        try:
            if variant.kind is Kind.GROUPS:
                self._tell_groups(call, variant)
                return
            done = self._carry_out(call, variant)
        except Gone:
            return
        except OSError as e:
            self._listener.answer(call, e.errno or errno.EIO)
            return
        if done:
            self._listener.answer(call)
        else:
            self._listener.pass_on(call)

    def _tell_groups(self, call: Call, variant: Variant) -> None:
        """Answer getgroups(2) with the groups that the caller is to have. Raises OSError as its
        answer."""
        groups = self._caller.groups
        content = packed_groups(variant, groups, signed(call.args[0]))
        if content:
            # The memory is that of one process for as long as it is open.
            memory = os.open(f"/proc/{call.pid}/mem", os.O_WRONLY | os.O_CLOEXEC)
            try:
                self._listener.check(call)
                os.pwrite(memory, content, call.args[1])
            except (OverflowError, OSError) as e:
                raise error(errno.EFAULT) from e
            finally:
                os.close(memory)
        self._listener.answer(call, value=len(groups))

    def _carry_out(self, call: Call, variant: Variant) -> bool:
        """Whether it is done; if not, the kernel is to do it. Raises OSError as its answer."""
        match variant.kind:
            case Kind.MKNOD:
                return self._make_node(call, variant)
            case Kind.BECOME:
                kind, taken = become(variant, call.args)
                if not self._caller.may_become(kind, taken):
                    raise error(errno.EPERM)
                return False
            case Kind.MOVE:
                self._moves.prepare(call, move(variant, call.args))
                return False
            case Kind.CHOWN:
                where = place(variant, call.args)
                fd = self._open(call, where)
                try:
                    wanted = ids(variant, call.args)
                    seen = where.fd is not None and wanted == (self._caller.uid, self._caller.gid)
                    if not seen or not self._is_copying(fd, call.pid):
                        self._change_owner(fd, Target(call.pid), *wanted)
                finally:
                    os.close(fd)
                return True
            case Kind.SET:
                attribute = read_attribute(call.pid, variant.name, call.args)
            case Kind.REMOVE:
                attribute = read_name(call.pid, variant.name, call.args)
        caller = self._caller
        decision = decide(attribute, root=(caller.uid, caller.gid) == (0, 0))
        if decision is Decision.KERNEL:
            return False
        fd = self._open(call, place(variant, call.args))
        try:
            if variant.kind is Kind.SET:
                self._set_attribute(fd, Target(call.pid), attribute)
                return True
            return self._remove_attribute(fd, Target(call.pid), attribute.name)
        finally:
            os.close(fd)

    def _open(self, call: Call, where: Place) -> int:
        """An O_PATH descriptor of the file meant, on a mount that can be written."""
        target = Target(call.pid)
        if where.fd is not None:
            fd = target.descriptor(where.fd)
        else:
            # Since 6.11 no address at all will do for an empty path.
            none = where.empty and not where.path
            path = b"" if none else read_text(call.pid, where.path)
            self._listener.check(call)
            if not path and where.empty:
                fd = target.descriptor(where.dir_fd) if where.dir_fd >= 0 else target.directory()
            else:
                fd = target.open(where.dir_fd, path, follow=where.follow)
        try:
            self._listener.check(call)
            if os.fstatvfs(fd).f_flag & os.ST_RDONLY:
                raise error(errno.EROFS)
        except BaseException:
            os.close(fd)
            raise
        return fd

    def _noted(self, fd: int, target: Target) -> tuple[Key, Note]:
        """What is known of the file `fd`: noted, recorded in a layer below, or root's. Touches
        the file, as bringing it up from a lower layer gives it another birth."""
        path = target.path_inside(fd)
        new = self._fresh(fd, path)
        _touch(fd)
        key, birth = self._naming(fd, path), born(fd)
        note = self._notes.get(key, birth)
        if note is None:
            owner = self._caller.owner if new else self._base(path) or _ROOT
            note = Note(owner=owner, born=birth)
        return key, note

    def _note_moved(self, fd: int, target: Target) -> None:
        """Note whose the file `fd` is before it gets another name, unless it is to have the
        owner of what it replaces there."""
        key, note = self._noted(fd, target)
        if (key, note.born) not in self.replacing:
            self._notes.set(key, note)

    def _is_copying(self, fd: int, pid: int) -> bool:
        """Whether fchown(2) of `fd` to itself is what a program does that replaces a file by a
        new one with the owner that it saw. It saw itself where the layers below record another
        one, as they do for /etc/shadow; a new file without a note gets that by its path."""
        if not self._caller.has(CHOWN):
            return False
        path = Target(pid).path_inside(fd)
        key, birth = self._naming(fd, path), born(fd)
        if self._notes.get(key, birth) is not None or self._base(path) is not None:
            return False
        self.replacing.add((key, birth))
        return True

    def _change_owner(self, fd: int, target: Target, uid: int, gid: int) -> None:
        key, note = self._noted(fd, target)
        if not self._caller.may_chown(note.owner, uid, gid):
            raise error(errno.EPERM)
        mode = os.fstat(fd).st_mode
        left = mode_after_chown(mode)
        if left != mode and not stat.S_ISLNK(mode):
            os.chmod(b"/proc/self/fd/%d" % fd, stat.S_IMODE(left))
        if stat.S_ISREG(mode):
            _give_up_capability(fd)
        self._notes.set(key, replace(note, owner=chowned(note.owner, uid, gid, mode)))

    def _make_node(self, call: Call, variant: Variant) -> bool:
        where = place(variant, call.args)
        mode, device = node(variant, call.args)
        if stat.S_ISCHR(mode) and device == (0, 0):
            return False
        target = Target(call.pid)
        path = read_text(call.pid, where.path)
        self._listener.check(call)
        if not path:
            raise error(errno.ENOENT)
        parent, name = target.parent(where.dir_fd, path)
        try:
            mode = stat.S_IFMT(mode) | (stat.S_IMODE(mode) & ~umask(call.pid))
            caller = os.stat(f"/proc/{call.pid}")
            self._listener.check(call)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            fd = os.open(name, flags, 0o600, dir_fd=parent)
        finally:
            os.close(parent)
        try:
            state = os.fstat(fd)
            if state.st_uid != caller.st_uid:
                os.fchown(fd, caller.st_uid, -1)
            os.fchmod(fd, stat.S_IMODE(mode))
            owner = replace(self._caller.owner, mode=mode, rdev=device)
            key = self._naming(fd, target.path_inside(fd))
            self._notes.set(key, Note(owner=owner, born=born(fd)))
        finally:
            os.close(fd)
        return True

    def _set_attribute(self, fd: int, target: Target, attribute: Attribute) -> None:
        key, note = self._noted(fd, target)
        self._allow(note, attribute.name)
        attribute.check_flags(present=attribute.name in note.owner.xattrs)
        xattrs = {**note.owner.xattrs, attribute.name: attribute.value}
        self._notes.set(key, replace(note, owner=replace(note.owner, xattrs=xattrs)))

    def _remove_attribute(self, fd: int, target: Target, name: str) -> bool:
        """Whether it was a noted one."""
        key = self._naming(fd, target.path_inside(fd))
        note = self._notes.get(key, born(fd))
        if note is None or name not in note.owner.xattrs:
            return False
        self._allow(note, name)
        xattrs = {key: value for key, value in note.owner.xattrs.items() if key != name}
        self._notes.set(key, replace(note, owner=replace(note.owner, xattrs=xattrs)))
        return True

    def _allow(self, note: Note, name: str) -> None:
        if not self._caller.may_set(note.owner, name):
            raise error(errno.EPERM)


def _touch(fd: int) -> None:
    """Change the change time, as the real call would: it brings a file of a lower layer up into
    an overlay's own. A file that is not ours (a bind mount of the host's) stays as it is."""
    state = os.fstat(fd)
    try:
        os.utime(b"/proc/self/fd/%d" % fd, ns=(state.st_atime_ns, state.st_mtime_ns))
    except PermissionError:
        return


def _give_up_capability(fd: int) -> None:
    """Have the kernel take the capability that a file of a layer has on disk, which it does
    whenever chown(2) is called, even to change nothing. One that is not ours keeps it."""
    try:
        os.chown(b"/proc/self/fd/%d" % fd, -1, -1)
    except OSError as e:
        if e.errno not in (errno.EPERM, errno.EOVERFLOW):
            raise
