"""Finished images handed to where they are to go: names in the store, places, exports, and the
files that say what was built."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from imgtools.blob.placing import HERE, Placing
from imgtools.build.execute.environment import BuildResult
from imgtools.build.options import BuildOptions
from imgtools.build.outputs.attest import image_purl
from imgtools.build.outputs.attesting import (
    document_of,
    metadata_entries,
    package_urls,
    predicates_of,
    tree_files,
)
from imgtools.build.outputs.export_options import Export
from imgtools.build.outputs.files import metadata, write_image_id, write_json_file
from imgtools.build.outputs.layer_blobs import sized
from imgtools.build.outputs.manifests import stored_documents
from imgtools.build.outputs.model import BuiltImage
from imgtools.build.outputs.names import as_place, output_names
from imgtools.build.outputs.outgoing import Wanted
from imgtools.build.outputs.places import CopiedOut, Places
from imgtools.build.protocols import SnapshotStore
from imgtools.cli.build_log import Ready
from imgtools.cli.build_request import ResultOptions
from imgtools.frozen import dataclass
from imgtools.spec.descriptor import Descriptor
from imgtools.spec.digest import Digest
from imgtools.spec.reference import ImageName
from imgtools.task import Task
from imgtools.transport.table import TRANSPORTS

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Destinations:
    """Where the images of one command line go: `local` names in the store, `places` for one
    image or an index, `indexes` places that get an index even of one image, `lists` names of
    indexes in the store that images are added to; `keep` is whether the store keeps images that
    have no name in it."""

    local: tuple[str, ...] = ()
    places: tuple[ImageName, ...] = ()
    indexes: tuple[ImageName, ...] = ()
    lists: tuple[str, ...] = ()
    exports: tuple[Export, ...] = ()
    keep: bool = True


def destinations(result: ResultOptions) -> Destinations:
    """What the options say; raises InvalidReference, InvalidInput, Unsupported."""
    names = output_names(result.tags)
    local, places = list(names.local), list(names.places)
    pushed = list(names.local) if result.push else []
    for export in result.outputs:
        from imgtools.build.outputs.export import export_names

        more = export_names(export, result.tags)
        local += more.local
        places += more.places
    places += [ImageName.parse(f"docker://{name}", TRANSPORTS) for name in pushed]
    lists, indexes = _indexes(result)
    files = tuple(export for export in result.outputs if export.kind != "image")
    return Destinations(
        local=tuple(dict.fromkeys(local)),
        places=tuple(dict.fromkeys(places)),
        indexes=indexes,
        lists=lists,
        exports=tuple(export for export in files if export.kind != "cacheonly"),
        # As with buildah: an image that goes elsewhere by its name is not kept here as well.
        keep=bool(lists or local or not names.places)
        and not any(export.kind == "cacheonly" for export in files),
    )


def _indexes(result: ResultOptions) -> tuple[tuple[str, ...], tuple[ImageName, ...]]:
    """What --manifest names: an index in the store, which goes to its registry with --push, or
    a place."""
    if not result.manifest:
        return (), ()
    place = as_place(result.manifest)
    if place is not None:
        return (), (place,)
    names = output_names([result.manifest]).local
    if not result.push:
        return names, ()
    return names, tuple(ImageName.parse(f"docker://{name}", TRANSPORTS) for name in names)


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """Hands out the images of one build. `result` says what is asked for, `to` where things go;
    `version` is ours. `retry` runs a copy again after trouble that may
    pass, `stdout` writes to standard output, `add` adds an image of the store, by its id, to
    the index of a name, `placing` writes files."""

    store: SnapshotStore
    places: Places
    options: BuildOptions
    result: ResultOptions
    to: Destinations
    retry: Callable[[Callable[[], CopiedOut | None]], CopiedOut | None]
    stdout: Callable[[bytes], object]
    add: Callable[[str, str], object]
    version: str = ""
    placing: Placing = HERE

    def deliver(self, built: BuildResult, *, task: Task) -> list[Ready]:
        """Hand out the images; what is where then. Raises what storing, scanning and copying
        do."""
        final = tuple(sized(self._squashed(image, task), self.store) for image in built.images)
        for stage in built.stages:
            documents = stored_documents(stage, self.options.format)
            self.store.keep_image(documents.manifest, documents.config, (), task=task)
        ready = [self._kept(image, len(final) > 1, task) for image in final]
        for name in self.to.lists:
            for each in ready:
                self.add(name, each.image_id.rpartition(":")[2])
        wanted = self._wanted(final, built, task)
        tops: dict[str, CopiedOut] = {}
        for place in self.to.places:
            self._copy(wanted, place, tops, task)
        for place in self.to.indexes:
            self._copy(replace(wanted, as_index=True), place, tops, task)
        if self.to.exports:
            self._export(wanted, task)
        self._files(wanted, list(tops.values()))
        return _with_places(ready, tops)

    def _export(self, wanted: Wanted, task: Task) -> None:
        from imgtools.build.outputs.export import Exporter

        exporter = Exporter(
            store=self.store, places=self.places, stdout=self.stdout,
            extra=self._files_of(wanted), epoch=self.options.stamps.created, files=self.placing,
        )  # fmt: skip
        for export in self.to.exports:
            self.retry(lambda export=export: exporter.export(export, wanted, task=task))  # type: ignore[misc]

    def _wanted(self, images: tuple[BuiltImage, ...], built: BuildResult, task: Task) -> Wanted:
        """The images with what is to be said of them."""
        attest, names = self.result.attest, self._names()
        said = predicates_of(
            images, built.facts, attest, self.store,
            names=names, version=self.version, task=task,
        )  # fmt: skip
        goes = self.to.places or self.to.indexes or self.to.exports
        if said and not (goes or self.result.metadata_file or attest.sbom_file):
            task.warn(
                "attestations are kept with images in registries and layouts; the store has none"
            )
        return Wanted(images=images, names=self.to.local, predicates=said, style=attest.style)

    def _names(self) -> tuple[str, ...]:
        """What the images are called wherever they go."""
        references = (name.rest.removeprefix("//") for name in (*self.to.places, *self.to.indexes)
                      if name.transport == "docker")  # fmt: skip
        return tuple(dict.fromkeys((*self.to.local, *references)))

    def _files_of(self, wanted: Wanted) -> tuple[Mapping[str, bytes], ...]:
        """What trees that are exported get besides the image's files."""
        return tuple(
            tree_files(
                said,
                self.result.attest,
                [purl for name in self._names() if (purl := image_purl(name, image.platform))],
                stored_documents(image, self.options.format).manifest.digest,
            )
            for image, said in zip(wanted.images, wanted.predicates, strict=False)
        )

    def _squashed(self, image: BuiltImage, task: Task) -> BuiltImage:
        which = self.options.squash or ("" if self.options.layers else "new")
        if not which:
            return image
        from imgtools.build.outputs.squash import squashed

        return squashed(image, which, self.store, task=task)

    def _kept(self, image: BuiltImage, several: bool, task: Task) -> Ready:
        documents = stored_documents(image, self.options.format)
        names = () if several else self.to.local
        if self.to.keep:
            self.store.keep_image(documents.manifest, documents.config, names, task=task)
        return Ready(
            image_id=str(documents.config_descriptor.digest),
            digest=str(documents.manifest.digest),
            names=names,
            platform=str(image.platform) if several else "",
        )

    def _copy(
        self, wanted: Wanted, name: ImageName, tops: dict[str, CopiedOut], task: Task
    ) -> None:
        if name.transport == "docker":
            # An attestation's subject is called what the image is called there.
            wanted = replace(wanted, names=(name.rest.removeprefix("//"),))
        done = self.retry(lambda: self.places.copy(wanted, name, task=task))
        assert done is not None
        tops[str(name)] = done

    def _files(self, wanted: Wanted, copied: Sequence[CopiedOut]) -> None:
        """--iidfile and its kin: of the one image, else of the index."""
        result, images, placing = self.result, wanted.images, self.placing
        if result.attest.sbom_file:
            write_json_file(result.attest.sbom_file, document_of(wanted.predicates[0]), placing)
        if result.attest.purl_file:
            write_json_file(result.attest.purl_file, package_urls(wanted.predicates[0]), placing)
        config: Descriptor | None = None
        if len(images) == 1 and not self.to.indexes:
            documents = stored_documents(images[0], self.options.format)
            config = documents.config_descriptor
            top = copied[0].top if copied else documents.manifest.descriptor()
            identity = config.digest
        else:
            if not copied and not any((result.id_file, result.raw_id_file, result.metadata_file)):
                return
            top = copied[-1].top
            identity = top.digest
        if result.id_file:
            write_image_id(result.id_file, identity, files=placing)
        if result.raw_id_file:
            write_image_id(result.raw_id_file, identity, raw=True, files=placing)
        if result.metadata_file:
            others = [str(name) for name in self.to.places if name.transport != "docker"]
            names = (*self._names(), *others)
            more = metadata_entries(images, wanted.predicates)
            write_json_file(result.metadata_file, metadata(top, config, names, more), placing)


def _with_places(ready: list[Ready], tops: dict[str, CopiedOut]) -> list[Ready]:
    """The places as names: of the one image, else of the index of all."""
    if not tops:
        return ready
    if len(ready) == 1:
        first = next(iter(tops.values()))
        names = (*ready[0].names, *tops)
        return [replace(ready[0], names=names, digest=str(first.top.digest))]
    by_digest: dict[Digest, list[str]] = {}
    for name, done in tops.items():
        by_digest.setdefault(done.top.digest, []).append(name)
    return ready + [
        Ready(image_id=str(digest), digest=str(digest), names=tuple(names), index=True)
        for digest, names in by_digest.items()
    ]
