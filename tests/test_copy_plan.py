"""Plans by table and by golden files, and the proof that planning touches nothing.

`UPDATE_GOLDEN=1` in the environment rewrites the golden files instead of comparing.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from imgtools.copy import (
    CopyOptions,
    CopyPlan,
    Selection,
    plan_copy,
    prepare,
    render,
    survey,
    to_json,
)
from imgtools.copy.actions import (
    Decompress,
    Mount,
    PutIndex,
    PutManifest,
    Recompress,
    Reuse,
    Skip,
    Tag,
    Transfer,
)
from imgtools.copy.render import size_text
from imgtools.errors import DigestWouldChange, InvalidInput, InvalidManifest, NotFound, Unsupported
from imgtools.spec import media_type as mt
from imgtools.spec.manifest import Index, Manifest, RawManifest, parse
from tests.copy_doubles import (
    AMD64,
    ARM64,
    FakeDestination,
    FakeSource,
    World,
    archive_destination,
    attestation,
    dir_destination,
    layout_destination,
    task,
)

GOLDEN = Path(__file__).parent / "golden" / "copy"


def pair(world: World, *, docker: bool = False, compression: str = "gzip") -> RawManifest:
    """An index of two images with a layer in common."""

    def image(own: bytes, platform: Any) -> RawManifest:
        return world.image(
            [b"common", own], docker=docker, compression=compression, platform=platform
        )

    return world.index((image(b"a", AMD64), AMD64), (image(b"b", ARM64), ARM64), docker=docker)


def planned(
    source: FakeSource, destination: FakeDestination, options: CopyOptions | None = None
) -> CopyPlan:
    """Survey and plan."""
    return prepare(source, destination, options, task=task())


SYSTEM = Selection(platform=AMD64)
ALL = Selection(mode="all")
INDEX_ONLY = Selection(mode="index-only")
ONLY_ARM = Selection(mode="platforms", platforms=(ARM64,))
SPARSE = replace(ONLY_ARM, sparse=True)
SELECTIONS = {
    "system": SYSTEM,
    "all": ALL,
    "index-only": INDEX_ONLY,
    "platforms": ONLY_ARM,
    "sparse": SPARSE,
}
DESTINATIONS: dict[str, Callable[[], FakeDestination]] = {
    "registry": FakeDestination,
    "layout": layout_destination,
    "dir": dir_destination,
    "archive": archive_destination,
}


def matrix() -> list[Any]:
    """Every mode, format and destination, from either family."""
    return [
        pytest.param(mode, form, where, docker, id=f"{mode}-{docker}-{form or 'same'}-{where}")
        for mode in SELECTIONS
        for form in ("", "oci", "v2s2")
        for where in DESTINATIONS
        for docker in (False, True)
    ]


@pytest.mark.parametrize(("mode", "form", "where", "docker"), matrix())
def test_matrix(mode: str, form: Any, where: str, docker: bool) -> None:
    """The plan of each combination is what its golden file says."""
    world = World()
    options = CopyOptions(selection=SELECTIONS[mode], format=form)
    try:
        plan = planned(
            FakeSource(world, pair(world, docker=docker)), DESTINATIONS[where](), options
        )
        text = render(plan)
    except Unsupported as e:
        text = f"unsupported: {e.message}\n"
    kind = "v2s2" if docker else "oci"
    compare(f"{where}-{kind}.txt", f"--multi-arch {mode} --format {form or 'same'}", text)


def compare(name: str, title: str, text: str) -> None:
    """Check one section of a golden file, or write it."""
    path = GOLDEN / name
    sections: dict[str, str] = {}
    if path.exists():
        for part in path.read_text().split("# ")[1:]:
            head, _, body = part.partition("\n")
            sections[head] = body
    if os.environ.get("UPDATE_GOLDEN"):
        sections[title] = text + "\n"
        path.write_text("".join(f"# {head}\n{body}" for head, body in sections.items()))
    assert sections.get(title) == text + "\n"


def golden_cases() -> dict[str, tuple[FakeSource, FakeDestination, CopyOptions]]:
    """Plans beyond the matrix, each with something of its own."""
    world, cases = World(), {}

    def add(
        title: str, top: RawManifest, to: FakeDestination, options: CopyOptions, **more: Any
    ) -> None:
        cases[title] = (FakeSource(world, top, **more), to, options)

    index, image = pair(world), world.image([b"one", b"two" * 900])
    plain = world.image([b"plain", b"layer"], docker=True, compression="none")
    here = World(documents={}, blobs=dict(list(world.blobs.items())[:2]))
    system, everything = CopyOptions(selection=SYSTEM), CopyOptions(selection=ALL)
    add(
        "mount in the same registry",
        index,
        FakeDestination(registry="src.example", repository="other"),
        everything,
    )
    add("retag in the same repository", index, FakeDestination(registry="src.example"), everything)
    add("up to date", image, FakeDestination(current=image), system)
    add(
        "up to date but for more tags",
        image,
        FakeDestination(current=image),
        replace(system, additional_tags=("v2",)),
    )
    add("some blobs are there", index, layout_destination(world=here), everything)
    add(
        "gzip to zstd",
        index,
        FakeDestination(),
        replace(everything, compression="zstd", force_compression=True, compression_level=9),
    )
    add(
        "docker gzip to zstd becomes OCI",
        pair(world, docker=True),
        FakeDestination(),
        replace(everything, compression="zstd"),
    )
    add("plain layers are kept", plain, FakeDestination(), system)
    add("decompress into dir", image, dir_destination(), replace(system, decompress=True))
    add(
        "compress into a registry is a warning",
        image,
        FakeDestination(),
        replace(system, compress=True),
    )
    return {**cases, **golden_trees(world, image, plain)}


def golden_trees(
    world: World, image: RawManifest, plain: RawManifest
) -> dict[str, tuple[FakeSource, FakeDestination, CopyOptions]]:
    """Plans of made-up manifests, nested indexes and referrers."""
    cases = {}
    system, everything = CopyOptions(selection=SYSTEM), CopyOptions(selection=ALL)

    def add(
        title: str, top: RawManifest, to: FakeDestination, options: CopyOptions, **more: Any
    ) -> None:
        cases[title] = (FakeSource(world, top, **more), to, options)

    add(
        "archive source is compressed",
        plain,
        FakeDestination(),
        system,
        synthesised=True,
        registry="",
        name="docker-archive:in.tar",
    )
    add(
        "archive source to a layout that takes plain layers",
        plain,
        layout_destination(),
        replace(system, accept_uncompressed=True),
        synthesised=True,
        registry="",
        name="docker-archive:in.tar",
    )
    inner = world.index((image, AMD64), attestation(world, image))
    add(
        "nested index, attestation, blob entry",
        world.index((inner, None), world.blob(b"cache", "application/vnd.buildkit.cacheconfig.v0")),
        FakeDestination(),
        everything,
    )
    signature = world.artifact(b"signature", subject=image)
    add(
        "referrers",
        image,
        FakeDestination(current=image),
        replace(system, referrers=True),
        referrers={image.digest: [signature.descriptor()]},
    )
    add(
        "referrers of what changes",
        image,
        FakeDestination(),
        replace(system, referrers=True, format="v2s2"),
        referrers={image.digest: [signature.descriptor()]},
    )
    return cases


@pytest.mark.parametrize("name", golden_cases())
def test_golden(name: str) -> None:
    """The plan of each case is what the golden file says, and its JSON has the same actions."""
    source, destination, options = golden_cases()[name]
    plan = planned(source, destination, options)
    compare("cases.txt", name, render(plan))
    value = json.loads(json.dumps(to_json(plan)))
    assert len(value["blobs"]) == len(plan.blobs)
    assert len(value["manifests"]) == len(plan.manifests)


def test_planning_touches_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """No file, no socket, no thread, and equal surveys give equal plans."""
    surveys = [
        (survey(source, destination, options, task=task()), options)
        for source, destination, options in golden_cases().values()
    ]
    expected = [render(plan_copy(found, options)) for found, options in surveys]

    def forbidden(*args: object, **kwargs: object) -> None:
        raise AssertionError("the plan did something")

    for name in ("builtins.open", "os.open", "socket.socket", "threading.Thread", "time.time"):
        monkeypatch.setattr(name, forbidden)
    again = [render(plan_copy(found, options)) for found, options in surveys]
    monkeypatch.undo()
    assert again == expected


def test_blobs_once_and_largest_first() -> None:
    """Over the whole tree, config with the layers."""
    world = World()
    plan = planned(FakeSource(world, pair(world)), FakeDestination(), CopyOptions(selection=ALL))
    digests = [action.blob.digest for action in plan.blobs]
    assert len(digests) == len(set(digests)) == 5
    sizes = [action.blob.size for action in plan.blobs]
    assert sizes == sorted(sizes, reverse=True)
    assert all(isinstance(a, Transfer) and not a.certain for a in plan.blobs)


def test_children_before_parents_and_the_top_last() -> None:
    """Whatever the nesting."""
    world = World()
    image = world.image([b"a"])
    inner = world.index((image, AMD64))
    top = world.index((inner, None), (image, AMD64))
    plan = planned(FakeSource(world, top), FakeDestination(), CopyOptions(selection=ALL))
    assert [a.old.digest for a in plan.manifests] == [image.digest, inner.digest, top.digest]
    assert [a.level for a in plan.manifests] == [0, 1, 2]
    assert [a.top for a in plan.manifests] == [False, False, True]


def test_an_unchanged_manifest_is_the_bytes_received() -> None:
    """Even when they are not as we would write them."""
    world = World()
    image = world.image([b"a"])
    odd = world.manifest(RawManifest.of(image.content.replace(b'":', b'" :'), image.media_type))
    plan = planned(FakeSource(world, odd), FakeDestination())
    (action,) = plan.manifests
    assert isinstance(action, PutManifest)
    assert action.raw is not None
    assert action.raw.content == odd.content


def test_conversion_says_old_and_new() -> None:
    """And the new manifest is of the family asked for, over the same blobs."""
    world = World()
    image = world.image([b"a"])
    plan = planned(FakeSource(world, image), FakeDestination(), CopyOptions(format="v2s2"))
    (action,) = plan.manifests
    assert isinstance(action, PutManifest)
    assert action.changes == ("oci -> v2s2",)
    assert action.raw is not None
    new = parse(action.raw)
    assert isinstance(new, Manifest)
    assert (new.media_type, new.config.media_type) == (mt.DOCKER_MANIFEST, mt.DOCKER_CONFIG)
    assert f"{image.digest} -> {action.raw.digest}" in render(plan)


def test_an_index_of_some_platforms_has_only_them_and_their_attestations() -> None:
    """Unless sparse, which keeps the bytes."""
    world = World()
    one, other = world.image([b"a"]), world.image([b"b"], platform=ARM64)
    top = world.index(
        (one, AMD64), (other, ARM64), attestation(world, one), attestation(world, other)
    )
    source = FakeSource(world, top)
    plan = planned(source, FakeDestination(), CopyOptions(selection=ONLY_ARM))
    action = plan.manifests[-1]
    assert isinstance(action, PutIndex)
    assert action.raw is not None
    view = parse(action.raw)
    assert isinstance(view, Index)
    assert [d.digest for d in view.manifests] == [
        d.digest for d in parse_index(top).manifests if d.digest != one.digest
    ][::2]
    sparse = planned(source, FakeDestination(), CopyOptions(selection=SPARSE))
    last = sparse.manifests[-1]
    assert isinstance(last, PutIndex)
    assert last.raw == top
    assert len(sparse.manifests) == 3


def parse_index(raw: RawManifest) -> Index:
    """The typed view."""
    view = parse(raw)
    assert isinstance(view, Index)
    return view


def test_all_platforms_named_is_the_index_as_it_is() -> None:
    """Nothing to drop, nothing to rewrite."""
    world = World()
    top = pair(world)
    options = CopyOptions(selection=Selection(mode="platforms", platforms=(ARM64, AMD64)))
    last = planned(FakeSource(world, top), FakeDestination(), options).manifests[-1]
    assert isinstance(last, PutIndex)
    assert (last.raw, last.changes) == (top, ())


def test_second_converted_copy_is_up_to_date() -> None:
    """The destination points at what the conversion gives."""
    world = World()
    source, options = FakeSource(world, pair(world)), CopyOptions(selection=ALL, format="v2s2")
    last = planned(source, FakeDestination(), options).manifests[-1]
    assert isinstance(last, PutIndex)
    plan = planned(source, FakeDestination(current=last.raw), options)
    assert plan.up_to_date
    assert last.raw is not None
    assert plan.root.digest == last.raw.digest


def test_mount_and_reuse_by_repository() -> None:
    """One registry mounts, one repository has."""
    world = World()
    source = FakeSource(world, world.image([b"a"]))
    other = planned(source, FakeDestination(registry="src.example", repository="other"))
    assert all(isinstance(a, Mount) and a.source == source.origin for a in other.blobs)
    same = planned(source, FakeDestination(registry="src.example", repository="app"))
    assert [type(a) for a in same.manifests] == [Tag]
    assert same.blobs == ()


def test_foreign_layers_stay_where_they_are() -> None:
    """Where the destination lets URLs be; else they are moved."""
    world = World()
    image = parse(world.image([b"a"]))
    assert isinstance(image, Manifest)
    foreign = replace(
        image.layers[0], media_type=mt.OCI_FOREIGN_GZIP, urls=("https://example.com/layer",)
    )
    raw = world.manifest(replace(image, layers=(foreign,)).to_raw())
    plan = planned(FakeSource(world, raw), FakeDestination())
    assert {type(a) for a in plan.blobs} == {Transfer, Skip}
    moved = planned(FakeSource(world, raw), dir_destination())
    assert {type(a) for a in moved.blobs} == {Transfer}


COMPRESSIONS = [
    # layers, destination, options, synthesised, what becomes of a layer
    ("gzip", "registry", {}, False, Transfer),
    ("none", "registry", {}, False, Transfer),
    ("none", "registry", {}, True, Recompress),
    ("none", "registry", {"preserve_digests": True}, True, Transfer),
    ("none", "layout", {}, True, Recompress),
    ("none", "layout", {}, False, Transfer),
    ("none", "layout", {"accept_uncompressed": True}, True, Transfer),
    ("none", "dir", {}, True, Transfer),
    ("none", "archive", {}, True, Transfer),
    ("gzip", "archive", {}, False, Decompress),
    ("zstd", "archive", {"format": "v2s2"}, False, Decompress),
    ("gzip", "archive", {"compression": "zstd"}, False, Decompress),
    ("gzip", "dir", {"decompress": True}, False, Decompress),
    ("none", "dir", {"compress": True}, False, Recompress),
    ("gzip", "dir", {"compress": True}, False, Transfer),
    ("gzip", "dir", {"compression": "zstd"}, False, Transfer),
    ("gzip", "dir", {"compress": True, "compression": "zstd"}, False, Recompress),
    ("gzip", "registry", {"compress": True}, False, Transfer),
    ("gzip", "registry", {"compression": "gzip"}, False, Transfer),
    ("gzip", "registry", {"compression": "zstd"}, False, Recompress),
    ("zstd", "registry", {"compression": "gzip"}, False, Recompress),
    ("gzip", "layout", {"compression": "zstd", "force_compression": True}, False, Recompress),
]


@pytest.mark.parametrize(("now", "where", "options", "synthesised", "expected"), COMPRESSIONS)
def test_compression(
    now: str, where: str, options: dict[str, Any], synthesised: bool, expected: type
) -> None:
    """The rule for each layer."""
    world = World()
    source = FakeSource(world, world.image([b"a"], compression=now), synthesised=synthesised)
    plan = planned(source, DESTINATIONS[where](), CopyOptions(**options))
    assert [type(a) for a in plan.blobs if a.role == "layer"] == [expected]


def lying_archive(world: World) -> RawManifest:
    """What a docker-archive: shows: layers typed as gzip whose bytes are plain."""
    view = parse(world.image([b"a"], docker=True, compression="none"))
    assert isinstance(view, Manifest)
    layers = tuple(layer.with_media_type(mt.DOCKER_LAYER_GZIP) for layer in view.layers)
    return world.manifest(replace(view, layers=layers).to_raw())


@pytest.mark.parametrize(
    ("where", "options", "action", "changes"),
    [
        ("registry", {}, Recompress, "1 layer none -> gzip"),
        ("layout", {"accept_uncompressed": True}, Transfer, "v2s2 -> oci; layer types corrected"),
        ("layout", {"preserve_digests": True}, Transfer, ""),
        ("registry", {"accept_uncompressed": True}, Transfer, "layer types corrected"),
        ("registry", {"preserve_digests": True}, Transfer, ""),
        ("archive", {}, Transfer, ""),
        ("dir", {}, Transfer, ""),
        ("dir", {"decompress": True}, Transfer, ""),
    ],
)
def test_a_layer_that_is_its_own_diff_id_is_plain(
    where: str, options: dict[str, Any], action: type, changes: str
) -> None:
    """Whatever its type says."""
    world = World()
    source = FakeSource(world, lying_archive(world), synthesised=True)
    plan = planned(source, DESTINATIONS[where](), CopyOptions(**options))
    (top,) = plan.manifests
    assert isinstance(top, PutManifest)
    assert [type(a) for a in plan.blobs if a.role == "layer"] == [action]
    assert "; ".join(top.changes) == changes


def test_present_layers_are_recompressed_only_by_force() -> None:
    """skopeo's rule for --dest-compress-format."""
    world = World()
    image = world.image([b"a"])
    kept = planned(
        FakeSource(world, image), layout_destination(world=world), CopyOptions(compression="zstd")
    )
    assert [type(a) for a in kept.blobs] == [Reuse, Reuse]
    forced = CopyOptions(compression="zstd", force_compression=True)
    plan = planned(FakeSource(world, image), layout_destination(world=world), forced)
    assert {type(a) for a in plan.blobs} == {Reuse, Recompress}


