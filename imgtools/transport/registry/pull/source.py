"""Reads an image from a registry: manifests, blobs, ranges of blobs, referrers.

What the name points at is asked for once and kept, so that one source is one image even
when a tag moves meanwhile. What moves blobs is imported when a blob moves, because a copy
that finds nothing to do is over by then.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from imgtools.blob.reader import BlobReader
from imgtools.errors import BlobNotFound, DigestMismatch, SizeMismatch
from imgtools.spec.descriptor import Descriptor
from imgtools.spec.digest import Digest
from imgtools.spec.manifest import RawManifest
from imgtools.spec.reference import Reference
from imgtools.transport.base import Origin
from imgtools.transport.closing import Closing
from imgtools.transport.registry.api import Repository
from imgtools.transport.registry.manifests import get_manifest, head_manifest
from imgtools.transport.registry.session import Session

if TYPE_CHECKING:
    from imgtools.transport.registry.pull.download import ResumingBody
    from imgtools.transport.registry.wire.http import Response


_DEFERRED = 8 * 1024 * 1024
"""Bytes of a blob of which somebody may have the beginning already, from an earlier run."""


class RegistrySource(Closing):
    """A `Source` in a registry; the session stays open when it is closed."""

    def __init__(
        self, session: Session, reference: Reference, *, name: Reference | None = None
    ) -> None:
        """`name` is what the user calls it, where `reference` is what the registry does."""
        self.reference = reference
        self._name = name or reference
        self._session = session
        self._repository = Repository(session, reference.repository)
        self._lock = threading.Lock()
        self._resolved: Descriptor | None = None
        self._top: RawManifest | None = None
        self._opened: set[Digest] = set()
        self._wrong_urls: set[str] = set()

    @property
    def origin(self) -> Origin:
        """`docker://` and the user's reference, normalised; registry and repository are where
        the blobs are."""
        return Origin(
            transport="docker",
            name=f"docker://{self._name}",
            registry=self.reference.registry,
            repository=self.reference.repository,
        )

    def resolve(self) -> Descriptor:
        """What the name points at, by HEAD, or by GET where HEAD does not tell.

        Raises ImageNotFound, Denied, ConnectionFailed, RegistryError.
        """
        with self._lock:
            if self._resolved is None:
                self._resolved = head_manifest(
                    self._repository, self.reference.target, self.reference.digest
                )
            if self._resolved is None:
                self._resolved = self._fetch_top().descriptor()
            return self._resolved

    def top(self) -> RawManifest:
        """The manifest the name points at, one GET however often it is called.

        Raises like `resolve`, and DigestMismatch, InvalidManifest, LimitExceeded.
        """
        with self._lock:
            return self._fetch_top()

    def manifest(self, descriptor: Descriptor) -> RawManifest:
        """A manifest by digest; raises ImageNotFound and like `top`."""
        with self._lock:
            if self._top is not None and self._top.digest == descriptor.digest:
                return self._top
        if descriptor.data is not None:
            return RawManifest.verified(descriptor.data, descriptor.media_type, descriptor.digest)
        return get_manifest(self._repository, str(descriptor.digest), descriptor.digest)

    def open_blob(self, descriptor: Descriptor) -> BlobReader:
        """A verifying reader that resumes when the connection is cut.

        A large blob, or one that was there before, is asked for by the first read, so that a
        reader that is moved first asks only for the rest; its errors come then. A blob that
        the descriptor carries itself costs no request; a foreign layer that the registry does
        not have is fetched from its URLs, without credentials. Raises BlobNotFound, Denied,
        ConnectionFailed, RegistryError.
        """
        digest, size = descriptor.digest, descriptor.size
        if descriptor.data is not None:
            return BlobReader.of(descriptor.data, digest)
        try:
            body = self.open_body(descriptor)
        except BlobNotFound:
            if not descriptor.urls:
                raise
            return self.open_foreign(descriptor)
        return BlobReader(body, digest, size, close=body.close)

    def open_body(self, descriptor: Descriptor, start: int = 0) -> ResumingBody:
        """The bytes of a blob from byte `start` on, NOT verified; raises like `open_blob`."""
        from imgtools.transport.registry.pull.download import ResumingBody

        digest, size = descriptor.digest, descriptor.size
        deferred = digest in self._opened or (
            # What has URLs is opened there if the registry says that it is not here.
            size >= _DEFERRED and not start and not descriptor.urls
        )
        body = ResumingBody(self._repository, digest, size, start, deferred=deferred)
        self._opened.add(digest)
        return body

    def open_foreign(self, descriptor: Descriptor) -> BlobReader:
        """A verifying reader of a layer at its URLs; raises BlobNotFound.

        A URL with wrong bytes is not asked again, and the error says that opening the layer
        again is worth it while there are others.
        """
        from imgtools.transport.registry.pull.download import fetch_from_urls

        wrong = self._wrong_urls
        url, response = fetch_from_urls(
            lambda url: self._session.anonymous_request("GET", url, {}), descriptor, wrong
        )

        def blame() -> bool:
            wrong.add(url)
            return not wrong.issuperset(descriptor.urls)

        return _ForeignReader(response, descriptor, blame)

    def read_range(self, descriptor: Descriptor, offset: int, length: int) -> bytes | None:
        """Unverified bytes of a blob, None when the registry does not serve ranges.

        Raises BlobNotFound, Denied, ConnectionFailed, RegistryError.
        """
        from imgtools.transport.registry.pull.download import read_blob_range

        if descriptor.data is not None:
            return descriptor.data[offset : offset + length]
        if descriptor.size >= 0:
            length = min(length, descriptor.size - offset)
        if length <= 0:
            return b""
        return read_blob_range(self._repository, descriptor.digest, offset, length)

    def referrers(self, digest: Digest) -> Iterator[Descriptor]:
        """The manifests whose subject is `digest`, by the API or the fallback tag.

        Raises Denied, ConnectionFailed, RegistryError, InvalidManifest.
        """
        from imgtools.transport.registry.referrers import list_referrers

        return list_referrers(self._repository, digest)

    def close(self) -> None:
        """Nothing: connections belong to the session."""

    def _fetch_top(self) -> RawManifest:
        if self._top is None:
            top = get_manifest(self._repository, self.reference.target, self.reference.digest)
            self._resolved = top.descriptor()
            self._top = top
        return self._top


class _ForeignReader(BlobReader):
    """A verifying reader of a layer at a URL, which is told when the bytes are wrong."""

    def __init__(
        self, response: Response, descriptor: Descriptor, blame: Callable[[], bool]
    ) -> None:
        super().__init__(response, descriptor.digest, descriptor.size, close=response.close)
        self._blame = blame

    def read(self, size: int = -1, /) -> bytes:
        """Like `BlobReader.read`; an error about the bytes says whether to open again."""
        try:
            return super().read(size)
        except (DigestMismatch, SizeMismatch) as e:
            e.again = self._blame()
            raise
