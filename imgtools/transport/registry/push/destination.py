"""Writes an image to a registry: blobs, then manifests by digest, then the name and tags.

A registry shows manifests as they are put, so `commit` has nothing to publish; it only
records subjects under fallback tags where the registry did not acknowledge them.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence

from imgtools.errors import DigestMismatch, ImageNotFound, RegistryError
from imgtools.spec import media_type as mt
from imgtools.spec.descriptor import Descriptor
from imgtools.spec.digest import Digest
from imgtools.spec.manifest import RawManifest
from imgtools.spec.reference import Reference
from imgtools.task import Task
from imgtools.transport.base import BlobOpener, BlobOutcome, Capabilities, Origin
from imgtools.transport.closing import Closing
from imgtools.transport.registry.api import Repository, content_digest
from imgtools.transport.registry.failure import Forbidden
from imgtools.transport.registry.manifests import get_manifest, head_manifest, is_there
from imgtools.transport.registry.session import Session
from imgtools.transport.registry.wire.http import Response

log = logging.getLogger(__name__)

_CAPABILITIES = Capabilities(referrers=True, foreign_layers_by_url=True, remote=True)
_STORED = (201, 200, 202)
_CONTENT_MISSING = ("MANIFEST_BLOB_UNKNOWN", "BLOB_UNKNOWN", "MANIFEST_UNKNOWN")
_UNSET = object()


class RegistryDestination(Closing):
    """A `Destination` in a registry; the session stays open when it is closed."""

    def __init__(
        self, session: Session, reference: Reference, *, additional_tags: Sequence[str] = ()
    ) -> None:
        """Raises InvalidReference for a malformed additional tag."""
        self.reference = reference
        self._session = session
        self._repository = Repository(session, reference.repository, push=True)
        self._tags = tuple(reference.with_tag(tag).tag for tag in additional_tags)
        self._lock = threading.Lock()
        self._current: object = _UNSET
        self._known = session.features.known
        self._unacknowledged: list[tuple[Digest, RawManifest]] = []

    @property
    def origin(self) -> Origin:
        """`docker://` and the normalised reference."""
        return Origin(
            transport="docker",
            name=f"docker://{self.reference}",
            registry=self.reference.registry,
            repository=self.reference.repository,
        )

    @property
    def capabilities(self) -> Capabilities:
        """Anything, with referrers; foreign layers stay where they are."""
        return _CAPABILITIES

    def current(self) -> Descriptor | None:
        """What the name points at, by HEAD (GET where HEAD does not tell); None for nothing.

        None as well when reading is forbidden: some registries say so of what is not there,
        and whether we may write is told by writing. Raises Denied, ConnectionFailed,
        RegistryError.
        """
        # With both, the tag is what gets written, and the digest what is to be there then.
        target = self.reference.tag or self.reference.target
        pinned = None if self.reference.tag else self.reference.digest
        try:
            found = head_manifest(self._repository, target, pinned)
            if found is None:
                found = get_manifest(self._repository, target, pinned).descriptor()
        except ImageNotFound:
            found = None
        except Forbidden as e:
            log.debug("%s cannot be read: %s", self.reference, e.message)
            found = None
        with self._lock:
            self._current = found
        if found is not None:
            self._known.add_manifest(self._repository.name, found.digest)
        return found

    def has_blob(self, descriptor: Descriptor) -> bool:
        """Whether the repository has the blob, by HEAD unless this process knows that;
        False and raises like `current`."""
        name, digest = self._repository.name, descriptor.digest
        if self._known.has_blob(name, digest):
            return True
        from imgtools.transport.registry.push.upload_session import is_stored

        try:
            found = is_stored(self._repository, digest)
        except Forbidden as e:
            log.debug("blob %s cannot be read: %s", digest, e.message)
            return False
        if found:
            self._known.add_blob(name, digest)
        return found

    def has_manifest(self, descriptor: Descriptor) -> bool:
        """Whether the repository has the manifest, by HEAD (GET where HEAD does not tell)
        unless this process knows that; False and raises like `current`."""
        name, digest = self._repository.name, descriptor.digest
        if self._known.has_manifest(name, digest):
            return True
        found = is_there(self._repository, digest)
        if found:
            self._known.add_manifest(name, digest)
        return found

    def put_blob(
        self,
        descriptor: Descriptor,
        open_blob: BlobOpener,
        *,
        mount_from: Sequence[Origin] = (),
        task: Task,
    ) -> BlobOutcome:
        """Mount the blob from a repository of the same registry, or upload it.

        One that another thread is putting into the registry is waited for, and then present
        or mounted. Foreign layers are left where their URLs say. Raises what reading the blob
        raises, Denied, ConnectionFailed, RegistryError, Cancelled.
        """
        if descriptor.urls and mt.is_foreign(descriptor.media_type):
            return "present"
        name, digest = self._repository.name, descriptor.digest
        with self._known.alone(name, digest, task.cancel):
            if self._known.has_blob(name, digest):
                return "present"
            sources = dict.fromkeys(self._known.elsewhere(name, digest))
            sources |= dict.fromkeys(
                origin.repository
                for origin in mount_from
                if origin.registry == self.reference.registry and origin.repository
            )
            if name in sources:
                del sources[name]
                if self.has_blob(descriptor):
                    return "present"
            from imgtools.transport.registry.push.upload import store

            # A mount from the repository itself costs nothing beside the POST that is sent
            # anyway, and finds what is there under other tags or from a copy that was killed.
            places = list(sources) or [name]
            outcome = store(self._repository, descriptor, open_blob, places, task=task)
            self._known.add_blob(name, digest)
        return "present" if places == [name] and outcome == "mounted" else outcome

    def put_manifest(self, raw: RawManifest, *, top: bool) -> None:
        """PUT a manifest by digest or, the top one, by name and additional tags.

        A name that `current` found to hold the same digest is left alone. Raises
        DigestMismatch, TagImmutable, Denied, ConnectionFailed, RegistryError.
        """
        if not top:
            self._put(str(raw.digest), raw)
            return
        pinned = self.reference.digest or raw.digest
        actual = raw.digest
        if pinned.algorithm != actual.algorithm:
            actual = RawManifest.of(raw.content, raw.media_type, algorithm=pinned.algorithm).digest
        if pinned != actual:
            raise DigestMismatch(
                f"destination {self.reference}", expected=str(pinned), actual=str(actual)
            )
        if not self._holds(raw.digest, actual):
            self._put(self.reference.tag or str(pinned), raw)
        for tag in self._tags:
            if tag != self.reference.tag:
                self._put(tag, raw)

    def commit(self) -> None:
        """Add what was pushed with a subject to fallback tags where the registry does not
        keep referrers itself; raises Conflict, Denied, ConnectionFailed, RegistryError."""
        with self._lock:
            pending, self._unacknowledged = self._unacknowledged, []
        for subject, raw in pending:
            from imgtools.transport.registry.referrers import add_to_fallback, referrer_descriptor

            add_to_fallback(self._repository, subject, referrer_descriptor(raw))

    def close(self) -> None:
        """Nothing: connections belong to the session."""

    def _holds(self, *names: Digest) -> bool:
        with self._lock:
            current = self._current
        return isinstance(current, Descriptor) and current.digest in names

    def _put(self, target: str, raw: RawManifest) -> None:
        response = self._repository.put_manifest(target, raw)
        if response.status not in _STORED:
            accepted = self._refused(target, raw, response)
            if accepted is None:
                return
            response = accepted
        with response:
            said = content_digest(response)
            acknowledged = response.header("OCI-Subject")
            response.drain()
        if said is not None and said.algorithm == raw.digest.algorithm and said != raw.digest:
            raise DigestMismatch(
                f"manifest stored by {self._session.host}",
                expected=str(raw.digest),
                actual=str(said),
            )
        self._known.add_manifest(self._repository.name, raw.digest)
        if not acknowledged and b'"subject"' in raw.content:
            self._remember_subject(raw)

    def _refused(self, target: str, raw: RawManifest, response: Response) -> Response | None:
        """The answer to a later try, None when the manifest is there all the same; else
        raises the error."""
        from imgtools.transport.registry.push.tagging import settle_refusal

        try:
            return settle_refusal(self._repository, target, raw, response)
        except RegistryError as e:
            if e.code in _CONTENT_MISSING:
                # Somebody deleted there what we had seen or put.
                self._known.forget(self._repository.name)
            raise

    def _remember_subject(self, raw: RawManifest) -> None:
        from imgtools.transport.registry.referrers import subject_of

        subject = subject_of(raw)
        if subject is None:
            return
        with self._lock:
            if (subject, raw) not in self._unacknowledged:
                self._unacknowledged.append((subject, raw))
