"""The copies of a sync: one image, or one referrer, from its source to a place.

What a copy needs of the run is here: how both ends are opened, what of an index is copied, who
admits it, and what is signed where it arrives.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple, Protocol

from imgtools.frozen import dataclass
from imgtools.spec.digest import Digest
from imgtools.spec.digest_tag import subject_of_tag
from imgtools.spec.manifest import RawManifest
from imgtools.spec.reference import ImageName, Reference
from imgtools.sync.facts import Image, ReferrerFact
from imgtools.sync.options import SyncOptions
from imgtools.sync.plan import ImageAction, SyncPlan
from imgtools.sync.result import Outcome
from imgtools.task import Task
from imgtools.transport.base import Destination, Source
from imgtools.transport.options import DestinationOptions, RegistryOptions, SourceOptions
from imgtools.transport.table import Transports

if TYPE_CHECKING:
    from imgtools.copy import CopyOptions, CopyPlan, CopyResult, Selection
    from imgtools.copy.attaching import Arriving, Attaching
    from imgtools.copy.survey import Admit
    from imgtools.sign.stores.attachment import Suffix


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """What a caller may want to know on the way; called from several threads.

    `planned` is told of the plan of every copy before it begins, `done` of every outcome.
    """

    planned: Callable[[CopyPlan], object] = lambda plan: None
    done: Callable[[Outcome], object] = lambda outcome: None


class Trust(Protocol):
    """Policy about the images of a sync, and signatures at their destination."""

    def admit(self, image: Image) -> Admit | None:
        """Who admits the manifests of an image, None for nobody; raises Rejected."""
        ...

    def attaching(self, image: Image, task: Task) -> Attaching | None:
        """What goes with the copy of an image to its destination; checked by now."""
        ...


class Copied(NamedTuple):
    """What a copy did, and the manifest that it found at the source."""

    result: CopyResult
    raw: RawManifest


class Moves:
    """Does the copies of one run; for several threads."""

    def __init__(
        self,
        plan: SyncPlan,
        options: SyncOptions,
        transports: Transports,
        watch: Watch,
        trust: Trust | None,
        task: Task,
    ) -> None:
        self.plan, self.options, self.transports = plan, options, transports
        self.watch, self.trust, self.task = watch, trust, task
        self.lock = threading.Lock()
        self.arrived: dict[Digest, tuple[Arriving, ...]] = {}

    def copy_image(self, action: ImageAction, place: ImageName) -> Copied:
        """Copy what `action` is about to `place`."""
        from imgtools.copy import CopyOptions

        image = action.image
        if place.transport == "dir":
            make_parents(place.rest)
        occupied = image.pair is not None and image.pair.destination in self.plan.occupied
        options = CopyOptions(
            selection=self.selection(action),
            format=self.options.format,  # type: ignore[arg-type]  # checked where it is made
            preserve_digests=self.options.preserve_digests,
            remove_signatures=self.options.remove_signatures,
            signatures_carried=self.trust is not None,
            blobs_likely=occupied,
            differs=action.decision in ("new", "changed"),
            entire=self.trust is not None,
            tmpdir=self.options.tmpdir,
        )
        named = place == image.destination
        attaching = self.attaching(action) if named else None
        source, admit = self.pinned(action), None
        if image.owner is not None:
            admit = self.admit_attached(image)
        elif source == image.source and self.trust is not None:
            # Nothing pins it, so what was judged before may be something else by now.
            admit = self.trust.admit(image)
        return self.copy(source, image.registry, place, options, attaching, admit)

    def joins(self, action: ImageAction) -> bool:
        """Whether an image is a tag of signatures or attestations that the destination has
        others of: they belong there, and are kept."""
        return action.current is not None and self._attachment(action) is not None

    def join(self, action: ImageAction) -> tuple[Digest | None, int]:
        """Put what the destination lacks of such a tag; its digest then, and how many were
        new."""
        from imgtools.sign.stores.attachments import AttachmentReader, AttachmentWriter

        found = self._attachment(action)
        assert found is not None, "joins said so"
        subject, suffix = found
        image, target = action.image, self.plan.target.registry
        assert image.reference is not None, "it is a tag in a registry"
        assert image.place is not None, "and so is the other one"
        layers = AttachmentReader(
            self.transports, image.reference, image.registry, suffix=suffix
        ).layers(subject)
        writer = AttachmentWriter(
            self.transports, image.place, target, task=self.task, suffix=suffix
        )
        new = writer.put_layers(subject, layers)
        reader = AttachmentReader(self.transports, image.place, target, suffix=suffix)
        manifest = reader.manifest(subject)
        return (manifest.digest if manifest is not None else None), new

    def _attachment(self, action: ImageAction) -> tuple[Digest, Suffix] | None:
        """The subject and kind of a tag such as sha256-HEX.sig, in registries on both sides."""
        image = action.image
        if image.subject is None or image.reference is None or image.place is None:
            return None
        found = subject_of_tag(image.reference.tag)
        if found is None:
            return None
        kinds: dict[str, Suffix] = {".sig": "sig", ".att": "att"}
        kind = kinds.get(found[1])
        return (found[0], kind) if kind is not None else None

    def selection(self, action: ImageAction) -> Selection:
        """What of an index is copied."""
        from imgtools.copy import Selection

        if self.options.all or action.image.whole:
            return Selection(mode="all")
        return Selection(platform=self.options.platform)

    def attaching(self, action: ImageAction) -> Attaching | None:
        """Who signs an image at its destination, and brings its signatures along."""
        return self.trust.attaching(action.image, self.task) if self.trust is not None else None

    def pinned(self, action: ImageAction) -> ImageName:
        """The source by the digest that was found, so that the plan is what is done."""
        image = action.image
        if image.reference is None or action.root is None:
            return image.source
        return docker_name(replace(image.reference, tag="").with_digest(action.root.digest))

    def copy_referrer(self, fact: ReferrerFact, source: ImageName, place: ImageName) -> int:
        """Copy one referrer; the bytes that were stored."""
        from imgtools.copy import CopyOptions, Selection

        options = CopyOptions(
            selection=Selection(mode="all"),
            blobs_likely=True,
            differs=True,
            tmpdir=self.options.tmpdir,
        )
        image = Image(source=source, destination=place, registry=fact.pair.registry)
        admit = self.admit_attached(image)
        done = self.copy(source, fact.pair.registry, place, options, admit=admit)
        if done.result.up_to_date:
            # It is there, but not known as a referrer: putting it again says of what it is.
            with self.destination(place) as destination:
                destination.put_manifest(done.raw, top=True)
                destination.commit()
        return done.result.bytes_moved

    def admit_attached(self, image: Image) -> Admit | None:
        """Who admits what is attached to an image, as far as it can be run."""
        from imgtools.copy.attached_images import by_its_name

        trust = self.trust
        if trust is None:
            return None
        return by_its_name(lambda name: trust.admit(image), image.source)

    def copy(
        self,
        source: ImageName,
        registry: RegistryOptions,
        place: ImageName,
        options: CopyOptions,
        attaching: Attaching | None = None,
        admit: Admit | None = None,
    ) -> Copied:
        from imgtools.copy import execute as execute_copy
        from imgtools.copy import failures_named, prepare

        with self.source(source, registry) as opened, self.destination(place) as target:
            plan = prepare(opened, target, options, admit=admit, task=self.task)
            self.watch.planned(plan)
            with failures_named(opened, target):
                done = execute_copy(plan, opened, target, attaching=attaching, task=self.task)
                raw = opened.top()
        with self.lock:
            self.arrived[raw.digest] = done.images
        return Copied(done, raw)

    def source(self, name: ImageName, registry: RegistryOptions) -> Source:
        options = SourceOptions(registry=registry, tmpdir=self.options.tmpdir)
        return self.transports.open_source(name, options)

    def destination(self, name: ImageName) -> Destination:
        options = DestinationOptions(registry=self.plan.target.registry, tmpdir=self.options.tmpdir)
        return self.transports.open_destination(name, options)

    def judge(self, action: ImageAction, admit: Admit) -> None:
        """Ask `admit` about the manifests of an image."""
        from imgtools.copy.judging import judge_image

        selection = self.selection(action)
        with self.source(self.pinned(action), action.image.registry) as source:
            judge_image(source, selection, self.options.platform, admit, task=self.task)


def docker_name(reference: Reference) -> ImageName:
    """The name of a reference in a registry."""
    return ImageName(transport="docker", rest=f"//{reference}")


def make_parents(path: str) -> None:
    """Make the directories above `path`, as skopeo does; raises StorageError."""
    from imgtools.blob.files import storage_errors

    parent = os.path.dirname(path)
    if parent:
        with storage_errors(parent):
            os.makedirs(parent, exist_ok=True)
