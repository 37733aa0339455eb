"""`diff`: what is read to compare two images, and the whole comparison.

Layers that both images have at their bottom are not read, since they cannot differ. A layer
higher up that both have is read once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from imgtools.frozen import dataclass
from imgtools.image.files import Node, compose_all
from imgtools.image.model import Image, Layer
from imgtools.inspect.compare import (
    ConfigChange,
    FileChange,
    LayerMatch,
    config_changes,
    file_changes,
    match_layers,
    same_layer,
)
from imgtools.inspect.oci_config import oci_config
from imgtools.inspect.scan import LayerReader, ScanOptions
from imgtools.inspect.survey import read_image
from imgtools.spec.manifest import Manifest
from imgtools.spec.platform import Platform
from imgtools.task import Task, WorkerPool
from imgtools.transport.base import Source


@dataclass(frozen=True, slots=True, kw_only=True)
class DiffOptions:
    """What is compared: `files` False leaves the files alone (no layer is read),
    `read_shared` reads the shared layers too, to tell an added file from a changed one."""

    files: bool = True
    read_shared: bool = False
    tmpdir: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """How image `b` differs from `a`; `files` is None when no files were compared, and
    `complete` says whether it rests on all layers."""

    a: Image
    b: Image
    config: tuple[ConfigChange, ...]
    layers: LayerMatch
    files: tuple[FileChange, ...] | None
    complete: bool

    @property
    def any(self) -> bool:
        """Whether anything differs but the bytes of manifests and blobs."""
        layers = self.layers
        return bool(self.config or self.files or layers.only_a or layers.only_b)


def diff(
    a: Source,
    b: Source,
    platforms: tuple[Platform, Platform],
    *,
    task: Task,
    options: DiffOptions | None = None,
) -> Difference:
    """Compare the images that two sources hold for `platforms`.

    Artifacts are compared without files. Raises what reading either image raises.
    """
    chosen = options or DiffOptions()
    with WorkerPool(task) as pool:
        reading = pool.submit(lambda: read_image(b, platforms[1]))
        image_a = read_image(a, platforms[0])
        image_b = reading.get()
    match = match_layers(image_a.layers, image_b.layers)
    files: tuple[FileChange, ...] | None = None
    complete = chosen.read_shared or match.shared == 0
    if chosen.files and not image_a.is_artifact and not image_b.is_artifact:
        if match.only_a or match.only_b or match.both:
            tree_a, tree_b = _trees(a, b, image_a, image_b, match, chosen, task)
            files = tuple(file_changes(tree_a, tree_b, complete=complete))
        else:
            files, complete = (), True
    return Difference(
        a=image_a,
        b=image_b,
        config=config_changes(_document(image_a), _document(image_b)),
        layers=match,
        files=files,
        complete=complete,
    )


def _trees(
    a: Source,
    b: Source,
    image_a: Image,
    image_b: Image,
    match: LayerMatch,
    options: DiffOptions,
    task: Task,
) -> tuple[Node, Node]:
    first = 0 if options.read_shared else match.shared
    layers_a = image_a.layers[first:]
    twins = {layer.number: _twin(layer, layers_a) for layer in image_b.layers[first:]}
    own_b = [layer for layer in image_b.layers[first:] if twins[layer.number] is None]
    scan = ScanOptions(hash_content=True, tmpdir=options.tmpdir)
    reader_a = LayerReader(a, layers_a, task=task, options=scan)
    reader_b = LayerReader(b, own_b, task=task, options=scan)
    with WorkerPool(task) as pool:
        pool.map(
            lambda job: job[0].tree(job[1]),
            [(reader_a, layer.number) for layer in layers_a]
            + [(reader_b, layer.number) for layer in own_b],
        )
    trees_b = []
    for number, twin in twins.items():
        trees_b.append(reader_b.tree(number) if twin is None else reader_a.tree(twin))
    return compose_all(reader_a.tree(layer.number) for layer in layers_a), compose_all(trees_b)


def _twin(layer: Layer, others: tuple[Layer, ...]) -> int | None:
    return next((other.number for other in others if same_layer(layer, other)), None)


def _document(image: Image) -> Mapping[str, Any]:
    """The config of an image with the annotations of its manifest."""
    document: dict[str, Any] = {}
    if image.config is not None:
        document.update(image.config.document)
    elif not image.is_artifact:
        document.update(oci_config(image))
    if isinstance(image.manifest, Manifest) and image.manifest.annotations:
        document["annotations"] = dict(image.manifest.annotations)
    return document
