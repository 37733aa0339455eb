"""Docker archives: skopeo's bytes both ways, several images, links, compression, bad archives."""

from __future__ import annotations

import gzip
import json
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgtools.errors import (
    Error,
    ImageNotFound,
    InvalidArchive,
    InvalidInput,
    InvalidJSON,
    InvalidManifest,
    InvalidReference,
    LimitExceeded,
    Unsupported,
)
from imgtools.spec import manifest as mf
from imgtools.spec import media_type as mt
from imgtools.spec.descriptor import Descriptor
from imgtools.spec.digest import Digest
from imgtools.task import Task
from imgtools.testing import images
from imgtools.testing.contract_kit import opener, put
from imgtools.testing.images import Sample
from imgtools.transport.docker_archive import DockerArchiveSource
from imgtools.transport.docker_archive_writer import DockerArchiveDestination
from imgtools.transport.docker_legacy import raw_members
from imgtools.transport.options import DestinationOptions
from tests.local_images import same, tar, top_of, tree, write

Skopeo = Callable[..., subprocess.CompletedProcess[str]]
Members = dict[str, bytes | tuple[bytes, str]]


def docker(seed: object, **options: Any) -> Sample:
    """An image as archives hold it."""
    return images.random_image(seed, docker=True, compression="none", **options)


ONE, TWO = docker("one"), docker("two", size=4000)


def item(sample: Sample, *tags: str, layers: list[str] | None = None) -> dict[str, Any]:
    """The entry of manifest.json for a sample."""
    view = mf.parse(sample.top)
    assert isinstance(view, mf.Manifest)
    paths = [f"{layer.digest.hex}/layer.tar" for layer in view.layers]
    return {
        "Config": f"{view.config.digest.hex}.json",
        "RepoTags": list(tags),
        "Layers": paths if layers is None else layers,
    }


def members(*samples: Sample) -> Members:
    """Configs and layers under the names that `item` gives them."""
    found: Members = {}
    for sample in samples:
        for descriptor, content in sample.blobs.items():
            is_config = mt.kind(descriptor.media_type) == "config"
            hex_digits = descriptor.digest.hex
            found[f"{hex_digits}.json" if is_config else f"{hex_digits}/layer.tar"] = content
    return found


def archive(path: Path, found: Members, *items: dict[str, Any]) -> str:
    """Write an archive; its transport name."""
    tar(path, [*found.items(), ("manifest.json", json.dumps(items).encode())])
    return f"docker-archive:{path}"


@pytest.mark.parametrize("kind", ["docker", "repeated", "empty-layer", "zero-layers", "oci"])
def test_archive_has_the_bytes_that_skopeo_writes(
    kind: str, images_dir: Path, skopeo: Skopeo, tmp_path: Path
) -> None:
    theirs, ours = tmp_path / "theirs.tar", tmp_path / "ours.tar"
    tags = ("quay.io/x/y:z", "foo/bar:2", "foo/bar:1")
    skopeo(
        "copy",
        *(f"--additional-tag={tag}" for tag in tags),
        f"dir:{images_dir}/dir/{kind}",
        f"docker-archive:{theirs}:foo/bar:1",
    )
    with (
        DockerArchiveSource.open(f"{theirs}:foo/bar:1") as source,
        DockerArchiveDestination.open(f"{ours}:foo/bar:1", additional_tags=tags) as destination,
    ):
        assert source.origin.synthesised
        assert (
            source.top().content.decode()
            == skopeo("inspect", "--raw", f"docker-archive:{theirs}").stdout
        )
        view = mf.parse(source.top())
        assert isinstance(view, mf.Manifest)
        for descriptor in (*view.layers, view.config):
            destination.put_blob(
                descriptor,
                lambda d=descriptor: source.open_blob(d),  # type: ignore[misc]
                task=Task(),
            )
        destination.put_manifest(source.top(), top=True)
        destination.commit()
    assert ours.read_bytes() == theirs.read_bytes()


def test_skopeo_reads_ours(skopeo: Skopeo, tmp_path: Path) -> None:
    options = DestinationOptions(additional_tags=("foo/baz:2",))
    write(f"docker-archive:{tmp_path}/a.tar:busybox", ONE, options)
    for name in ("", ":busybox:latest", ":foo/baz:2", ":@0"):
        shown = skopeo("inspect", "--raw", f"docker-archive:{tmp_path}/a.tar{name}").stdout
        assert top_of(f"docker-archive:{tmp_path}/a.tar{name}").decode() == shown
    skopeo("copy", f"docker-archive:{tmp_path}/a.tar", f"dir:{tmp_path}/dir")


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("", InvalidReference),
        (":@0", ONE),
        (":@1", TWO),
        (":@2", ImageNotFound),
        (":busybox", ONE),
        (":docker.io/library/busybox:latest", ONE),
        (":quay.io/a/b:2", TWO),
        (":quay.io/a/b", ImageNotFound),
        (":Busy", InvalidReference),
        (":busybox@sha256:" + "0" * 64, InvalidReference),
    ],
)
def test_several_images(name: str, found: Sample | type[Error], tmp_path: Path) -> None:
    full = archive(
        tmp_path / "a.tar",
        members(ONE, TWO),
        item(ONE, "<none>:<none>", "busybox:latest"),
        item(TWO, "quay.io/a/b:2"),
    )
    if isinstance(found, Sample):
        same(full + name, found)
    else:
        with pytest.raises(found):
            top_of(full + name)


