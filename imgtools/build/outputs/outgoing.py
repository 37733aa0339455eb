"""Finished images made ready to leave: in the form that a destination wants, with all documents
written, so that every digest is known before the first byte moves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from functools import partial
from types import MappingProxyType
from typing import Literal

from imgtools.blob.reader import BlobReader
from imgtools.build.outputs.attest import AttestationDocuments, Predicate, attestation, image_purl
from imgtools.build.outputs.base_blobs import BaseBlobs, base_origin
from imgtools.build.outputs.index import attestation_entry, image_entry, index_of
from imgtools.build.outputs.layer_blobs import LayerBlobs
from imgtools.build.outputs.manifests import Documents, base_layers, documents
from imgtools.build.outputs.model import BuiltImage, Family, Form
from imgtools.build.outputs.source import BuiltSource
from imgtools.errors import InvalidInput
from imgtools.frozen import dataclass
from imgtools.spec import media_type as mt
from imgtools.spec.descriptor import Descriptor
from imgtools.spec.digest import Digest
from imgtools.spec.manifest import RawManifest
from imgtools.task import Task, WorkerPool
from imgtools.transport.base import BlobOpener, Origin

AttestationStyle = Literal["none", "referrer", "index"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What goes out: `images`, and whether under an index of their own.

    `as_index` is also true for several platforms. `predicates` are said of the image of the
    same place in `images`; `style` is whether they become referrers, or entries of the index
    as well, as BuildKit has it. `names` are those that the image goes by.
    """

    images: tuple[BuiltImage, ...]
    as_index: bool = False
    index_annotations: Mapping[str, str] = field(default_factory=dict)
    predicates: tuple[tuple[Predicate, ...], ...] = ()
    style: AttestationStyle = "referrer"
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.images:
            raise InvalidInput("there is no image to write")
        if self.predicates and len(self.predicates) != len(self.images):
            raise InvalidInput("attestations are given for every image or for none")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """All documents, and how to open every blob; `mounts` says which repositories may have a
    blob, `images` are in the order of the platforms."""

    top: RawManifest
    images: tuple[Documents, ...]
    manifests: tuple[RawManifest, ...]
    blobs: Mapping[Digest, BlobOpener]
    referrers: Mapping[Digest, tuple[Descriptor, ...]]
    mounts: Mapping[Digest, tuple[Origin, ...]]

    def source(self, name: str = "build:") -> BuiltSource:
        """A Source of all of it."""
        return BuiltSource(
            self.top, self.blobs, manifests=self.manifests, referrers=self.referrers, name=name
        )


@dataclass(slots=True)
class Maker:
    """Makes Outgoing of Wanted; `bases` None writes all layers anew."""

    layers: LayerBlobs
    bases: BaseBlobs | None
    form: Form
    family: Family
    _blobs: dict[Digest, BlobOpener] = field(default_factory=dict)
    _mounts: dict[Digest, tuple[Origin, ...]] = field(default_factory=dict)

    def make(self, wanted: Wanted, *, task: Task) -> Outgoing:
        """Raises what reading and compressing layers does, InvalidInput, Unsupported."""
        images = tuple(self._image(image, task) for image in wanted.images)
        said = self._attestations(wanted, images)
        manifests = [image.manifest for image in images]
        found = [each for each in said if each is not None]
        manifests += [each.manifest for each in found]
        in_index = wanted.style == "index" and bool(found)
        top = manifests[0]
        if wanted.as_index or len(images) > 1 or in_index:
            top = self._index(wanted, images, said if in_index else ())
        referrers: dict[Digest, tuple[Descriptor, ...]] = {}
        for image, each in zip(images, said, strict=False):
            if each is not None and not in_index:
                referrers[image.manifest.digest] = (each.referrer(),)
        return Outgoing(
            top=top,
            images=images,
            manifests=tuple(manifests),
            blobs=MappingProxyType(dict(self._blobs)),
            referrers=MappingProxyType(referrers),
            mounts=MappingProxyType(dict(self._mounts)),
        )

    def _image(self, image: BuiltImage, task: Task) -> Documents:
        kept = self._kept(image)
        with WorkerPool(task) as pool:
            made = pool.map(
                lambda layer: (
                    kept.get(layer.diff_id)
                    or self.layers.descriptor(layer, self.form, self.family, task=pool.task)
                ),
                image.layers,
            )
        found = documents(image, made, self.family)
        self._add(found.config_descriptor.digest, found.config)
        for layer in made:
            self._blobs.setdefault(layer.digest, partial(self.layers.open, layer.digest))
        return found

    def _kept(self, image: BuiltImage) -> dict[Digest, Descriptor]:
        """The base's layers that stay as they are, by diff_id."""
        if self.bases is None or image.base is None or not self.bases.known(image.base):
            return {}
        kept: dict[Digest, Descriptor] = {}
        origin = base_origin(image.base)
        for diff_id, blob in base_layers(image, self.family).items():
            if not _suits(blob, self.form):
                continue
            kept[diff_id] = blob
            self._blobs[blob.digest] = partial(self.bases.open, image.base, blob)
            if origin is not None:
                self._mounts[blob.digest] = (origin,)
        return kept

    def _attestations(
        self, wanted: Wanted, images: Sequence[Documents]
    ) -> list[AttestationDocuments | None]:
        if wanted.style == "none" or not wanted.predicates:
            return [None for _ in images]
        made: list[AttestationDocuments | None] = []
        for built, image, predicates in zip(wanted.images, images, wanted.predicates, strict=True):
            if not predicates:
                made.append(None)
                continue
            purls = [image_purl(name, built.platform) for name in wanted.names]
            found = attestation(
                predicates, image.manifest.descriptor(), [purl for purl in purls if purl]
            )
            for digest, content in found.blobs.items():
                self._add(digest, content)
            made.append(found)
        return made

    def _index(
        self,
        wanted: Wanted,
        images: Sequence[Documents],
        said: Sequence[AttestationDocuments | None],
    ) -> RawManifest:
        pairs = [
            attestation_entry(each.manifest, image.manifest.descriptor())
            for image, each in zip(images, said, strict=False)
            if each is not None
        ]
        entries = [
            image_entry(image.manifest, built.platform)
            for built, image in zip(wanted.images, images, strict=True)
        ]
        return index_of(entries, pairs, family=self.family, annotations=wanted.index_annotations)

    def _add(self, digest: Digest, content: bytes) -> None:
        opener: Callable[[], BlobReader] = partial(BlobReader.of, content, digest)
        self._blobs[digest] = opener


def _suits(blob: Descriptor, form: Form) -> bool:
    """Whether a layer of a base may stay as it is, given what was asked for."""
    now = mt.layer_compression(blob.media_type)
    if form.compression == "none":
        return False
    return not form.compression or form.compression == now or not form.force
