"""A source in memory that takes notes, and layers in the three ways that they are packed.

The tables of contents are written out by hand from the formats' descriptions.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import zstandard

from imgtools.blob.reader import BlobReader
from imgtools.errors import BlobNotFound, ImageNotFound
from imgtools.spec import media_type as mt
from imgtools.spec.descriptor import Descriptor
from imgtools.spec.digest import Digest
from imgtools.spec.manifest import RawManifest
from imgtools.transport.base import Origin

MTIME = 1709208000


@dataclass
class MemorySource:
    """An image in memory; `log` has every read: ("open" | "range", digest, bytes)."""

    manifests: dict[Digest, RawManifest] = field(default_factory=dict)
    blobs: dict[Digest, bytes] = field(default_factory=dict)
    name: RawManifest | None = None
    ranges: bool = True
    log: list[tuple[str, Digest, int]] = field(default_factory=list)
    subjects: dict[Digest, list[Descriptor]] = field(default_factory=dict)

    @property
    def origin(self) -> Origin:
        return Origin(transport="memory", name="memory:")

    def resolve(self) -> Descriptor:
        return self.top().descriptor()

    def top(self) -> RawManifest:
        if self.name is None:
            raise ImageNotFound("nothing here")
        return self.name

    def manifest(self, descriptor: Descriptor) -> RawManifest:
        if descriptor.digest not in self.manifests:
            raise ImageNotFound(f"no manifest {descriptor.digest}")
        return self.manifests[descriptor.digest]

    def open_blob(self, descriptor: Descriptor) -> BlobReader:
        content = self.blobs.get(descriptor.digest)
        if content is None:
            raise BlobNotFound(f"no blob {descriptor.digest}")
        log, raw = self.log, io.BytesIO(content)

        class Counted:
            def read(self, size: int, /) -> bytes:
                data = raw.read(size)
                log.append(("open", descriptor.digest, len(data)))
                return data

        return BlobReader(Counted(), descriptor.digest, descriptor.size)

    def read_range(self, descriptor: Descriptor, offset: int, length: int) -> bytes | None:
        if not self.ranges:
            return None
        self.log.append(("range", descriptor.digest, length))
        return self.blobs[descriptor.digest][offset : offset + length]

    def referrers(self, digest: Digest) -> Iterator[Descriptor]:
        return iter(self.subjects.get(digest, []))

    def close(self) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        pass

    # --- filling it

    def blob(self, content: bytes, media_type: str, **extra: Any) -> dict[str, Any]:
        """Keep a blob; its descriptor as JSON."""
        digest = Digest.of(content)
        self.blobs[digest] = content
        return {"mediaType": media_type, "digest": str(digest), "size": len(content), **extra}

    def put(self, value: Mapping[str, Any], *, top: bool = True) -> RawManifest:
        """Keep a manifest, by default as what the name points at."""
        raw = RawManifest.of(json.dumps(value).encode())
        self.manifests[raw.digest] = raw
        if top:
            self.name = raw
        return raw

    def image(
        self, layers: list[dict[str, Any]], *, top: bool = True, **config: Any
    ) -> RawManifest:
        """Keep an OCI image with those layers; `config` adds to its config."""
        document = {"architecture": "amd64", "os": "linux", "config": {}, **config}
        return self.put(
            {
                "schemaVersion": 2,
                "mediaType": mt.OCI_MANIFEST,
                "config": self.blob(json.dumps(document).encode(), mt.OCI_CONFIG),
                "layers": layers,
            },
            top=top,
        )

    def read_of(self, digest: str, kind: str | None = None) -> int:
        """Bytes that were read of a blob."""
        return sum(
            count for what, of, count in self.log if str(of) == digest and kind in (None, what)
        )


Files = Mapping[str, bytes | str | None]
"""Path -> content, "-> target" or "=> hard link", None for a directory."""


def tar_of(files: Files) -> bytes:
    """A tar archive."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path, content in files.items():
            info, data = member(path, content)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def member(path: str, content: bytes | str | None) -> tuple[tarfile.TarInfo, bytes]:
    """A member's header and data."""
    info = tarfile.TarInfo(path)
    info.mtime, info.mode = MTIME, 0o644
    if content is None:
        info.type, info.mode = tarfile.DIRTYPE, 0o755
    elif isinstance(content, str):
        info.type = tarfile.SYMTYPE if content.startswith("->") else tarfile.LNKTYPE
        info.linkname = content[3:]
    else:
        info.size = len(content)
        return info, content
    return info, b""


def plain(source: MemorySource, files: Files) -> dict[str, Any]:
    """An uncompressed layer."""
    return source.blob(tar_of(files), mt.OCI_LAYER)


def gzipped(source: MemorySource, files: Files) -> dict[str, Any]:
    """A gzip layer."""
    return source.blob(gzip.compress(tar_of(files), 1, mtime=0), mt.OCI_LAYER_GZIP)


