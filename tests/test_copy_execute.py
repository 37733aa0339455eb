"""What a copy leaves at its destination, in memory: content, order, faults, cancellation."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imgtools.blob.compression import Decompressor
from imgtools.copy import CopyOptions, CopyResult, Selection, copy_image
from imgtools.errors import (
    BlobNotFound,
    Cancelled,
    DigestMismatch,
    Error,
    ImageNotFound,
    InvalidArchive,
    LimitExceeded,
    SeveralErrors,
    SizeMismatch,
    StorageError,
)
from imgtools.spec import media_type as mt
from imgtools.spec.config import Config
from imgtools.spec.digest import Digest
from imgtools.spec.manifest import Index, Manifest, RawManifest, parse
from imgtools.task import Advanced, Event, Finished, Note, Started
from tests.copy_doubles import (
    AMD64,
    ARM64,
    FakeDestination,
    FakeSource,
    World,
    archive_destination,
    attestation,
    dir_destination,
    gzipped,
    layout_destination,
    task,
)

ALL = CopyOptions(selection=Selection(mode="all"))


def copy(
    source: FakeSource, destination: FakeDestination, options: CopyOptions | None = None
) -> CopyResult:
    """With defaults."""
    return copy_image(source, destination, options, task=task())


def manifest_at(destination: FakeDestination) -> Manifest:
    """The image that the destination's name points at."""
    assert destination.top is not None
    view = parse(destination.top)
    assert isinstance(view, Manifest)
    return view


def content(destination: FakeDestination) -> list[bytes]:
    """The uncompressed layers of that image."""
    from io import BytesIO

    return [
        Decompressor(BytesIO(destination.world.blobs[layer.digest])).read()
        for layer in manifest_at(destination).layers
    ]


def assert_same_tree(world: World, raw: RawManifest, there: World) -> None:
    """Everything below `raw` is at the destination, byte for byte."""
    assert there.documents[raw.digest].content == raw.content
    view = parse(raw)
    if isinstance(view, Index):
        for child in view.manifests:
            if child.digest in world.documents:
                assert_same_tree(world, world.documents[child.digest], there)
            else:
                assert there.blobs[child.digest] == world.blobs[child.digest]
    elif isinstance(view, Manifest):
        for blob in view.blobs():
            assert there.blobs[blob.digest] == world.blobs[blob.digest]


@pytest.mark.parametrize("make", [FakeDestination, layout_destination, dir_destination])
def test_a_tree_arrives_as_it_is(make: Callable[[], FakeDestination]) -> None:
    """Nested, with an attestation, an artifact and a blob that an index lists."""
    world = World()
    image = world.image([b"a" * 5000, b"b"])
    inner = world.index((image, AMD64), attestation(world, image))
    cache = world.blob(b"cache", "application/vnd.buildkit.cacheconfig.v0")
    top = world.index((inner, None), (world.artifact(b"x"), None), cache)
    destination = make()
    result = copy(FakeSource(world, top), destination, ALL)
    assert_same_tree(world, top, destination.world)
    assert destination.committed
    assert destination.top == top
    assert result.top.digest == top.digest
    assert result.bytes_moved == sum(map(len, world.blobs.values()))
    assert dict(result.blobs) == {"stored": len(world.blobs)}
    assert not result.up_to_date


@settings(max_examples=30, deadline=None)
@given(
    st.recursive(
        st.lists(st.binary(max_size=40), max_size=3),
        lambda children: st.lists(children, min_size=1, max_size=3).map(tuple),
        max_leaves=8,
    )
)
def test_any_tree(shape: Any) -> None:
    """Blobs before manifests, children before parents, each put once, the top last."""
    world = World()

    def build(part: Any) -> RawManifest:
        if isinstance(part, tuple):
            return world.index(*[(build(child), None) for child in part])
        return world.image(part)

    top = build(shape)
    destination = FakeDestination()
    copy(FakeSource(world, top), destination, ALL)
    assert_same_tree(world, top, destination.world)
    order = destination.order
    assert len(order) == len(set(order))
    assert order[-1] == f"manifest {top.digest}"
    for raw in world.documents.values():
        view = parse(raw)
        if f"manifest {raw.digest}" in order and isinstance(view, Index):
            for child in view.manifests:
                assert order.index(f"manifest {child.digest}") < order.index(
                    f"manifest {raw.digest}"
                )
    kinds = [word.split()[0] for word in order]
    assert kinds == sorted(kinds)


def test_nothing_to_do_is_not_committed() -> None:
    """An untouched destination stays so."""
    world = World()
    image = world.image([b"a"])
    destination = FakeDestination(current=image)
    result = copy(FakeSource(world, image), destination)
    assert result.up_to_date
    assert result.top.digest == image.digest
    assert destination.names() == ["current"]


