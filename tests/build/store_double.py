"""A SnapshotStore in a directory of the test's: layers as files, trees by unpacking them.

It keeps what it is given and nothing else: no locks, no collection, no ownership records, so
that trees have the owners that the tester may set. `images` and `records` are for tests to
look at.
"""

from __future__ import annotations

import os
import shutil
import threading
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from imgtools.blob.reader import CHUNK, BlobReader, Readable
from imgtools.blob.tar import PackOptions, UnpackOptions, pack_tree, unpack_tree
from imgtools.build.protocols import (
    BaseImage,
    CacheRecord,
    CommitOptions,
    NewLayer,
    Working,
)
from imgtools.build.tree import Tree
from imgtools.errors import DigestMismatch, ImageNotFound, NotFound
from imgtools.spec.config import Config
from imgtools.spec.digest import Digest
from imgtools.spec.identity import chain_id, chain_ids
from imgtools.spec.manifest import RawManifest
from imgtools.spec.platform import Platform
from imgtools.task import Task

EMPTY_TAR = bytes(1024)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """A layer of the double."""

    diff_id: Digest
    parent: Digest | None
    path: Path
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptImage:
    """What keep_image was given."""

    manifest: RawManifest
    config: bytes
    names: tuple[str, ...]


@dataclass(slots=True)
class StoreDouble:
    """Use it with a fresh directory; `bases` are what look_up knows, by name."""

    root: Path
    bases: dict[str, BaseImage] = field(default_factory=dict)
    indexes: dict[str, tuple[Platform, ...]] = field(default_factory=dict)
    base_layers: dict[str, tuple[bytes, ...]] = field(default_factory=dict)
    layers: dict[Digest, Layer] = field(default_factory=dict)
    records: dict[str, CacheRecord] = field(default_factory=dict)
    images: dict[str, KeptImage] = field(default_factory=dict)
    obtained: list[str] = field(default_factory=list)
    opened: list[Digest] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add_base(self, name: str, image: BaseImage, layers: Sequence[bytes]) -> BaseImage:
        """Make `look_up` find `image`, whose uncompressed `layers` come with `obtain`."""
        self.bases[name] = image
        self.base_layers[name] = tuple(layers)
        return image

    def look_up(self, name: str, platform: Platform | None, pull: str, *, task: Task) -> BaseImage:
        if name not in self.bases:
            raise ImageNotFound(f"{name} is not in the double")
        return self.bases[name]

    def platforms(self, name: str, pull: str, *, task: Task) -> tuple[Platform, ...]:
        return self.indexes.get(name) or (self.look_up(name, None, pull, task=task).platform,)

    def obtain(self, base: BaseImage, *, task: Task) -> None:
        self.obtained.append(base.name)
        parent = None
        for content in self.base_layers[base.name]:
            parent = self.add(parent, content).chain_id

    def add(self, parent: Digest | None, content: bytes) -> NewLayer:
        """Make a layer of a whole tar in memory."""
        reader = BlobReader.of(content)
        return self.apply(parent, reader.digest, reader, len(content), task=Task())

    def has(self, chain: Digest) -> bool:
        return chain in self.layers

    def apply(
        self, parent: Digest | None, diff_id: Digest, tar: Readable, size: int, *, task: Task
    ) -> NewLayer:
        path = self.root / f"layer-{uuid.uuid4().hex}"
        hasher = diff_id.hasher()
        with path.open("wb") as file:
            while data := tar.read(CHUNK):
                hasher.update(data)
                file.write(data)
        if hasher.hexdigest() != diff_id.hex:
            path.unlink()
            raise DigestMismatch(
                "layer", expected=str(diff_id), actual=f"{diff_id.algorithm}:{hasher.hexdigest()}"
            )
        found = path.stat().st_size
        assert found == size, f"the tar has {found} bytes and not {size}"
        chain = Digest.of(f"{parent} {diff_id}".encode()) if parent is not None else diff_id
        with self._lock:
            self.layers[chain] = Layer(diff_id=diff_id, parent=parent, path=path, size=size)
        return NewLayer(
            diff_id=diff_id, chain_id=chain, size=size, empty=not path.read_bytes().strip(b"\0")
        )

    @contextmanager
    def tree(self, chain: Digest | None) -> Iterator[Tree]:
        with self.scratch() as directory:
            self._unpack(chain, directory)
            fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
            try:
                yield Tree(fd=fd, name=str(chain))
            finally:
                os.close(fd)

    def open_layer(self, chain: Digest) -> BlobReader:
        if chain not in self.layers:
            raise NotFound(f"layer {chain} is not in the double")
        self.opened.append(chain)
        layer = self.layers[chain]
        file = layer.path.open("rb")
        return BlobReader(file, layer.diff_id, layer.size, close=file.close)

    def layer_size(self, chain: Digest) -> int:
        return self.layers[chain].size

    def prepare(self, chain: Digest | None, *, task: Task) -> Working:
        directory = self.root / f"work-{uuid.uuid4().hex}"
        for name in ("before", "after"):
            (directory / name).mkdir(parents=True)
            self._unpack(chain, directory / name)
        return Working(id=directory.name, chain_id=chain, token=str(directory / "after"))

    def commit(self, working: Working, options: CommitOptions, *, task: Task) -> NewLayer:
        """What is new or changed in the tree; what was removed is not noticed."""
        directory = self.root / working.id
        before, after = directory / "before", directory / "after"
        kept = {str(p.relative_to(after)) for p in after.rglob("*") if _differs(p, before, after)}
        parents = {str(p) for name in kept for p in Path(name).parents}
        parts: list[bytes] = []
        pack = PackOptions(
            mtime=options.mtime,
            mtime_clamp=options.mtime_clamp,
            exclude=lambda path: path not in kept | parents or path.encode() in options.exclude,
        )
        pack_tree(str(after), parts.append, pack)
        shutil.rmtree(directory)
        return self.add(working.chain_id, b"".join(parts))

    def discard(self, working: Working) -> None:
        shutil.rmtree(self.root / working.id, ignore_errors=True)

    def find_cached(self, key: str) -> CacheRecord | None:
        found = self.records.get(key)
        if found is None or (found.chain_id is not None and found.chain_id not in self.layers):
            return None
        return found

    def remember(self, record: CacheRecord) -> None:
        self.records[record.key] = record

    @contextmanager
    def scratch(self) -> Iterator[str]:
        directory = self.root / f"scratch-{uuid.uuid4().hex}"
        directory.mkdir()
        try:
            yield str(directory)
        finally:
            shutil.rmtree(directory)

    def keep_image(
        self, manifest: RawManifest, config: bytes, names: Sequence[str], *, task: Task
    ) -> str:
        parsed = Config.parse(config)
        for chain in chain_ids(parsed.diff_ids):
            assert chain in self.layers, f"layer {chain} of an image is not in the double"
        identity = Digest.of(config).hex
        kept = KeptImage(manifest=manifest, config=config, names=tuple(names))
        self.images[identity] = kept
        for name in names:
            self.images[name] = kept
        return identity

    def content(self, diff_ids: Sequence[Digest]) -> Mapping[str, bytes]:
        """The regular files of an image, by path."""
        with self.scratch() as directory:
            self._unpack(chain_id(diff_ids), directory)
            return {
                str(path.relative_to(directory)): path.read_bytes()
                for path in sorted(Path(directory).rglob("*"))
                if path.is_file() and not path.is_symlink()
            }

    def _unpack(self, chain: Digest | None, directory: str | Path) -> None:
        stack: list[Layer] = []
        while chain is not None:
            stack.append(self.layers[chain])
            chain = stack[-1].parent
        for layer in reversed(stack):
            with layer.path.open("rb") as file:
                unpack_tree(file, str(directory), UnpackOptions(layered=True))


def _differs(path: Path, before: Path, after: Path) -> bool:
    other = before / path.relative_to(after)
    if not os.path.lexists(other):
        return True
    mine, theirs = path.lstat(), other.lstat()
    if (mine.st_mode, mine.st_uid, mine.st_gid) != (theirs.st_mode, theirs.st_uid, theirs.st_gid):
        return True
    if path.is_symlink():
        return os.readlink(path) != os.readlink(other)
    return path.is_file() and path.read_bytes() != other.read_bytes()
