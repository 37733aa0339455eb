"""What the tests of layers and snapshots share: tars made by hand, stores, trees as data."""

from __future__ import annotations

import hashlib
import io
import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from engine.storage.drivers.choice import probe_overlay
from engine.storage.drivers.mounts import open_root
from engine.storage.layers import LayerStore
from engine.storage.layers_disk import open_disk
from engine.storage.options import DiffOptions, RootMount, Snapshot, StoreLocation
from engine.storage.snapshots import SnapshotStore
from imgtools.blob.tar import Entry, EntryType, TarReader, TarWriter
from imgtools.spec.digest import Digest

Member = tuple[Entry, bytes]
Tree = dict[str, tuple[object, ...]]
DRIVERS = ("overlay", "flat")
PROJECT = Path(__file__).parents[2]


def file(path: str, data: bytes = b"text", mode: int = 0o644, **more: object) -> Member:
    return Entry(path=path, size=len(data), mode=mode, **more), data  # type: ignore[arg-type]


def other(path: str, kind: EntryType, mode: int = 0o755, **more: object) -> Member:
    return Entry(path=path, type=kind, mode=mode, **more), b""  # type: ignore[arg-type]


def directory(path: str, mode: int = 0o755, **more: object) -> Member:
    return other(path, EntryType.DIR, mode, **more)


def symlink(path: str, target: str) -> Member:
    return other(path, EntryType.SYMLINK, 0o777, linkname=target)


def hardlink(path: str, target: str) -> Member:
    return other(path, EntryType.HARDLINK, linkname=target)


def whiteout(path: str) -> Member:
    parent, _, name = path.rpartition("/")
    return file(f"{parent}/.wh.{name}" if parent else f".wh.{name}", b"")


def opaque(path: str) -> Member:
    return file(f"{path}/.wh..wh..opq", b"")


def archive(*members: Member) -> bytes:
    out: list[bytes] = []
    writer = TarWriter(out.append)
    for entry, data in members:
        writer.add(entry, data)
    writer.finish()
    return b"".join(out)


def members(tar: bytes) -> list[tuple[str, str]]:
    """(path, type letter of tar) of each member."""
    reader = TarReader(io.BytesIO(tar))
    found = []
    while (entry := reader.next()) is not None:
        found.append((entry.path, entry.type.value))
    return found


def entries(tar: bytes) -> dict[str, Entry]:
    """Members by path."""
    reader = TarReader(io.BytesIO(tar))
    found = {}
    while (entry := reader.next()) is not None:
        found[entry.path] = entry
    return found


class Store:
    """An open store with one driver."""

    def __init__(self, root: Path, driver: str = "", **more: object) -> None:
        self.location = StoreLocation(
            root=str(root),
            runroot=str(root / "run"),
            driver=driver,
            **more,  # type: ignore[arg-type]
        )
        self.disk = open_disk(self.location)
        self.layers = LayerStore(self.disk)
        self.snapshots = SnapshotStore(self.layers)

    def stack(self, *layers: bytes) -> Digest:
        """Apply tars on each other; the chain_id of the last."""
        parent: Digest | None = None
        for tar in layers:
            parent = self.layers.apply(parent, Digest.of(tar), io.BytesIO(tar)).chain_id
        assert parent is not None
        return parent

    def tree(self, what: Digest | Snapshot) -> Tree:
        mount = (
            self.layers.view(what) if isinstance(what, Digest) else self.snapshots.root_mount(what)
        )
        return tree(mount)

    def diff(self, snapshot: Snapshot, **options: object) -> bytes:
        out: list[bytes] = []
        result = self.snapshots.diff(snapshot, out.append, DiffOptions(**options))  # type: ignore[arg-type]
        tar = b"".join(out)
        assert result.diff_id == Digest.of(tar)
        assert result.size == len(tar)
        assert result.entries == len(members(tar))
        return tar

    @contextmanager
    def inside(self, snapshot: Snapshot) -> Iterator[str]:
        """The snapshot's tree under a path that only this process has."""
        fd = self.snapshots.opened(snapshot)
        try:
            yield f"/proc/self/fd/{fd}"
        finally:
            os.close(fd)

    def left_over(self) -> list[str]:
        """What is in the workspace."""
        tmp = Path(self.disk.layout.tmp)
        return sorted(os.listdir(tmp)) if tmp.exists() else []


def tree(mount: RootMount) -> Tree:
    """All of a tree: type and mode, owner, time, content, extended attributes by path."""
    fd = open_root(mount)
    try:
        return tree_of(fd)
    finally:
        os.close(fd)


def tree_of(fd: int) -> Tree:
    found: Tree = {}
    for path, dirs, files, at in os.fwalk(".", dir_fd=fd):
        for name in [".", *files, *(d for d in dirs if stat.S_ISLNK(_lstat(d, at).st_mode))]:
            st = _lstat(name, at)
            found[os.path.normpath(os.path.join(path, name))] = (
                oct(st.st_mode),
                st.st_uid,
                st.st_gid,
                st.st_mtime_ns,
                st.st_rdev,
                _content(name, at, st),
                _attributes(name, at, st),
            )
    return found


def _lstat(name: str, fd: int) -> os.stat_result:
    return os.stat(name, dir_fd=fd, follow_symlinks=False)


def _content(name: str, at: int, st: os.stat_result) -> object:
    if stat.S_ISLNK(st.st_mode):
        return os.readlink(name, dir_fd=at)
    if not stat.S_ISREG(st.st_mode):
        return None
    with open(name, "rb", opener=lambda p, flags: os.open(p, flags, dir_fd=at)) as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _attributes(name: str, at: int, st: os.stat_result) -> object:
    if not (stat.S_ISREG(st.st_mode) or stat.S_ISDIR(st.st_mode)):
        return None
    fd = os.open(name, os.O_RDONLY, dir_fd=at)
    try:
        names = [n for n in os.listxattr(fd) if not n.startswith(("trusted.", "user.overlay."))]
        return {n: os.getxattr(fd, n) for n in sorted(names)}
    finally:
        os.close(fd)


@contextmanager
def working_directory(tmp_path: Path) -> Iterator[Path]:
    """A directory on which overlay works: a temporary one, or one in memory."""
    with tempfile.TemporaryDirectory(dir=tmp_path) as trial:
        works = not probe_overlay(trial, userxattr=False)
    if works:
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir="/dev/shm") as memory:
        yield Path(memory)


def python(code: str, *argv: str, unshare: tuple[str, ...] = ()) -> str:
    """Run Python with the project on its path, in new namespaces; what it prints."""
    command = [*unshare, sys.executable, "-c", code, *argv]
    done = subprocess.run(
        command,
        env={**os.environ, "PYTHONPATH": str(PROJECT), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
