"""From what is wanted, and the tags that there are, to images with names on both sides.

Pure but for directories, which are walked here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from imgtools.spec.digest_tag import subject_of_tag
from imgtools.spec.reference import ImageName, Reference, is_tag
from imgtools.sync.facts import Image
from imgtools.sync.names import destination_name, directory_image
from imgtools.sync.options import DirectoryWanted, SyncOptions, Target, Wanted
from imgtools.sync.sources import image_directories
from imgtools.transport.options import RegistryOptions


class Finder:
    """Names images by the options of one sync; `warnings` collects what is left out."""

    def __init__(self, target: Target, options: SyncOptions) -> None:
        """Raises Unsupported for referrers that the target cannot hold."""
        self.target, self.options = target, options
        self.warnings: list[str] = []
        self._wants_attached = options.attached(target.place)
        # What refers to a digest is moot where that digest changes.
        self.attached = self._wants_attached and not options.format
        if options.referrers and not self.attached:
            self.warnings.append(
                "what is attached to the images is not copied, because --format changes them"
            )

    def images(self, wanted: Wanted, tags: Sequence[str]) -> list[Image]:
        """The images of one source, numbered; `tags` are those of its repository.

        Raises InvalidReference for names that the destination cannot have, StorageError.
        """
        found = list(self._found(wanted, tags))
        return [replace(image, number=n, of=len(found)) for n, image in enumerate(found, 1)]

    def place(self, repository: Reference) -> Reference:
        """Where the images of a repository go, at a registry; raises InvalidReference."""
        name = self._name(f"{repository.name}:latest", self.options.append_suffix)
        place = Reference.parse(name.rest[2:])
        return Reference(registry=place.registry, repository=place.repository)

    def _found(self, wanted: Wanted, tags: Sequence[str]) -> Iterator[Image]:
        if isinstance(wanted, DirectoryWanted):
            for path in image_directories(wanted.path):
                name = self._name(directory_image(path, wanted.path), self.options.append_suffix)
                yield _image(ImageName(transport="dir", rest=path), name, self.target.registry)
            return
        for reference in wanted.explicit:
            yield self._of_registry(reference, wanted.registry)
        for tag in tags if wanted.tags is not None else ():
            if not is_tag(tag):
                self.warnings.append(f"{wanted.name}: {tag[:140]!r} is not a valid tag")
            elif wanted.tags is not None and wanted.tags(tag):
                made_of = subject_of_tag(tag)
                # What a fallback tag lists is copied as what is attached to its subject.
                if not (self._wants_attached and made_of and not made_of[1]):
                    yield self._of_registry(wanted.repository.with_tag(tag), wanted.registry)

    def _of_registry(self, reference: Reference, registry: RegistryOptions) -> Image:
        made_of = subject_of_tag(reference.tag)
        # Who looks for a tag made of a digest looks for exactly that tag.
        suffix = "" if self.attached and made_of else self.options.append_suffix
        source = ImageName(transport="docker", rest=f"//{reference}")
        return replace(
            _image(source, self._name(str(reference), suffix), registry),
            reference=reference,
            subject=made_of[0] if made_of else None,
            whole=made_of is not None,
        )

    def _name(self, image: str, suffix: str) -> ImageName:
        return destination_name(
            self.target.place, self.target.base, image, scoped=self.options.scoped, suffix=suffix
        )


def _image(source: ImageName, name: ImageName, registry: RegistryOptions) -> Image:
    place = Reference.parse(name.rest[2:]) if name.transport == "docker" else None
    return Image(source=source, destination=name, registry=registry, place=place)
