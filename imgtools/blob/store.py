"""A content-addressed directory: `<root>/<algorithm>/<hex>`, as in an OCI image layout.

Blobs are hashed while they are written and get their name only when they are verified, so
that a name in the store always means the whole content.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from imgtools.blob.files import TEMPORARY_PREFIX, atomic_file, storage_errors, write_all, write_file
from imgtools.blob.pump import pump
from imgtools.blob.reader import BlobReader
from imgtools.errors import BlobNotFound, InvalidDigest, SizeMismatch
from imgtools.spec.descriptor import Descriptor
from imgtools.spec.digest import Digest
from imgtools.task import Task


class BlobStore:
    """The blobs below `root`; directories are made when the first blob needs them."""

    def __init__(self, root: str) -> None:
        self.root = root

    def path(self, digest: Digest) -> str:
        """Where the blob of `digest` is or would be."""
        return os.path.join(self.root, digest.algorithm, digest.hex)

    def size(self, digest: Digest) -> int | None:
        """Bytes of the blob, None when it is not here."""
        try:
            return os.stat(self.path(digest)).st_size
        except (FileNotFoundError, NotADirectoryError):
            return None

    def has(self, descriptor: Descriptor) -> bool:
        """Whether the blob is here with the size of the descriptor."""
        return self.size(descriptor.digest) == descriptor.size

    def open(self, descriptor: Descriptor) -> BlobReader:
        """A verifying reader; raises BlobNotFound, SizeMismatch or StorageError."""
        path = self.path(descriptor.digest)
        with storage_errors(path):
            try:
                file = open(path, "rb", buffering=0)  # noqa: SIM115 - the reader closes it
            except (FileNotFoundError, NotADirectoryError) as e:
                raise BlobNotFound(f"blob {descriptor.digest} is not in {self.root}") from e
            size = os.fstat(file.fileno()).st_size
        if size != descriptor.size:
            file.close()
            raise SizeMismatch(f"blob {descriptor.digest}", expected=descriptor.size, actual=size)
        return BlobReader(file, descriptor.digest, descriptor.size, close=file.close)

    def put(self, reader: BlobReader, *, task: Task, item: str = "") -> int:
        """Store what `reader` yields under its digest; returns the bytes written.

        A blob that is here already with the right size is not read again (returns 0, the
        reader is abandoned). Raises what the reader raises, and StorageError.
        """
        path = self.path(reader.digest)
        if reader.size is not None and self.size(reader.digest) == reader.size:
            reader.abandon()
            return 0
        with storage_errors(path):
            os.makedirs(os.path.dirname(path), exist_ok=True)
        with atomic_file(path) as file:
            return pump(reader, lambda data: write_all(file, data), task=task, item=item)

    def put_bytes(self, content: bytes, digest: Digest) -> None:
        """Store a small blob that the caller has verified; raises StorageError."""
        if self.size(digest) == len(content):
            return
        path = self.path(digest)
        with storage_errors(path):
            os.makedirs(os.path.dirname(path), exist_ok=True)
        write_file(path, content)

    def remove(self, digest: Digest) -> None:
        """Remove a blob; one that is not here is fine. Raises StorageError."""
        path = self.path(digest)
        with storage_errors(path):
            try:
                os.unlink(path)
            except FileNotFoundError:
                return

    def __iter__(self) -> Iterator[Digest]:
        """The digests of all whole blobs, in no order."""
        try:
            algorithms = os.listdir(self.root)
        except (FileNotFoundError, NotADirectoryError):
            return
        for algorithm in algorithms:
            directory = os.path.join(self.root, algorithm)
            if not os.path.isdir(directory):
                continue
            for name in os.listdir(directory):
                if name.startswith(TEMPORARY_PREFIX):
                    continue
                try:
                    yield Digest(algorithm, name)
                except InvalidDigest:
                    continue
