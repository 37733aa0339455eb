"""The layers of base images as their registries have them.

An image keeps the compressed layers of its base byte for byte, so that a registry that has
them gets them by mounting, and who has pulled the base needs nothing new. The store has only
their tars, so the bytes come from where the base is, if anybody asks for them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack

from imgtools.blob.reader import BlobReader
from imgtools.build.protocols import BaseImage
from imgtools.errors import BlobNotFound, Cancelled, Error, InvalidReference
from imgtools.spec.descriptor import Descriptor
from imgtools.spec.digest import Digest
from imgtools.spec.reference import ImageName, Reference
from imgtools.transport.base import Origin, Source
from imgtools.transport.closing import Closing
from imgtools.transport.options import SourceOptions
from imgtools.transport.table import TRANSPORTS, Transports

OpenBase = Callable[[BaseImage], Source | None]
"""Opens where a base image is; None where its compressed layers cannot be had."""

_ELSEWHERE = ("containers-storage", "docker-daemon", "tarball")
"""Transports that have no compressed layers to give."""
_OURS = "localhost/"
"""What names begin with that only the store knows: there is no registry to ask."""


def base_opener(transports: Transports, options: SourceOptions) -> OpenBase:
    """Opens bases by digest where they are in a registry, else by their `transport:` names."""

    def opener(base: BaseImage) -> Source | None:
        name = _place(base)
        return None if name is None else transports.open_source(name, options)

    return opener


def base_origin(base: BaseImage) -> Origin | None:
    """The repository that a base came from, None for one that came from no registry."""
    try:
        pinned = Reference.parse(base.pinned) if base.pinned else None
    except InvalidReference:
        return None
    if pinned is None or base.pinned.startswith(_OURS):
        return None
    return Origin(
        transport="docker",
        name=f"docker://{pinned}",
        registry=pinned.registry,
        repository=pinned.repository,
    )


class BaseBlobs(Closing):
    """Opens blobs of bases; may be used from several threads.

    `failed` says that one could not be had: then the image has to be written with layers of
    our own making.
    """

    def __init__(self, opener: OpenBase) -> None:
        self._opener = opener
        self._lock = threading.Lock()
        self._sources: dict[Digest, Source | None] = {}
        self._stack = ExitStack()
        self.failed: Error | None = None

    def open(self, base: BaseImage, blob: Descriptor) -> BlobReader:
        """A layer of `base` as its manifest names it; raises what its transport raises."""
        try:
            source = self._source(base)
            if source is None:
                raise BlobNotFound(f"{base.name}: the compressed layer {blob.digest} is nowhere")
            reader = source.open_blob(blob)
            try:
                reader.start()
            except BaseException:
                reader.close()
                raise
        except Cancelled:
            raise
        except Error as e:
            self.failed = e
            raise
        return reader

    def known(self, base: BaseImage) -> bool:
        """Whether the layers of `base` may be had at all; asks nobody."""
        return _place(base) is not None

    def close(self) -> None:
        """Close the sources."""
        self._stack.close()

    def _source(self, base: BaseImage) -> Source | None:
        key = base.manifest.digest
        with self._lock:
            if key not in self._sources:
                source = self._opener(base)
                if source is not None:
                    self._stack.enter_context(source)
                self._sources[key] = source
            return self._sources[key]


def _place(base: BaseImage) -> ImageName | None:
    if base.pinned.startswith(_OURS):
        return None
    if base.pinned:
        return ImageName(transport="docker", rest=f"//{base.pinned}")
    transport, colon, _ = base.name.partition(":")
    if not colon or transport not in TRANSPORTS or transport in _ELSEWHERE:
        return None
    try:
        name = ImageName.parse(base.name, TRANSPORTS)
    except InvalidReference:
        return None
    # Without a digest what the name means may have changed, but blobs are verified anyway.
    return name if transport != "docker" or name.rest.startswith("//") else None
