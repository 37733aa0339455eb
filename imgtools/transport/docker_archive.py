"""The transport `docker-archive:`, read: what `docker save` and skopeo write.

`manifest.json` lists images as a config and layer files; the v2 schema 2 manifest is made
here, exactly as containers/image makes it, from the config's diff_ids and the sizes of the
uncompressed layers. Docker's "image spec v1.2" describes the form.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Self

from imgtools.blob.reader import BlobReader
from imgtools.errors import (
    BlobNotFound,
    ImageNotFound,
    InvalidArchive,
    InvalidManifest,
    InvalidReference,
    NotFound,
)
from imgtools.frozen import dataclass
from imgtools.spec import media_type as mt
from imgtools.spec import strict_json
from imgtools.spec.config import Config
from imgtools.spec.descriptor import Descriptor, optional, string_list
from imgtools.spec.digest import Digest
from imgtools.spec.manifest import Manifest, RawManifest
from imgtools.spec.reference import Reference
from imgtools.spec.strict_json import MANIFEST_LIMIT
from imgtools.transport.archive_index import Archive, normalised
from imgtools.transport.base import Origin
from imgtools.transport.closing import Closing
from imgtools.transport.folder import Region, blob_reader
from imgtools.transport.names import LocalName, parse_local_name

_CHUNK = 256 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class _Item:
    """One image of manifest.json; paths are names of members."""

    config: str
    tags: tuple[str, ...]
    layers: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Image:
    """An image whose parts are known: layer files by diff_id."""

    raw: RawManifest
    config: bytes
    layers: dict[Digest, str]


class DockerArchiveSource(Closing):
    """Reads one image of an archive; its manifest is made when it is first asked for."""

    def __init__(self, archive: Archive, name: LocalName, origin: Origin) -> None:
        """Takes over `archive`; raises InvalidArchive or InvalidJSON."""
        self._archive = archive
        self._name = name
        self._origin = origin
        self._lock = threading.Lock()
        self._image: _Image | None = None
        self._items = _items(archive)

    @classmethod
    def open(cls, rest: str, *, tmpdir: str | None = None) -> Self:
        """The source `docker-archive:rest` ("-" or /dev/stdin is standard input).

        `tmpdir` is where compressed or streamed input is spooled. Raises InvalidReference,
        ImageNotFound, InvalidArchive, InvalidJSON and StorageError.
        """
        name = parse_local_name("docker-archive", rest)
        if name.ref:
            archive_reference(name.ref)
        archive = Archive.open(name.path, tmpdir=tmpdir)
        try:
            origin = Origin(
                transport="docker-archive", name=f"docker-archive:{rest}", synthesised=True
            )
            return cls(archive, name, origin)
        except BaseException:
            archive.close()
            raise

    @property
    def origin(self) -> Origin:
        """Where this is."""
        return self._origin

    @property
    def tags(self) -> tuple[tuple[str, ...], ...]:
        """The names of every image of the archive, as they are written in it."""
        return tuple(item.tags for item in self._items)

    def resolve(self) -> Descriptor:
        """See Source."""
        return self.top().descriptor()

    def top(self) -> RawManifest:
        """See Source; raises InvalidArchive or InvalidManifest for an incomplete image."""
        return self._found().raw

    def manifest(self, descriptor: Descriptor) -> RawManifest:
        """See Source: there is only the top one."""
        raw = self.top()
        if raw.digest != descriptor.digest:
            raise NotFound(f"{self._name.path} has no manifest {descriptor.digest}")
        return raw

    def open_blob(self, descriptor: Descriptor) -> BlobReader:
        """See Source; layers come uncompressed."""
        image = self._found()
        if descriptor.digest == Digest.of(image.config, descriptor.digest.algorithm):
            return BlobReader.of(image.config, descriptor.digest)
        path = image.layers.get(descriptor.digest)
        if path is None:
            raise BlobNotFound(f"{self._name.path} has no blob {descriptor.digest}")
        from imgtools.blob.compression import Compression, Decompressor

        region = _member(self._archive, path)
        if _compression(region) is Compression.NONE:
            return blob_reader(region, descriptor)
        return BlobReader(
            Decompressor(region), descriptor.digest, descriptor.size, close=region.close
        )

    def read_range(self, descriptor: Descriptor, offset: int, length: int) -> bytes | None:
        """See Source; None for a layer that is compressed in the archive."""
        from imgtools.blob.compression import Compression

        image = self._found()
        path = image.layers.get(descriptor.digest)
        if path is None:
            with self.open_blob(descriptor) as reader:
                return reader.read()[offset : offset + length]
        with _member(self._archive, path) as region:
            if _compression(region) is not Compression.NONE:
                return None
            return region.pread(length, offset)

    def referrers(self, digest: Digest) -> Iterator[Descriptor]:
        """None: the form has no place for them."""
        return iter(())

    def close(self) -> None:
        """Release the archive."""
        self._archive.close()

    def _found(self) -> _Image:
        with self._lock:
            if self._image is None:
                self._image = _image(self._archive, _choose(self._items, self._name))
            return self._image


def archive_reference(text: str) -> Reference:
    """A reference as archives name images: with a tag, without digest.

    Raises InvalidReference.
    """
    reference = Reference.parse(text)
    if reference.digest is not None:
        raise InvalidReference(text, "docker-archive: does not know digests, only tags")
    return reference


def _items(archive: Archive) -> tuple[_Item, ...]:
    content = archive.read("manifest.json", MANIFEST_LIMIT)
    if content is None:
        hint = None
        reason = "it has no manifest.json"
        if "index.json" in archive:
            hint = "it holds an OCI image layout: read it as oci-archive:"
        elif "repositories" in archive:
            reason = "it is of the form before Docker 1.10, with repositories but no manifest.json"
            hint = "load and save it again with a newer docker"
        raise InvalidArchive(f"{archive.path} is not a docker archive: {reason}", hint=hint)
    what = f"{archive.path}: manifest.json"
    value = strict_json.loads(content, what)
    if not isinstance(value, list):
        raise InvalidManifest(f"{what} is not a list")
    return tuple(_item(entry, f"{what}: image @{n}") for n, entry in enumerate(value))


def _item(value: object, what: str) -> _Item:
    if not isinstance(value, dict):
        raise InvalidManifest(f"{what} is not an object")
    config = optional(value, "Config", str, what)
    if not config:
        raise InvalidManifest(f"{what} has no Config")
    return _Item(
        config=config,
        tags=string_list(value, "RepoTags", what),
        layers=string_list(value, "Layers", what),
    )


def _choose(items: tuple[_Item, ...], name: LocalName) -> _Item:
    if name.position is not None:
        if name.position >= len(items):
            raise ImageNotFound(
                f"{name.path} has no image @{name.position}: it has {len(items)} images"
            )
        return items[name.position]
    if name.ref:
        wanted = archive_reference(name.ref)
        for item in items:
            if any(_is_tag(tag, wanted) for tag in item.tags):
                return item
        there = ", ".join(tag for item in items for tag in item.tags)
        raise ImageNotFound(
            f"{name.path} has no image {wanted}", hint=f"it has {there or 'no named image'}"
        )
    if not items:
        raise ImageNotFound(f"{name.path} has no image")
    if len(items) > 1:
        there = ", ".join(tag for item in items for tag in item.tags)
        raise InvalidReference(
            f"docker-archive:{name.path}",
            f"it holds {len(items)} images",
            hint=f"choose one with :@0 to :@{len(items) - 1}" + (f", or {there}" if there else ""),
        )
    return items[0]


def _is_tag(tag: str, wanted: Reference) -> bool:
    try:
        return Reference.parse(tag, default_tag="") == wanted
    except InvalidReference:
        return False


def _image(archive: Archive, item: _Item) -> _Image:
    """Put the image together; sizes of compressed layers cost decompressing them once."""
    config = archive.read(item.config, MANIFEST_LIMIT)
    if config is None:
        raise InvalidArchive(f"{archive.path}: the config {item.config} is missing")
    view = Config.parse(config)
    if "rootfs" not in view.document:
        raise InvalidManifest(f"{archive.path}: the config {item.config} has no rootfs")
    if len(item.layers) != len(view.diff_ids):
        raise InvalidManifest(
            f"{archive.path}: manifest.json has {len(item.layers)} layers, "
            f"the config has {len(view.diff_ids)}"
        )
    layers: dict[Digest, str] = {}
    sizes: dict[Digest, int] = {}
    for diff_id, path in zip(view.diff_ids, item.layers, strict=True):
        if diff_id not in layers:
            layers[diff_id] = normalised(path)
            sizes[diff_id] = _uncompressed_size(archive, path)
    manifest = Manifest(
        media_type=mt.DOCKER_MANIFEST,
        config=Descriptor(media_type=mt.DOCKER_CONFIG, digest=Digest.of(config), size=len(config)),
        # Not compressed, for all that the type says: containers/image writes it so.
        layers=tuple(
            Descriptor(media_type=mt.DOCKER_LAYER_GZIP, digest=d, size=sizes[d])
            for d in view.diff_ids
        ),
    )
    raw = RawManifest.of(strict_json.dumps(manifest.to_json()), mt.DOCKER_MANIFEST)
    return _Image(raw=raw, config=config, layers=layers)


def _member(archive: Archive, path: str) -> Region:
    region = archive.region(path)
    if region is None:
        raise InvalidArchive(f"{archive.path}: the layer {path} is missing")
    return region


def _compression(region: Region) -> object:
    from imgtools.blob.compression import sniff
    from imgtools.blob.compression.formats import SNIFF_BYTES

    return sniff(region.pread(SNIFF_BYTES, 0))


def _uncompressed_size(archive: Archive, path: str) -> int:
    from imgtools.blob.compression import Compression, Decompressor

    with _member(archive, path) as region:
        if _compression(region) is Compression.NONE:
            return region.size
        with Decompressor(region) as source:
            while source.read1(_CHUNK):
                continue
            return source.tell()
