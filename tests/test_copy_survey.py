"""What a survey asks, and that it asks no more: calls counted on doubles."""

from __future__ import annotations

from dataclasses import replace

import pytest

from imgtools.copy import CopyOptions, Selection, survey
from imgtools.copy.walk import MAX_DEPTH
from imgtools.errors import ImageNotFound, InvalidManifest, LimitExceeded, NotFound, Rejected
from imgtools.errors import Unsupported as Refused
from imgtools.spec.descriptor import Descriptor
from imgtools.spec.digest import Digest
from imgtools.spec.manifest import Manifest, RawManifest, parse
from tests.copy_doubles import (
    AMD64,
    ARM64,
    FakeDestination,
    FakeSource,
    Forbidden,
    World,
    archive_destination,
    attestation,
    dir_destination,
    layout_destination,
    task,
)

ALL = CopyOptions(selection=Selection(mode="all"))
SYSTEM = CopyOptions(selection=Selection(platform=AMD64))


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def pair(world: World) -> RawManifest:
    """An index of two images with a layer in common."""
    return world.index(
        (world.image([b"common", b"a"]), AMD64),
        (world.image([b"common", b"b"], platform=ARM64), ARM64),
    )


def test_equal_names_are_all_that_is_asked(world: World) -> None:
    """Two HEADs, and nothing is opened."""
    image = world.image([b"a"])
    source, destination = FakeSource(world, image), FakeDestination(current=image)
    found = survey(source, destination, SYSTEM, task=task())
    assert (found.complete, found.named) == (True, True)
    assert (source.names(), destination.names()) == (["resolve"], ["current"])


def test_an_equal_index_at_a_registry_is_whole(world: World, pair: RawManifest) -> None:
    """A registry takes no index whose instances it lacks."""
    source, destination = FakeSource(world, pair), FakeDestination(current=pair)
    assert survey(source, destination, ALL, task=task()).complete
    assert (source.names(), destination.names()) == (["resolve"], ["current"])


def test_an_equal_index_in_a_layout_is_looked_at(world: World, pair: RawManifest) -> None:
    """It may be there without its instances, as a sparse copy leaves it."""
    source, empty = FakeSource(world, pair), layout_destination(current=pair)
    assert not survey(source, empty, ALL, task=task()).complete
    whole = layout_destination(current=pair, world=world)
    assert survey(source, whole, ALL, task=task()).complete


@pytest.mark.parametrize("sparse", [True, False])
def test_an_equal_index_says_nothing_about_a_subset(
    world: World, pair: RawManifest, sparse: bool
) -> None:
    """What was kept the last time may have been another instance."""
    options = CopyOptions(selection=Selection(mode="platforms", platforms=(ARM64,), sparse=sparse))
    found = survey(FakeSource(world, pair), FakeDestination(current=pair), options, task=task())
    assert not found.named


def test_the_chosen_instance_is_compared(world: World, pair: RawManifest) -> None:
    """With an index at the source, what is copied is one of its images."""
    image = next(r for r in world.documents.values() if not r.is_index)
    source, destination = FakeSource(world, pair), FakeDestination(current=image)
    found = survey(source, destination, SYSTEM, task=task())
    assert found.complete
    assert found.root.digest == image.digest
    assert source.names() == ["resolve", "top"]


def test_a_conversion_is_not_skipped(world: World) -> None:
    """Equal names prove nothing when something else is to be written."""
    image = world.image([b"a"], docker=True)
    options = CopyOptions(format="oci")
    found = survey(FakeSource(world, image), FakeDestination(current=image), options, task=task())
    assert not found.named


def test_policy_comes_before_everything(world: World, pair: RawManifest) -> None:
    """It sees the bytes as received, and what it refuses is not parsed."""
    nonsense = RawManifest(content=b"no json", media_type="x", digest=Digest.of(b"no json"))
    source = FakeSource(world, nonsense)
    seen = []

    def admit(raw: RawManifest) -> None:
        seen.append(raw)
        raise Rejected("no")

    with pytest.raises(Rejected):
        survey(source, FakeDestination(), ALL, admit, task=task())
    assert seen == [nonsense]
    assert source.names() == ["top"]