def test_links_dots_duplicates_and_compressed_layers(tmp_path: Path) -> None:
    found = members(ONE)
    first = item(ONE)["Layers"][0]
    content = found[first]
    assert isinstance(content, bytes)
    variants: list[Members] = [
        {**found, first: (tarfile.SYMTYPE, "../elsewhere.tar"), "elsewhere.tar": content},
        {"elsewhere.tar": content, **found, first: (tarfile.LNKTYPE, "elsewhere.tar")},
        {f"./{name}": value for name, value in found.items()},
        {"x/../" + first: b"an earlier one counts for nothing", **found},
        {**found, first: gzip.compress(content)},
    ]
    for number, variant in enumerate(variants):
        same(archive(tmp_path / f"{number}.tar", variant, item(ONE)), ONE)
    plain = tmp_path / "plain.tar"
    archive(plain, found, item(ONE))
    (tmp_path / "packed.tar.gz").write_bytes(gzip.compress(plain.read_bytes()))
    same(f"docker-archive:{tmp_path}/packed.tar.gz", ONE)


def test_layer_that_is_a_link_has_its_own_size(tmp_path: Path) -> None:
    """A multi-image archive links a layer that an earlier image has already."""
    shared = images.random_layer("shared")
    found: Members = {
        "base/layer.tar": shared,
        "other/layer.tar": (tarfile.SYMTYPE, "../base/layer.tar"),
    }
    items = []
    for number, path in enumerate(("base/layer.tar", "other/layer.tar")):
        config = json.dumps(
            {"n": number, "rootfs": {"type": "layers", "diff_ids": [str(Digest.of(shared))]}}
        ).encode()
        found[f"{number}.json"] = config
        items.append({"Config": f"{number}.json", "RepoTags": None, "Layers": [path]})
    full = archive(tmp_path / "a.tar", found, *items)
    for number in (0, 1):
        (layer,) = json.loads(top_of(f"{full}:@{number}"))["layers"]
        assert layer["size"] == len(shared)


def test_docker_25_archive_is_read_both_ways(tmp_path: Path) -> None:
    """It is an OCI layout with a manifest.json, the layers compressed under blobs/."""
    sample = images.random_image("25")
    write(f"oci:{tmp_path}/layout:busybox", sample)
    view = mf.parse(sample.top)
    assert isinstance(view, mf.Manifest)

    def path(digest: Digest) -> str:
        return f"blobs/sha256/{digest.hex}"

    entry = {
        "Config": path(view.config.digest),
        "RepoTags": ["busybox:latest"],
        "Layers": [path(layer.digest) for layer in view.layers],
        "LayerSources": {str(d.digest): d.to_json() for d in view.layers},
    }
    found: Members = dict(tree(tmp_path / "layout"))
    full = archive(tmp_path / "a.tar", found, entry)
    same(f"oci-archive:{tmp_path}/a.tar", sample)
    made = json.loads(top_of(full))
    config = json.loads(sample.content(view.config.digest))
    assert [layer["digest"] for layer in made["layers"]] == config["rootfs"]["diff_ids"]
    assert made["config"]["digest"] == str(view.config.digest)
    with DockerArchiveSource.open(f"{tmp_path}/a.tar") as source:
        for value in made["layers"]:
            descriptor = Descriptor.from_json(value)
            with source.open_blob(descriptor) as reader:
                assert len(reader.read()) == descriptor.size
            assert source.read_range(descriptor, 0, 10) is None
        assert source.tags == (("busybox:latest",),)


def config_with(**members: Any) -> Members:
    return {"c.json": json.dumps(members).encode()}


@pytest.mark.parametrize(
    ("found", "manifest", "error", "text"),
    [
        ({}, None, InvalidArchive, "no manifest.json"),
        ({"repositories": b"{}"}, None, InvalidArchive, "before Docker 1.10"),
        ({"index.json": b"{}"}, None, InvalidArchive, "no manifest.json"),
        ({}, b"{}", InvalidManifest, "not a list"),
        ({}, b"[1]", InvalidManifest, "not an object"),
        ({}, b"[{}]", InvalidManifest, "no Config"),
        ({}, b"nonsense", InvalidJSON, "manifest.json"),
        ({}, b"[]", ImageNotFound, "no image"),
        ({}, b'[{"Config":"c.json","Layers":[1]}]', InvalidManifest, "Layers"),
        ({}, b'[{"Config":"c.json","Layers":[]}]', InvalidArchive, "config c.json is missing"),
        ({"c.json": b"{}"}, b'[{"Config":"c.json"}]', InvalidManifest, "no rootfs"),
        (
            config_with(rootfs={"diff_ids": []}),
            b'[{"Config":"c.json","Layers":["l.tar"]}]',
            InvalidManifest,
            "has 1 layers",
        ),
        (
            config_with(rootfs={"diff_ids": ["sha256:" + "0" * 64]}),
            b'[{"Config":"c.json","Layers":["l.tar"]}]',
            InvalidArchive,
            "layer l.tar is missing",
        ),
        (
            {
                **config_with(rootfs={"diff_ids": ["sha256:" + "0" * 64]}),
                "l.tar": (tarfile.SYMTYPE, "m.tar"),
                "m.tar": (tarfile.SYMTYPE, "l.tar"),
            },
            b'[{"Config":"c.json","Layers":["l.tar"]}]',
            InvalidArchive,
            "circle",
        ),
        ({"c.json": b" " * (5 << 20)}, b'[{"Config":"c.json"}]', LimitExceeded, "c.json"),
    ],
)
def test_bad_archives(
    found: Members, manifest: bytes | None, error: type[Error], text: str, tmp_path: Path
) -> None:
    all_members = [*found.items(), *([("manifest.json", manifest)] if manifest is not None else [])]
    tar(tmp_path / "a.tar", all_members)
    with pytest.raises(error, match=text):
        top_of(f"docker-archive:{tmp_path}/a.tar")


