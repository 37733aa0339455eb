"""A layer onto a directory tree, whatever the layer says.

No name, link or order of entries makes this write, link or delete outside the root: see
`root`. What is there already is replaced as container runtimes do (a directory stays when the
entry is a directory, everything else gives way), metadata of directories is set last, and
whiteouts act on what was there before this archive only (OCI image-spec layer.md).
"""

from __future__ import annotations

import errno
import logging
import os
import stat

from imgtools.blob import whiteout
from imgtools.blob.files import NO_SPACE
from imgtools.blob.tar.data import Readable, write_rest, write_sparse
from imgtools.blob.tar.entry import Entry, EntryType
from imgtools.blob.tar.metadata import Metadata
from imgtools.blob.tar.options import Devices, UnpackOptions, UnpackResult, Whiteouts
from imgtools.blob.tar.reader import TarReader
from imgtools.blob.tar.root import DIR_FLAGS, Directory, Root, split
from imgtools.errors import InvalidArchive, LimitExceeded, StorageError, Unsupported

log = logging.getLogger(__name__)

FILE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
WHITEOUT = whiteout.PREFIX.encode()
INSIDE_WHITEOUT = b"/" + WHITEOUT
MAX_TIME = (1 << 40) * 1_000_000_000
BAD_NAME = (errno.ENAMETOOLONG, errno.EILSEQ)


def unpack_tree(
    source: Readable, root: str | bytes | int, options: UnpackOptions | None = None
) -> UnpackResult:
    """Extract the tar archive `source` into the existing directory `root` (path or descriptor).

    `source` is read to its very end, so a verifying reader gets to check its digest. On an
    error the tree is left half-changed: extract into a directory that is thrown away then.
    Raises InvalidArchive, UnsafePath, LimitExceeded, Unsupported (a device node), StorageError,
    and whatever `source.read` raises.
    """
    name = root if isinstance(root, int) else os.fsdecode(root)
    try:
        fd = os.dup(root) if isinstance(root, int) else os.open(root, DIR_FLAGS & ~os.O_NOFOLLOW)
    except OSError as e:
        raise StorageError(f"cannot open {name}: {e.strerror}", path=str(name)) from e
    unpacker = _Unpacker(source, fd, options or UnpackOptions())
    try:
        return unpacker.run()
    finally:
        unpacker.close()


