"""Repositories in memory: the storage of the test registry.

It keeps whatever it is given, schema 1 manifests too, and can be filled and changed by a
test behind the protocol's back.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from imgtools.errors import DigestMismatch, InvalidInput, StorageError
from imgtools.serve.message import BytesBody
from imgtools.spec.descriptor import Descriptor
from imgtools.spec.digest import Digest
from imgtools.spec.manifest import Index, Manifest, RawManifest, parse


@dataclass(slots=True)
class Repository:
    """What one repository holds; tests may look at it and change it."""

    blobs: dict[Digest, bytes] = field(default_factory=dict)
    manifests: dict[Digest, RawManifest] = field(default_factory=dict)
    tags: dict[str, Digest] = field(default_factory=dict)


class MemoryUpload:
    """An upload held in memory."""

    def __init__(self, repository: Repository, name: str) -> None:
        self.id = str(uuid.uuid4())
        self.name = name
        self.content = bytearray()
        self.ended = False
        self._repository = repository
        self._lock = threading.Lock()

    @property
    def size(self) -> int:
        """Bytes received so far."""
        return len(self.content)

    def acquire(self, patience: float = 0.0) -> bool:
        """Take the session; False when another request has it for longer than `patience`."""
        return self._lock.acquire(timeout=patience)

    def release(self) -> None:
        """Give the session back."""
        self._lock.release()

    def expect(self, algorithm: str) -> None:
        """Nothing to prepare."""

    def append(self, data: bytes) -> None:
        """Add bytes."""
        if self.ended:
            raise StorageError("the upload has ended", path=self.id)
        self.content += data

    def finish(self, digest: Digest) -> None:
        """Verify and keep the blob; raises DigestMismatch."""
        content = bytes(self.content)
        self.cancel()
        actual = Digest.of(content, digest.algorithm)
        if actual != digest:
            raise DigestMismatch("blob", expected=str(digest), actual=str(actual))
        self._repository.blobs[digest] = content

    def cancel(self) -> None:
        """Forget the content."""
        self.ended = True
        self.content = bytearray()


class MemoryStore:
    """See `imgtools.serve.storage.RegistryStore` for what the methods mean."""

    def __init__(self, *, writable: bool = True) -> None:
        self.writable = writable
        self.content: dict[str, Repository] = {}
        self.uploads: dict[str, MemoryUpload] = {}
        self._lock = threading.Lock()

    def repository(self, name: str) -> Repository:
        """The repository `name`, made when it is not there."""
        with self._lock:
            return self.content.setdefault(name, Repository())

    def repositories(self) -> Sequence[str]:
        """The names of all repositories, sorted."""
        return sorted(self.content)

    def has_repository(self, name: str) -> bool:
        """Whether a repository exists."""
        return name in self.content

    def may_create(self, name: str) -> bool:
        """Every valid name may be."""
        return True

    def tags(self, name: str) -> Sequence[str]:
        """The tags, sorted."""
        found = self.content.get(name)
        return sorted(found.tags) if found else ()

    def manifest(self, name: str, target: str | Digest) -> RawManifest | None:
        """The manifest of a tag or digest."""
        found = self.content.get(name)
        if found is None:
            return None
        digest = found.tags.get(target) if isinstance(target, str) else target
        return found.manifests.get(digest) if digest is not None else None

    def put_manifest(
        self, name: str, raw: RawManifest, tags: Sequence[str], needed: Sequence[Digest] = ()
    ) -> None:
        """Keep a manifest and point tags at it; what it needs is not looked at again."""
        repository = self.repository(name)
        repository.manifests[raw.digest] = raw
        repository.tags.update(dict.fromkeys(tags, raw.digest))

    def delete_tag(self, name: str, tag: str) -> bool:
        """Remove a tag."""
        found = self.content.get(name)
        return found is not None and found.tags.pop(tag, None) is not None

    def delete_manifest(self, name: str, digest: Digest) -> bool:
        """Remove a manifest and its tags."""
        found = self.content.get(name)
        if found is None or found.manifests.pop(digest, None) is None:
            return False
        found.tags = {tag: d for tag, d in found.tags.items() if d != digest}
        return True

    def referrers(self, name: str, subject: Digest) -> Sequence[Descriptor]:
        """The manifests with this subject, by digest."""
        found = self.content.get(name)
        if found is None:
            return ()
        candidates = (_referrer(raw, subject) for raw in list(found.manifests.values()))
        return sorted((d for d in candidates if d is not None), key=lambda d: d.digest)

    def blob_size(self, name: str, digest: Digest) -> int | None:
        """Bytes of a blob."""
        found = self.content.get(name)
        content = found.blobs.get(digest) if found else None
        return None if content is None else len(content)

    def open_blob(self, name: str, digest: Digest) -> BytesBody | None:
        """A blob's content."""
        found = self.content.get(name)
        content = found.blobs.get(digest) if found else None
        return None if content is None else BytesBody(content)

    def delete_blob(self, name: str, digest: Digest) -> bool:
        """Remove a blob."""
        found = self.content.get(name)
        return found is not None and found.blobs.pop(digest, None) is not None

    def mount_blob(self, name: str, digest: Digest, source: str) -> bool:
        """Share a blob of another repository."""
        found = self.content.get(source)
        content = found.blobs.get(digest) if found else None
        if content is None:
            return False
        self.repository(name).blobs[digest] = content
        return True

    def start_upload(self, name: str) -> MemoryUpload:
        """Begin a blob."""
        upload = MemoryUpload(self.repository(name), name)
        self.uploads[upload.id] = upload
        return upload

    def upload(self, name: str, session: str) -> MemoryUpload | None:
        """The session, None when unknown or over."""
        found = self.uploads.get(session)
        return found if found is not None and found.name == name and not found.ended else None

    def close(self) -> None:
        """Forget all uploads."""
        self.uploads.clear()


def _referrer(raw: RawManifest, subject: Digest) -> Descriptor | None:
    try:
        parsed = parse(raw)
    except InvalidInput:
        # A test may have put something broken here on purpose.
        return None
    if not isinstance(parsed, Manifest | Index) or parsed.subject is None:
        return None
    if parsed.subject.digest != subject:
        return None
    artifact_type = parsed.artifact_type
    if isinstance(parsed, Manifest) and not artifact_type:
        artifact_type = parsed.config.media_type
    return replace(raw.descriptor(), artifact_type=artifact_type, annotations=parsed.annotations)
