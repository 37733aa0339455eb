"""Signatures that go with a copy: those of the source carried along, and new ones made.

It is what `imgtools.copy` calls an Attaching. All that can be known to fail is asked for before
a byte is moved: keys and passphrases, places that take no signatures, and changes on the way
that would leave the source's signatures about nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from imgtools.errors import Unsupported
from imgtools.sign.api import signed_before, signed_name
from imgtools.sign.image_places import ImagePlaces
from imgtools.sign.image_writers import ImageWriters
from imgtools.sign.model import Format, Signature
from imgtools.sign.protocols import ImageSigner
from imgtools.spec.descriptor import Descriptor
from imgtools.spec.digest import Digest
from imgtools.transport.base import Destination

CARRIED: tuple[Format, ...] = ("simple", "sigstore")
"""What is carried beside an image; bundles are referrers, which copies know by themselves."""


class Arriving(Protocol):
    """A manifest of a copy (`imgtools.copy.attaching.Arriving`)."""

    @property
    def old(self) -> Descriptor:
        """At the source."""
        ...

    @property
    def new(self) -> Descriptor | None:
        """At the destination, None while it is not known."""
        ...

    @property
    def top(self) -> bool:
        """Whether it gets the name."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Signing:
    """What is signed: with `signers`, by the name `reference` ("" only without signers)."""

    signers: tuple[ImageSigner, ...] = ()
    reference: str = ""


class CopySignatures:
    """Carries and makes the signatures of one copy."""

    def __init__(
        self,
        signing: Signing,
        source: ImagePlaces | None,
        writers: ImageWriters,
        *,
        where: str,
        carried: Sequence[Format] = CARRIED,
        there: ImagePlaces | None = None,
        report: Callable[[str], object] = lambda text: None,
    ) -> None:
        """`source` are the places whose signatures of the formats `carried` are carried along,
        None to carry none; `where` names the destination, for messages, and `report` is told
        what was put. What the signers have signed by this name before, and is `there`, is not
        signed again.

        Raises InvalidReference for a name that cannot be signed.
        """
        reference = signed_name(signing.reference) if signing.signers else ""
        self._signers, self._reference = signing.signers, reference
        self._source, self._writers, self._there = source, writers, there
        self._where, self._report, self._kinds = where, report, tuple(carried)
        self._carried: dict[Digest, tuple[Signature, ...]] = {}

    def preflight(self) -> None:
        """Raise what can be known before anything is read: keys, passphrases, places."""
        for signer in self._signers:
            signer.preflight()
        if self._signers:
            self._writers.preflight(frozenset(signer.format for signer in self._signers))

    def check(self, images: Sequence[Arriving]) -> bool:
        """Read what is carried; see Attaching. Raises Unsupported for what cannot be, and what
        reading raises."""
        source = self._source
        if source is None:
            return bool(self._signers)
        held, carried = self._writers.holds, set[Format]()
        for image in images:
            found = [s for kind in self._kinds for s in source.signatures(kind, image.old.digest)]
            if not found:
                continue
            if image.new is None or image.new.digest != image.old.digest:
                raise Unsupported(
                    f"{image.old.digest} has {_count(found)}, and the copy would change it",
                    hint="copy without them: --remove-signatures",
                )
            lost = [s for s in found if s.format not in held]
            if lost:
                raise Unsupported(
                    f"{self._where}: cannot hold the {_count(lost)} of {image.old.digest}",
                    hint="copy without them: --remove-signatures",
                )
            self._carried[image.old.digest] = tuple(found)
            carried.update(signature.format for signature in found)
        if carried:
            self._writers.preflight(frozenset(carried))
        return bool(self._signers or carried)

    def attach(self, images: Sequence[Arriving], destination: Destination) -> None:
        """Put what was carried, and make and put what is new; see Attaching."""
        top = next((image.new.digest for image in images if image.top and image.new), None)
        if top is None:
            return
        formats = {signer.format for signer in self._signers}
        formats.update(s.format for found in self._carried.values() for s in found)
        writers = self._writers.writers(frozenset(formats), destination, top)
        for image in images:
            assert image.new is not None, "all manifests but the name are there"
            made = [
                signer.sign(image.new, self._reference)
                for signer in self._signers
                if not self._signed_before(signer, image)
            ]
            every = [*self._carried.get(image.old.digest, ()), *made]
            for kind in dict.fromkeys(signature.format for signature in every):
                new = [signature for signature in every if signature.format == kind]
                count = writers[kind].put(image.new, new)
                self._report(f"{image.new.digest}: {count} new {kind} signature(s)")

    def _signed_before(self, signer: ImageSigner, image: Arriving) -> bool:
        """Whether it would only be said again: a job that runs every night would let the
        signatures of an image grow until nobody reads them all."""
        if self._there is None or image.new is None:
            return False
        have = self._there.signatures(signer.format, image.new.digest)
        return signed_before(signer, image.new, self._reference, have)


def _count(found: Sequence[Signature]) -> str:
    return f"{len(found)} signature" if len(found) == 1 else f"{len(found)} signatures"