def test_layer_that_is_not_its_diff_id(tmp_path: Path) -> None:
    found = members(ONE)
    path = item(ONE)["Layers"][0]
    content = found[path]
    assert isinstance(content, bytes)
    for changed in (bytes(len(content)), gzip.compress(bytes(len(content)))):
        name = archive(tmp_path / "a.tar", {**found, path: changed}, item(ONE))
        with pytest.raises(Error, match="digest mismatch"):
            same(name, ONE)


def test_existing_archives_are_not_modified(tmp_path: Path) -> None:
    (tmp_path / "a.tar").touch()
    write(f"docker-archive:{tmp_path}/a.tar", ONE)
    before = tree(tmp_path)
    with pytest.raises(Unsupported, match="does not modify"):
        DockerArchiveDestination.open(f"{tmp_path}/a.tar:x")
    with DockerArchiveDestination.open(f"{tmp_path}/b.tar") as destination:
        put(destination, TWO)
        (tmp_path / "b.tar").write_bytes(b"somebody was faster")
        with pytest.raises(Unsupported):
            destination.commit()
    (tmp_path / "b.tar").unlink()
    assert tree(tmp_path) == before


@pytest.mark.parametrize(
    ("rest", "tags"),
    [
        ("a.tar:@0", ()),
        ("a.tar:busybox@sha256:" + "0" * 64, ()),
        ("a.tar:Upper", ()),
        ("", ()),
        ("a.tar", ("busybox",)),
        ("a.tar", ("busybox:1@sha256:" + "0" * 64,)),
    ],
)
def test_names_that_cannot_be_written(rest: str, tags: tuple[str, ...]) -> None:
    with pytest.raises(InvalidReference):
        DockerArchiveDestination.open(rest, additional_tags=tags)


def test_only_uncompressed_docker_images_are_taken(tmp_path: Path) -> None:
    with DockerArchiveDestination.open(f"{tmp_path}/a.tar") as destination:
        with pytest.raises(InvalidInput):
            destination.commit()
        with pytest.raises(InvalidManifest, match="uncompressed"):
            put(destination, images.random_image("gz", docker=True))
        with pytest.raises(InvalidManifest, match="was not put"):
            destination.put_manifest(TWO.top, top=True)
        with pytest.raises(Unsupported):
            destination.put_manifest(images.random_image("oci").top, top=True)
        put(destination, ONE)
        with pytest.raises(Unsupported, match="single image"):
            put(destination, ONE)
        large = Descriptor(media_type=mt.DOCKER_CONFIG, digest=Digest.of(b""), size=5 << 20)
        with pytest.raises(LimitExceeded):
            destination.put_blob(large, opener(b""), task=Task())
    assert tree(tmp_path) == {}


def test_raw_members_keep_the_spelling() -> None:
    text = r'{ "a" : 1.50e1 , "b":{ "c" : "\u00e9 \" } { \/" , "d": [ 1 , 2 ] },"e":null, "é":"x"}'
    assert raw_members(text.encode()) == {
        "a": "1.50e1",
        "b": r'{"c":"\u00e9 \" } { \/","d":[1,2]}',
        "e": "null",
        "é": '"x"',
    }
    assert raw_members(b" {} ") == {}
    with pytest.raises(InvalidJSON):
        raw_members(b"[]")


@given(
    st.dictionaries(
        st.text(max_size=5),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(max_size=5),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(st.text(max_size=5), inner, max_size=3)
            ),
            max_leaves=8,
        ),
        max_size=4,
    ),
    st.sampled_from([None, 1, "\t"]),
    st.booleans(),
)
def test_raw_members_mean_the_same(value: Any, indent: int | str | None, ascii_only: bool) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only)
    try:
        document = text.encode()
    except UnicodeEncodeError:
        return
    found = raw_members(document)
    assert {key: json.loads(raw) for key, raw in found.items()} == value
    compact = json.dumps(value, separators=(",", ":"), ensure_ascii=ascii_only)
    assert raw_members(compact.encode()) == found
