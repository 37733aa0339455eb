"""A source with mirrors: each manifest, blob and range comes from the first endpoint that has it.

A blob may even change endpoints in the middle of its body, at the byte where the last one
failed. The digest is checked over the whole; a mirror that had a part in a wrong blob is not
asked for it again, and the error says that opening the blob again is worth it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator

from imgtools.blob.reader import CHUNK, BlobReader
from imgtools.errors import BlobNotFound, DigestMismatch, Error, SizeMismatch
from imgtools.spec.descriptor import Descriptor
from imgtools.spec.digest import Digest
from imgtools.spec.manifest import RawManifest
from imgtools.spec.reference import Reference
from imgtools.transport.base import Origin
from imgtools.transport.closing import Closing
from imgtools.transport.registry.endpoints import ENDPOINT_FAILURES, Failures, Member, Members
from imgtools.transport.registry.pull.download import ResumingBody
from imgtools.transport.registry.pull.source import RegistrySource

log = logging.getLogger(__name__)

_WORTH_A_ROUND = 64 * 1024
"""Bytes that a round over all endpoints must bring to be followed by another one."""


class FailoverSource(Closing):
    """A `Source` over the endpoints of one reference; sessions stay open when it is closed."""

    def __init__(self, reference: Reference, members: Members) -> None:
        """`reference` is what the user said; the members have their own names for it."""
        self.reference = reference
        self._members = members
        self._sources = {
            member.endpoint: RegistrySource(member.session, member.endpoint.reference)
            for member in members.all
            if member.session is not None
        }
        self._lock = threading.Lock()
        self._resolved: Descriptor | None = None
        self._top: RawManifest | None = None
        self._without_ranges: set[Member] = set()

    @property
    def origin(self) -> Origin:
        """The name that the user gave, and the place that it means, from which blobs can be
        mounted."""
        primary = self._members.primary.endpoint.reference
        return Origin(
            transport="docker",
            name=f"docker://{self.reference}",
            registry=primary.registry,
            repository=primary.repository,
        )

    def resolve(self) -> Descriptor:
        """What the name points at, at the first endpoint that has it; raises like `top`."""
        with self._lock:
            if self._resolved is None:
                self._resolved = self._members.first(
                    "resolving", lambda member: self._at(member).resolve(), choose=True
                )
            return self._resolved

    def top(self) -> RawManifest:
        """The manifest the name points at, once it was read always the same.

        Raises what the primary endpoint fails with, when all fail: ImageNotFound, Denied,
        ConnectionFailed, RegistryError, DigestMismatch, InvalidManifest, LimitExceeded, and
        Rejected when it is blocked.
        """
        with self._lock:
            if self._top is None:
                self._top = self._members.first(
                    "manifest", lambda member: self._at(member).top(), choose=True
                )
                self._resolved = self._top.descriptor()
            return self._top

    def manifest(self, descriptor: Descriptor) -> RawManifest:
        """A manifest by digest; raises like `top`."""
        with self._lock:
            if self._top is not None and self._top.digest == descriptor.digest:
                return self._top
        if descriptor.data is not None:
            return RawManifest.verified(descriptor.data, descriptor.media_type, descriptor.digest)
        return self._members.first(
            f"manifest {descriptor.digest.short}",
            lambda member: self._at(member).manifest(descriptor),
        )

    def open_blob(self, descriptor: Descriptor) -> BlobReader:
        """A verifying reader that goes on at another endpoint when one fails.

        A foreign layer that no endpoint has is fetched from its URLs. Raises BlobNotFound
        and like `top`.
        """
        digest = descriptor.digest
        if descriptor.data is not None:
            return BlobReader.of(descriptor.data, digest)
        try:
            if 0 <= descriptor.size <= CHUNK:
                return BlobReader.of(self._small(descriptor), digest)
            body = FailoverBody(
                self._members,
                lambda member, start: self._at(member).open_body(descriptor, start),
                digest,
            )
        except BlobNotFound:
            if not descriptor.urls or self._members.primary.session is None:
                raise
            return self._at(self._members.primary).open_foreign(descriptor)
        return _MirroredReader(body, digest, descriptor.size, self._blame)

    def _small(self, descriptor: Descriptor) -> bytes:
        """A blob of one chunk, such as a config, verified before anybody sees it, so that a
        wrong one is no error while another endpoint has the right one."""

        def ask(member: Member) -> bytes:
            body = self._at(member).open_body(descriptor)
            with BlobReader(body, descriptor.digest, descriptor.size, close=body.close) as reader:
                return reader.read()

        return self._members.first(f"blob {descriptor.digest.short}", ask)

    def read_range(self, descriptor: Descriptor, offset: int, length: int) -> bytes | None:
        """Unverified bytes of a blob, None when no endpoint serves ranges; raises like
        `open_blob`."""
        refused = False

        def ask(member: Member) -> bytes:
            nonlocal refused
            found = None
            if member not in self._without_ranges:
                found = self._at(member).read_range(descriptor, offset, length)
            if found is None:
                self._without_ranges.add(member)
                refused = True
                raise BlobNotFound(f"blob {descriptor.digest}: {member.name} serves no ranges")
            return found

        try:
            return self._members.first(f"range of {descriptor.digest.short}", ask)
        except ENDPOINT_FAILURES:
            if refused:
                return None
            raise

    def referrers(self, digest: Digest) -> Iterator[Descriptor]:
        """The manifests whose subject is `digest`, from the first endpoint that knows any.

        Mirrors seldom keep referrers, so that an empty answer of one is not the last word;
        it is one when the primary cannot be asked. Raises like `top`.
        """
        answered = False

        def ask(member: Member) -> list[Descriptor]:
            nonlocal answered
            found = list(self._at(member).referrers(digest))
            answered = True
            if not found and member.is_mirror:
                raise BlobNotFound(f"{member.name} knows no referrers of {digest}")
            return found

        try:
            return iter(self._members.first(f"referrers of {digest.short}", ask))
        except ENDPOINT_FAILURES as e:
            if not answered:
                raise
            log.debug("referrers of %s: none: %s", digest.short, e.message)
            return iter(())

    def close(self) -> None:
        """Nothing: connections belong to the sessions."""

    def _at(self, member: Member) -> RegistrySource:
        return self._sources[member.endpoint]

    def _blame(self, digest: Digest, members: set[Member]) -> bool:
        """Ask no mirror of `members` for a blob again; whether that changes anything."""
        fresh = [
            member
            for member in members
            if member.is_mirror and self._members.health.blame(member.host, digest)
        ]
        for member in fresh:
            log.debug("%s: blob %s is wrong there", member.name, digest.short)
        return bool(fresh)


class FailoverBody:
    """The bytes of a blob, NOT verified, from one endpoint after another."""

    def __init__(
        self,
        members: Members,
        open_at: Callable[[Member, int], ResumingBody],
        digest: Digest,
    ) -> None:
        """Asks the first endpoint, unless it leaves that to `begin` or the first read.

        `open_at` opens the blob at an endpoint from a byte on. Raises what the primary fails
        with, when all fail.
        """
        self._members = members
        self._open_at = open_at
        self._digest = digest
        self._what = f"blob {digest.short}"
        self._position = 0
        self._body: ResumingBody | None = None
        self._member: Member | None = None
        self.used: set[Member] = set()
        self._begin_round()
        self._next()

    @property
    def pieced(self) -> bool:
        """Whether wrong bytes are worth a second try: they are of several answers, or of a
        mirror."""
        body = self._body
        return any(m.is_mirror for m in self.used) or len(self.used) > 1 or (
            body is not None and body.pieced
        )  # fmt: skip

    @property
    def doubt(self) -> str | None:
        """What to say should the bytes be wrong, None for nothing."""
        return self._body.doubt if self._body is not None else None

    def begin(self) -> None:
        """Send the first request if the endpoint waits with it; raises like the constructor."""
        while self._body is not None and self._member is not None:
            try:
                self._body.begin()
            except ENDPOINT_FAILURES as e:
                self._failed(self._member, e)
                continue
            return

    def skip(self, count: int, /) -> None:
        """Leave out the next `count` bytes."""
        if self._body is not None:
            self._body.skip(count)
        self._position += count
        # What was left out is nothing that a round brought.
        self._began_at += count

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes, b"" at the end; raises like the constructor."""
        while self._body is not None and self._member is not None:
            try:
                data = self._body.read(size)
            except ENDPOINT_FAILURES as e:
                self._failed(self._member, e)
                continue
            if data:
                self.used.add(self._member)
                self._position += len(data)
            return data
        return b""

    def close(self) -> None:
        """Release the connection."""
        body, self._body = self._body, None
        if body is not None:
            body.close()

    def _failed(self, member: Member, error: Error) -> None:
        log.debug("%s: after %d bytes", self._what, self._position)
        begun = self._body is not None and self._body.begun
        self._failures.add(member, error, self._what, interrupted=begun)
        self.close()
        self._next()

    def _begin_round(self) -> None:
        self._began_at = self._position
        self._failures = Failures(self._members.health)
        self._waiting = self._members.order(self._failures, self._digest)

    def _next(self) -> None:
        """Go on at the next endpoint; a round that brought something is followed by another."""
        while True:
            while self._waiting:
                member = self._waiting.pop(0)
                try:
                    self._body = self._open_at(member, self._position)
                except ENDPOINT_FAILURES as e:
                    self._failures.add(member, e, self._what)
                    continue
                self._member = member
                return
            if self._position - self._began_at < _WORTH_A_ROUND:
                raise self._failures.error(self._members.primary)
            self._begin_round()


class _MirroredReader(BlobReader):
    """A verifying reader that tells which endpoints a wrong blob came from."""

    def __init__(
        self,
        body: FailoverBody,
        digest: Digest,
        size: int,
        blame: Callable[[Digest, set[Member]], bool],
    ) -> None:
        super().__init__(body, digest, size, close=body.close)
        self._body = body
        self._blame = blame

    def read(self, size: int = -1, /) -> bytes:
        """Like `BlobReader.read`; an error about the bytes says whether to open again."""
        try:
            return super().read(size)
        except (DigestMismatch, SizeMismatch) as e:
            if self._blame(self.digest, self._body.used):
                e.again = True
            raise
