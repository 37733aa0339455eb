"""`inspect --files` and `--cat`: the files of one image, read from where it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from imgtools.blob.tar.entry import EntryType
from imgtools.errors import InvalidInput, NotFound, Unsupported
from imgtools.image.files import Node, compose_all, lookup, walk
from imgtools.image.model import Image
from imgtools.image.union import Union
from imgtools.inspect.scan import LayerReader, ScanOptions
from imgtools.inspect.survey import read_image
from imgtools.spec.platform import Platform
from imgtools.task import Task
from imgtools.transport.base import Source


def list_files(
    source: Source,
    platform: Platform,
    path: str | None = None,
    *,
    task: Task,
    verify: bool = True,
) -> tuple[Node, Iterator[tuple[str, Node]]]:
    """The merged tree of the image for `platform`, and its (path, node) pairs in order.

    With `path` only that file and what is below it; links on the way are followed, and the
    last one too when `path` ends in "/". All layers are read, in parallel, before anything
    comes back. Raises NotFound, Unsupported for an artifact, and what reading raises.
    """
    image = _with_files(read_image(source, platform))
    with LayerReader(source, image.layers, task=task, options=ScanOptions(verify=verify)) as reader:
        root = compose_all(reader.trees())
    if path is None:
        return root, walk(root)
    found = Union([lambda: root]).resolve(path, follow=path.endswith("/"))
    node = lookup(root, found.path)
    if node is None:
        raise NotFound(f"{path} is not in the image")
    return root, _from(node, found.path)


def copy_file(
    source: Source,
    platform: Platform,
    path: str,
    write: Callable[[bytes], object],
    *,
    task: Task,
    verify: bool = True,
    tmpdir: str | None = None,
) -> None:
    """Write the content of the file at `path`, links followed, reading as little as decides.

    Layers are read from the newest down, and none below the one that has the file. With
    `verify` nothing is written before its digest was checked. Raises NotFound, InvalidInput
    for what is no regular file, Unsupported for an artifact, and what reading raises.
    """
    image = _with_files(read_image(source, platform))
    layers = image.layers
    want = "/".join(part for part in path.split("/") if part not in ("", "."))
    options = ScanOptions(verify=verify, tmpdir=tmpdir)
    with LayerReader(source, layers, task=task, options=options, want=want) as reader:

        def tree(number: int) -> Callable[[], Node]:
            return lambda: reader.tree(number)

        found = Union([tree(layer.number) for layer in layers]).resolve(path)
        if found.is_directory:
            raise InvalidInput(f"{path} is a directory", hint="--files --path lists it")
        if found.info.type is not EntryType.FILE:
            raise InvalidInput(f"{path} is not a regular file")
        reader.content(found.info, write)


def _from(node: Node, path: str) -> Iterator[tuple[str, Node]]:
    if path:
        yield path, node
    yield from walk(node, path)


def _with_files(image: Image) -> Image:
    if image.is_artifact:
        raise Unsupported(
            "this is an artifact, whose layers are no file system",
            hint="inspect without --files and --cat shows its layers",
        )
    return image