class _Unpacker:
    def __init__(self, source: Readable, fd: int, options: UnpackOptions) -> None:
        self._options = options
        self._limits = options.limits
        self._reader = TarReader(source, limits=options.limits, chunk=options.chunk)
        self._locked: dict[bytes, int] = {}
        self._times: dict[bytes, int] = {}
        self._root = Root(
            fd,
            options.limits,
            self._locked.setdefault,
            give_way=self._give_way if options.layered else None,
            entered=self._entered if options.layered else None,
        )
        self._metadata = Metadata(options)
        self._owner = self._metadata.owner
        self._self = (os.geteuid(), os.getegid())
        self._created: set[bytes] | None = set() if options.whiteouts is Whiteouts.APPLY else None
        self._cleared: set[bytes] = set()
        self._directories: dict[bytes, Entry] = {}
        self._entries = self._size = self._devices = 0

    def close(self) -> None:
        self._root.close()

    def run(self) -> UnpackResult:
        reader = self._reader
        entry: Entry | None = None
        try:
            if self._options.layered:
                self._entered(self._root.top, False)
            while (entry := reader.next()) is not None:
                self._one(entry)
            self._finish_directories()
        except OSError as e:
            raise _storage_error(e, entry) from e
        reader.drain(limit=self._limits.total_bytes)
        return UnpackResult(
            entries=self._entries,
            size=self._size,
            devices_skipped=self._devices,
            xattrs_skipped=self._metadata.skipped,
        )

    def _one(self, entry: Entry) -> None:
        raw = entry.path.encode("utf-8", "surrogateescape")
        kind = entry.type
        parent, _, name = raw.rpartition(b"/")
        if name in (b"", b".", b".."):
            parts = split(raw)
            if not parts:
                if kind is not EntryType.DIR:
                    raise InvalidArchive(f"tar entry {entry.path!r} has no name")
                self._directories[b""] = entry
                self._entries += 1
                return
            name = parts.pop()
            parent = b"/".join(parts)
        if name[:4] == WHITEOUT and self._whiteout(entry, parent, name):
            return
        if INSIDE_WHITEOUT in b"/" + parent and self._inside_whiteout(entry):
            return
        directory = self._root.get(parent)
        if kind is EntryType.FILE:
            self._file(entry, directory, name)
        elif kind is EntryType.DIR:
            self._directory(entry, directory, name)
        elif kind is EntryType.HARDLINK:
            directory = self._hardlink(entry, parent, name)
        elif kind is EntryType.SYMLINK:
            self._symlink(entry, directory, name)
        elif not self._node(entry, directory, name):
            return
        self._entries += 1
        if self._created is not None:
            self._note(self._created, directory, name)

    def _note(self, created: set[bytes], directory: Directory, name: bytes) -> None:
        """Remember what this archive made, so that its own whiteouts spare it."""
        path = directory.path
        if not directory.noted:
            directory.noted = True
            upper = path
            while upper and upper not in created:
                created.add(upper)
                upper = upper.rpartition(b"/")[0]
        created.add(path + b"/" + name if path else name)

    def _file(self, entry: Entry, directory: Directory, name: bytes) -> None:
        size = entry.size
        self._size += size
        if self._size > self._limits.total_bytes:
            raise LimitExceeded("content of a tar archive", self._limits.total_bytes)
        mode = self._metadata.mode(entry)
        owner = self._metadata.ids(entry) if self._owner else self._self
        # Without a foreign owner or special bits the mode can be right from the start. What
        # that gives depends on umask, default ACLs and setgid: looked up once per directory.
        plain = owner == self._self and mode < 0o1000 and not entry.xattrs
        initial = mode if plain else 0o600
        try:
            fd = os.open(name, FILE_FLAGS, initial, dir_fd=directory.fd)
        except FileExistsError:
            self._remove(directory, name)
            fd = os.open(name, FILE_FLAGS, initial, dir_fd=directory.fd)
        try:
            if entry.sparse is not None:
                write_sparse(fd, self._reader, entry)
            elif size:
                # most files are in the reader's buffer: one view, one write
                data = self._reader.view_stored(size)
                if os.write(fd, data) != size:
                    write_rest(fd, self._reader, data)
            fresh = directory.fresh.get(initial)
            if fresh is None:
                st = os.fstat(fd)
                fresh = (st.st_mode & 0o7777, st.st_uid, st.st_gid)
                directory.fresh[initial] = fresh
            if self._owner and owner != fresh[1:]:
                os.fchown(fd, *owner)
            if entry.xattrs or self._metadata.recorder is not None:
                refused = self._metadata.xattrs(fd, entry)
                self._metadata.made(directory.child(name), entry, refused)
            if mode != fresh[0]:
                os.fchmod(fd, mode)
            time = entry.mtime_ns
            if not -MAX_TIME < time < MAX_TIME:
                time = _clamped(time)
            os.utime(fd, ns=(time, time))
        finally:
            os.close(fd)

    def _directory(self, entry: Entry, directory: Directory, name: bytes) -> None:
        try:
            os.mkdir(name, 0o700, dir_fd=directory.fd)
        except FileExistsError:
            there = os.stat(name, dir_fd=directory.fd, follow_symlinks=False)
            if not stat.S_ISDIR(there.st_mode):
                self._remove(directory, name)
                os.mkdir(name, 0o700, dir_fd=directory.fd)
        self._directories[directory.child(name)] = entry

    def _symlink(self, entry: Entry, directory: Directory, name: bytes) -> None:
        target = entry.linkname.encode("utf-8", "surrogateescape")
        if not target:
            raise InvalidArchive(f"symbolic link {entry.path!r} has no target")
        try:
            os.symlink(target, name, dir_fd=directory.fd)
        except FileExistsError:
            self._remove(directory, name)
            os.symlink(target, name, dir_fd=directory.fd)
        if self._owner:
            ids = self._metadata.ids(entry)
            os.chown(name, *ids, dir_fd=directory.fd, follow_symlinks=False)
        time = _clamped(entry.mtime_ns)
        os.utime(name, ns=(time, time), dir_fd=directory.fd, follow_symlinks=False)
        self._metadata.made(directory.child(name), entry)

    def _hardlink(self, entry: Entry, parent: bytes, name: bytes) -> Directory:
        """Link to a file inside the root; the target's last component is never followed."""
        parts = split(entry.linkname.encode("utf-8", "surrogateescape"))
        source = self._root.find(b"/".join(parts[:-1])) if parts else None
        if source is None:
            raise _bad_link(entry)
        fd, target = os.dup(source.fd), source.child(parts[-1])
        try:
            directory = self._root.get(parent)
            try:
                _link(parts[-1], fd, name, directory.fd)
            except FileExistsError:
                there = os.stat(name, dir_fd=directory.fd, follow_symlinks=False)
                wanted = os.stat(parts[-1], dir_fd=fd, follow_symlinks=False)
                if os.path.samestat(there, wanted):
                    return directory
                self._remove(directory, name)
                _link(parts[-1], fd, name, directory.fd)
            self._metadata.linked(directory.child(name), target)
            return directory
        except (FileNotFoundError, PermissionError) as e:
            raise _bad_link(entry) from e
        finally:
            os.close(fd)

    def _node(self, entry: Entry, directory: Directory, name: bytes) -> bool:
        """Make a FIFO or device node; False if it was skipped."""
        kind, device, policy = stat.S_IFIFO, 0, self._options.devices
        placeholder = False
        if entry.type is not EntryType.FIFO:
            if policy is Devices.SKIP:
                log.debug("device node %r skipped", entry.path)
                self._devices += 1
                return False
            if policy is Devices.REFUSE:
                raise Unsupported(
                    f"{entry.path!r} is a device node",
                    hint="allow device nodes, or skip them",
                )
            kind = stat.S_IFCHR if entry.type is EntryType.CHAR else stat.S_IFBLK
            device = _device(entry)
            if self._options.layered and kind == stat.S_IFCHR and device == 0:
                self._hide(entry, directory, name)
                return False
        try:
            os.mknod(name, 0o600 | kind, device, dir_fd=directory.fd)
        except FileExistsError:
            self._remove(directory, name)
            return self._node(entry, directory, name)
        except PermissionError:
            if policy is not Devices.RECORD or kind == stat.S_IFIFO:
                raise
            os.close(os.open(name, FILE_FLAGS, 0o600, dir_fd=directory.fd))
            placeholder = True
        if self._owner:
            ids = self._metadata.ids(entry)
            os.chown(name, *ids, dir_fd=directory.fd, follow_symlinks=False)
        os.chmod(name, self._metadata.mode(entry), dir_fd=directory.fd)
        time = _clamped(entry.mtime_ns)
        os.utime(name, ns=(time, time), dir_fd=directory.fd, follow_symlinks=False)
        self._metadata.made(directory.child(name), entry, placeholder=placeholder)
        return True

    def _hide(self, entry: Entry, directory: Directory, name: bytes) -> None:
        try:
            self._remove(directory, name)
        except FileNotFoundError:
            log.debug("whiteout %r hides nothing", entry.path)

    def _whiteout(self, entry: Entry, parent: bytes, name: bytes) -> bool:
        """Act on a whiteout name; False if it is to be extracted like any other."""
        if self._created is None:
            if self._options.whiteouts is Whiteouts.KEEP:
                return False
            raise InvalidArchive(f"{entry.path!r} is a whiteout, and there is nothing below")
        text = name.decode("utf-8", "surrogateescape")
        self._entries += 1
        if whiteout.is_metadata(text):
            log.debug("whiteout metadata %r skipped", entry.path)
            return True
        target = whiteout.whiteout_target(text).encode("utf-8", "surrogateescape")
        directory = self._root.find(parent)
        if directory is None:
            return True
        if not target:
            self._clear(directory)
        elif directory.child(target) in self._created:
            inner = self._root.at(directory.child(target))
            if inner is not None:
                self._clear(inner)
        else:
            self._hide(entry, directory, target)
        return True

    def _inside_whiteout(self, entry: Entry) -> bool:
        """Whether `entry`, below a directory with a whiteout's name, is to be passed over."""
        if self._options.whiteouts is Whiteouts.KEEP:
            return False
        if "/" + whiteout.META_PREFIX in "/" + entry.path:
            log.debug("whiteout metadata %r skipped", entry.path)
            return True
        raise InvalidArchive(f"{entry.path!r} is inside a whiteout")

    def _remove(self, directory: Directory, name: bytes) -> None:
        path = directory.child(name)
        self._directories.pop(path, None)
        self._root.remove(directory, name)
        self._metadata.removed(path)

    def _clear(self, directory: Directory) -> None:
        """Remove what lower layers have in `directory`; once is enough, they do not grow."""
        created, path = self._created or set(), directory.path
        upper = path
        while upper and upper not in self._cleared:
            upper = upper.rpartition(b"/")[0]
        if upper not in self._cleared:
            self._cleared.add(path)
            self._root.clear(directory, created)
            self._metadata.cleared(path, created)

    def _give_way(self, directory: Directory, name: bytes, create: bool) -> bool:
        """Whether a file or link, which is in the way of a directory, is not of this archive."""
        if self._created is None or directory.child(name) in self._created:
            return False
        if create:
            self._remove(directory, name)
        return True

    def _entered(self, directory: Directory, made: bool) -> None:
        """Note what a directory is to have in the end that may have no entry."""
        path = directory.path
        if made:
            self._directories[path] = Entry(path=os.fsdecode(path), type=EntryType.DIR, mode=0o755)
        elif path not in self._directories and path not in self._times:
            self._times[path] = os.fstat(directory.fd).st_mtime_ns

    def _finish_directories(self) -> None:
        """Owner, mode and times of directories, deepest first: filling them changes both."""
        paths = self._directories.keys() | self._locked.keys() | self._times.keys()
        for path in sorted(paths, reverse=True):
            directory = self._root.at(path)
            if directory is None:
                continue
            entry, fd = self._directories.get(path), directory.fd
            if entry is None:
                if path in self._locked:
                    os.fchmod(fd, self._locked[path])
                time = self._times.get(path)
                if time is not None and time != os.fstat(fd).st_mtime_ns:
                    os.utime(fd, ns=(time, time))
                continue
            if self._owner:
                os.fchown(fd, *self._metadata.ids(entry))
            refused = self._metadata.xattrs(fd, entry)
            os.fchmod(fd, self._metadata.mode(entry))
            time = _clamped(entry.mtime_ns)
            os.utime(fd, ns=(time, time))
            self._metadata.made(path, entry, refused)


def _link(source: bytes, source_fd: int, name: bytes, dir_fd: int) -> None:
    os.link(source, name, src_dir_fd=source_fd, dst_dir_fd=dir_fd, follow_symlinks=False)


def _clamped(time: int) -> int:
    return min(max(time, -MAX_TIME), MAX_TIME)


def _device(entry: Entry) -> int:
    major, minor = entry.devmajor, entry.devminor
    if not (0 <= major < 1 << 12 and 0 <= minor < 1 << 20):
        raise InvalidArchive(f"device node {entry.path!r} has impossible numbers {major}, {minor}")
    return os.makedev(major, minor)


def _bad_link(entry: Entry) -> InvalidArchive:
    return InvalidArchive(
        f"hard link {entry.path!r} to {entry.linkname!r}: no such file in the tree"
    )


def _storage_error(e: OSError, entry: Entry | None) -> InvalidArchive | StorageError:
    path = entry.path if entry is not None else ""
    if e.errno in BAD_NAME:
        return InvalidArchive(f"name of {path[:300]!r}: {e.strerror}")
    hint = NO_SPACE if e.errno == errno.ENOSPC else None
    return StorageError(f"cannot unpack {path!r}: {e.strerror or e}", path=path, hint=hint)
