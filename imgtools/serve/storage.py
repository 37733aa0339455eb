"""What the registry application asks of its storage, and nothing about how that is done.

Names, tags and digests that arrive here are valid already. Absence is None or False;
errors are those of imgtools.errors.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from imgtools.serve.message import Body
from imgtools.spec.descriptor import Descriptor
from imgtools.spec.digest import Digest
from imgtools.spec.manifest import RawManifest


class Upload(Protocol):
    """A blob on its way in. Only one request at a time may hold it (see `acquire`)."""

    @property
    def id(self) -> str:
        """The session's UUID."""
        ...

    @property
    def size(self) -> int:
        """Bytes received so far."""
        ...

    def acquire(self, patience: float = 0.0) -> bool:
        """Take the session for one request; False when another request has it for longer
        than `patience` seconds."""
        ...

    def release(self) -> None:
        """Give the session back after `acquire`."""
        ...

    def expect(self, algorithm: str) -> None:
        """Say which digest algorithm the blob will be named with; matters only for speed."""
        ...

    def append(self, data: bytes) -> None:
        """Add bytes; raises StorageError."""
        ...

    def finish(self, digest: Digest) -> None:
        """Make the blob readable, if its digest is `digest`, and end the session.

        Raises DigestMismatch (the session is gone too) or StorageError.
        """
        ...

    def cancel(self) -> None:
        """Throw everything away; safe to call twice."""
        ...


class RegistryStore(Protocol):
    """Repositories of blobs, manifests and tags; all methods may be called in parallel."""

    @property
    def writable(self) -> bool:
        """Whether anything may be changed."""
        ...

    def repositories(self) -> Sequence[str]:
        """The names of all repositories, sorted bytewise."""
        ...

    def has_repository(self, name: str) -> bool:
        """Whether a repository exists."""
        ...

    def may_create(self, name: str) -> bool:
        """Whether `name` can be a repository of this storage."""
        ...

    def tags(self, name: str) -> Sequence[str]:
        """The tags of a repository, sorted bytewise."""
        ...

    def manifest(self, name: str, target: str | Digest) -> RawManifest | None:
        """The manifest of a tag or digest, None when it is not there."""
        ...

    def put_manifest(
        self, name: str, raw: RawManifest, tags: Sequence[str], needed: Sequence[Digest] = ()
    ) -> None:
        """Store a manifest and point `tags` at it.

        `needed` was seen to be there; when some of it went away meanwhile, BlobNotFound is
        raised. Raises Unsupported or StorageError too.
        """
        ...

    def delete_tag(self, name: str, tag: str) -> bool:
        """Remove a tag, and only that; False when it is not there."""
        ...

    def delete_manifest(self, name: str, digest: Digest) -> bool:
        """Remove a manifest and all tags that point at it; False when it is not there."""
        ...

    def referrers(self, name: str, subject: Digest) -> Sequence[Descriptor]:
        """Descriptors of the manifests whose subject is `subject`, sorted by digest, with
        artifactType and annotations as distribution-spec "Listing Referrers" wants them."""
        ...

    def blob_size(self, name: str, digest: Digest) -> int | None:
        """Bytes of a blob, None when it is not there."""
        ...

    def open_blob(self, name: str, digest: Digest) -> Body | None:
        """A blob's content, which the caller closes; None when it is not there."""
        ...

    def delete_blob(self, name: str, digest: Digest) -> bool:
        """Remove a blob; False when it is not there. Raises Conflict for a manifest."""
        ...

    def mount_blob(self, name: str, digest: Digest, source: str) -> bool:
        """Make a blob of repository `source` be in `name` too; False when that cannot be."""
        ...

    def start_upload(self, name: str) -> Upload:
        """Begin a blob; raises LimitExceeded (too many sessions) or StorageError."""
        ...

    def upload(self, name: str, session: str) -> Upload | None:
        """A session begun by `start_upload` of the same repository, None when unknown."""
        ...

    def close(self) -> None:
        """Cancel all uploads and release everything; safe to call twice."""
        ...