def test_policy_is_asked_though_names_are_equal(world: World) -> None:
    """What is there already may be refused today."""
    image = world.image([b"a"])
    seen: list[RawManifest] = []
    survey(
        FakeSource(world, image), FakeDestination(current=image), SYSTEM, seen.append, task=task()
    )
    assert seen == [image]


def test_a_new_repository_is_not_asked_for_blobs(world: World, pair: RawManifest) -> None:
    """The upload asks the same question; each manifest is read once, configs not at all."""
    source, destination = FakeSource(world, pair), FakeDestination()
    found = survey(source, destination, ALL, task=task())
    assert destination.names() == ["current"]
    assert source.names() == ["manifest", "manifest", "resolve", "top"]
    assert len(found.nodes) == 3


def test_a_changed_tag_is_asked_once_for_each_blob(world: World, pair: RawManifest) -> None:
    """Instances first: those that are there need no questions about their blobs."""
    before = World()
    kept = before.image([b"common", b"a"])
    destination = FakeDestination(world=before, current=before.index((kept, AMD64)))
    found = survey(FakeSource(world, pair), destination, ALL, task=task())
    assert found.manifests == {kept.digest}
    assert destination.count("has_manifest") == 2
    assert destination.count("has_blob") == 3
    assert sorted(found.blobs.values()) == [False, False, True]


def test_the_same_registry_is_not_asked_for_blobs(world: World, pair: RawManifest) -> None:
    """A mount answers that."""
    destination = FakeDestination(
        registry="src.example", repository="b", current=world.image([b"x"])
    )
    survey(FakeSource(world, pair), destination, ALL, task=task())
    assert destination.count("has_blob") == 0


def test_retagging_reads_one_manifest(world: World, pair: RawManifest) -> None:
    """In one repository everything is there."""
    source = FakeSource(world, pair)
    destination = FakeDestination(registry="src.example", repository="app")
    found = survey(source, destination, ALL, task=task())
    assert (found.complete, found.named) == (True, False)
    assert source.names() == ["resolve", "top"]


def test_a_local_destination_is_always_asked(world: World) -> None:
    """Looking is cheap there; and where nothing is, the source's HEAD is saved."""
    image = world.image([b"a", b"b"])
    source, destination = FakeSource(world, image), dir_destination()
    survey(source, destination, SYSTEM, task=task())
    assert destination.count("has_blob") == 3
    assert source.names() == ["top"]


def test_configs_are_read_only_for_layers_that_change(world: World) -> None:
    """An archive wants them uncompressed."""
    image = world.image([b"a", b"b"])
    source = FakeSource(world, image)
    found = survey(source, archive_destination(), SYSTEM, task=task())
    assert source.count("open_blob") == 1
    assert len(found.configs) == 1


def test_artifacts_attestations_and_nested_indexes(world: World) -> None:
    """Everything of a tree is read, and blobs listed in an index are no manifests."""
    image = world.image([b"a"])
    inner = world.index((image, AMD64), attestation(world, image))
    cache = world.blob(b"cache", "application/vnd.buildkit.cacheconfig.v0")
    top = world.index((inner, None), (world.artifact(b"sbom"), None), cache)
    source = FakeSource(world, top)
    found = survey(source, dir_destination(), ALL, task=task())
    assert len(found.nodes) == 5
    assert source.count("manifest") == 4
    assert cache.digest in found.blobs


def test_system_looks_into_nested_indexes(world: World) -> None:
    """An index of indexes still has one image for a platform."""
    image = world.image([b"a"])
    inner = world.index((image, AMD64))
    top = world.index((inner, AMD64))
    found = survey(FakeSource(world, top), FakeDestination(), SYSTEM, task=task())
    assert found.root.digest == image.digest


def test_too_deep(world: World) -> None:
    """A chain of indexes ends."""
    raw = world.image([b"a"])
    for _ in range(MAX_DEPTH + 1):
        raw = world.index((raw, None))
    with pytest.raises(LimitExceeded, match="nesting"):
        survey(FakeSource(world, raw), FakeDestination(), ALL, task=task())


