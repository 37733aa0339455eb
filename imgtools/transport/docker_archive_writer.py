"""The transport `docker-archive:`, written: one v2 schema 2 image, layers uncompressed.

The bytes are those that containers/image writes for the same blobs in the same order. An
archive that exists is never changed: `docker save` archives may hold images that nobody
else has.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from typing import Self

from imgtools.blob.reader import BlobReader
from imgtools.blob.tar import Entry, EntryType
from imgtools.errors import (
    InvalidInput,
    InvalidManifest,
    InvalidReference,
    LimitExceeded,
    Unsupported,
)
from imgtools.spec import manifest as mf
from imgtools.spec import media_type as mt
from imgtools.spec import strict_json
from imgtools.spec.config import Config
from imgtools.spec.descriptor import Descriptor
from imgtools.spec.digest import Digest
from imgtools.spec.manifest import Manifest, RawManifest
from imgtools.spec.reference import Reference
from imgtools.spec.strict_json import MANIFEST_LIMIT
from imgtools.task import Advanced, Task
from imgtools.transport import docker_legacy
from imgtools.transport.archive_writer import ArchiveWriter
from imgtools.transport.base import BlobOpener, BlobOutcome, Capabilities, Origin
from imgtools.transport.closing import Closing
from imgtools.transport.docker_archive import archive_reference
from imgtools.transport.folder import check_reader, check_size
from imgtools.transport.lock import OnePerDigest
from imgtools.transport.names import parse_target_name

_CAPABILITIES = Capabilities(
    manifest_types=frozenset({mt.DOCKER_MANIFEST}),
    layer_compressions=frozenset({"none"}),
    indexes=False,
    artifacts=False,
)


class DockerArchiveDestination(Closing):
    """Writes an archive with one image under any number of tags."""

    def __init__(self, origin: Origin, writer: ArchiveWriter, tags: tuple[Reference, ...]) -> None:
        """`open` is the way to make one."""
        self._origin = origin
        self._writer = writer
        self._tags = tags
        self._mutex = threading.Lock()
        self._one_per_digest = OnePerDigest()
        self._layers: dict[Digest, int] = {}
        self._configs: dict[Digest, bytes] = {}
        self._image: tuple[RawManifest, Manifest] | None = None

    @classmethod
    def open(
        cls, rest: str, *, additional_tags: tuple[str, ...] = (), tmpdir: str | None = None
    ) -> Self:
        """The destination `docker-archive:rest`, of which nothing is written yet.

        `tmpdir` is only needed when the path is a pipe. Raises InvalidReference, NotFound,
        and Unsupported when an archive is there.
        """
        name = parse_target_name("docker-archive", rest)
        tags = [archive_reference(name.ref)] if name.ref else []
        tags += [_tag(text) for text in additional_tags]
        writer = ArchiveWriter(name.path, tmpdir=tmpdir)
        _refuse_existing(writer)
        origin = Origin(transport="docker-archive", name=f"docker-archive:{rest}")
        return cls(origin, writer, tuple(dict.fromkeys(tags)))

    @property
    def origin(self) -> Origin:
        """Where this is."""
        return self._origin

    @property
    def capabilities(self) -> Capabilities:
        """Single Docker images with uncompressed layers."""
        return _CAPABILITIES

    def current(self) -> Descriptor | None:
        """Nothing: an archive is always new."""
        return None

    def has_blob(self, descriptor: Descriptor) -> bool:
        """Whether the blob was put already."""
        config = self._configs.get(descriptor.digest)
        size = self._layers.get(descriptor.digest) if config is None else len(config)
        return size == descriptor.size

    def has_manifest(self, descriptor: Descriptor) -> bool:
        """Whether the manifest was put already."""
        return self._image is not None and self._image[0].digest == descriptor.digest

    def put_blob(
        self,
        descriptor: Descriptor,
        open_blob: BlobOpener,
        *,
        mount_from: Sequence[Origin] = (),
        task: Task,
    ) -> BlobOutcome:
        """See Destination; what is not of a config's media type is taken for a layer."""
        with self._one_per_digest(descriptor.digest):
            if self.has_blob(descriptor):
                return "present"
            with open_blob() as reader:
                if mt.kind(descriptor.media_type) == "config":
                    self._put_config(descriptor, reader, task)
                    return "stored"
                entry = _entry(_layer_path(descriptor.digest), descriptor.size)
                self._writer.add_blob(entry, descriptor, reader, task=task)
            self._layers[descriptor.digest] = descriptor.size
        return "stored"

    def put_manifest(self, raw: RawManifest, *, top: bool) -> None:
        """See Destination; raises Unsupported for anything but an image of this form."""
        if raw.media_type != mt.DOCKER_MANIFEST:
            raise Unsupported(
                f"a docker archive cannot hold {raw.media_type}, only Docker v2 schema 2 images",
                hint="use oci-archive:, or choose one image and convert it",
            )
        view = mf.parse(raw)
        if not isinstance(view, Manifest) or not top or self._image is not None:
            raise Unsupported("a docker archive holds a single image")
        self._check(view)
        self._image = (raw, view)

    def commit(self) -> None:
        """Write what names the image, finish the archive and give it its name."""
        if self._image is None:
            raise InvalidInput("there is nothing to commit: no manifest was put")
        _refuse_existing(self._writer)
        view = self._image[1]
        layers = [layer.digest for layer in view.layers]
        legacy = docker_legacy.legacy_layers(self._configs[view.config.digest], layers)
        for layer in legacy:
            link = Entry(
                path=f"{layer.id}/layer.tar",
                type=EntryType.SYMLINK,
                mode=0,
                linkname=f"../{_layer_path(layer.layer)}",
            )
            self._writer.add(link)
            self._add(f"{layer.id}/VERSION", b"1.0")
            self._add(f"{layer.id}/json", layer.json)
        item = {
            "Config": _config_path(view.config.digest),
            "RepoTags": [str(tag) for tag in self._tags],
            "Layers": [_layer_path(digest) for digest in layers],
        }
        self._add("manifest.json", strict_json.dumps([item]))
        top = legacy[-1].id if legacy else ""
        self._add("repositories", docker_legacy.repositories(self._tags, top))
        self._writer.commit()

    def close(self) -> None:
        """Without commit, leave nothing."""
        self._writer.close()

    def _add(self, path: str, content: bytes) -> None:
        self._writer.add(_entry(path, len(content)), content)

    def _put_config(self, descriptor: Descriptor, reader: BlobReader, task: Task) -> None:
        if descriptor.size > MANIFEST_LIMIT:
            reader.abandon()
            raise LimitExceeded(f"config {descriptor.digest}", MANIFEST_LIMIT)
        check_reader(reader, descriptor)
        content = reader.read()
        check_size(descriptor, len(content))
        self._add(_config_path(descriptor.digest), content)
        self._configs[descriptor.digest] = content
        task.progress(Advanced(str(descriptor.digest), len(content)))

    def _check(self, view: Manifest) -> None:
        """Raise InvalidManifest unless everything is there, the layers uncompressed."""
        config = self._configs.get(view.config.digest)
        if config is None:
            raise InvalidManifest(f"the config {view.config.digest} was not put as a config")
        for layer in view.layers:
            if layer.digest not in self._layers:
                raise InvalidManifest(f"the layer {layer.digest} was not put")
        if Config.parse(config).diff_ids != tuple(layer.digest for layer in view.layers):
            raise InvalidManifest(
                "the layers are not those of the config: a docker archive holds them uncompressed"
            )


def _tag(text: str) -> Reference:
    reference = Reference.parse(text, default_tag="")
    if not reference.tag or reference.digest is not None:
        raise InvalidReference(text, "an additional tag is a name with a tag, without digest")
    return reference


def _refuse_existing(writer: ArchiveWriter) -> None:
    if writer.streams:
        return
    try:
        empty = os.stat(writer.path).st_size == 0
    except OSError:
        return
    if not empty:
        raise Unsupported(
            f"{writer.path} exists, and docker-archive: does not modify existing archives",
            hint="remove it first, or choose another name",
        )


def _entry(path: str, size: int) -> Entry:
    return Entry(path=path, size=size, mode=0o444)


def _layer_path(digest: Digest) -> str:
    return f"{digest.hex}.tar"


def _config_path(digest: Digest) -> str:
    return f"{digest.hex}.json"
