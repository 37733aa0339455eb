"""Images in a store: pulled once, given back as they were, used, and removed."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.storage.collect import ImageInUse
from engine.storage.images import StoredImage
from engine.storage.names import StorageName
from engine.storage.store import Store
from imgtools.copy import copy_image
from imgtools.errors import (
    Conflict,
    ConnectionFailed,
    DigestMismatch,
    ImageNotFound,
    InvalidReference,
    StorageError,
)
from imgtools.spec.platform import from_machine
from imgtools.task import Advanced, Event, Task
from imgtools.testing import images
from imgtools.testing.registry import ScriptedRegistry
from imgtools.transport.options import DestinationOptions, RegistryOptions, SourceOptions
from imgtools.transport.table import Transports
from tests.engine.store_rig import left_over, location, publish, pull, verify

HOST = from_machine("linux", os.uname().machine)


@pytest.fixture(params=["flat", "overlay"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    with Store.open(location(tmp_path, request.param)) as opened:
        yield opened


@pytest.fixture
def registry() -> Iterator[ScriptedRegistry]:
    with ScriptedRegistry() as opened:
        yield opened


def test_image_is_pulled_and_found(store: Store, registry: ScriptedRegistry) -> None:
    sample = images.random_image("a", layers=5, size=50_000, platform=HOST)
    name = publish(registry, "team/app", "1", sample)
    events: list[Event] = []
    image = pull(store, name, progress=events.append)
    assert store.find(name) == (image, name)
    assert store.find(image.id[:10]) == (image, "")
    assert store.find("team/app:1")[0] == image
    assert store.find(f"{registry.host}/team/app@{sample.top.digest}")[0] == image
    assert store.manifest(image).content == sample.top.content
    assert sum(e.amount for e in events if isinstance(e, Advanced)) == sum(
        descriptor.size for descriptor in sample.blobs
    )
    verify(store)
    assert left_over(store) == ([], [])


def test_nothing_is_moved_twice(store: Store, registry: ScriptedRegistry) -> None:
    base = [images.random_layer(n, 30_000) for n in range(3)]
    one = images.image_of(base, "one", platform=HOST)
    two = images.image_of([*base, images.random_layer("top")], "two", platform=HOST)
    pull(store, publish(registry, "r", "1", one))
    registry.forget_requests()
    pull(store, publish(registry, "r", "2", two))
    assert registry.count("GET", "/blobs/") == 2  # a config and the layer on top
    registry.forget_requests()
    pull(store, f"{registry.host}/r:2")
    assert registry.requests == []
    pull(store, f"{registry.host}/r:2", "always")
    assert registry.count("GET", "/blobs/") == 0
    verify(store)


def test_layers_on_other_ones_are_unpacked_from_the_store(
    store: Store, registry: ScriptedRegistry
) -> None:
    first, second = images.random_layer("first", 30_000), images.random_layer("second", 30_000)
    pull(store, publish(registry, "r", "1", images.image_of([first, second], 1, platform=HOST)))
    registry.forget_requests()
    turned = images.image_of([second, first, second], 2, platform=HOST)
    pull(store, publish(registry, "r", "2", turned))
    assert registry.count("GET", "/blobs/") == 1
    verify(store)


def test_of_an_index_the_image_for_this_machine_is_stored(
    store: Store, registry: ScriptedRegistry
) -> None:
    index = images.random_index("i")
    name = publish(registry, "multi", "1", index)
    image = pull(store, name)
    assert image.platform == str(HOST)
    assert store.find(f"{registry.host}/multi@{index.top.digest}")[0] == image
    assert store.find(f"{registry.host}/multi@{image.manifest.digest}")[0] == image
    registry.forget_requests()
    pinned = f"{registry.host}/multi@{index.top.digest}"
    assert pull(store, pinned) == image
    assert registry.requests == []
    assert pull(store, pinned, "always").id == image.id
    assert pinned in store.names()


def test_policies(store: Store, registry: ScriptedRegistry) -> None:
    old = images.random_image("old", platform=HOST)
    new = images.random_image("new", platform=HOST)
    name = publish(registry, "r", "1", old)
    with pytest.raises(ImageNotFound):
        pull(store, name, "never")
    first = pull(store, name)
    publish(registry, "r", "1", new)
    assert pull(store, name) == pull(store, name, "never") == first
    second = pull(store, name, "newer")
    assert second.id != first.id
    assert store.find(name)[0] == second
    assert first.id in store.images()  # without a name
    with pytest.raises(ImageNotFound):
        pull(store, f"{registry.host}/r:none", "always")


def test_newer_makes_do_with_what_is_stored(store: Store) -> None:
    with ScriptedRegistry() as registry:
        name = publish(registry, "r", "1", images.random_image("x", platform=HOST))
        image = pull(store, name)
    events: list[Event] = []
    assert pull(store, name, "newer", events.append) == image
    assert events
    with pytest.raises(ConnectionFailed):
        pull(store, name, "always")


def test_wrong_layer_leaves_no_image(store: Store, registry: ScriptedRegistry) -> None:
    """The config promises another layer than the one that comes."""
    honest = images.random_image("honest", layers=1, platform=HOST)
    other = images.random_image("other", layers=1, platform=HOST)
    for sample in (honest, other):
        publish(registry, "r", "x", sample)
    document = json.loads(honest.top.content)
    document["layers"] = json.loads(other.top.content)["layers"]
    registry.push_manifest("r", json.dumps(document).encode(), tags=["lie"])
    with pytest.raises(DigestMismatch):
        pull(store, f"{registry.host}/r:lie")
    assert store.images() == {}
    assert left_over(store) == ([], [])


def test_interrupted_pull_goes_on_where_it_was(store: Store, registry: ScriptedRegistry) -> None:
    sample = images.random_image("cut", layers=3, size=200_000, platform=HOST)
    name = publish(registry, "r", "1", sample)
    view = [d for d in sample.blobs if "layer" in d.media_type]
    registry.fail(method="GET", path=f"/blobs/{view[2].digest}", stall=0.7, status=404)
    with pytest.raises(Exception, match=str(view[2].digest)):
        pull(store, name)
    assert store.images() == {}
    registry.faults.clear()
    registry.forget_requests()
    pull(store, name)
    assert registry.count("GET", f"/blobs/{view[0].digest}") == 0
    verify(store)


def test_copy_gives_plain_layers_and_a_registry_compressed_ones(
    store: Store, registry: ScriptedRegistry, tmp_path: Path
) -> None:
    sample = images.random_image("s", layers=3, size=5000, platform=HOST)
    pull(store, publish(registry, "r", "1", sample))
    name = StorageName(text=f"{registry.host}/r:1")
    plain = DestinationOptions(registry=RegistryOptions(tls_verify=False))
    with store.source(name, as_received=True, task=Task()) as source:
        assert source.top().content == sample.top.content
        assert not source.origin.synthesised
    with Transports() as transports:
        for target in (f"dir:{tmp_path}/copy", f"docker://{registry.host}/back:1"):
            with (
                store.source(name, task=Task()) as source,
                transports.open_destination(target, plain) as destination,
            ):
                assert source.origin.synthesised
                copy_image(source, destination, task=Task())
    again = pull(store, f"{registry.host}/back:1")
    assert again.id == store.find(f"{registry.host}/r:1")[0].id


def test_uncompressed_image_keeps_its_manifest(store: Store, registry: ScriptedRegistry) -> None:
    sample = images.random_image("s", compression="none", platform=HOST)
    name = publish(registry, "r", "1", sample)
    pull(store, name)
    with store.source(StorageName(text=name), task=Task()) as source:
        assert source.top().content == sample.top.content
        assert not source.origin.synthesised


def test_changed_store_is_noticed(store: Store, registry: ScriptedRegistry) -> None:
    name = publish(registry, "r", "1", images.random_image("s", layers=1, platform=HOST))
    image = pull(store, name)
    assert image.chain_id is not None
    (tree,) = store.layers.lower((image.chain_id,))
    (file,) = (p for p in Path(tree).rglob("*") if p.is_file())
    file.write_bytes(b"!" + file.read_bytes()[1:])
    with store.source(StorageName(text=name), task=Task()) as source:
        layer = image.layers[0].blob_as_stored()
        with pytest.raises(DigestMismatch), source.open_blob(layer) as reader:
            reader.read()
        file.write_bytes(b"short")
        with (
            pytest.raises(StorageError, match="not what was unpacked"),
            source.open_blob(layer) as reader,
        ):
            reader.read()


def test_lost_layer_is_pulled_again(store: Store, registry: ScriptedRegistry) -> None:
    name = publish(registry, "r", "1", images.random_image("s", layers=1, platform=HOST))
    image = pull(store, name)
    assert image.chain_id is not None
    store.layers.remove(image.chain_id)
    pull(store, name, "always")
    verify(store)


def named(store: Store, registry: ScriptedRegistry, seed: str, *more: str) -> StoredImage:
    image = pull(store, publish(registry, seed, "1", images.random_image(seed, platform=HOST)))
    if more:
        store.tag(image.id, more, task=Task())
    return image


def test_names_are_given_and_taken(store: Store, registry: ScriptedRegistry) -> None:
    image = named(store, registry, "a", "b", "c:2")
    other = named(store, registry, "x")
    with pytest.raises(Conflict, match="more than one tag"):
        store.remove(image.id, task=Task())
    assert store.remove("b", task=Task()).names == ("localhost/b:latest",)
    store.tag("x:1", ["c:2"], task=Task())
    assert store.find("c:2")[0] == other
    removal = store.remove("a:1", task=Task())
    assert removal.images == (image.id,)
    with pytest.raises(ImageNotFound):
        store.remove("a:1", task=Task())
    assert set(store.images()) == {other.id}
    with pytest.raises(InvalidReference):
        store.tag("x:1", ["BAD"], task=Task())
    verify(store)


def test_image_in_use_stays(store: Store, registry: ScriptedRegistry) -> None:
    image = named(store, registry, "a")
    use = store.use(image, "container-1", task=Task())
    store.snapshots.prepare(image.chain_id, "container-1")
    with pytest.raises(ImageInUse, match="container-1"):
        store.remove("a:1", task=Task())
    assert store.prune([image.id], task=Task()).images == ()
    assert store.remove("a:1", force=True, task=Task()).layers == ()
    assert store.snapshots.get("container-1").chain_id == image.chain_id
    assert store.prune(task=Task()).empty
    store.snapshots.remove("container-1")
    use.end()
    assert len(store.prune(task=Task()).layers) == 2
    with pytest.raises(ImageNotFound):
        store.use(image, "container-2", task=Task())
    assert left_over(store) == ([], [])


def test_taken_id_is_refused(store: Store, registry: ScriptedRegistry) -> None:
    image = named(store, registry, "a")
    use = store.use(image, "one", task=Task())
    with pytest.raises(Conflict):
        store.use(image, "one", task=Task())
    use.detach()
    with pytest.raises(Conflict):
        store.use(image, "one", task=Task())


def test_use_of_which_a_power_loss_left_an_empty_file_is_nobody(
    store: Store, registry: ScriptedRegistry
) -> None:
    image = named(store, registry, "a")
    use = store.use(image, "lost", task=Task())
    store.snapshots.prepare(image.chain_id, "lost")
    use.detach()
    os.truncate(os.path.join(store.parts.layout.base, "uses", "lost.json"), 0)
    assert store.prune(task=Task()).snapshots == ("lost",)
    assert list(store.snapshots.list()) == []
    assert os.listdir(os.path.join(store.parts.layout.base, "uses")) == []


def test_only_uses_that_outlive_a_process_are_written_out(
    store: Store, registry: ScriptedRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = named(store, registry, "a")
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    store.use(image, "one", task=Task()).end()
    assert synced == []
    store.use(image, "two", persistent=True, task=Task()).end()
    assert len(synced) == 3


def test_what_a_dead_user_left_is_removed(store: Store, registry: ScriptedRegistry) -> None:
    image = named(store, registry, "a")
    pid = os.fork()
    if pid == 0:
        try:
            store.use(image, "dead", task=Task())
            store.snapshots.prepare(image.chain_id, "dead")
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    assert store.snapshots.get("dead").id == "dead"
    removal = store.prune(task=Task())
    assert [use.id for use in removal.uses] == ["dead"]
    assert removal.images == ()
    assert list(store.snapshots.list()) == []
    assert store.remove("a:1", task=Task()).images == (image.id,)


def test_source_keeps_layers_of_an_image_that_is_removed(
    store: Store, registry: ScriptedRegistry
) -> None:
    image = named(store, registry, "a")
    with store.source(StorageName(text="a:1"), task=Task()) as source:
        assert store.remove("a:1", task=Task()).layers == ()
        for layer in image.layers:
            with source.open_blob(layer.blob_as_stored()) as reader:
                reader.read()
    assert len(store.prune(task=Task()).layers) == 2


def test_listing_waits_for_nobody(store: Store, registry: ScriptedRegistry) -> None:
    """Not for a pull that unpacks, nor for who writes the index or holds images' locks."""
    image = named(store, registry, "a")
    slow = images.random_image("slow", layers=1, size=3_000_000, platform=HOST)
    name = publish(registry, "slow", "1", slow)
    registry.fail(method="GET", path="/blobs/", stall=1.0)
    failed: list[BaseException] = []

    def work() -> None:
        try:
            with Store.open(store.location) as other:
                pull(other, name)
        except BaseException as e:  # noqa: BLE001 - looked at by the test
            failed.append(e)

    puller = threading.Thread(target=work)
    writer = store.parts.locks.try_exclusive("image", image.id)
    assert writer is not None
    with writer, Store.open(store.location) as third:
        third.images()
        database = third.parts.index._open()
        database.execute("BEGIN IMMEDIATE")
        puller.start()
        seen = 0
        until = time.monotonic() + 1.0
        while time.monotonic() < until:
            with Store.open(store.location) as reader:
                assert image.id in reader.images()
                assert reader.find("a:1")[0] == image
            seen += 1
        database.execute("ROLLBACK")
    puller.join()
    assert failed == []
    assert seen > 3
    verify(store)


def test_sources_and_destinations_open_by_name(
    store: Store, registry: ScriptedRegistry, tmp_path: Path
) -> None:
    from engine.storage.transport import StorageOpener

    sample = images.random_image("n", platform=HOST)
    where = location(tmp_path / "other")
    opener = StorageOpener(store.location, Store.open, Task())
    with (
        Transports(more={"containers-storage": lambda: opener}) as transports,
        transports.open_source(
            f"docker://{publish(registry, 'n', '1', sample)}",
            SourceOptions(registry=RegistryOptions(tls_verify=False)),
        ) as source,
        transports.open_destination(
            f"containers-storage:[vfs@{where.root}+{where.runroot}]n:1", DestinationOptions()
        ) as destination,
    ):
        copy_image(source, destination, task=Task())
    assert store.images() == {}
    with Store.open(where) as other:
        assert list(other.names()) == ["docker.io/library/n:1"]
        verify(other)
