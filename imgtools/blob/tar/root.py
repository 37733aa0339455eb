"""Directories below a root that no name in an archive can lead out of.

Every component is opened relative to its parent without following links. A symbolic link in
the middle of a path is resolved by hand with the root as "/" and as the parent of itself, as
openat2's RESOLVE_IN_ROOT does and container runtimes expect (a layer may write to `lib/x`
where `lib` links to `usr/lib`). Nothing here trusts a string to stay inside.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Container, Iterator

from imgtools.blob.tar.entry import TarLimits
from imgtools.errors import InvalidArchive, LimitExceeded, UnsafePath

CACHED = 128
MAX_LINKS = 40
DIR_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY | os.O_CLOEXEC
NOT_A_DIRECTORY = (errno.ENOTDIR, errno.ELOOP)


def split(path: bytes) -> list[bytes]:
    """Components of an archive path, "", "." and leading slashes dropped.

    Raises UnsafePath for "..": it would have to be resolved behind links.
    """
    parts = [part for part in path.split(b"/") if part and part != b"."]
    if b".." in parts:
        raise UnsafePath(path.decode("utf-8", "surrogateescape"), 'a ".." component')
    return parts


class Directory:
    """An open directory: descriptor, and real path (free of links) relative to the root."""

    __slots__ = ("fd", "fresh", "noted", "path")

    def __init__(self, fd: int, path: bytes) -> None:
        self.fd = fd
        self.path = path
        self.noted = False
        self.fresh: dict[int, tuple[int, int, int]] = {}
        """(mode, uid, gid) that a file created here with a given mode turns out to have."""

    def child(self, name: bytes) -> bytes:
        """Real path of `name` in this directory."""
        return self.path + b"/" + name if self.path else name


class Root:
    """The directories below one root, opened on demand, a bounded number kept open.

    A `Directory` is valid until the next call. `unlocked` is told the real path and mode of a
    directory that had to be made accessible to its owner (never needed by the superuser).
    `give_way` is asked about a file or link in the way of a directory, and returns true if it
    removed it; None keeps all of them. `entered` is told each directory that is opened, and
    whether it was made for that.
    """

    def __init__(
        self,
        fd: int,
        limits: TarLimits,
        unlocked: Callable[[bytes, int], object],
        *,
        give_way: Callable[[Directory, bytes, bool], bool] | None = None,
        entered: Callable[[Directory, bool], object] | None = None,
    ) -> None:
        """Takes over `fd`."""
        self.top = Directory(fd, b"")
        self._limits = limits
        self._unlocked = unlocked
        self._give_way = give_way
        self._entered = entered
        self._superuser = os.geteuid() == 0
        self._dirs: dict[bytes, Directory] = {}
        self._last_raw: bytes | None = None
        self._last = self.top

    def close(self) -> None:
        """Close everything, the root too."""
        self.forget()
        os.close(self.top.fd)

    def forget(self, path: bytes | None = None) -> None:
        """Close the directory at real `path` and those below; all of them for None."""
        self._last_raw = None
        below = b"" if path is None else path + b"/"
        for known in [k for k in self._dirs if path is None or k == path or k.startswith(below)]:
            os.close(self._dirs.pop(known).fd)

    def get(self, raw: bytes) -> Directory:
        """The directory that archive path `raw` names, missing ones made with mode 0755.

        Raises UnsafePath (".." or a loop of links), InvalidArchive (something on the way is no
        directory), LimitExceeded (too deep or too long) or OSError.
        """
        if raw == self._last_raw:
            return self._last
        found = self._walk(self._parts(raw), create=True)
        if found is None:  # pragma: no cover: only without `create`
            raise InvalidArchive(f"{os.fsdecode(raw)!r} does not exist")
        self._last_raw, self._last = raw, found
        return found

    def find(self, raw: bytes) -> Directory | None:
        """Like `get`, but None where a component is missing."""
        if raw == self._last_raw:
            return self._last
        return self._walk(self._parts(raw), create=False)

    def at(self, real: bytes) -> Directory | None:
        """The directory at real path `real`, None if it is gone or no directory any more."""
        try:
            return self._walk(real.split(b"/") if real else [], create=False, follow=False)
        except InvalidArchive:
            return None

    def _parts(self, raw: bytes) -> list[bytes]:
        if len(raw) > self._limits.path_bytes:
            raise LimitExceeded("path of a tar entry", self._limits.path_bytes)
        parts = split(raw)
        if len(parts) >= self._limits.depth:
            raise LimitExceeded("depth of a path", self._limits.depth, unit="components")
        return parts

    def _walk(self, parts: list[bytes], *, create: bool, follow: bool = True) -> Directory | None:
        current, pending = self._nearest(parts)
        links = 0
        while pending:
            name = pending.pop()
            if name == b"..":
                upper = self._walk(current.path.split(b"/")[:-1], create=create)
                if upper is None:
                    return None
                current = upper
                continue
            step = self._step(current, name, create)
            if isinstance(step, Directory):
                current = step
                continue
            if step is None or not follow:
                return None
            links += 1
            more = [part for part in step.split(b"/") if part and part != b"."]
            if links > MAX_LINKS or len(more) + len(pending) > 2 * self._limits.depth:
                raise UnsafePath(os.fsdecode(b"/".join(parts)), "a loop of symbolic links")
            if step[:1] == b"/":
                current = self.top
            pending += reversed(more)
        return current

    def _nearest(self, parts: list[bytes]) -> tuple[Directory, list[bytes]]:
        """The deepest known directory on the way and the components left, last one first."""
        for count in range(len(parts), 0, -1):
            key = b"/".join(parts[:count])
            known = self._dirs.pop(key, None)
            if known is not None:
                self._dirs[key] = known
                return known, parts[: count - 1 : -1] if count < len(parts) else []
        return self.top, parts[::-1]

    def _step(self, parent: Directory, name: bytes, create: bool) -> Directory | bytes | None:
        """Child directory `name`, or the target of the symbolic link that it is."""
        path = parent.child(name)
        known = self._dirs.pop(path, None)
        if known is not None:
            self._dirs[path] = known
            return known
        made = False
        try:
            fd, locked = self.enter(name, parent.fd)
        except OSError as e:
            link = self._obstacle(parent, name, create, e)
            if link is not None:
                return link
            if not create:
                return None
            os.mkdir(name, 0o755, dir_fd=parent.fd)
            made = True
            fd, locked = self.enter(name, parent.fd)
        if locked is not None:
            self._unlocked(path, locked)
        while len(self._dirs) >= CACHED:
            oldest = self._dirs.pop(next(iter(self._dirs)))
            if oldest is self._last:
                self._last_raw = None
            os.close(oldest.fd)
        found = self._dirs[path] = Directory(fd, path)
        if self._entered is not None:
            self._entered(found, made)
        return found

    def _obstacle(
        self, parent: Directory, name: bytes, create: bool, error: OSError
    ) -> bytes | None:
        """Target of the link `name`, which did not open as a directory; None if nothing, or
        nothing any more, is there. Raises InvalidArchive for any other file, or `error`."""
        if error.errno == errno.ENOENT:
            return None
        if error.errno not in NOT_A_DIRECTORY:
            raise error
        if self._give_way is not None and self._give_way(parent, name, create):
            return None
        if not stat.S_ISLNK(os.lstat(name, dir_fd=parent.fd).st_mode):
            path = parent.child(name)
            raise InvalidArchive(f"{os.fsdecode(path)!r} is not a directory") from error
        return os.readlink(name, dir_fd=parent.fd)

    def enter(self, name: bytes, dir_fd: int) -> tuple[int, int | None]:
        """Open directory `name`; the mode it had if it was closed to us, its owner, and is not now.

        Raises OSError; ENOTDIR or ELOOP for what is no directory, a link in particular.
        """
        if self._superuser:
            return os.open(name, DIR_FLAGS, dir_fd=dir_fd), None
        before = os.stat(name, dir_fd=dir_fd, follow_symlinks=False)
        if not stat.S_ISDIR(before.st_mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), name)
        locked = before.st_mode & 0o700 != 0o700 and before.st_uid == os.geteuid()
        if locked:
            os.chmod(name, stat.S_IMODE(before.st_mode) | 0o700, dir_fd=dir_fd)
        fd = os.open(name, DIR_FLAGS, dir_fd=dir_fd)
        return fd, stat.S_IMODE(before.st_mode) if locked else None

    def remove(self, parent: Directory, name: bytes) -> None:
        """Remove `name`, directories with all they contain; links are removed, not followed."""
        try:
            os.unlink(name, dir_fd=parent.fd)
        except IsADirectoryError:
            self.forget(parent.child(name))
            fd, _ = self.enter(name, parent.fd)
            self._clear(fd, parent.child(name), ())
            os.rmdir(name, dir_fd=parent.fd)

    def clear(self, directory: Directory, keep: Container[bytes]) -> None:
        """Empty `directory` but for real paths in `keep` (with the directories above them)."""
        path = directory.path
        fd = os.open(b".", DIR_FLAGS, dir_fd=directory.fd)
        self.forget()
        self._clear(fd, path, keep)

    def _clear(self, fd: int, path: bytes, keep: Container[bytes]) -> None:
        """Empty the directory `fd`, which is closed. A descriptor per level, no recursion."""
        levels: list[tuple[int, bytes, bytes, Iterator[os.DirEntry[str]]]] = []
        try:
            levels.append((fd, path, b"", iter(())))
            levels[0] = (fd, path, b"", _listed(fd))
            while levels:
                fd, path, own, names = levels[-1]
                item = next(names, None)
                if item is None:
                    levels.pop()
                    os.close(fd)
                    if levels and path not in keep:
                        os.rmdir(own, dir_fd=levels[-1][0])
                    continue
                name = os.fsencode(item.name)
                below = path + b"/" + name if path else name
                if item.is_dir(follow_symlinks=False):
                    fd, _ = self.enter(name, fd)
                    levels.append((fd, below, name, iter(())))
                    levels[-1] = (fd, below, name, _listed(fd))
                elif below not in keep:
                    os.unlink(name, dir_fd=fd)
        finally:
            for level in levels:
                os.close(level[0])


def _listed(fd: int) -> Iterator[os.DirEntry[str]]:
    with os.scandir(fd) as entries:
        return iter(list(entries))
