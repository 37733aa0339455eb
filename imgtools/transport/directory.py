"""The transport `dir:`, read: a flat directory with one image, byte for byte.

The form is containers/image's: `version`, `manifest.json`, `HEX.manifest.json` for
instances, blobs by their hex digits (`ALGORITHM-HEX` unless sha256), `signature-N`.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator

from imgtools.blob.reader import BlobReader
from imgtools.errors import (
    BlobNotFound,
    ImageNotFound,
    InvalidDigest,
    LimitExceeded,
    NotFound,
    SizeMismatch,
    Unsupported,
)
from imgtools.spec.descriptor import Descriptor
from imgtools.spec.digest import Digest
from imgtools.spec.manifest import RawManifest
from imgtools.spec.strict_json import MANIFEST_LIMIT
from imgtools.transport.base import Origin
from imgtools.transport.closing import Closing
from imgtools.transport.folder import Folder, Region, blob_reader

MANIFEST = "manifest.json"
VERSION = "version"
_VERSION_LIMIT = 1024
_VERSION = re.compile(rb"Directory Transport Version: (\d{1,9})\.\d{1,9}\n")
_SIGNATURE_LIMIT = 4 * 1024 * 1024
_SIGNATURES = 129
_SIGNATURES_LIMIT = 8 * _SIGNATURE_LIMIT


def blob_name(digest: Digest) -> str:
    """The file name of a blob."""
    return digest.hex if digest.algorithm == "sha256" else f"{digest.algorithm}-{digest.hex}"


def named_blob(name: str) -> Digest | None:
    """The digest of the blob that a file of this name holds, None for other files."""
    algorithm, dash, hexadecimal = name.rpartition("-")
    try:
        digest = Digest.parse(f"{algorithm if dash else 'sha256'}:{hexadecimal}")
    except InvalidDigest:
        return None
    return digest if blob_name(digest) == name else None


def instance_name(digest: Digest) -> str:
    """The file name of a manifest that is not the top one."""
    return f"{blob_name(digest)}.manifest.json"


def version_content(*, other_digests: bool) -> bytes:
    """The `version` file; 1.2 is for names that only newer readers look for."""
    return b"Directory Transport Version: 1.%d\n" % (2 if other_digests else 1)


def is_version(content: bytes) -> bool:
    """Whether `content` is a `version` file that we understand."""
    found = _VERSION.fullmatch(content)
    return found is not None and int(found[1]) == 1


class DirectorySource(Closing):
    """Reads the image in a directory, which stays open for as long as the source."""

    def __init__(self, path: str) -> None:
        """Raises ImageNotFound, StorageError, or Unsupported for an unknown version."""
        self._origin = Origin(transport="dir", name=f"dir:{path}")
        self._path = path
        self._lock = threading.Lock()
        self._top: RawManifest | None = None
        try:
            self._folder = Folder.open(path)
        except NotFound as e:
            raise ImageNotFound(e.message) from e
        try:
            version = self._folder.read_if_there(VERSION, _VERSION_LIMIT)
            if version is not None and not is_version(version):
                raise Unsupported(f"{path} has the unknown version {version[:60]!r}")
        except BaseException:
            self._folder.close()
            raise

    @property
    def origin(self) -> Origin:
        """Where this is."""
        return self._origin

    def resolve(self) -> Descriptor:
        """See Source."""
        return self.top().descriptor()

    def top(self) -> RawManifest:
        """See Source; once it was read always the same, so that what was judged is what is
        used."""
        with self._lock:
            if self._top is None:
                content = self._folder.read_if_there(MANIFEST, MANIFEST_LIMIT)
                if content is None:
                    raise ImageNotFound(f"{self._path} has no image: its manifest.json is missing")
                self._top = RawManifest.of(content)
            return self._top

    def manifest(self, descriptor: Descriptor) -> RawManifest:
        """See Source."""
        digest = descriptor.digest
        for name in (instance_name(digest), f"{digest.hex}.manifest.json"):
            content = self._folder.read_if_there(name, MANIFEST_LIMIT)
            if content is not None:
                break
        else:
            top = self.top()
            if top.digest != digest and not _is(top.content, digest):
                raise NotFound(f"{self._path} has no manifest {digest}")
            content = top.content
        if len(content) != descriptor.size:
            raise SizeMismatch(f"manifest {digest}", expected=descriptor.size, actual=len(content))
        return RawManifest.verified(content, descriptor.media_type, digest)

    def open_blob(self, descriptor: Descriptor) -> BlobReader:
        """See Source."""
        region = self._blob(descriptor.digest)
        if region is not None:
            return blob_reader(region, descriptor)
        if descriptor.data is not None:
            return BlobReader.of(descriptor.data, descriptor.digest)
        raise BlobNotFound(f"{self._path} has no blob {descriptor.digest}")

    def read_range(self, descriptor: Descriptor, offset: int, length: int) -> bytes | None:
        """See Source."""
        region = self._blob(descriptor.digest)
        if region is None:
            raise BlobNotFound(f"{self._path} has no blob {descriptor.digest}")
        with region:
            return region.pread(length, offset)

    def referrers(self, digest: Digest) -> Iterator[Descriptor]:
        """None: the form has no place for them."""
        return iter(())

    def signatures(self, digest: Digest | None = None) -> tuple[bytes, ...]:
        """The signatures kept beside the top manifest, or beside the instance `digest`.

        Each as containers/image stores it, at most 4 MiB, and 32 MiB together; raises
        LimitExceeded. They end at the first that is more than anybody agrees to verify.
        """
        prefix = "" if digest is None else f"{blob_name(digest)}."
        found: list[bytes] = []
        while len(found) < _SIGNATURES:
            name = f"{prefix}signature-{len(found) + 1}"
            content = self._folder.read_if_there(name, _SIGNATURE_LIMIT)
            if content is None:
                break
            found.append(content)
            if sum(map(len, found)) > _SIGNATURES_LIMIT:
                raise LimitExceeded(f"all signatures of {self.origin.name}", _SIGNATURES_LIMIT)
        return tuple(found)

    def close(self) -> None:
        """Release the directory."""
        self._folder.close()

    def _blob(self, digest: Digest) -> Region | None:
        # Version 1.1 gave every algorithm bare hex digits.
        for name in (blob_name(digest), digest.hex):
            try:
                return self._folder.file(name)
            except NotFound:
                continue
        return None


def _is(content: bytes, digest: Digest) -> bool:
    return (
        Digest.of(content, digest.algorithm) == digest
        or RawManifest.of(content, algorithm=digest.algorithm).digest == digest
    )
