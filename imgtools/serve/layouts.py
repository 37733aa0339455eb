"""A folder of OCI image layouts as the storage of a registry.

The directory DIR/library/busybox, when it is a layout, is the repository library/busybox.
When DIR itself is a layout it is the only repository, named as DIR's last component. A
repository that is pushed to comes into being with its first manifest.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence

from imgtools.blob.files import storage_errors
from imgtools.errors import InvalidReference, LimitExceeded, StorageError
from imgtools.serve import beneath
from imgtools.serve.layout import LayoutRepository
from imgtools.serve.layout_upload import LayoutUpload, remove_leftovers
from imgtools.serve.message import FileBody
from imgtools.spec.descriptor import Descriptor
from imgtools.spec.digest import Digest
from imgtools.spec.manifest import RawManifest
from imgtools.spec.reference import check_repository

# Names that mean something inside a layout and so cannot be a repository below one.
_RESERVED = frozenset({"blobs", "index.json", "oci-layout"})
_DEPTH = 16
_UPLOADS_LIMIT = 500
_UPLOAD_SECONDS = 3600.0
_REPOSITORIES_KEPT = 1000


class LayoutsStore:
    """See `imgtools.serve.storage.RegistryStore` for what the methods mean."""

    def __init__(self, path: str, *, writable: bool = False) -> None:
        """Serve the folder `path`. Raises NotFound, StorageError or InvalidReference (for a
        single layout whose directory's name cannot be a repository's)."""
        self.writable = writable
        with storage_errors(path):
            self._root = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._mutex = threading.Lock()
        self._uploads: dict[str, LayoutUpload] = {}
        self._repositories: dict[str, LayoutRepository] = {}
        self._cleaned: set[str] = set()
        self._closed = False
        try:
            self.single = self._single_name(path)
        except BaseException:
            os.close(self._root)
            raise

    # --- repositories -------------------------------------------------------------------

    def repositories(self) -> Sequence[str]:
        """The names of all layouts below the folder, sorted bytewise."""
        if self.single is not None:
            return (self.single,)
        found: list[str] = []
        self._collect((), found)
        return sorted(found)

    def has_repository(self, name: str) -> bool:
        """Whether there is a layout, or one that is being pushed."""
        repository = self._repository(name)
        return repository is not None and repository.exists()

    def may_create(self, name: str) -> bool:
        """Whether the name can be a layout here."""
        return self._parts(name) is not None

    def tags(self, name: str) -> Sequence[str]:
        """The tags of a repository, sorted bytewise."""
        repository = self._repository(name)
        return repository.tags() if repository else ()

    # --- manifests ----------------------------------------------------------------------

    def manifest(self, name: str, target: str | Digest) -> RawManifest | None:
        """The manifest of a tag or digest."""
        repository = self._repository(name)
        return repository.manifest(target) if repository else None

    def put_manifest(
        self, name: str, raw: RawManifest, tags: Sequence[str], needed: Sequence[Digest] = ()
    ) -> None:
        """Store a manifest and its tags."""
        self._needed(name).put_manifest(raw, tags, needed)

    def delete_tag(self, name: str, tag: str) -> bool:
        """Remove a tag."""
        repository = self._repository(name)
        return repository is not None and repository.delete_tag(tag)

    def delete_manifest(self, name: str, digest: Digest) -> bool:
        """Remove a manifest and its tags."""
        repository = self._repository(name)
        return repository is not None and repository.delete_manifest(digest)

    def referrers(self, name: str, subject: Digest) -> Sequence[Descriptor]:
        """The manifests with this subject."""
        repository = self._repository(name)
        return repository.referrers(subject) if repository else ()

    # --- blobs --------------------------------------------------------------------------

    def blob_size(self, name: str, digest: Digest) -> int | None:
        """Bytes of a blob."""
        repository = self._repository(name)
        return repository.blob_size(digest) if repository else None

    def open_blob(self, name: str, digest: Digest) -> FileBody | None:
        """A blob's content."""
        repository = self._repository(name)
        return repository.open_blob(digest) if repository else None

    def delete_blob(self, name: str, digest: Digest) -> bool:
        """Remove a blob."""
        repository = self._repository(name)
        return repository is not None and repository.delete_blob(digest)

    def mount_blob(self, name: str, digest: Digest, source: str) -> bool:
        """Link a blob of another repository into this one."""
        repository = self._repository(source)
        return repository is not None and self._needed(name).link_blob(digest, repository)

    # --- uploads ------------------------------------------------------------------------

    def start_upload(self, name: str) -> LayoutUpload:
        """Begin a blob; forgets sessions that were silent for an hour."""
        parts = self._needed(name).parts
        self._expire()
        with self._mutex:
            if len(self._uploads) >= _UPLOADS_LIMIT:
                raise LimitExceeded("the number of uploads", _UPLOADS_LIMIT, unit="uploads")
            clean = name in self._cleaned
            self._cleaned.add(name)
        if not clean:
            remove_leftovers(self._root, parts)
        upload = LayoutUpload(self._root, parts)
        with self._mutex:
            self._uploads[upload.id] = upload
        return upload

    def upload(self, name: str, session: str) -> LayoutUpload | None:
        """The session of this repository, None when it is unknown or over."""
        with self._mutex:
            upload = self._uploads.get(session)
            if upload is not None and upload.ended:
                del self._uploads[session]
                return None
        return upload if upload is not None and upload.parts == self._parts(name) else None

    def close(self) -> None:
        """Cancel all uploads and close the folder."""
        with self._mutex:
            if self._closed:
                return
            self._closed = True
            uploads = list(self._uploads.values())
            self._uploads.clear()
        for upload in uploads:
            upload.cancel()
        os.close(self._root)

    def _expire(self) -> None:
        limit = time.monotonic() - _UPLOAD_SECONDS
        with self._mutex:
            ended = [u for u in self._uploads.values() if u.ended or u.used < limit]
        for upload in ended:
            if upload.acquire():
                upload.cancel()
                upload.release()
                with self._mutex:
                    self._uploads.pop(upload.id, None)

    # --- names --------------------------------------------------------------------------

    def _single_name(self, path: str) -> str | None:
        if not beneath.is_file(self._root, ("index.json",)):
            return None
        name = os.path.basename(os.path.realpath(path))
        try:
            check_repository(name, name)
        except InvalidReference as e:
            e.hint = "rename the directory, or serve the one above it"
            raise
        return name

    def _parts(self, name: str) -> tuple[str, ...] | None:
        if self.single is not None:
            return () if name == self.single else None
        parts = tuple(name.split("/"))
        if len(parts) > _DEPTH or not _RESERVED.isdisjoint(parts):
            return None
        return parts

    def _repository(self, name: str) -> LayoutRepository | None:
        """The object for a name whether or not it exists; None when it never can."""
        with self._mutex:
            known = self._repositories.get(name)
            if known is not None:
                return known
        parts = self._parts(name)
        if parts is None:
            return None
        repository = LayoutRepository(self._root, parts)
        if not repository.exists():
            return repository
        with self._mutex:
            if len(self._repositories) >= _REPOSITORIES_KEPT:
                self._repositories.clear()
            return self._repositories.setdefault(name, repository)

    def _needed(self, name: str) -> LayoutRepository:
        repository = self._repository(name)
        if repository is None:
            raise StorageError("the name cannot be a repository", path=name)
        return repository

    def _collect(self, parts: tuple[str, ...], found: list[str]) -> None:
        """Add the names of the layouts at and below `parts`."""
        with beneath.directory(self._root, parts) as fd:
            if fd is None:
                return
            with storage_errors("/".join(parts)), os.scandir(fd) as entries:
                names = [e.name for e in entries if e.is_dir(follow_symlinks=False)]
        if parts and beneath.is_file(self._root, (*parts, "index.json")):
            found.append("/".join(parts))
        if len(parts) == _DEPTH:
            return
        for name in names:
            if name in _RESERVED:
                continue
            try:
                check_repository(name, name)
            except InvalidReference:
                continue
            self._collect((*parts, name), found)