def test_retag_moves_nothing() -> None:
    """One manifest is put, under the new name."""
    world = World()
    top = world.index((world.image([b"a"]), AMD64))
    destination = FakeDestination(registry="src.example")
    result = copy(FakeSource(world, top), destination, ALL)
    assert destination.names() == ["commit", "current", "put_manifest"]
    assert [m.outcome for m in result.manifests] == ["tagged"]
    assert result.bytes_moved == 0


def test_mounts_move_nothing_and_fall_back() -> None:
    """A refused mount becomes a transfer of that blob."""
    world = World()
    source = FakeSource(world, world.image([b"a"]))
    mounting = FakeDestination(registry="src.example", repository="b")
    assert dict(copy(source, mounting).blobs) == {"mounted": 2}
    assert source.count("open_blob") == 0
    refusing = FakeDestination(registry="src.example", repository="b", mounts=False)
    assert dict(copy(source, refusing).blobs) == {"stored": 2}


@pytest.mark.parametrize("target", ["zstd", "gzip"])
def test_recompression(target: Any, tmp_path: Path) -> None:
    """The layers hold the same files, the manifest names them as they are."""
    world = World()
    layers = [b"one" * 10_000, b"two"]
    image = world.image(layers, compression="zstd" if target == "gzip" else "gzip")
    destination = FakeDestination()
    options = CopyOptions(compression=target, tmpdir=str(tmp_path))
    source = FakeSource(world, image)
    result = copy(source, destination, options)
    view = manifest_at(destination)
    assert {mt.layer_compression(layer.media_type) for layer in view.layers} == {target}
    assert content(destination) == layers
    assert [len(destination.world.blobs[x.digest]) for x in view.layers] == [
        layer.size for layer in view.layers
    ]
    assert dict(result.blobs) == {"stored": 1, "recompressed": 2}
    assert result.manifests[0].old == image.digest
    assert result.top.digest == destination.top.digest if destination.top else None
    # The config was read by the survey already.
    assert source.count("open_blob") == 3
    assert os.listdir(tmp_path) == []


def test_archive_gets_plain_layers(tmp_path: Path) -> None:
    """With their diff_ids as digests."""
    world = World()
    destination = archive_destination()
    options = CopyOptions(tmpdir=str(tmp_path))
    copy(FakeSource(world, world.image([b"a", b"b"])), destination, options)
    view = manifest_at(destination)
    assert view.is_docker
    assert [layer.media_type for layer in view.layers] == [mt.DOCKER_LAYER] * 2
    assert [layer.digest for layer in view.layers] == [Digest.of(b"a"), Digest.of(b"b")]


def test_recompressed_instances_are_found_in_the_index() -> None:
    """The index names what was stored, at every level."""
    world = World()
    inner = world.index((world.image([b"a"]), AMD64))
    top = world.index((inner, None), (world.image([b"b"], platform=ARM64), ARM64))
    destination = FakeDestination()
    copy(FakeSource(world, top), destination, replace(ALL, compression="zstd"))
    assert destination.top is not None

    def images(raw: RawManifest) -> list[Manifest]:
        view = parse(raw)
        if isinstance(view, Index):
            return [
                i for d in view.manifests for i in images(destination.world.documents[d.digest])
            ]
        assert isinstance(view, Manifest)
        return [view]

    found = images(destination.top)
    assert {layer.media_type for image in found for layer in image.layers} == {mt.OCI_LAYER_ZSTD}
    assert len(found) == 2


def test_wrong_media_type_of_a_layer() -> None:
    """What a layer is compressed with, its first bytes say."""
    world = World()
    image = world.image([b"a"], compression="gzip")
    view = parse(image)
    assert isinstance(view, Manifest)
    lying = replace(view, layers=(view.layers[0].with_media_type(mt.OCI_LAYER_ZSTD),))
    destination = archive_destination()
    copy(FakeSource(world, world.manifest(lying.to_raw())), destination)
    assert content(destination) == [b"a"]