def test_too_many(world: World) -> None:
    """So does a wide one, before anything is fetched."""
    entry = world.image([b"a"]).descriptor()
    many = [replace(entry, digest=Digest.of(str(i).encode())) for i in range(10_001)]
    source = FakeSource(world, world.index(*many))
    with pytest.raises(LimitExceeded, match="10000 manifests"):
        survey(source, FakeDestination(), ALL, task=task())
    assert source.count("manifest") == 0


def test_too_many_configs(world: World) -> None:
    """What is kept in memory is bounded in all, not only one by one."""
    image = parse(world.image([b"a"]))
    assert isinstance(image, Manifest)
    raws = []
    for number in range(70):
        config = replace(image.config, digest=Digest.of(b"%d" % number), size=4 * 1024 * 1024)
        raws.append(world.manifest(replace(image, config=config).to_raw()))
    source = FakeSource(world, world.index(*[(raw, AMD64) for raw in raws]))
    options = replace(ALL, compression="zstd", force_compression=True)
    with pytest.raises(LimitExceeded, match="configs"):
        survey(source, FakeDestination(), options, task=task())
    assert source.count("open_blob") == 0


def test_a_missing_child_is_named(world: World, pair: RawManifest) -> None:
    """A sparse index cannot be copied whole."""
    gone = next(d for d, raw in world.documents.items() if not raw.is_index)
    del world.documents[gone]
    with pytest.raises(NotFound, match=str(gone)):
        survey(FakeSource(world, pair), FakeDestination(), ALL, task=task())


def test_no_image(world: World) -> None:
    """Exit code 2 hangs on this type."""
    with pytest.raises(ImageNotFound):
        survey(FakeSource(world, None), FakeDestination(), ALL, task=task())


def test_no_instance_for_a_platform(world: World) -> None:
    """The message lists what there is."""
    index = world.index((world.image([b"a"]), ARM64))
    with pytest.raises(NotFound, match="linux/arm64"):
        survey(FakeSource(world, index), FakeDestination(), SYSTEM, task=task())


def test_bad_manifest(world: World) -> None:
    """Malformed is an error of the tree of errors."""
    raw = world.manifest(RawManifest.of(b'{"schemaVersion":2,"layers":[]}'))
    with pytest.raises(InvalidManifest, match="no config"):
        survey(FakeSource(world, raw), FakeDestination(), ALL, task=task())


def test_referrers_of_referrers_once(world: World) -> None:
    """Recursively, and a loop ends."""
    image = world.image([b"a"])
    first = world.artifact(b"signature", subject=image)
    second = world.artifact(b"of the signature", subject=first)
    links: dict[Digest, list[Descriptor]] = {
        image.digest: [first.descriptor()],
        first.digest: [second.descriptor()],
        second.digest: [first.descriptor()],
    }
    source = FakeSource(world, image, referrers=links)
    found = survey(source, FakeDestination(), CopyOptions(referrers=True), task=task())
    assert set(found.nodes) == {image.digest, first.digest, second.digest}
    assert source.count("referrers") == 3


def test_referrers_need_a_place(world: World) -> None:
    """Silently losing them would be worse."""
    source = FakeSource(world, world.image([b"a"]))
    with pytest.raises(Refused, match="referrers"):
        survey(source, dir_destination(), CopyOptions(referrers=True), task=task())


def test_signatures_beside_the_source_are_not_lost_silently(world: World) -> None:
    """As skopeo, which asks for --remove-signatures."""

    class Signed(FakeSource):
        def signatures(self, digest: Digest | None = None) -> tuple[bytes, ...]:
            return () if digest else (b"signature",)

    source = Signed(world, world.image([b"a"]))
    with pytest.raises(Refused, match="1 signatures"):
        survey(source, FakeDestination(), SYSTEM, task=task())
    survey(source, FakeDestination(), CopyOptions(remove_signatures=True), task=task())


def test_cancelled_before_it_starts(world: World, pair: RawManifest) -> None:
    """Nothing is read."""
    from imgtools.errors import Cancelled

    mine = task()
    mine.cancel.cancel()
    with pytest.raises(Cancelled):
        survey(FakeSource(world, pair), FakeDestination(), ALL, task=mine)


def test_forbidden_sees_every_use() -> None:
    """So that its silence elsewhere means something."""
    with pytest.raises(AssertionError):
        Forbidden().anything  # noqa: B018
