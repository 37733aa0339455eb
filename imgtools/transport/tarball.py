"""The transport `tarball:`: an image made out of layer archives, `a.tar:b.tar.gz:-`.

Read only, with the config and manifest that containers/image makes. Every file is read once
to digest it and stays open, so that what is read later is what was digested.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator
from io import BytesIO
from typing import Any, Self

from imgtools.blob.files import storage_errors
from imgtools.blob.reader import BlobReader
from imgtools.blob.tar import BLOCK, TarReader
from imgtools.errors import BlobNotFound, InvalidArchive, InvalidReference, NotFound
from imgtools.frozen import dataclass
from imgtools.spec import media_type as mt
from imgtools.spec import strict_json
from imgtools.spec.descriptor import Descriptor
from imgtools.spec.digest import Digest, Hasher, new_hasher
from imgtools.spec.manifest import Manifest, RawManifest
from imgtools.spec.platform import from_machine
from imgtools.transport.archive_index import Stream, open_input, spooled, temporary_file
from imgtools.transport.base import Origin
from imgtools.transport.closing import Closing
from imgtools.transport.folder import Region, blob_reader, write_all

_CHUNK = 256 * 1024
_SECOND = 1_000_000_000
_COMMENT = "imported from tarball"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Layer:
    """A digested file: `fd` has the blob, `time_ns` is when it was modified."""

    fd: int
    path: str
    descriptor: Descriptor
    diff_id: Digest
    time_ns: int


class TarballSource(Closing):
    """The image made of some archives."""

    def __init__(self, layers: tuple[_Layer, ...], origin: Origin) -> None:
        """`open` is the way to make one."""
        self._layers = layers
        self._origin = origin
        self._config = _config(layers)
        config = Descriptor(
            media_type=mt.OCI_CONFIG, digest=Digest.of(self._config), size=len(self._config)
        )
        # No mediaType, as containers/image writes it, so that both have the same digest.
        document = Manifest(
            media_type="", config=config, layers=tuple(layer.descriptor for layer in layers)
        ).to_json()
        self._raw = RawManifest.of(strict_json.dumps(document), mt.OCI_MANIFEST)

    @classmethod
    def open(cls, rest: str, *, tmpdir: str | None = None) -> Self:
        """The source `tarball:rest`: paths joined by colons, "-" for standard input.

        Reads every file once. Standard input and what is neither plain, gzip nor zstd goes
        to `tmpdir`. Raises InvalidReference, ImageNotFound, InvalidArchive, StorageError.
        """
        paths = rest.split(":")
        text = f"tarball:{rest}"
        if not all(paths):
            raise InvalidReference(text, "a name is tarball:path, then optionally more :path")
        if paths.count("-") > 1:
            raise InvalidReference(text, "standard input can be read only once")
        layers: list[_Layer] = []
        try:
            for path in paths:
                layers.append(_layer(path, tmpdir))
            origin = Origin(transport="tarball", name=text, synthesised=True)
            return cls(tuple(layers), origin)
        except BaseException:
            for layer in layers:
                os.close(layer.fd)
            raise

    @property
    def origin(self) -> Origin:
        """Where this is."""
        return self._origin

    def resolve(self) -> Descriptor:
        """See Source."""
        return self._raw.descriptor()

    def top(self) -> RawManifest:
        """See Source."""
        return self._raw

    def manifest(self, descriptor: Descriptor) -> RawManifest:
        """See Source: there is only the top one."""
        if descriptor.digest != self._raw.digest:
            raise NotFound(f"{self._origin.name} has no manifest {descriptor.digest}")
        return self._raw

    def open_blob(self, descriptor: Descriptor) -> BlobReader:
        """See Source."""
        if descriptor.digest == Digest.of(self._config, descriptor.digest.algorithm):
            return BlobReader.of(self._config, descriptor.digest)
        return blob_reader(self._region(descriptor), descriptor)

    def read_range(self, descriptor: Descriptor, offset: int, length: int) -> bytes | None:
        """See Source."""
        if descriptor.digest == Digest.of(self._config, descriptor.digest.algorithm):
            return self._config[offset : offset + length]
        with self._region(descriptor) as region:
            return region.pread(length, offset)

    def referrers(self, digest: Digest) -> Iterator[Descriptor]:
        """None: nothing refers to what was just made."""
        return iter(())

    def close(self) -> None:
        """Release the files."""
        layers, self._layers = self._layers, ()
        for layer in layers:
            os.close(layer.fd)

    def _region(self, descriptor: Descriptor) -> Region:
        for layer in self._layers:
            if layer.descriptor.digest == descriptor.digest:
                return Region(os.dup(layer.fd), 0, layer.descriptor.size, layer.path)
        raise BlobNotFound(f"{self._origin.name} has no blob {descriptor.digest}")


def _layer(path: str, tmpdir: str | None) -> _Layer:
    from imgtools.blob.compression import Compression, sniff
    from imgtools.blob.compression.formats import SNIFF_BYTES

    fd = open_input(path)
    try:
        with storage_errors(path):
            info = os.fstat(fd)
            regular = stat.S_ISREG(info.st_mode)
        time_ns = info.st_mtime_ns if regular and path != "-" else time.time_ns()
        if not regular:
            fd = _copied(fd, path, tmpdir)
        with storage_errors(path):
            compression = sniff(os.pread(fd, SNIFF_BYTES, 0))
            os.lseek(fd, 0, os.SEEK_SET)
        if compression not in (Compression.NONE, Compression.GZIP, Compression.ZSTD):
            # No layer has this compression, so its content becomes the layer.
            fd = spooled(fd, path, tmpdir)
            compression = Compression.NONE
        return _digested(fd, path, str(compression), time_ns)
    except BaseException:
        os.close(fd)
        raise


def _copied(fd: int, path: str, tmpdir: str | None) -> int:
    """A temporary file with what `fd` gives, which is closed on success."""
    out = temporary_file(tmpdir)
    try:
        source = Stream(fd, path)
        while data := source.read(_CHUNK):
            with storage_errors(tmpdir or "temporary directory"):
                write_all(out, data)
    except BaseException:
        os.close(out)
        raise
    os.close(fd)
    return out


def _digested(fd: int, path: str, compression: str, time_ns: int) -> _Layer:
    """Read the file through, digesting it as it is and uncompressed."""
    from imgtools.blob.compression import Decompressor

    size = os.fstat(fd).st_size
    region = Region(fd, 0, size, path)
    plain = new_hasher("sha256")
    blob = plain if compression == "none" else new_hasher("sha256")
    head = b""
    try:
        with Decompressor(_Tee(region, None if blob is plain else blob)) as source:
            while data := source.read1(_CHUNK):
                head = head or data[:BLOCK]
                plain.update(data)
    except InvalidArchive as e:
        e.with_context(path)
        raise
    _check_is_tar(head, path)
    media_type = mt.with_compression(mt.OCI_LAYER, compression) or mt.OCI_LAYER
    return _Layer(
        fd=fd,
        path=path,
        descriptor=Descriptor(
            media_type=media_type, digest=Digest("sha256", blob.hexdigest()), size=size
        ),
        diff_id=Digest("sha256", plain.hexdigest()),
        time_ns=time_ns,
    )


class _Tee:
    """A reader that shows every byte it gives to a hasher."""

    def __init__(self, reader: Region, hasher: Hasher | None) -> None:
        self._reader = reader
        self._hasher = hasher

    def read(self, size: int, /) -> bytes:
        data = self._reader.read(size)
        if self._hasher is not None:
            self._hasher.update(data)
        return data


def _check_is_tar(head: bytes, path: str) -> None:
    """Raise InvalidArchive when the first block is no tar header; empty is fine."""
    if not head or not head.strip(b"\0"):
        return
    if head[257:262] == b"ustar":
        return
    try:
        TarReader(BytesIO(head)).next()
    except InvalidArchive as e:
        raise InvalidArchive(f"{path} is not a tar archive") from e


def _config(layers: tuple[_Layer, ...]) -> bytes:
    newest = max((layer.time_ns for layer in layers), default=0)
    document: dict[str, Any] = {
        "created": _rfc3339(newest),
        "architecture": from_machine("linux", os.uname().machine).architecture,
        "os": "linux",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": [str(layer.diff_id) for layer in layers]},
        "history": [
            {
                "created": _rfc3339(layer.time_ns),
                "created_by": f"/bin/sh -c #(nop) ADD file:{layer.diff_id.hex} in /",
                "comment": _COMMENT,
            }
            for layer in layers
        ],
    }
    return strict_json.dumps(document)


def _rfc3339(time_ns: int) -> str:
    """A time in UTC, its fraction without trailing zeros (Go's RFC3339Nano)."""
    seconds, fraction = divmod(time_ns, _SECOND)
    text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return text + (f".{fraction:09d}".rstrip("0") if fraction else "") + "Z"