def schema1(world: World, layers: list[bytes]) -> RawManifest:
    """A signed schema 1 manifest, with a throwaway layer on top."""
    empty = world.blob(gzipped(b"\0" * 1024), "").digest
    digests = [world.blob(gzipped(layer), "").digest for layer in layers]
    v1 = [{"id": str(i), "created": "2020-01-01T00:00:00Z"} for i in range(len(layers))]
    v1.append({"id": "top", "throwaway": True, "os": "linux", "architecture": "arm64"})
    document = {
        "schemaVersion": 1,
        "name": "app",
        "tag": "1",
        "architecture": "arm64",
        "fsLayers": [{"blobSum": str(d)} for d in [empty, *reversed(digests)]],
        "history": [{"v1Compatibility": json.dumps(entry)} for entry in reversed(v1)],
    }
    payload = json.dumps(document, indent=3).encode()
    cut = len(payload) - 2
    header = {
        "formatLength": cut,
        "formatTail": base64.urlsafe_b64encode(payload[cut:]).decode().rstrip("="),
    }
    protected = base64.urlsafe_b64encode(json.dumps(header).encode()).decode().rstrip("=")
    signatures = json.dumps([{"protected": protected, "signature": "x"}]).encode()
    return world.manifest(
        RawManifest.of(payload[:cut] + b',"signatures":' + signatures + payload[cut:])
    )


def test_schema1_passes_through() -> None:
    """Byte for byte, with the sizes found out on the way."""
    world = World()
    raw = schema1(world, [b"a", b"b"])
    destination = FakeDestination()
    copy(FakeSource(world, raw), destination)
    assert destination.top == raw
    assert destination.world.blobs == world.blobs


@pytest.mark.parametrize("form", ["oci", "v2s2"])
@pytest.mark.parametrize("compression", ["", "zstd"])
def test_schema1_is_converted(form: Any, compression: Any) -> None:
    """Layers are read for their diff_ids; the throwaway one is dropped."""
    if (form, compression) == ("v2s2", "zstd"):
        form = "oci"
    world = World()
    raw = schema1(world, [b"a", b"b"])
    destination = FakeDestination()
    options = CopyOptions(format=form, compression=compression)
    result = copy(FakeSource(world, raw), destination, options)
    view = manifest_at(destination)
    assert view.is_docker == (form == "v2s2")
    assert content(destination) == [b"a", b"b"]
    config = Config.parse(destination.world.blobs[view.config.digest])
    assert config.diff_ids == (Digest.of(b"a"), Digest.of(b"b"))
    assert config.platform.architecture == "arm64"
    assert [step.empty_layer for step in config.history] == [False, False, True]
    assert result.manifests[0].changes == (f"v2s1 -> {form}",)


def test_schema1_into_an_archive() -> None:
    """Converted and uncompressed in one go."""
    world = World()
    destination = archive_destination()
    copy(FakeSource(world, schema1(world, [b"a", b"b"])), destination)
    assert content(destination) == [b"a", b"b"]
    assert {x.media_type for x in manifest_at(destination).layers} == {mt.DOCKER_LAYER}


def test_referrers_arrive_before_the_name() -> None:
    """So that the image is never seen without its signature."""
    world = World()
    image = world.image([b"a"])
    signature = world.artifact(b"signature", subject=image)
    destination = FakeDestination()
    source = FakeSource(world, image, referrers={image.digest: [signature.descriptor()]})
    result = copy(source, destination, CopyOptions(referrers=True))
    manifests = [word for word in destination.order if word.startswith("manifest")]
    assert manifests == [f"manifest {signature.digest}", f"manifest {image.digest}"]
    assert [m.referrer for m in result.manifests] == [True, False]


FAULTS: list[tuple[str, Callable[[World, Digest], object], type[Error]]] = [
    ("wrong bytes", lambda w, d: w.blobs.update({d: b"x" * len(w.blobs[d])}), DigestMismatch),
    ("short", lambda w, d: w.blobs.update({d: w.blobs[d][:-1]}), SizeMismatch),
    ("long", lambda w, d: w.blobs.update({d: w.blobs[d] + b"x"}), SizeMismatch),
    ("missing", lambda w, d: w.blobs.pop(d), BlobNotFound),
]


@pytest.mark.parametrize(("hurt", "expected"), [f[1:] for f in FAULTS], ids=[f[0] for f in FAULTS])
@pytest.mark.parametrize("compression", ["", "zstd"])
def test_faulty_blob(
    hurt: Callable[[World, Digest], object], expected: type[Error], compression: Any, tmp_path: Path
) -> None:
    """Which copy and which blob are said, nothing is committed, no file is left."""
    world = World()
    image = world.image([b"layer"])
    view = parse(image)
    assert isinstance(view, Manifest)
    digest = view.layers[0].digest
    hurt(world, digest)
    destination = FakeDestination()
    options = CopyOptions(compression=compression, tmpdir=str(tmp_path))
    with pytest.raises((expected, InvalidArchive)) as caught:
        copy(FakeSource(world, image), destination, options)
    message = caught.value.message
    assert message.startswith("copy docker://src.example/app:1 to docker://dst.example/app:1: ")
    assert message.count(str(digest)) == 1
    assert not destination.committed
    assert destination.count("put_manifest") == 0
    assert os.listdir(tmp_path) == []