def sha256(data: bytes) -> str:
    """The sha256 digest of data."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _entry(path: str, content: bytes | str | None) -> dict[str, Any]:
    info, data = member(path, content)
    kinds = {
        tarfile.REGTYPE: "reg",
        tarfile.DIRTYPE: "dir",
        tarfile.SYMTYPE: "symlink",
        tarfile.LNKTYPE: "hardlink",
    }
    entry: dict[str, Any] = {
        "type": kinds[info.type],
        "name": path,
        "mode": info.mode,
        "modtime": "2024-02-29T12:00:00Z",
    }
    if info.linkname:
        entry["linkName"] = info.linkname
    if data:
        entry |= {"size": len(data), "digest": sha256(data)}
    return entry


def _zstd(data: bytes) -> bytes:
    return zstandard.ZstdCompressor(level=3).compress(data)


def _skippable(data: bytes) -> bytes:
    return b"\x50\x2a\x4d\x18" + len(data).to_bytes(4, "little") + data


def zstd_chunked(
    source: MemorySource, files: Files, *, chunk: int = 1 << 62, edit: Callable[[Any], Any] = id
) -> dict[str, Any]:
    """A zstd:chunked layer; files are cut into chunks of `chunk` bytes, `edit` may spoil the
    table's entries before it is written."""
    blob = bytearray()
    pending = b""
    entries: list[dict[str, Any]] = []
    for path, content in files.items():
        info, data = member(path, content)
        header = tar_member(info)
        entry = _entry(path, content)
        entries.append(entry)
        pending += header
        if not data:
            continue
        blob += _zstd(pending)
        pending = b"\0" * (-len(data) % 512)
        entry["offset"] = len(blob)
        pieces = [data[at : at + chunk] for at in range(0, len(data), chunk)]
        at = 0
        for number, piece in enumerate(pieces):
            part = entry if number == 0 else {"type": "chunk", "name": path, "chunkOffset": at}
            if len(pieces) > 1:
                part |= {
                    "chunkSize": len(piece),
                    "offset": len(blob),
                    "chunkDigest": sha256(piece),
                }
            if number:
                entries.append(part)
            blob += _zstd(piece)
            at += len(piece)
        entry["endOffset"] = len(blob)
    blob += _zstd(pending + b"\0" * 1024)
    edit(entries)
    table = json.dumps({"version": 1, "entries": entries}).encode()
    packed = _zstd(table)
    position = f"{len(blob) + 8}:{len(packed)}:{len(table)}:1"
    blob += _skippable(packed) + _skippable(bytes(64))
    annotations = {
        "io.github.containers.zstd-chunked.manifest-checksum": sha256(packed),
        "io.github.containers.zstd-chunked.manifest-position": position,
    }
    return source.blob(bytes(blob), mt.OCI_LAYER_ZSTD, annotations=annotations)


def estargz(source: MemorySource, files: Files, *, chunk: int = 1 << 62) -> dict[str, Any]:
    """An eStargz layer; files are cut into chunks of `chunk` bytes."""
    blob = bytearray()
    pending = b""
    entries: list[dict[str, Any]] = []
    for path, content in files.items():
        info, data = member(path, content)
        entry = _entry(path, content)
        entries.append(entry)
        pending += tar_member(info)
        if not data:
            continue
        blob += gzip.compress(pending, 1, mtime=0)
        pending = b""
        pieces = [data[at : at + chunk] for at in range(0, len(data), chunk)]
        at = 0
        for number, piece in enumerate(pieces):
            part = entry if number == 0 else {"type": "chunk", "name": path, "chunkOffset": at}
            part |= {"offset": len(blob), "chunkDigest": sha256(piece)}
            if number + 1 < len(pieces):
                part["chunkSize"] = len(piece)
            if number:
                entries.append(part)
            is_last = number + 1 == len(pieces)
            padding = b"\0" * (-len(data) % 512) if is_last else b""
            blob += gzip.compress(piece + padding, 1, mtime=0)
            at += len(piece)
    blob += gzip.compress(pending, 1, mtime=0)
    table = json.dumps({"version": 1, "entries": entries}).encode()
    offset = len(blob)
    blob += gzip.compress(tar_of({"stargz.index.json": table}), 1, mtime=0)
    extra = b"SG" + (22).to_bytes(2, "little") + f"{offset:016x}STARGZ".encode()
    blob += b"\x1f\x8b\x08\x04\0\0\0\0\0\xff" + len(extra).to_bytes(2, "little") + extra
    blob += b"\x01\0\0\xff\xff" + bytes(8)
    annotations = {"containerd.io/snapshot/stargz/toc.digest": sha256(table)}
    return source.blob(bytes(blob), mt.OCI_LAYER_GZIP, annotations=annotations)


def tar_member(info: tarfile.TarInfo) -> bytes:
    """The header blocks of a member."""
    return info.tobuf(tarfile.PAX_FORMAT)


def xattr(value: bytes) -> str:
    """An extended attribute as a table of contents has it."""
    return base64.b64encode(value).decode()
