"""What tests of the store share: a store in a directory, images in a registry, and the check
that a store is whole."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from engine.storage.collect import needed_layers
from engine.storage.images import StoredImage
from engine.storage.names import StorageName
from engine.storage.options import StoreLocation
from engine.storage.pull import PullOptions, PullPolicy, pull_image
from engine.storage.store import Store
from imgtools.spec.digest import Digest
from imgtools.task import Progress, Task, ignore
from imgtools.testing.images import Sample
from imgtools.testing.registry import ScriptedRegistry
from imgtools.transport.options import RegistryOptions, SourceOptions
from imgtools.transport.table import Transports

PLAIN = SourceOptions(registry=RegistryOptions(tls_verify=False))


def location(directory: Path, driver: str = "flat") -> StoreLocation:
    """A place for a store below `directory`."""
    return StoreLocation(
        root=str(directory / "root"), runroot=str(directory / "run"), driver=driver
    )


def publish(registry: ScriptedRegistry, repository: str, tag: str, sample: Sample) -> str:
    """Put an image or index into a registry; its reference."""
    for content in sample.blobs.values():
        registry.push_blob(repository, content)
    for raw in sample.manifests:
        registry.push_manifest(repository, raw.content, raw.media_type)
    registry.push_manifest(repository, sample.top.content, sample.top.media_type, tags=[tag])
    return f"{registry.host}/{repository}:{tag}"


def pull(
    store: Store, text: str, policy: PullPolicy = "missing", progress: Progress = ignore
) -> StoredImage:
    """Pull an image without TLS."""
    with Transports() as transports:
        options = PullOptions(policy=policy, source=PLAIN)
        return pull_image(store, text, options, transports=transports, task=Task(progress=progress))


def verify(store: Store) -> None:
    """Assert that everything that a store says is true: what names mean is there, every layer
    of every image comes back with its digest, and the index is as the records are."""
    contents = store.contents()
    for name in store.names().values():
        assert name.image_id in contents.images
    for image in contents.images.values():
        assert Digest.of(store.manifest(image).content) == image.manifest.digest
        assert [str(d) for d in store.config(image).diff_ids] == [
            str(layer.diff_id) for layer in image.layers
        ]
        for layer in image.layers:
            assert layer.chain_id in contents.layers
        with store.source(StorageName(image_id=image.id), task=Task()) as source:
            for layer in image.layers:
                with source.open_blob(layer.blob_as_stored()) as reader:
                    while reader.read(1 << 18):
                        pass
    before = store.parts.index.dump()
    store.rebuild()
    assert store.parts.index.dump() == before


def left_over(store: Store) -> tuple[Sequence[Digest], Sequence[str]]:
    """Layers that nothing needs, and what is in the directory of temporary files."""
    contents = store.contents()
    stray = sorted(set(contents.layers) - needed_layers(contents))
    tmp = Path(store.parts.layout.tmp)
    return stray, sorted(p.name for p in tmp.iterdir()) if tmp.exists() else []