def test_layer_that_is_not_its_diff_id() -> None:
    """The blob is what the manifest says, its content is not what the config says."""
    world = World()
    image = world.image([b"real"], diff_ids=[b"claimed"])
    with pytest.raises(DigestMismatch, match="uncompressed"):
        copy(FakeSource(world, image), archive_destination())


def test_bomb(monkeypatch: pytest.MonkeyPatch) -> None:
    """Expanding beyond what honest data can is refused."""
    from imgtools.copy import spool

    monkeypatch.setattr(spool, "_LEAST_LIMIT", 1000)
    monkeypatch.setattr(spool, "_WORST_RATIO", 10)
    world = World()
    image = world.image([b"\0" * 1_000_000], compression="zstd")
    with pytest.raises(LimitExceeded):
        copy(FakeSource(world, image), archive_destination(), CopyOptions(format="v2s2"))


def test_no_place_for_temporary_files(tmp_path: Path) -> None:
    """The error names the directory."""
    world = World()
    options = CopyOptions(tmpdir=str(tmp_path / "gone"))
    with pytest.raises(Error, match="gone"):
        copy(FakeSource(world, world.image([b"a"])), archive_destination(), options)


def test_refused_manifest() -> None:
    """A manifest that the destination does not take is named."""
    world = World()
    image = world.image([b"a"])
    destination = FakeDestination()

    def refuse(name: str, subject: str) -> None:
        if name == "put_manifest":
            raise StorageError("disk full", path="x")

    destination.fail = refuse
    with pytest.raises(StorageError, match=f"manifest {image.digest}: disk full"):
        copy(FakeSource(world, image), destination)
    assert not destination.committed


def test_several_errors_at_once() -> None:
    """All are reported."""
    world = World()
    image = world.image([b"a", b"b"])
    source, destination = FakeSource(world, image), FakeDestination()
    both = threading.Barrier(3)

    def fail(name: str, subject: str) -> None:
        if name == "put_blob":
            both.wait(10)
            raise StorageError("disk full", path="x")

    destination.fail = fail
    with pytest.raises(SeveralErrors) as caught:
        copy(source, destination)
    assert len(caught.value.errors) == 3
    for error in (caught.value, *caught.value.errors):
        assert error.message.count("copy docker://src") == 1


def test_no_image_keeps_its_type() -> None:
    """The exit code hangs on it."""
    with pytest.raises(ImageNotFound, match="copy docker://src"):
        copy(FakeSource(World(), None), FakeDestination())


def test_cancelled_in_the_middle() -> None:
    """Other workers stop, nothing is committed, the message is not dressed up."""
    world = World()
    image = world.image([b"x" * 100_000, b"y" * 100_000])
    mine = task()
    destination = FakeDestination()

    def cancel(name: str, subject: str) -> None:
        if name == "put_blob":
            mine.cancel.cancel("interrupted")

    destination.fail = cancel
    before = threading.active_count()
    with pytest.raises(Cancelled, match=r"^interrupted$"):
        copy_image(FakeSource(world, image), destination, task=mine)
    assert not destination.committed
    assert threading.active_count() == before


def test_events(tmp_path: Path) -> None:
    """Each item starts, advances by its size, and finishes; changes and warnings are noted."""
    world = World()
    image = world.image([b"a" * 3000])
    events: list[Event] = []
    options = CopyOptions(compression="zstd", compress=True, tmpdir=str(tmp_path))
    result = copy_image(FakeSource(world, image), FakeDestination(), options, task=task(events))
    started = {e.item: e for e in events if isinstance(e, Started)}
    finished = {e.item: e.outcome for e in events if isinstance(e, Finished)}
    assert set(started) == set(finished)
    assert sorted(finished.values()) == ["recompressed", "recompressed", "stored"]
    for item, start in started.items():
        moved = sum(e.amount for e in events if isinstance(e, Advanced) and e.item == item)
        assert moved == start.total
    notes = [e for e in events if isinstance(e, Note)]
    assert [n.level for n in notes] == ["warning", "info"]
    assert notes[1].text == f"manifest {image.digest} -> {result.top.digest}"


def test_importing_copy_brings_no_compressor() -> None:
    """They are loaded when a plan has something to recompress."""
    program = "import sys, imgtools.copy; print(*sys.modules, sep='\\n')"
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, stdout=subprocess.PIPE, encoding="utf-8"
    )
    loaded = done.stdout.split()
    assert "imgtools.copy.execute" in loaded
    heavy = ("imgtools.blob.compression", "tempfile", "zstandard", "isal", "http.client", "ssl")
    assert [name for name in heavy if name in loaded] == []
