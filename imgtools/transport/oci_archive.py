"""The transport `oci-archive:`: an OCI image layout in a tar archive, read and written.

Reading seeks in the archive and unpacks nothing; writing streams blobs into a file beside
the target, which it replaces when everything is in. An archive holds what one commit put.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from typing import Self

from imgtools.blob.tar import Entry, EntryType
from imgtools.errors import InvalidInput, NotFound, StorageError, Unsupported
from imgtools.spec import strict_json
from imgtools.spec.descriptor import Descriptor
from imgtools.spec.digest import Digest
from imgtools.spec.manifest import RawManifest
from imgtools.task import Task
from imgtools.transport import layout_index
from imgtools.transport.archive_index import Archive, ArchiveLayout
from imgtools.transport.archive_writer import ArchiveWriter, check_replaceable
from imgtools.transport.base import BlobOpener, BlobOutcome, Capabilities, Origin
from imgtools.transport.closing import Closing
from imgtools.transport.lock import OnePerDigest
from imgtools.transport.names import LocalName, check_ref_name, parse_local_name, parse_target_name
from imgtools.transport.oci_layout import LayoutSource
from imgtools.transport.oci_layout_writer import NewEntries, layout_capabilities


class OciArchiveSource:
    """Opens archives; what it gives is a `LayoutSource` over the archive."""

    @staticmethod
    def open(rest: str, *, tmpdir: str | None = None) -> LayoutSource:
        """The source `oci-archive:rest` ("-" or /dev/stdin is standard input).

        `tmpdir` is where compressed or streamed input is spooled. Raises InvalidReference,
        ImageNotFound, InvalidArchive, InvalidManifest and StorageError.
        """
        name = parse_local_name("oci-archive", rest)
        files = ArchiveLayout(Archive.open(name.path, tmpdir=tmpdir))
        try:
            origin = Origin(transport="oci-archive", name=f"oci-archive:{rest}")
            return LayoutSource(files, name, origin)
        except BaseException:
            files.close()
            raise


class OciArchiveDestination(Closing):
    """Writes an archive with one image, over one that may be there."""

    def __init__(
        self, name: LocalName, origin: Origin, capabilities: Capabilities, writer: ArchiveWriter
    ) -> None:
        """`open` is the way to make one."""
        self._name = name
        self._origin = origin
        self._capabilities = capabilities
        self._writer = writer
        self._mutex = threading.Lock()
        self._one_per_digest = OnePerDigest()
        self._folders: set[str] = set()
        self._sizes: dict[Digest, int] = {}
        self._entries = NewEntries()

    @classmethod
    def open(
        cls, rest: str, *, tmpdir: str | None = None, accept_uncompressed: bool = False
    ) -> Self:
        """The destination `oci-archive:rest`, of which nothing is written yet.

        `tmpdir` is only needed when the path is a pipe. Raises InvalidReference, NotFound,
        and Conflict for an existing file that is no archive.
        """
        name = parse_target_name("oci-archive", rest)
        check_ref_name("oci-archive", name)
        writer = ArchiveWriter(name.path, tmpdir=tmpdir)
        if not writer.streams:
            check_replaceable(writer.path)
        return cls(
            name,
            Origin(transport="oci-archive", name=f"oci-archive:{rest}"),
            layout_capabilities(accept_uncompressed=accept_uncompressed),
            writer,
        )

    @property
    def origin(self) -> Origin:
        """Where this is."""
        return self._origin

    @property
    def capabilities(self) -> Capabilities:
        """What a layout can hold."""
        return self._capabilities

    def current(self) -> Descriptor | None:
        """What the archive holds under the name, None when it cannot be told cheaply."""
        if self._writer.streams:
            return None
        name = replace(self._name, path=self._writer.path)
        try:
            files = ArchiveLayout(Archive.open(name.path, spool=False))
            with closing(files), LayoutSource(files, name, self._origin) as source:
                found = source.resolve()
                source.manifest(found)
        except (NotFound, InvalidInput, StorageError, Unsupported):
            return None
        return found

    def has_blob(self, descriptor: Descriptor) -> bool:
        """Whether the blob was put already."""
        return self._sizes.get(descriptor.digest) == descriptor.size

    def has_manifest(self, descriptor: Descriptor) -> bool:
        """Whether the manifest was put already."""
        return self.has_blob(descriptor)

    def put_blob(
        self,
        descriptor: Descriptor,
        open_blob: BlobOpener,
        *,
        mount_from: Sequence[Origin] = (),
        task: Task,
    ) -> BlobOutcome:
        """See Destination; raises StorageError and what the blob's reader raises."""
        with self._one_per_digest(descriptor.digest):
            if self.has_blob(descriptor):
                return "present"
            entry = self._entry(descriptor.digest, descriptor.size)
            with open_blob() as reader:
                self._writer.add_blob(entry, descriptor, reader, task=task)
            self._sizes[descriptor.digest] = descriptor.size
        return "stored"

    def put_manifest(self, raw: RawManifest, *, top: bool) -> None:
        """See Destination; raises Unsupported for a schema 1 manifest."""
        self._entries.note(raw, top=top)
        with self._one_per_digest(raw.digest):
            if raw.digest not in self._sizes:
                self._writer.add(self._entry(raw.digest, raw.size), raw.content)
                self._sizes[raw.digest] = raw.size

    def commit(self) -> None:
        """Finish the archive and give it its name."""
        document = self._entries.added_to(layout_index.new_index(), self._name.ref)
        index = strict_json.dumps(document)
        with self._mutex:
            self._make_folder("blobs")
        for name, content in (("index.json", index), ("oci-layout", layout_index.LAYOUT_FILE)):
            self._writer.add(Entry(path=name, size=len(content)), content)
        self._writer.commit()

    def close(self) -> None:
        """Without commit, leave nothing."""
        self._writer.close()

    def _entry(self, digest: Digest, size: int) -> Entry:
        with self._mutex:
            self._make_folder("blobs")
            self._make_folder(f"blobs/{digest.algorithm}")
        return Entry(path=f"blobs/{digest.algorithm}/{digest.hex}", size=size)

    def _make_folder(self, path: str) -> None:
        if path not in self._folders:
            self._folders.add(path)
            self._writer.add(Entry(path=f"{path}/", type=EntryType.DIR, mode=0o755))
