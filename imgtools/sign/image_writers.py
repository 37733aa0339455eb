"""Where new signatures of one image are put: per format, by its transport and configuration.

What a destination holds is known before anything is written, so that a copy which would lose a
signature, or could not write one, fails before its first byte.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Protocol

from imgtools.errors import Unsupported
from imgtools.sign.model import Format
from imgtools.sign.protocols import SignatureWriter
from imgtools.sign.registries_d import RegistriesD
from imgtools.spec.digest import Digest
from imgtools.spec.reference import ImageName, Reference
from imgtools.task import Task
from imgtools.transport.base import Destination
from imgtools.transport.options import RegistryOptions
from imgtools.transport.table import Transports, registry_reference


class ImageWriters(Protocol):
    """The places of one destination."""

    @property
    def holds(self) -> frozenset[Format]:
        """The formats that can be kept there; no signature of another one may be lost."""
        ...

    def preflight(self, formats: frozenset[Format]) -> None:
        """Raise what can be known to go wrong with writing these formats: Unsupported, and
        what asking the place raises."""
        ...

    def writers(
        self, formats: frozenset[Format], destination: Destination | None, top: Digest
    ) -> Mapping[Format, SignatureWriter]:
        """The writers of these formats; `destination` is the open one, for those that are
        written with the image, and `top` the manifest that gets its name."""
        ...


def image_writers(
    name: ImageName,
    transports: Transports,
    options: RegistryOptions,
    registries_d: Callable[[], RegistriesD],
    *,
    task: Task,
) -> ImageWriters:
    """The places of the image `name`; nothing is read yet. Raises InvalidReference."""
    if name.transport == "docker":
        return _RegistryWriters(registry_reference(name), transports, options, registries_d, task)
    return _DirectoryWriters() if name.transport == "dir" else _NoWriters(name.transport)


class _RegistryWriters:
    """Of a registry."""

    def __init__(
        self,
        reference: Reference,
        transports: Transports,
        options: RegistryOptions,
        registries_d: Callable[[], RegistriesD],
        task: Task,
    ) -> None:
        self._reference, self._transports, self._options = reference, transports, options
        self._registries_d, self._task = registries_d, task
        self._made: dict[Format, SignatureWriter] = {}

    @property
    def holds(self) -> frozenset[Format]:
        """All of them."""
        return frozenset({"simple", "sigstore", "bundle"})

    def preflight(self, formats: frozenset[Format]) -> None:
        """See ImageWriters."""
        for kind in sorted(formats):
            self._writer(kind).preflight()

    def writers(
        self, formats: frozenset[Format], destination: Destination | None, top: Digest
    ) -> Mapping[Format, SignatureWriter]:
        """See ImageWriters."""
        return {kind: self._writer(kind) for kind in formats}

    def _writer(self, kind: Format) -> SignatureWriter:
        if kind not in self._made:
            self._made[kind] = self._make(kind)
        return self._made[kind]

    def _make(self, kind: Format) -> SignatureWriter:
        reference, transports, options = self._reference, self._transports, self._options
        if kind == "bundle":
            from imgtools.sign.stores.referrers import BundleWriter

            now = datetime.now(UTC)
            return BundleWriter(transports, reference, options, created=now, task=self._task)
        places = self._registries_d().for_reference(reference)
        if kind == "simple":
            from imgtools.sign.stores.simple import simple_store

            repository = transports.repository(reference, options, push=True)
            return simple_store(places, reference, repository, options)
        from imgtools.sign.stores.attachments import AttachmentWriter

        if places.attachments is False:
            raise Unsupported(
                f"writing sigstore attachments for {reference} is disabled by configuration",
                hint="set use-sigstore-attachments: true for it in registries.d",
            )
        return AttachmentWriter(transports, reference, options, task=self._task)


class _DirectoryWriters:
    """Of `dir:`, whose signatures are files beside the manifests."""

    @property
    def holds(self) -> frozenset[Format]:
        """What containers/image keeps there."""
        return frozenset({"simple", "sigstore"})

    def preflight(self, formats: frozenset[Format]) -> None:
        """See ImageWriters."""
        _check_held("dir", formats, self.holds)

    def writers(
        self, formats: frozenset[Format], destination: Destination | None, top: Digest
    ) -> Mapping[Format, SignatureWriter]:
        """See ImageWriters; raises Unsupported for a directory that is not being written."""
        from imgtools.sign.stores.directory import DirectorySignatureWriter
        from imgtools.transport.directory_writer import DirectoryDestination

        if not isinstance(destination, DirectoryDestination):
            raise Unsupported("dir: takes signatures only together with its image")
        writer = DirectorySignatureWriter(destination, top)
        return dict.fromkeys(formats, writer)


class _NoWriters:
    """Of a transport that has no place for signatures."""

    def __init__(self, transport: str) -> None:
        self._transport = transport

    @property
    def holds(self) -> frozenset[Format]:
        """None."""
        return frozenset()

    def preflight(self, formats: frozenset[Format]) -> None:
        """See ImageWriters."""
        _check_held(self._transport, formats, self.holds)

    def writers(
        self, formats: frozenset[Format], destination: Destination | None, top: Digest
    ) -> Mapping[Format, SignatureWriter]:
        """See ImageWriters."""
        self.preflight(formats)
        return {}


def _check_held(transport: str, formats: frozenset[Format], held: frozenset[Format]) -> None:
    for kind in sorted(formats - held):
        raise Unsupported(
            f"{transport}: cannot hold {kind} signatures",
            hint="sign the image in a registry" + (", or in dir:" if transport != "dir" else ""),
        )
