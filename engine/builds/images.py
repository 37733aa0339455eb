"""A built image becomes one of the store: a record of layers that are there, and its names."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack

from engine.builds.holding import Holding
from engine.storage.intake import Intake
from engine.storage.keep import described, keep_document
from engine.storage.names import normalised
from engine.storage.options import Layer
from engine.storage.registry import ImageRegistry
from engine.storage.store import Store
from imgtools.errors import BlobNotFound, DigestMismatch, InvalidManifest
from imgtools.spec.config import Config
from imgtools.spec.digest import Digest
from imgtools.spec.identity import chain_ids, image_id
from imgtools.spec.manifest import Manifest, RawManifest, parse
from imgtools.spec.reference import Reference
from imgtools.task import Task


def keep_image(
    store: Store,
    holding: Holding,
    raw: RawManifest,
    config: bytes,
    names: Sequence[str],
    *,
    task: Task,
) -> str:
    """Record the image with the manifest `raw`, which names layers by their diff_id, and give
    it `names`, as `tag` would; its id.

    Raises InvalidReference, InvalidManifest, DigestMismatch for another config than the
    manifest's, BlobNotFound for a layer that is not here, StorageError.
    """
    wanted = [normalised(name) for name in names]
    view = parse(raw)
    if not isinstance(view, Manifest):
        raise InvalidManifest(f"{raw.digest} is no manifest of an image")
    actual = Digest.of(config, view.config.digest.algorithm)
    if actual != view.config.digest:
        raise DigestMismatch("image config", expected=str(view.config.digest), actual=str(actual))
    layers = _layers(holding, view, Config.parse(config).diff_ids, task)
    parts = store.parts
    identity = image_id(config).hex
    digests = tuple(f"{Reference.parse(name).name}@{raw.digest}" for name in wanted)
    image = described(Intake(parts), raw, view, config, layers)
    parts.layers.settle()
    registry = ImageRegistry(parts)
    with registry.locked(identity, task=task), ExitStack() as documents:
        for digest, content in ((view.config.digest, config), (raw.digest, raw.content)):
            documents.enter_context(keep_document(parts, digest, content, task))
        registry.add(image.with_digests(digests))
        for name in wanted:
            registry.give_name(name, identity)
    return identity


def _layers(
    holding: Holding, view: Manifest, diff_ids: Sequence[Digest], task: Task
) -> tuple[Layer, ...]:
    """The layers of a manifest, oldest first."""
    if tuple(blob.digest for blob in view.layers) != tuple(diff_ids):
        raise InvalidManifest("the manifest of a built image names other layers than its config")
    found = []
    for chain_id in chain_ids(diff_ids):
        layer = holding.hold(chain_id, task=task)
        if layer is None:
            raise BlobNotFound(f"layer {chain_id} is not in the store")
        found.append(layer)
    return tuple(found)