def test_a_layer_kept_by_an_artifact_and_changed_in_an_image() -> None:
    """Both forms are needed, and neither takes the other's place."""
    world = World()
    image = parse(world.image([b"a"]))
    assert isinstance(image, Manifest)
    artifact = world.manifest(replace(image, config=world.blob(b"{}", mt.OCI_EMPTY)).to_raw())
    top = world.index((world.manifest(image.to_raw()), AMD64), (artifact, None))
    options = CopyOptions(selection=ALL, compression="zstd")
    plan = planned(FakeSource(world, top), FakeDestination(), options)
    layers = [type(a) for a in plan.blobs if a.blob.digest == image.layers[0].digest]
    assert sorted(t.__name__ for t in layers) == ["Recompress", "Transfer"]


REFUSED: list[tuple[str, Callable[[World], RawManifest], str, CopyOptions, str]] = [
    ("all to archive", pair, "archive", CopyOptions(selection=ALL), "several images"),
    ("artifact to archive", lambda w: w.artifact(b"x"), "archive", CopyOptions(), "artifact"),
    ("artifact as v2s2", lambda w: w.artifact(b"x"), "registry",
     CopyOptions(format="v2s2"), "v2 schema 2"),
    ("v2s1", lambda w: w.image([b"a"]), "registry", CopyOptions(format="v2s1"), "schema 1"),
    ("zstd as v2s2", lambda w: w.image([b"a"], compression="zstd"), "registry",
     CopyOptions(format="v2s2"), "compressed with zstd"),
    ("to zstd as v2s2", lambda w: w.image([b"a"]), "registry",
     CopyOptions(format="v2s2", compression="zstd"), "OCI manifest"),
    ("attestation as v2s2",
     lambda w: w.index((i := w.image([b"a"]), AMD64), w.artifact(i.content).descriptor()),
     "registry", CopyOptions(selection=ALL, format="v2s2"), "v2 schema 2"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("make", "where", "options", "text"), [r[1:] for r in REFUSED], ids=[r[0] for r in REFUSED]
)
def test_refused(
    make: Callable[[World], RawManifest], where: str, options: CopyOptions, text: str
) -> None:
    """What cannot be is said before anything is moved."""
    world = World()
    with pytest.raises(Unsupported, match=text):
        planned(FakeSource(world, make(world)), DESTINATIONS[where](), options)


@pytest.mark.parametrize(
    ("where", "options"),
    [
        ("registry", CopyOptions(preserve_digests=True, format="v2s2")),
        ("archive", CopyOptions(preserve_digests=True)),
        ("registry", CopyOptions(preserve_digests=True, compression="zstd")),
        ("registry", CopyOptions(preserve_digests=True, selection=ONLY_ARM)),
    ],
)
def test_preserved_digests(where: str, options: CopyOptions) -> None:
    """The error names the manifest and the change."""
    world = World()
    top = pair(world) if options.selection.mode == "platforms" else world.image([b"a"])
    with pytest.raises(DigestWouldChange, match=f"{top.digest} would change"):
        planned(FakeSource(world, top), DESTINATIONS[where](), options)


def test_preserved_digests_allow_a_plain_copy() -> None:
    """Nothing changes, nothing is refused."""
    world = World()
    options = CopyOptions(preserve_digests=True, selection=ALL)
    assert planned(FakeSource(world, pair(world)), FakeDestination(), options).manifests


def test_a_destination_named_by_digest() -> None:
    """Takes that manifest and no other, which is said before anything is moved."""
    world = World()
    image, index = world.image([b"a"]), pair(world)
    source = FakeSource(world, image)

    def pinned(raw: RawManifest) -> FakeDestination:
        return FakeDestination(name=f"docker://dst.example/app@{raw.digest}")

    assert planned(source, pinned(image)).manifests
    assert planned(FakeSource(world, index), pinned(index), CopyOptions(selection=ALL)).manifests
    with pytest.raises(DigestWouldChange, match=f"what is to be copied is {image.digest}"):
        planned(source, pinned(index))
    with pytest.raises(DigestWouldChange, match="known only after"):
        planned(source, pinned(image), CopyOptions(compression="zstd"))


def test_diff_ids_must_fit() -> None:
    """A config that does not describe the layers cannot prove their content."""
    world = World()
    image = world.image([b"a", b"b"], diff_ids=[b"a"])
    with pytest.raises(InvalidManifest, match="1 diff_ids for 2 layers"):
        planned(FakeSource(world, image), archive_destination())


def test_two_sizes_of_one_blob() -> None:
    """One of the manifests lies."""
    world = World()
    image = parse(world.image([b"a"]))
    assert isinstance(image, Manifest)
    lying = replace(image, layers=(replace(image.layers[0], size=7),))
    top = world.index(
        (world.manifest(image.to_raw()), AMD64), (world.manifest(lying.to_raw()), ARM64)
    )
    with pytest.raises(InvalidManifest, match="7"):
        planned(FakeSource(world, top), FakeDestination(), CopyOptions(selection=ALL))


@pytest.mark.parametrize("options", [CopyOptions(selection=ALL), CopyOptions(selection=ONLY_ARM)])
def test_ten_thousand_entries(options: CopyOptions) -> None:
    """No step of the plan takes time in the square of what an index claims."""
    world = World()
    image = world.image([b"a"], platform=ARM64).descriptor()
    top = world.index(
        *[replace(image, platform=ARM64, annotations={"n": str(n)}) for n in range(10_000)]
    )
    plan = planned(FakeSource(world, top), FakeDestination(), options)
    assert len(plan.manifests) == 2


def test_platform_that_is_not_there() -> None:
    """Said before anything is moved."""
    world = World()
    top = world.index((world.image([b"a"]), AMD64))
    with pytest.raises(NotFound, match="linux/arm64"):
        planned(FakeSource(world, top), FakeDestination(), CopyOptions(selection=ONLY_ARM))


@pytest.mark.parametrize(
    "make",
    [
        lambda: Selection(mode="platforms"),
        lambda: Selection(platforms=(AMD64,)),
        lambda: Selection(sparse=True),
        lambda: CopyOptions(compress=True, decompress=True),
        lambda: CopyOptions(force_compression=True),
        lambda: CopyOptions(compression_level=10),
        lambda: CopyOptions(compression="zstd", compression_level=21),
    ],
)
def test_options_that_contradict(make: Callable[[], object]) -> None:
    """Refused when they are made."""
    with pytest.raises(InvalidInput):
        make()


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1048524, "1023.9 KiB"),
     (1048575, "1.0 MiB"), (31 * 2**20 // 10, "3.1 MiB"), (-1, "? B"), (2**50, "1024.0 TiB")],
)  # fmt: skip
def test_sizes(size: int, text: str) -> None:
    """Binary units, one decimal."""
    assert size_text(size) == text
