"""Records of images and of their names: a JSON file each, which are the truth.

A name is a file of its own, so that moving it from one image to another is one rename, and
a name whose image is gone counts for nothing. A record is complete when it is there: its
manifest, its config and its layers were stored before.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from imgtools.blob.files import (
    TEMPORARY_PREFIX,
    storage_errors,
    sync_directory,
    write_file,
)
from imgtools.errors import Error, InvalidInput, InvalidManifest, StorageError
from imgtools.frozen import dataclass
from imgtools.spec import media_type as mt
from imgtools.spec import strict_json
from imgtools.spec.descriptor import Descriptor, optional
from imgtools.spec.digest import Digest

VERSION = 1
_SUFFIX = ".json"
R = TypeVar("R")


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredLayer:
    """A layer of an image: `blob` as the manifest names it, the digest and length in bytes
    of its uncompressed tar, and the chain_id by which it is stored."""

    blob: Descriptor
    diff_id: Digest
    size: int
    chain_id: Digest

    def blob_as_stored(self) -> Descriptor:
        """The layer as it can be read from the store: its uncompressed tar."""
        return replace(
            self.blob,
            media_type=mt.with_compression(self.blob.media_type, "none") or self.blob.media_type,
            digest=self.diff_id,
            size=self.size,
            urls=(),
            data=None,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredImage:
    """An image: `id` is the hexadecimal digest of its config, as everywhere.

    `manifest` is what it was received with, byte for byte. `repo_digests` are
    `repository@digest` of the manifests, and of indexes that led to them, by which it was
    received. `stored` is when, in seconds since the epoch; `size` bytes of its files.
    """

    id: str
    manifest: Descriptor
    config: Descriptor
    layers: tuple[StoredLayer, ...]
    created: str = ""
    platform: str = ""
    labels: tuple[tuple[str, str], ...] = ()
    repo_digests: tuple[str, ...] = ()
    stored: float = 0.0
    size: int = 0

    @property
    def chain_id(self) -> Digest | None:
        """The layer that its containers stand on, None for an image without layers."""
        return self.layers[-1].chain_id if self.layers else None

    def blobs(self) -> tuple[Digest, ...]:
        """The documents that it needs."""
        return (self.manifest.digest, self.config.digest)

    def with_digests(self, digests: tuple[str, ...]) -> StoredImage:
        """The same image, received by more digests."""
        return replace(self, repo_digests=tuple(dict.fromkeys((*self.repo_digests, *digests))))

    def to_json(self) -> dict[str, Any]:
        """The document of the record."""
        return {
            "version": VERSION,
            "id": self.id,
            "manifest": self.manifest.to_json(),
            "config": self.config.to_json(),
            "layers": [
                {
                    "blob": layer.blob.to_json(),
                    "diffId": str(layer.diff_id),
                    "size": layer.size,
                    "chainId": str(layer.chain_id),
                }
                for layer in self.layers
            ],
            "created": self.created,
            "platform": self.platform,
            "labels": dict(self.labels),
            "repoDigests": list(self.repo_digests),
            "stored": self.stored,
            "size": self.size,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> StoredImage:
        """The image that a record describes; raises InvalidInput."""
        what = "image record"
        _check_version(value, what)
        layers = optional(value, "layers", list, what) or []
        labels = optional(value, "labels", dict, what) or {}
        return cls(
            id=_required(value, "id", str, what),
            manifest=Descriptor.from_json(value.get("manifest"), what),
            config=Descriptor.from_json(value.get("config"), what),
            layers=tuple(_layer(item) for item in layers),
            created=optional(value, "created", str, what) or "",
            platform=optional(value, "platform", str, what) or "",
            labels=tuple((str(k), str(v)) for k, v in labels.items()),
            repo_digests=tuple(map(str, optional(value, "repoDigests", list, what) or [])),
            stored=float(value.get("stored") or 0.0),
            size=optional(value, "size", int, what) or 0,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredName:
    """A name, normalised and with its tag, and the id of the image that it means; `given` is
    when it was, in seconds since the epoch."""

    name: str
    image_id: str
    given: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """The document of the record."""
        return {"version": VERSION, "name": self.name, "image": self.image_id, "given": self.given}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> StoredName:
        """The name that a record describes; raises InvalidInput."""
        what = "name record"
        _check_version(value, what)
        return cls(
            name=_required(value, "name", str, what),
            image_id=_required(value, "image", str, what),
            given=float(value.get("given") or 0.0),
        )


def _layer(value: object) -> StoredLayer:
    if not isinstance(value, dict):
        raise InvalidManifest("image record: a layer is not an object")
    what = "layer of an image record"
    return StoredLayer(
        blob=Descriptor.from_json(value.get("blob"), what),
        diff_id=Digest.parse(_required(value, "diffId", str, what)),
        size=_required(value, "size", int, what),
        chain_id=Digest.parse(_required(value, "chainId", str, what)),
    )


def _required(value: Mapping[str, Any], key: str, kind: type[R], what: str) -> R:
    found: R | None = optional(value, key, kind, what)
    if found is None:
        raise InvalidManifest(f"{what} has no {key}")
    return found


def _check_version(value: Mapping[str, Any], what: str) -> None:
    if value.get("version") != VERSION:
        raise InvalidInput(f"{what} of version {value.get('version')!r}: {VERSION} is known")


class Records:
    """The records in one directory, a file each; names of files are given by callers."""

    def __init__(self, directory: str) -> None:
        self.directory = directory

    def path(self, name: str) -> str:
        """Where the record called `name` is or would be."""
        return os.path.join(self.directory, name + _SUFFIX)

    def read(self, name: str, parse: Callable[[dict[str, Any]], R]) -> R | None:
        """The record, None where there is none; raises StorageError for one that is no good."""
        path = self.path(name)
        try:
            with storage_errors(path), open(path, "rb") as file:
                content = file.read(strict_json.MANIFEST_LIMIT + 1)
        except Error:
            if not os.path.lexists(path):
                return None
            raise
        try:
            return parse(strict_json.loads_object(content, path))
        except (Error, ValueError) as e:
            raise StorageError(f"{path} is damaged: {e}", path=path) from e

    def write(self, name: str, document: Mapping[str, Any], *, durable: bool = True) -> None:
        """Store a record, whole, and unless it can be learnt again durable; raises
        StorageError."""
        with storage_errors(self.directory):
            os.makedirs(self.directory, mode=0o700, exist_ok=True)
        if durable:
            write_file(self.path(name), strict_json.dumps(document), mode=0o600)
        else:
            replace_file(self.path(name), strict_json.dumps(document))

    def remove(self, name: str, *, durable: bool = True) -> bool:
        """Remove a record, durably unless it means nothing after a power loss; whether it was
        there. Raises StorageError."""
        with storage_errors(self.path(name)):
            try:
                os.unlink(self.path(name))
            except FileNotFoundError:
                return False
        if durable:
            sync_directory(self.directory)
        return True

    def marks(self) -> dict[str, str]:
        """The names of all records, each with what changes whenever its file does."""
        found: dict[str, str] = {}
        for entry in self._entries():
            try:
                info = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            mark = f"{info.st_ino}-{info.st_mtime_ns}-{info.st_ctime_ns}-{info.st_size}"
            found[entry.name.removesuffix(_SUFFIX)] = mark
        return found

    def _entries(self) -> Iterator[os.DirEntry[str]]:
        try:
            with os.scandir(self.directory) as entries:
                for entry in entries:
                    if entry.name.endswith(_SUFFIX) and not entry.name.startswith(TEMPORARY_PREFIX):
                        yield entry
        except FileNotFoundError:
            return
        except OSError as e:
            raise StorageError(f"{self.directory}: {e.strerror}", path=self.directory) from e


def replace_file(path: str, content: bytes) -> None:
    """Make `path` hold `content` for every process, if not for a power loss; StorageError."""
    directory, name = os.path.split(path)
    temporary = os.path.join(directory, f"{TEMPORARY_PREFIX}{os.urandom(8).hex()}-{name[:40]}")
    with storage_errors(path):
        try:
            with open(temporary, "xb") as file:
                file.write(content)
            os.rename(temporary, path)
        except BaseException:
            try:
                os.unlink(temporary)
            except FileNotFoundError:
                pass
            raise


def name_key(name: str) -> str:
    """The name of the file of the record of a name, which may have any character and length."""
    return hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()
