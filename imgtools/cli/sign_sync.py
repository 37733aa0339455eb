"""Policy and signatures of a sync on the command line: every image by its own names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from imgtools.cli.sign_copy import CopySigning
from imgtools.cli.sign_flags import SignRequest
from imgtools.cli.state import Cli
from imgtools.copy import CopyOptions
from imgtools.spec.reference import ImageName
from imgtools.task import Task
from imgtools.transport.options import DestinationOptions, RegistryOptions, SourceOptions
from imgtools.transport.table import Transports

if TYPE_CHECKING:
    from imgtools.copy.attaching import Attaching
    from imgtools.copy.survey import Admit
    from imgtools.sign.protocols import ImageSigner
    from imgtools.sync.facts import Image
    from imgtools.sync.result import SyncResult


class SyncSigning:
    """What `imgtools.sync.moves` calls a Trust, and the signing of what did not change."""

    def __init__(
        self,
        cli: Cli,
        transports: Transports,
        registries: tuple[RegistryOptions, RegistryOptions],
        signers: tuple[ImageSigner, ...],
        request: SignRequest,
        *,
        remove_signatures: bool,
        from_dir: bool,
    ) -> None:
        """`registries` are how the sources and the destination are reached; `from_dir` says
        that the sources are directories, which may have signatures."""
        self._transports, self._signers = transports, signers
        self._destination, self._request = registries[1], request
        self._from_dir, self._places_known = from_dir, cli.has_signature_places
        self._options = CopyOptions(remove_signatures=remove_signatures)
        self._cli = cli
        self._made: dict[RegistryOptions, CopySigning] = {}
        self._signing = self._of(registries[0])

    @property
    def needed(self) -> bool:
        """Whether any image has to be looked at for its signatures."""
        trust = self._signing.trust
        return bool(self._signers or self._from_dir) or trust.asks or self._places_known

    def check_name(self, source: ImageName) -> None:
        """Raise Rejected for a name that policy never admits."""
        self._signing.trust.check_name(source)

    def admit(self, image: Image) -> Admit | None:
        """Who admits the manifests of an image, None for nobody; raises Rejected."""
        return self._of(image.registry).trust.check_name(image.source)

    def attaching(self, image: Image, task: Task) -> Attaching | None:
        """What goes with the copy of an image: signatures of its own name. Attachments that a
        registry has in tags come along as images of their own."""
        if image.whole or image.subject is not None:
            return None
        names = (image.source, image.destination)
        return self._of(image.registry).attaching(names, self._options, task)

    def _of(self, source: RegistryOptions) -> CopySigning:
        """The same for images that are read in one way; a list of images has several."""
        if source not in self._made:
            self._made[source] = CopySigning(
                self._cli,
                self._transports,
                SourceOptions(registry=source, tmpdir=self._cli.tmpdir),
                DestinationOptions(registry=self._destination, tmpdir=self._cli.tmpdir),
                self._signers,
                self._request,
            )
        return self._made[source]

    def sign_the_same(self, result: SyncResult, images: tuple[Image, ...], task: Task) -> None:
        """Sign what was there already, where the same signers have not by that name.

        Raises what signing raises.
        """
        from imgtools.sign.api import execute_signing, plan_signing, subjects
        from imgtools.sign.image_places import image_places
        from imgtools.sign.image_writers import image_writers
        from imgtools.sync.plan import shown

        same = {o.destination for o in result.outcomes if o.outcome == "same" and not o.attached}
        options = SourceOptions(registry=self._destination)
        places_of = self._signing.trust.signature_places
        for image in images:
            name = image.destination
            if name.transport != "docker" or image.whole or shown(name) not in same:
                continue
            with self._transports.open_source(name, options) as source:
                wanted = subjects(source.top(), source.manifest, recursive=True)
            places = image_places(name, self._transports, options, places_of)
            reference = self._request.identity or name.rest.removeprefix("//")
            plan = plan_signing(wanted, self._signers, reference, places.signatures, task=task)
            writers = image_writers(name, self._transports, self._destination, places_of, task=task)
            execute_signing(plan, self._signers, writers, task=task)
