"""Layers on disk: content-addressed, made once, whole or not there.

A layer is unpacked in the workspace and renamed to its name, the chain_id, once its diff_id
is verified; of two processes that make the same one, one finds the name taken and throws its
own away. Nobody waits for anybody.

Unpacking does not wait for the disk either. A new layer carries the id of this boot: processes
may die at any instant and the kernel still writes it, but after a power loss it is not trusted
and made again. `settle` writes everything out at once and takes the mark away.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

from engine.runtime.kernel.calls import c_int, checked, function
from engine.storage.layers_ahead import CHUNK, Plain, ReadAhead
from engine.storage.layers_disk import Disk, read_document
from engine.storage.layout import META, OWNERS
from engine.storage.options import ApplyOptions, Layer, Ownership, RootMount
from engine.storage.ownership import LayerRecorder, OwnerTree
from engine.storage.ownership_file import load_owners, write_owners
from engine.storage.ownership_ids import owner_map
from imgtools.blob.files import storage_errors, sync_directory
from imgtools.blob.reader import Readable
from imgtools.blob.tar import Devices, UnpackOptions, UnpackResult, unpack_tree
from imgtools.errors import Conflict, DigestMismatch, Error, InvalidInput, NotFound
from imgtools.spec.digest import Digest

BOOT = "boot"
VERSION = 1


class LayerStore:
    """The layers of an open store."""

    def __init__(self, disk: Disk) -> None:
        self.disk = disk

    def has(self, chain_id: Digest) -> bool:
        """Whether the layer is there and whole."""
        try:
            self.get(chain_id)
        except (NotFound, InvalidInput):
            return False
        return True

    def get(self, chain_id: Digest) -> Layer:
        """The layer; raises NotFound, and InvalidInput for one that a power loss damaged."""
        path = self.disk.layout.layer(chain_id)
        try:
            document = read_document(os.path.join(path, META))
        except NotFound as e:
            raise NotFound(f"layer {chain_id} is not in the store") from e
        try:
            layer = _from_document(document, path)
        except (KeyError, TypeError, ValueError) as e:
            raise InvalidInput(f"layer {chain_id} is damaged: {META}") from e
        if layer.chain_id != chain_id or not self._trusted(path):
            raise InvalidInput(f"layer {chain_id} was not written out before the machine stopped")
        return layer

    def list(self) -> Iterator[Layer]:
        """All layers that are whole, in no order."""
        for chain_id in self._names():
            try:
                yield self.get(chain_id)
            except (NotFound, InvalidInput):
                continue

    def apply(
        self,
        parent: Digest | None,
        diff_id: Digest,
        reader: Readable,
        options: ApplyOptions | None = None,
    ) -> Layer:
        """Make the layer `diff_id` on top of `parent` (a chain_id) from its tar, compressed or
        not, which is read to its end. Nothing is read if the layer is there.

        Raises NotFound (no parent), DigestMismatch, what `unpack_tree` raises for a layer that
        is malformed or hostile, Unsupported for ids that are not mapped, StorageError, and
        what `reader` raises. Then nothing is left behind.
        """
        chain_id = chained(parent, diff_id)
        if self.has(chain_id):
            return self.get(chain_id)
        below = None if parent is None else self.get(parent)
        options = options or ApplyOptions()
        with self.disk.workspace.directory() as inside:
            made = os.path.join(inside, "layer")
            with storage_errors(made):
                os.mkdir(made, 0o700)
            layer = self._make(made, chain_id, below, diff_id, reader, options)
            return self.publish(made, layer)

    def view(self, chain_id: Digest) -> RootMount:
        """How the tree of a layer is looked at; read-only. Raises NotFound, InvalidInput."""
        return self.disk.driver.root(
            self.lower(self.get(chain_id).stack), "", read_only=True, volatile=False
        )

    def lower(self, stack: tuple[Digest, ...]) -> tuple[str, ...]:
        """Content directories of layers."""
        layout, content = self.disk.layout, self.disk.driver.content
        return tuple(os.path.join(layout.layer(chain_id), content) for chain_id in stack)

    def owners(self, chain_id: Digest | None) -> OwnerTree:
        """Who owns what in the tree of a layer where the disk cannot say, by path."""
        if chain_id is None:
            return OwnerTree()
        path = os.path.join(self.disk.layout.layer(chain_id), OWNERS)
        try:
            with storage_errors(path), open(path, "rb") as file:
                return load_owners(file)
        except NotFound:
            return OwnerTree()

    def remove(self, chain_id: Digest) -> bool:
        """Remove a layer, whole or not; False if there was none.

        Raises Conflict while another layer stands on it. Whoever calls this knows that no
        snapshot does, nor is being made. Raises StorageError.
        """
        for other in self.list():
            if other.parent == chain_id or (chain_id in other.stack and other.chain_id != chain_id):
                raise Conflict(f"layer {chain_id} is needed by layer {other.chain_id}")
        return self.disk.workspace.discard(self.disk.layout.layer(chain_id))

    def settle(self) -> None:
        """Write everything to disk and trust the new layers after a power loss too.

        One call after a whole image costs less than one for every layer. Raises StorageError.
        """
        marks = [os.path.join(self.disk.layout.layer(chain_id), BOOT) for chain_id in self._names()]
        marks = [mark for mark in marks if os.path.lexists(mark) and self._current(mark)]
        if not marks:
            return
        sync_file_system(self.disk.layout.base)
        with storage_errors(self.disk.layout.layers):
            for mark in marks:
                try:
                    os.unlink(mark)
                except FileNotFoundError:
                    continue

    def sweep(self) -> int:
        """Remove what dead processes left and layers that a power loss damaged; how many."""
        count = self.disk.workspace.sweep()
        for chain_id in self._names():
            try:
                self.get(chain_id)
            except InvalidInput:
                count += self.disk.workspace.discard(self.disk.layout.layer(chain_id))
            except NotFound:
                continue
        return count

    def _names(self) -> Iterator[Digest]:
        top = self.disk.layout.layers
        with storage_errors(top):
            algorithms = os.listdir(top) if os.path.isdir(top) else []
            for algorithm in algorithms:
                for encoded in os.listdir(os.path.join(top, algorithm)):
                    try:
                        yield Digest(algorithm, encoded)
                    except InvalidInput:
                        continue

    def _make(
        self,
        made: str,
        chain_id: Digest,
        below: Layer | None,
        diff_id: Digest,
        reader: Readable,
        options: ApplyOptions,
    ) -> Layer:
        driver, ids = self.disk.driver, self.disk.ids
        stack = below.stack if below is not None else ()
        whole = len(stack) + 1 > driver.max_stack
        owners = self.owners(below.chain_id if below is not None else None)
        recorder = LayerRecorder(owners, self.disk.ownership, superuser=ids.superuser)
        real = self.disk.ownership is Ownership.REAL
        unpack = UnpackOptions(
            devices=Devices.RECORD,
            owner=real,
            map_owner=(
                owner_map(ids, ignore_errors=self.disk.location.ignore_chown_errors)
                if real
                else None
            ),
            recorder=recorder,
            layered=True,
            limits=options.limits,
            chunk=CHUNK,
        )
        with driver.new_layer(self.lower(stack), made, whole) as tree:
            result = _unpack_verified(reader, diff_id, tree, unpack)
        layer = Layer(
            chain_id=chain_id,
            diff_id=diff_id,
            parent=below.chain_id if below is not None else None,
            stack=(chain_id,) if whole else (chain_id, *stack),
            size=result.size,
            entries=result.entries,
            path=self.disk.layout.layer(chain_id),
        )
        self.complete(made, layer, owners)
        return layer

    def complete(self, made: str, layer: Layer, owners: OwnerTree) -> None:
        """Write what is to be known of a layer into the directory `made`, which has its files.
        Raises StorageError."""
        with storage_errors(made):
            if next(owners.items(), None) is not None:
                with open(os.path.join(made, OWNERS), "xb") as table:
                    write_owners(owners, table)
            with open(os.path.join(made, BOOT), "x", encoding="ascii") as mark:
                mark.write(self.disk.boot)
            with open(os.path.join(made, META), "xb") as meta:
                meta.write(_document(layer))

    def publish(self, made: str, layer: Layer) -> Layer:
        """Give a complete layer its name; the one that had it already, if any. Raises
        StorageError."""
        if not self.disk.boot:  # nothing will tell a power loss from a restart
            sync_file_system(made)
            with storage_errors(made):
                os.unlink(os.path.join(made, BOOT))
        parent = os.path.dirname(layer.path)
        with storage_errors(layer.path):
            os.makedirs(parent, mode=0o700, exist_ok=True)
        while not self._renamed(made, layer.path):
            if self.has(layer.chain_id):
                return self.get(layer.chain_id)
            self.disk.workspace.discard(layer.path)
        if not self.disk.boot:
            sync_directory(parent)
        return layer

    def _renamed(self, made: str, path: str) -> bool:
        try:
            os.rename(made, path)
        except OSError as e:
            if isinstance(e, FileNotFoundError | PermissionError) or not os.path.lexists(path):
                with storage_errors(path):
                    raise
            return False
        return True

    def _trusted(self, path: str) -> bool:
        mark = os.path.join(path, BOOT)
        return not os.path.lexists(mark) or self._current(mark)

    def _current(self, mark: str) -> bool:
        try:
            with open(mark, encoding="ascii", errors="replace") as file:
                return file.read(64) == self.disk.boot
        except FileNotFoundError:
            return True


def _unpack_verified(
    reader: Readable, diff_id: Digest, tree: int, options: UnpackOptions
) -> UnpackResult:
    plain = Plain(reader, limit=options.limits.total_bytes)
    with ReadAhead(plain, diff_id) as source:
        try:
            result = unpack_tree(source, tree, options)
        except Error as e:
            raise e.with_context(f"layer {diff_id.short}") from e.__cause__
        actual = Digest(diff_id.algorithm, source.hexdigest())
    if actual != diff_id:
        raise DigestMismatch("layer", expected=str(diff_id), actual=str(actual))
    return result


def chained(parent: Digest | None, diff_id: Digest) -> Digest:
    """The chain_id of a layer on `parent` (image-spec config.md, "Layer ChainID")."""
    if parent is None:
        return diff_id
    return Digest.of(f"{parent} {diff_id}".encode(), diff_id.algorithm)


def sync_file_system(path: str) -> None:
    """syncfs(2) on the file system that `path` is on; raises StorageError."""
    with storage_errors(path):
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            checked(function("syncfs", c_int)(fd))
        finally:
            os.close(fd)


def _document(layer: Layer) -> bytes:
    return json.dumps(
        {
            "version": VERSION,
            "chain_id": str(layer.chain_id),
            "diff_id": str(layer.diff_id),
            "parent": str(layer.parent) if layer.parent is not None else "",
            "stack": [str(chain_id) for chain_id in layer.stack],
            "size": layer.size,
            "entries": layer.entries,
        }
    ).encode()


def _from_document(document: dict[str, object], path: str) -> Layer:
    """Raises KeyError, TypeError or ValueError (InvalidDigest is one of ours) when damaged."""
    stack = document["stack"]
    if document["version"] != VERSION or not isinstance(stack, list):
        raise ValueError("another version")
    size, entries = document["size"], document["entries"]
    if not isinstance(size, int) or not isinstance(entries, int):
        raise TypeError("not a number")
    parent = str(document["parent"])
    return Layer(
        chain_id=Digest.parse(str(document["chain_id"])),
        diff_id=Digest.parse(str(document["diff_id"])),
        parent=Digest.parse(parent) if parent else None,
        stack=tuple(Digest.parse(str(item)) for item in stack),
        size=size,
        entries=entries,
        path=path,
    )
