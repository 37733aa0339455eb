"""Signatures of one copy on the command line: what policy asks of its source, what is carried
along, and what is signed at its destination."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from imgtools.cli.sign_flags import SignRequest
from imgtools.cli.state import Cli
from imgtools.cli.trust import Trust
from imgtools.errors import InvalidInput
from imgtools.spec.reference import ImageName
from imgtools.task import Note, Task
from imgtools.transport.options import DestinationOptions, RegistryOptions, SourceOptions
from imgtools.transport.table import Transports, registry_reference

if TYPE_CHECKING:
    from collections.abc import Sequence

    from imgtools.copy import CopyOptions
    from imgtools.copy.attaching import Attaching
    from imgtools.sign.image_places import ImagePlaces
    from imgtools.sign.model import Format
    from imgtools.sign.protocols import ImageSigner
    from imgtools.spec.descriptor import Descriptor


class CopySigning:
    """The policy for sources and the signatures for destinations of one command."""

    def __init__(
        self,
        cli: Cli,
        transports: Transports,
        source: SourceOptions,
        destination: DestinationOptions,
        signers: tuple[ImageSigner, ...],
        request: SignRequest,
    ) -> None:
        """`signers` are those that `request` asks for."""
        self.trust = Trust(cli, transports, source)
        self._cli, self._transports = cli, transports
        self._source, self._destination = source, destination
        self._signers, self._request = signers, request

    def attaching(
        self, names: tuple[ImageName, ImageName], options: CopyOptions, task: Task
    ) -> Attaching | None:
        """What signs a copy from one name to the other, and carries signatures along; None
        where there is neither. Keys and places are checked now.

        Raises InvalidInput for a destination that has no name to sign, and what preflights do.
        """
        carries = not options.remove_signatures and self._carries(names[0])
        if not self._signers and not carries:
            return None
        from imgtools.sign.attach import CopySignatures, Signing
        from imgtools.sign.image_places import image_places
        from imgtools.sign.image_writers import image_writers

        places, registry = self.trust.signature_places, self._destination.registry
        made = CopySignatures(
            Signing(signers=self._signers, reference=self._name(names[1])),
            image_places(names[0], self._transports, self._source, places) if carries else None,
            image_writers(names[1], self._transports, registry, places, task=task),
            where=names[1].transport,
            carried=_carried(names, options),
            there=self._there(names[1]),
            report=lambda text: task.progress(Note("info", text)),
        )
        made.preflight()
        return made

    def planned(self, destination: ImageName, top: Descriptor) -> tuple[str, list[Format]]:
        """The name that the copy of `top` there would be signed by, and in which formats it
        was not yet; for --dry-run. Raises what reading raises."""
        if not self._signers:
            return "", []
        from imgtools.sign.api import signed_before, signed_name

        name, there = signed_name(self._name(destination)), self._there(destination)
        return name, [
            signer.format
            for signer in self._signers
            if there is None
            or not signed_before(signer, top, name, there.signatures(signer.format, top.digest))
        ]

    def _there(self, destination: ImageName) -> ImagePlaces | None:
        """Where the destination has signatures that need not be made again."""
        if not self._signers or destination.transport != "docker":
            return None
        from imgtools.sign.image_places import image_places

        # What a mirror has is not what the destination will show.
        registry = replace(self._destination.registry, mirrors=False)
        options = SourceOptions(registry=registry)
        return image_places(destination, self._transports, options, self.trust.signature_places)

    def _carries(self, source: ImageName) -> bool:
        """Whether a source may have signatures that are known to be looked for: those of a
        directory, and of a registry where registries.d says where they are."""
        if source.transport == "dir":
            return True
        if source.transport != "docker":
            return False
        return self._cli.has_signature_places and self.trust.signature_places().says_of(
            registry_reference(source)
        )

    def _name(self, destination: ImageName) -> str:
        """The name that is signed."""
        if self._request.identity or not self._signers:
            return self._request.identity
        if destination.transport != "docker":
            raise InvalidInput(
                f"{destination} has no name that could be signed",
                hint="say which one it is signed by: --sign-identity HOST/NAME:TAG",
            )
        return str(registry_reference(destination))


def signing_of(
    cli: Cli,
    transports: Transports,
    registry: RegistryOptions,
    signers: tuple[ImageSigner, ...],
    request: SignRequest,
) -> Callable[[ImageName, Task], Attaching | None]:
    """What signs images of our own (of the store, or just built) at the place that it is given."""
    from imgtools.copy import CopyOptions

    signing = CopySigning(
        cli,
        transports,
        SourceOptions(registry=registry),
        DestinationOptions(registry=registry),
        signers,
        request,
    )
    own = ImageName(transport="containers-storage", rest="")
    options = CopyOptions(remove_signatures=True)
    return lambda place, task: signing.attaching((own, place), options, task)


def _carried(names: tuple[ImageName, ImageName], options: CopyOptions) -> Sequence[Format]:
    """What is carried beside the image; a layout gets attachments with --referrers, by the
    names of their tags, and could not hold them otherwise."""
    from imgtools.sign.attach import CARRIED

    if options.referrers and names[1].transport == "oci":
        return [kind for kind in CARRIED if kind != "sigstore"]
    return CARRIED
