"""Writes what --output asks for: the final tree as a directory or a tar, the image as an
archive.

A tree is written from the image's layers and not from a mounted one, so that owners and
attributes are those of the image wherever it was built, and no privilege is needed.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import field, replace
from functools import partial

from imgtools.blob.files import (
    TEMPORARY_PREFIX,
    storage_errors,
    sync_directory,
    write_all,
)
from imgtools.blob.placing import HERE, Placing, is_special
from imgtools.blob.reader import CHUNK
from imgtools.blob.tar import BLOCK, Entry, EntryType
from imgtools.blob.tar.header import encode
from imgtools.build.outputs.export_options import STDOUT, Export
from imgtools.build.outputs.merge import END, merged_members
from imgtools.build.outputs.model import BuiltImage, Family
from imgtools.build.outputs.names import OutputNames, local_name, output_names
from imgtools.build.outputs.outgoing import Wanted
from imgtools.build.outputs.places import CopiedOut, Places
from imgtools.build.protocols import SnapshotStore
from imgtools.errors import InvalidInput, Unsupported
from imgtools.frozen import dataclass
from imgtools.spec.reference import ImageName
from imgtools.task import Task

Write = Callable[[bytes], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Exporter:
    """What exports need: the store with the layers, how places are reached (for archives),
    and where standard output goes. `extra` are files by image that trees get in their root,
    such as provenance.json. Trees have the time `epoch` (seconds) in all files, if there is
    one, whether or not the times in layers are rewritten (BuildKit, buildah)."""

    store: SnapshotStore
    places: Places
    stdout: Write
    extra: tuple[Mapping[str, bytes], ...] = ()
    now: int = field(default=0)
    epoch: int | None = None
    files: Placing = HERE

    def export(self, export: Export, wanted: Wanted, *, task: Task) -> CopiedOut | None:
        """Write `wanted` as `export` says; what was copied where that is an image.

        Of `image` only what it calls the image matters, see `export_names`. Raises
        StorageError, InvalidInput, and what reading layers and copying do.
        """
        match export.kind:
            case "local":
                self._local(export, wanted.images, task)
            case "tar":
                self._tar(export, wanted.images, task)
            case "oci" | "docker":
                return self._archive(export, wanted, task)
        return None

    def _local(self, export: Export, images: Sequence[BuiltImage], task: Task) -> None:
        left_out = self.files.unpack(self._members(export, images, task), export.dest)
        if left_out:
            task.warn(f"{export.dest}: {left_out} device nodes need root and are left out")

    def _tar(self, export: Export, images: Sequence[BuiltImage], task: Task) -> None:
        with self._sink(export.dest) as write:
            for chunk in self._members(export, images, task):
                write(chunk)

    @contextlib.contextmanager
    def _sink(self, dest: str) -> Iterator[Write]:
        """What writes to standard output, or to a file as Placing does."""
        if dest == STDOUT:
            yield self.stdout
            return
        with self.files.replacing(dest) as file:
            yield partial(write_all, file)

    def _members(self, export: Export, images: Sequence[BuiltImage], task: Task) -> Iterator[bytes]:
        """One tar of the trees of all images, each below a directory where they are several."""
        split = export.platform_split if export.platform_split is not None else len(images) > 1
        if len(images) > 1 and not split:
            raise InvalidInput("trees of several platforms cannot go to one place")
        for number, image in enumerate(images):
            prefix = f"{str(image.platform).replace('/', '_')}/" if split else ""
            openers = [partial(self.store.open_layer, layer.chain_id) for layer in image.layers]
            if prefix:
                yield encode(Entry(path=prefix, type=EntryType.DIR, mode=0o755, mtime_ns=0))
            mtime_ns = None if self.epoch is None else self.epoch * 1_000_000_000
            yield from merged_members(
                openers, whole=True, prefix=prefix, mtime_ns=mtime_ns, task=task
            )
            for name, content in (self.extra[number] if self.extra else {}).items():
                mtime = self.now * 1_000_000_000
                entry = Entry(path=prefix + name, size=len(content), mtime_ns=mtime)
                yield encode(entry) + content + bytes(-len(content) % BLOCK)
        yield END

    def _archive(self, export: Export, wanted: Wanted, task: Task) -> CopiedOut:
        if ":" in export.dest:
            raise InvalidInput(f"{export.dest!r}: an archive's path cannot have a colon")
        family: Family = "docker" if export.oci_types is False else self.places.family
        if export.oci_types:
            family = "oci"
        places = replace(self.places, form=export.form, family=family)
        names = export.names or wanted.names
        full = tuple(local_name(name) for name in names)
        images = tuple(
            replace(image, annotations={**image.annotations, **export.annotations})
            for image in wanted.images
        )
        wanted = replace(wanted, images=images, names=full)
        if export.kind == "docker":
            options = replace(places.options, additional_tags=full[1:])
            places = replace(places, options=options)
        if not export.archive:
            return self._layout(export, wanted, places, full, task)
        if export.dest != STDOUT and self.files.near and not is_special(export.dest):
            return _replacing(export, wanted, places, full, task)
        with self._sink(export.dest) as write, self.store.scratch() as directory:
            path = os.path.join(directory, "archive")
            done = places.copy(wanted, _place(export, path, full), task=task)
            _send(path, write, task)
        return replace(done, name=str(_place(export, export.dest, full)))

    def _layout(
        self, export: Export, wanted: Wanted, places: Places, names: Sequence[str], task: Task
    ) -> CopiedOut:
        if not self.files.near:
            raise Unsupported(
                f"{export.dest}: a layout cannot be written from the user namespace of the build,"
                " in which the caller's own id does not exist",
                hint="write an archive: leave tar=false out",
            )
        return places.copy(wanted, _place(export, export.dest, names), task=task)


def _send(path: str, write: Write, task: Task) -> None:
    with storage_errors(path), open(path, "rb", buffering=0) as file:
        while data := file.read(CHUNK):
            task.cancel.check()
            write(data)


def _replacing(
    export: Export, wanted: Wanted, places: Places, names: Sequence[str], task: Task
) -> CopiedOut:
    """Write an archive beside its place and move it there: one that is there is replaced,
    which the transports for archives do not do."""
    directory, name = os.path.split(export.dest)
    temporary = os.path.join(
        directory, f"{TEMPORARY_PREFIX}{os.getpid()}-{os.urandom(6).hex()}-{name[:40]}"
    )
    try:
        done = places.copy(wanted, _place(export, temporary, names), task=task)
        with storage_errors(export.dest):
            os.rename(temporary, export.dest)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    sync_directory(directory)
    return replace(done, name=str(_place(export, export.dest, names)))


def _place(export: Export, path: str, names: Sequence[str]) -> ImageName:
    if export.kind == "docker":
        return ImageName(transport="docker-archive", rest=":".join((path, *names[:1])))
    transport = "oci-archive" if export.archive else "oci"
    # What a layout calls an image is its tag.
    tag = names[0].rpartition(":")[2] if names else "latest"
    return ImageName(transport=transport, rest=f"{path}:{tag}")


def export_names(export: Export, tags: Sequence[str]) -> OutputNames:
    """What `type=image` and `type=registry` add to the values of -t (`tags`, as given): names
    in the store, or with `push` registries to copy to, those of `tags` where it names none.

    Raises InvalidReference, and InvalidInput for a push without any name.
    """
    if export.kind != "image":
        return OutputNames()
    if not export.push:
        return output_names(export.names)
    names = export.names or tuple(tags)
    if not names:
        raise InvalidInput("--output type=registry: there is no name to push to", hint="use -t")
    return output_names(
        name if name.startswith("docker://") else f"docker://{name}" for name in names
    )
