"""Reads and writes cosign's attachments in a registry: signatures at `sha256-HEX.sig`.

They are read from the place that the image is read from, which may be a mirror, and written
to the registry of the name. Registries have no way to append, so writing reads, changes, puts
and looks whether it stayed.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from functools import partial

from imgtools.blob.reader import BlobReader
from imgtools.errors import Conflict, InvalidInput
from imgtools.sign.model import Format, Signature, SigstoreSignature
from imgtools.sign.stores.attachment import (
    Attachment,
    Layer,
    Suffix,
    appended,
    attachment_manifest,
    attachment_tag,
    check_sizes,
    missing,
    new_attachment,
    signature_layer,
)
from imgtools.sign.stores.places import ask, read_blob, read_tag
from imgtools.spec.descriptor import Descriptor
from imgtools.spec.digest import Digest
from imgtools.spec.manifest import Manifest, RawManifest
from imgtools.spec.reference import ImageName, Reference
from imgtools.spec.strict_json import MANIFEST_LIMIT
from imgtools.task import Task
from imgtools.transport.options import DestinationOptions, RegistryOptions
from imgtools.transport.registry.api import Repository
from imgtools.transport.table import Transports

Same = Callable[[Signature, Signature], bool]
"""Whether a signature that is there (first) makes the other one superfluous."""

_TRIES = 12
_LONGEST_APART = 4.0
"""Tries at an attachment that others write as well, and the most seconds before the next."""

_PRECONDITION_FAILED = 412


def never_same(there: Signature, new: Signature) -> bool:
    """Every signature counts that is not equal to one that is there, as in skopeo."""
    return False


class AttachmentReader:
    """The attachments of one kind of the images of one repository."""

    def __init__(
        self,
        transports: Transports,
        reference: Reference,
        options: RegistryOptions,
        *,
        suffix: Suffix = "sig",
    ) -> None:
        """`reference` is the image by the name that it is read by; mirrors follow from it."""
        self._transports = transports
        self._reference = reference
        self._options = options
        self._suffix: Suffix = suffix

    def signatures(self, digest: Digest) -> tuple[Signature, ...]:
        """The layers of the attachment of `digest` in their order, empty when there is none.

        Layers of other types than signatures are among them, by their media type. Raises
        InvalidSignature for what is no attachment, LimitExceeded, Denied, RegistryError,
        ConnectionFailed, BlobNotFound, DigestMismatch and SizeMismatch.
        """
        tag = attachment_tag(digest, self._suffix)
        where = f"{self._reference.name}:{tag}"
        return tuple(
            SigstoreSignature(
                payload=layer.content,
                annotations=layer.annotations,
                media_type=layer.media_type,
                where=f"{where}, layer {number}",
            )
            for number, layer in enumerate(self.layers(digest), 1)
        )

    def layers(self, digest: Digest) -> tuple[Layer, ...]:
        """What `signatures` reads, as layers; raises like it."""
        members = self._transports.routes.members(self._reference, self._options)
        tag = attachment_tag(digest, self._suffix)
        read = partial(_read_layers, tag=tag, suffix=self._suffix)
        return ask(members, f"attachment {tag}", read) or ()

    def manifest(self, digest: Digest) -> RawManifest | None:
        """The attachment's own manifest, None when there is none; raises like `signatures`."""
        members = self._transports.routes.members(self._reference, self._options)
        tag = attachment_tag(digest, self._suffix)
        found = ask(members, f"attachment {tag}", lambda there: read_tag(there, tag))
        return None if found is None else found[0]


class AttachmentWriter:
    """Puts attachments of one kind into the repository of a name."""

    def __init__(
        self,
        transports: Transports,
        reference: Reference,
        options: RegistryOptions,
        *,
        task: Task,
        suffix: Suffix = "sig",
        same: Same = never_same,
    ) -> None:
        """`same` decides which new signatures are superfluous (see `repeats`), beside equal
        ones, which are never written twice."""
        self._transports = transports
        self._reference = reference
        self._options = options
        self._task = task
        self._suffix: Suffix = suffix
        self._same = same

    @property
    def holds(self) -> frozenset[Format]:
        """Cosign's signatures."""
        return frozenset({"sigstore"})

    def preflight(self) -> None:
        """Raise Rejected, or what the configuration of registries is wrong with."""
        self._transports.routes.writer(self._reference, self._options)

    def put(self, subject: Descriptor, signatures: Sequence[Signature]) -> int:
        """Append `signatures` to the attachment of `subject`; how many are new.

        Raises InvalidInput for other formats, Conflict, TagImmutable, LimitExceeded,
        InvalidSignature for what is there and is no attachment, Denied, RegistryError,
        ConnectionFailed.
        """
        layers = []
        for signature in signatures:
            if not isinstance(signature, SigstoreSignature):
                raise InvalidInput(f"an attachment holds no {signature.format} signatures")
            layers.append(signature_layer(signature))
        return self.put_layers(subject.digest, layers)

    def put_layers(
        self,
        digest: Digest,
        layers: Sequence[Layer],
        *,
        without: frozenset[Digest] = frozenset(),
    ) -> int:
        """Append `layers` to the attachment of `digest`, each once; how many are new. With
        new ones the layers of the digests `without` go. Raises like `put`."""
        return _Appending(self, attachment_tag(digest, self._suffix), without).put(layers)

    def repository(self) -> Repository:
        """The repository that is written."""
        return self._transports.repository(self._reference, self._options, push=True)

    def put_blobs(self, tag: str, contents: Sequence[tuple[Descriptor, bytes]]) -> None:
        """Upload what is not there yet."""
        name = ImageName(transport="docker", rest=f"//{self._reference.with_tag(tag)}")
        options = DestinationOptions(registry=self._options)
        with self._transports.open_destination(name, options) as destination:
            for descriptor, content in contents:
                destination.put_blob(
                    descriptor, _opener(content, descriptor.digest), task=self._task
                )

    def fresh(self, there: Manifest, layers: tuple[Layer, ...]) -> tuple[Layer, ...]:
        """Those of `layers` that no signature that is there makes superfluous."""
        if self._same is never_same:
            return layers
        found = _layers_of(self.repository(), there, self._suffix)
        known = [_signature(layer) for layer in found]
        return tuple(
            layer
            for layer in layers
            if not any(self._same(other, _signature(layer)) for other in known)
        )


