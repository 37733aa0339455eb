"""An image that a client has opened: what the proxy says about it, and its blobs.

Clients of the proxy know OCI only. A Docker image is shown as OCI: its config is written
anew in OCI's form, and the manifest names that config.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from imgtools.blob.reader import BlobReader
from imgtools.errors import InvalidInput, Unsupported
from imgtools.frozen import dataclass
from imgtools.image.model import Image
from imgtools.spec import media_type as mt
from imgtools.spec import strict_json
from imgtools.spec.convert import manifest_to_oci
from imgtools.spec.descriptor import Descriptor
from imgtools.spec.digest import Digest
from imgtools.spec.manifest import Manifest
from imgtools.spec.schema1 import Schema1
from imgtools.transport.base import Source
from imgtools.transport.closing import Closing


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """What the proxy is given.

    `open_source` opens a `transport:reference` once policy has admitted it. `read_image`
    chooses the image for the platform in question; its config need not be read.
    `oci_config` is the image's config in the form of OCI's Go type. All raise errors of
    imgtools; ImageNotFound means that there is no such image.
    """

    open_source: Callable[[str], Source]
    read_image: Callable[[Source], Image]
    oci_config: Callable[[Source, Image], dict[str, Any]]


class OpenBlob(Closing):
    """A blob being read; `then` is called once it is closed."""

    def __init__(self, reader: BlobReader, then: Callable[[], None]) -> None:
        self.reader = reader
        self._then: Callable[[], None] | None = then

    @property
    def size(self) -> int:
        """Bytes, -1 when that is not known."""
        return -1 if self.reader.size is None else self.reader.size

    def close(self) -> None:
        """Release the blob; safe to call twice."""
        then, self._then = self._then, None
        if then is not None:
            try:
                self.reader.close()
            finally:
                then()


class OpenImage:
    """An open image; blobs may be read in other threads, and keep the source open."""

    def __init__(self, source: Source, services: Services) -> None:
        """Reads the manifest from `source`, and takes it over unless that fails."""
        self._source = source
        self._services = services
        self._lock = threading.Lock()
        self._users = 1
        self._config: dict[str, Any] | None = None
        self.image = services.read_image(source)

    def manifest(self) -> tuple[Digest, bytes]:
        """The digest of the manifest as it is stored, and the manifest as OCI.

        Raises Unsupported for schema 1, and what reading the config raises.
        """
        manifest, raw = self.image.manifest, self.image.raw
        if isinstance(manifest, Schema1):
            raise Unsupported(f"unsupported legacy manifest MIME type: {raw.media_type}")
        if not manifest.is_docker:
            return raw.digest, raw.content
        converted = manifest_to_oci(manifest)
        config = self.full_config()
        descriptor = replace(converted.config, digest=Digest.of(config), size=len(config))
        return raw.digest, replace(converted, config=descriptor).to_raw().content

    def full_config(self) -> bytes:
        """The config in OCI's form; raises Unsupported for an artifact."""
        return strict_json.dumps(self._oci_config())

    def settings(self) -> bytes:
        """The part of the config that says how to run the image."""
        return strict_json.dumps(self._oci_config()["config"])

    def layers(self) -> list[dict[str, Any]]:
        """The layers as they are stored, oldest first."""
        return [
            {
                "digest": str(layer.digest),
                "size": layer.descriptor.size,
                "media_type": layer.descriptor.media_type,
            }
            for layer in self.image.layers
        ]

    def open_blob(self, digest: Digest, size: int | None = None) -> OpenBlob:
        """A blob to be read, which keeps the source open until it is closed.

        `size` is what the client expects, None for anything. What the manifest says of the
        blob counts for more; a blob that it does not name may be there all the same.
        Raises BlobNotFound and what the source raises.
        """
        made = self._made(digest)
        if made is not None:
            self._keep()
            return OpenBlob(BlobReader.of(made, digest), self.close)
        descriptor = self._named().get(digest) or Descriptor(
            media_type=mt.OCI_LAYER, digest=digest, size=-1 if size is None else size
        )
        self._keep()
        try:
            reader = self._source.open_blob(descriptor)
            try:
                reader.start()
            except BaseException:
                reader.close()
                raise
            return OpenBlob(reader, self.close)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """One user less; the last one closes the source. Called once by each user."""
        with self._lock:
            self._users -= 1
            last = self._users == 0
        if last:
            self._source.close()

    def _keep(self) -> None:
        with self._lock:
            if self._users <= 0:
                raise InvalidInput("the image was closed")
            self._users += 1

    def _oci_config(self) -> dict[str, Any]:
        if self._config is None:
            self._config = self._services.oci_config(self._source, self.image)
        return self._config

    def _named(self) -> Mapping[Digest, Descriptor]:
        manifest = self.image.manifest
        if isinstance(manifest, Schema1):
            return {}
        return {blob.digest: blob for blob in manifest.blobs()}

    def _made(self, digest: Digest) -> bytes | None:
        """The content of a config that only our OCI manifest names."""
        manifest = self.image.manifest
        if not isinstance(manifest, Manifest) or not manifest.is_docker:
            return None
        if self._config is None or digest in self._named():
            return None
        content = self.full_config()
        return content if Digest.of(content, digest.algorithm) == digest else None
