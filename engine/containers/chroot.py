"""A container without namespaces of its own: the config.json for it, and what its tree is lent.

Nothing can be mounted there, so the files and devices that others get as mounts are put into
the tree while the container runs. Afterwards they are gone again, whatever was in their place
is back, and the times of the directories are what they were: a layer knows nothing of it.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from engine.containers.assemble import Setting
from engine.emulation.births import born_at
from engine.runtime.kernel.paths import Stub, make_directories
from engine.runtime.rootfs.stubs import remove_stubs
from imgtools.blob.files import storage_errors
from imgtools.errors import Unsupported

DEVICES = {"null": (1, 3), "zero": (1, 5), "full": (1, 7), "random": (1, 8), "urandom": (1, 9),
           "tty": (5, 0)}  # fmt: skip
NODE_MODE = stat.S_IFCHR | 0o666
# With the first a process leaves a chroot, with the second it gets at the host's disks.
WITHHELD = ("CAP_SYS_CHROOT", "CAP_MKNOD")
ASIDE = "aside"


def adapted(document: dict[str, Any], setting: Setting) -> dict[str, Any]:
    """The config.json `document` for a chroot. Raises Unsupported for a private network."""
    if setting.network.private:
        raise Unsupported(
            f"network {setting.network.mode} cannot be had in a chroot", hint="use --network host"
        )
    process = dict(document["process"])
    process["capabilities"] = {
        name: [one for one in values if one not in WITHHELD]
        for name, values in process["capabilities"].items()
    }
    # Who lacks CAP_SYS_ADMIN, as here, may load a seccomp filter only like this.
    process["noNewPrivileges"] = True
    mounts = [m for m in document["mounts"] if m["source"] not in setting.files.values()]
    linux = {**document["linux"], "namespaces": []}
    for kind in ("maskedPaths", "readonlyPaths"):
        # Where nothing is mounted there is nothing to hide.
        linux[kind] = [path for path in linux[kind] if path.split("/")[1] not in ("proc", "sys")]
    return {**document, "hostname": "", "process": process, "mounts": mounts, "linux": linux}


@contextmanager
def furnished(
    tree: str, spare: str, files: Mapping[str, str], warn: Callable[[str], object]
) -> Iterator[None]:
    """Have `files` (a host's file by destination) and devices in `tree` for the block.

    `spare` is a directory of the same file system, outside of the tree, that nobody else uses.
    Raises StorageError.
    """
    aside = os.path.join(spare, ASIDE)
    lent: dict[str, list[_Lent]] = {"/dev": [_Device(name) for name in DEVICES]}
    for destination, source in files.items():
        directory, _, name = destination.rpartition("/")
        lent.setdefault(directory, []).append(_Copy(name, source))
    with ExitStack() as undo:
        with storage_errors(tree):
            os.mkdir(aside, 0o700)
            undo.callback(os.rmdir, aside)
            root = os.open(tree, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            undo.callback(os.close, root)
            aside_fd = os.open(aside, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            undo.callback(os.close, aside_fd)
            stubs: list[Stub] = []
            undo.callback(lambda: remove_stubs(root, tuple(stubs)))
            for number, (path, things) in enumerate(lent.items()):
                place = _Directory(root, path, stubs, aside_fd, f"{number}-")
                undo.callback(place.restore)
                for problem in place.lend(things):
                    warn(problem)
        yield


class _Lent:
    """Something to be lent under `name`."""

    def __init__(self, name: str) -> None:
        self.name = name

    def make(self, directory: int) -> str:
        """Make it in `directory`, where the name is free; what is wrong with it, or ""."""
        raise NotImplementedError

    def serves(self, found: os.stat_result) -> bool:
        """Whether what is there already will do."""
        return False


class _Copy(_Lent):
    """A file with the content of the host's `source`."""

    def __init__(self, name: str, source: str) -> None:
        super().__init__(name)
        self._source = source

    def make(self, directory: int) -> str:
        with open(self._source, "rb") as source:
            content = source.read()
        _write(directory, self.name, content, 0o644)
        return ""


class _Device(_Lent):
    """A device node, or for /dev/null, which everything writes to, a file in its place."""

    def make(self, directory: int) -> str:
        device = os.makedev(*DEVICES[self.name])
        try:
            os.mknod(self.name, NODE_MODE, device, dir_fd=directory)
            os.chmod(self.name, 0o666, dir_fd=directory)
            if self.name == "null":
                os.close(os.open(self.name, os.O_RDWR | os.O_CLOEXEC, dir_fd=directory))
        except OSError as e:
            number = errno.errorcode.get(e.errno or 0, "")
            if self.name != "null":
                return ""
            try:
                os.unlink(self.name, dir_fd=directory)
            except FileNotFoundError:
                pass
            _write(directory, self.name, b"", 0o666)
            return f"no device nodes can be made ({number}): /dev/null in the container is a file"
        return ""

    def serves(self, found: os.stat_result) -> bool:
        return stat.S_ISCHR(found.st_mode) and found.st_rdev == os.makedev(*DEVICES[self.name])


@dataclass(slots=True)
class _Directory:
    """A directory of the tree that things are lent to."""

    root: int
    path: str
    stubs: list[Stub]
    aside: int
    prefix: str
    fd: int = -1
    made: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    moved: list[str] = field(default_factory=list)
    before: int = 0
    after: int = 0

    def lend(self, things: list[_Lent]) -> list[str]:
        """Put all things in place; what is wrong with some."""
        found = make_directories(self.root, os.fsencode(self.path), made=self.stubs)
        try:
            self.fd = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=found)
        finally:
            os.close(found)
        self.before = self.after = os.fstat(self.fd).st_mtime_ns
        problems = [problem for thing in things if (problem := self._lend(thing))]
        self.after = os.fstat(self.fd).st_mtime_ns
        return problems

    def _lend(self, thing: _Lent) -> str:
        name = thing.name
        found = _stat(name, self.fd)
        if found is not None:
            if thing.serves(found) or stat.S_ISDIR(found.st_mode):
                return ""
            os.rename(name, self.prefix + name, src_dir_fd=self.fd, dst_dir_fd=self.aside)
            self.moved.append(name)
        problem = thing.make(self.fd)
        if _stat(name, self.fd) is not None:
            self.made[name] = _identity(name, self.fd)
        return problem

    def restore(self) -> None:
        """Take everything away again; what the container has put in its place stays."""
        if self.fd < 0:
            return
        try:
            now = os.fstat(self.fd)
            for name, identity in self.made.items():
                if _stat(name, self.fd) is not None and _identity(name, self.fd) == identity:
                    os.unlink(name, dir_fd=self.fd)
            for name in self.moved:
                if _stat(name, self.fd) is None:
                    os.rename(self.prefix + name, name, src_dir_fd=self.aside, dst_dir_fd=self.fd)
                else:
                    os.unlink(self.prefix + name, dir_fd=self.aside)
            mtime = self.before if now.st_mtime_ns == self.after else now.st_mtime_ns
            os.utime(self.fd, ns=(now.st_atime_ns, mtime))
        finally:
            os.close(self.fd)
            self.fd = -1


def _write(directory: int, name: str, content: bytes, mode: int) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with open(os.open(name, flags, mode, dir_fd=directory), "wb") as file:
        file.write(content)
        os.fchmod(file.fileno(), mode)


def _identity(name: str, directory: int) -> tuple[int, int, int]:
    """What no other file has: a number alone may be given again."""
    found = os.stat(name, dir_fd=directory, follow_symlinks=False)
    return found.st_dev, found.st_ino, born_at(name, directory)


def _stat(name: str, directory: int) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return None