class _Appending:
    """One change of one tag, tried until it stays."""

    def __init__(self, writer: AttachmentWriter, tag: str, without: frozenset[Digest]) -> None:
        self._writer = writer
        self._tag = tag
        self._without = without
        self._repository = writer.repository()
        self._conditional = True

    def put(self, layers: Sequence[Layer]) -> int:
        """See `AttachmentWriter.put_layers`."""
        with self._repository.session.features.writing(self._repository.name, self._tag):
            found = self._read()
            new = missing(found[0].layers if found is not None else (), layers)
            if new and found is not None:
                new = self._writer.fresh(found[0], new)
            if new:
                self._writer.put_blobs(
                    self._tag, [(layer.descriptor(), layer.content) for layer in new]
                )
                self._settle(found, new)
            return len(new)

    def _settle(self, found: _Found | None, new: tuple[Layer, ...]) -> None:
        """Write until `new` is there, and is still there where others had replaced it once."""
        written = lost = seen = False
        for tries in range(_TRIES + 1):
            if tries:
                # Who meets again and again has to be further apart each time.
                first = self._repository.session.policy.first
                apart = min(_LONGEST_APART, first * (tries - 1))
                self._repository.session.wait(random.uniform(0, apart))
                found = self._read()
            there = found[0].layers if found is not None else ()
            left = missing(there, new)
            replaced = all(layer.digest not in self._without for layer in there)
            if written and not left and replaced:
                if seen or not lost:
                    return
                seen = True
            elif tries == _TRIES:
                break
            # What was written and is not there at all is not shown yet: to write on the
            # strength of that would leave out what others have added since.
            elif found is not None or not written:
                lost, seen = written, False
                written = self._write(found, left) or written
        raise Conflict(
            f"tag {self._tag} of {self._repository.session.host}/{self._repository.name} is being "
            "changed by others: what was appended is not there",
            hint="sign again when the others are done",
        )

    def _write(self, found: _Found | None, layers: tuple[Layer, ...]) -> bool:
        """Put the image with `layers`; False when somebody else was faster."""
        from imgtools.transport.registry.push.tagging import STORED, settle_refusal

        etag = ""
        if found is None:
            image = new_attachment(layers)
        else:
            there, raw, etag = found
            config = read_blob(self._repository, there.config, MANIFEST_LIMIT)
            image = appended(raw, config, layers, without=self._without)
        self._writer.put_blobs(self._tag, [(_config_of(image), image.config)])
        etag = etag if self._conditional else ""
        response = self._repository.put_manifest(self._tag, image.manifest, if_match=etag)
        if response.status == _PRECONDITION_FAILED and etag:
            response.drain()
            # Where nothing has changed the tag is immutable, or conditions are not understood.
            again = self._read()
            self._conditional = again is None or found is None or again[1].digest != found[1].digest
            return False
        if response.status not in STORED:
            accepted = settle_refusal(self._repository, self._tag, image.manifest, response)
            if accepted is None:
                return True
            response = accepted
        response.drain()
        return True

    def _read(self) -> _Found | None:
        found = read_tag(self._repository, self._tag)
        return None if found is None else (attachment_manifest(found[0]), *found)


_Found = tuple[Manifest, RawManifest, str]
"""An attachment, its bytes and the entity tag that a change is bound to."""


def _read_layers(repository: Repository, tag: str, suffix: Suffix) -> tuple[Layer, ...] | None:
    found = read_tag(repository, tag)
    return None if found is None else _layers_of(repository, attachment_manifest(found[0]), suffix)


def _layers_of(repository: Repository, manifest: Manifest, suffix: Suffix) -> tuple[Layer, ...]:
    check_sizes(manifest.layers, suffix)
    contents: dict[Digest, bytes] = {}
    for layer in manifest.layers:
        if layer.digest not in contents:
            contents[layer.digest] = read_blob(repository, layer, layer.size)
    return tuple(
        Layer(
            media_type=layer.media_type,
            content=contents[layer.digest],
            annotations=layer.annotations,
        )
        for layer in manifest.layers
    )


def _config_of(image: Attachment) -> Descriptor:
    return Descriptor(media_type="", digest=Digest.of(image.config), size=len(image.config))


def _opener(content: bytes, digest: Digest) -> Callable[[], BlobReader]:
    return lambda: BlobReader.of(content, digest)


def _signature(layer: Layer) -> SigstoreSignature:
    return SigstoreSignature(
        payload=layer.content, annotations=layer.annotations, media_type=layer.media_type
    )
