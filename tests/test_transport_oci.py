"""OCI layouts in directories: skopeo's bytes, names, hostile layouts, writers side by side."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from imgtools.errors import (
    DigestMismatch,
    Error,
    ImageNotFound,
    InvalidInput,
    InvalidJSON,
    InvalidManifest,
    InvalidReference,
    LimitExceeded,
    NotFound,
    SizeMismatch,
    UnsafePath,
    Unsupported,
)
from imgtools.spec import media_type as mt
from imgtools.spec.digest import Digest
from imgtools.task import Task
from imgtools.testing import images
from imgtools.testing.contract_kit import opener, put
from imgtools.transport.lock import unfinished_prefix
from imgtools.transport.oci_layout import LayoutSource
from imgtools.transport.oci_layout_writer import LayoutDestination
from imgtools.transport.options import DestinationOptions, SourceOptions
from imgtools.transport.table import Transports
from tests.local_images import same, top_of, tree, write

Skopeo = Callable[..., subprocess.CompletedProcess[str]]
REF = "org.opencontainers.image.ref.name"


def index(layout: Path) -> Any:
    return json.loads((layout / "index.json").read_bytes())


def change_index(layout: Path, change: Callable[[Any], object]) -> None:
    document = index(layout)
    change(document)
    (layout / "index.json").write_text(json.dumps(document))


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    """A layout with one image called v1."""
    write(f"oci:{tmp_path}/layout:v1", images.random_image("v1"))
    return tmp_path / "layout"


@pytest.mark.parametrize(
    "sample",
    [
        images.random_image(1),
        images.random_image(2, annotations={"a": "b"}),
        images.random_index(3),
        images.random_artifact(4),
        images.random_image(5, layers=0),
    ],
)
def test_layout_has_the_bytes_that_skopeo_writes(
    sample: images.Sample, skopeo: Skopeo, tmp_path: Path
) -> None:
    write(f"dir:{tmp_path}/dir", sample)
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    for ref in (":some/name:v1.0", ":some/name:v1.0", "", ":other"):
        skopeo("copy", "--all", f"dir:{tmp_path}/dir", f"oci:{theirs}{ref}")
        write(f"oci:{ours}{ref}", sample)
        assert tree(ours) == tree(theirs)
    same(f"oci:{theirs}:other", sample)
    skopeo("copy", "--all", f"oci:{ours}:other", f"dir:{tmp_path}/back")
    assert tree(tmp_path / "back") == tree(tmp_path / "dir")


def test_moved_name_leaves_the_entry_skopeo_leaves(skopeo: Skopeo, tmp_path: Path) -> None:
    for number in (1, 2):
        sample = images.random_image(number)
        write(f"dir:{tmp_path}/{number}", sample)
        skopeo("copy", f"dir:{tmp_path}/{number}", f"oci:{tmp_path}/theirs:v1")
        write(f"oci:{tmp_path}/ours:v1", sample)
    assert tree(tmp_path / "ours") == tree(tmp_path / "theirs")
    assert len(index(tmp_path / "ours")["manifests"]) == 2
    same(f"oci:{tmp_path}/ours:v1", images.random_image(2))


def test_shared_blob_directory_is_skopeos(skopeo: Skopeo, tmp_path: Path) -> None:
    sample = images.random_image("shared")
    write(f"dir:{tmp_path}/dir", sample)
    skopeo(
        "copy",
        "--dest-shared-blob-dir",
        tmp_path / "theirs-blobs",
        f"dir:{tmp_path}/dir",
        f"oci:{tmp_path}/theirs:v1",
    )
    shared = str(tmp_path / "ours-blobs")
    write(f"oci:{tmp_path}/ours:v1", sample, DestinationOptions(shared_blob_dir=shared))
    assert tree(tmp_path / "ours") == tree(tmp_path / "theirs")
    assert tree(tmp_path / "ours-blobs") == tree(tmp_path / "theirs-blobs")
    same(f"oci:{tmp_path}/theirs:v1", sample, SourceOptions(shared_blob_dir=shared))


def test_docker_types_are_kept(tmp_path: Path) -> None:
    sample = images.random_index("list", docker=True)
    write(f"oci:{tmp_path}/layout:list", sample)
    same(f"oci:{tmp_path}/layout:list", sample)
    assert index(tmp_path / "layout")["manifests"][0]["mediaType"] == mt.DOCKER_LIST


@pytest.mark.parametrize(
    ("name", "found"),
    [
        (":v1", "v1"),
        ("", InvalidReference),
        (":@0", "v1"),
        (":@1", "v2"),
        (":@9", ImageNotFound),
        (":@x", InvalidReference),
        (":@-1", InvalidReference),
        (":nope", ImageNotFound),
        (":registry.example:5000/a/b:c", "v2"),
        (":docker.io/library/busybox:1", "v3"),
        (":busybox:1", "v3"),
        (":config", Unsupported),
    ],
)
def test_names(name: str, found: str | type[Error], tmp_path: Path) -> None:
    layout = tmp_path / "layout"
    for seed, ref in (("v1", "v1"), ("v2", "registry.example:5000/a/b:c"), ("v3", "x")):
        write(f"oci:{layout}:{ref}", images.random_image(seed))

    def change(document: Any) -> None:
        last = document["manifests"][2]
        last["annotations"] = {"io.containerd.image.name": "docker.io/library/busybox:1"}
        document["manifests"].append(
            {**last, "mediaType": mt.OCI_CONFIG, "annotations": {REF: "config"}}
        )
        # What nobody asks for may be as odd as it likes.
        document["manifests"].append({"digest": "blake3:xyz", "annotations": [1]})

    change_index(layout, change)
    if isinstance(found, str):
        assert top_of(f"oci:{layout}{name}") == images.random_image(found).top.content
    else:
        with pytest.raises(found):
            top_of(f"oci:{layout}{name}")


def test_first_of_several_entries_with_a_name_wins_as_in_skopeo(
    layout: Path, skopeo: Skopeo
) -> None:
    write(f"oci:{layout}:v2", images.random_image("v2"))
    change_index(layout, lambda d: d["manifests"][1]["annotations"].update({REF: "v1"}))
    assert (
        top_of(f"oci:{layout}:v1").decode() == skopeo("inspect", "--raw", f"oci:{layout}:v1").stdout
    )
    # Writing the name takes it from all of them.
    write(f"oci:{layout}:v1", images.random_image("v3"))
    same(f"oci:{layout}:v1", images.random_image("v3"))
    assert [e.get("annotations") for e in index(layout)["manifests"]] == [None, None, {REF: "v1"}]


def test_bare_path_means_the_only_image(layout: Path) -> None:
    same(f"oci:{layout}", images.random_image("v1"))
    write(f"oci:{layout}:again", images.random_image("v1"))
    same(f"oci:{layout}", images.random_image("v1"))
    write(f"oci:{layout}:other", images.random_image("other"))
    with pytest.raises(InvalidReference, match="holds 3 images"):
        top_of(f"oci:{layout}")


def test_bare_path_looks_past_referrers(layout: Path) -> None:
    report = images.random_artifact("r", subject=images.random_image("v1").top.descriptor())
    with LayoutDestination.open(f"{layout}:v1") as destination:
        put(destination, images.random_image("v1"))
        for descriptor, content in report.blobs.items():
            destination.put_blob(descriptor, opener(content), task=Task())
        destination.put_manifest(report.top, top=False)
        destination.commit()
    assert len(index(layout)["manifests"]) == 2
    assert REF not in index(layout)["manifests"][1].get("annotations", {})
    same(f"oci:{layout}", images.random_image("v1"))


def test_referrers_are_found_in_nested_and_fallback_indexes(layout: Path) -> None:
    subject = images.random_image("v1").top.descriptor()
    report = images.random_artifact("r", subject=subject)
    fallback = images.index_of([images.index_of([report])])
    write(f"oci:{layout}:sha256-{subject.digest.hex}", fallback)
    with LayoutSource.open(f"{layout}:v1") as source:
        assert [d.digest for d in source.referrers(subject.digest)] == [report.top.digest]


@pytest.mark.parametrize("media_type", [None, mt.OCI_INDEX])
def test_index_keeps_what_it_said(layout: Path, media_type: str | None) -> None:
    extra = {"annotations": {"a": "b"}, "x-unknown": [1]}
    if media_type:
        extra["mediaType"] = media_type
    change_index(layout, lambda d: d.update(extra))
    change_index(layout, lambda d: d["manifests"][0].update({"x-entry": 1}))
    write(f"oci:{layout}:v2", images.random_image("v2"))
    assert extra.items() <= index(layout).items()
    assert index(layout)["manifests"][0]["x-entry"] == 1


@pytest.mark.parametrize(
    ("name", "content", "error"),
    [
        ("oci-layout", None, InvalidManifest),
        ("oci-layout", b"{}", Unsupported),
        ("oci-layout", b'{"imageLayoutVersion":"2.0.0"}', Unsupported),
        ("oci-layout", b"nonsense", InvalidJSON),
        ("index.json", None, ImageNotFound),
        ("index.json", b"[]", InvalidJSON),
        ("index.json", b'{"manifests":{}}', InvalidManifest),
        ("index.json", b'{"manifests":[1]}', InvalidManifest),
        ("index.json", b'{"schemaVersion":3,"manifests":[]}', InvalidManifest),
        ("index.json", b'{"schemaVersion":2,"manifests":[]}', ImageNotFound),
        ("index.json", b'{"schemaVersion":2}', ImageNotFound),
        ("index.json", b'{"manifests":[],"manifests":[]}', InvalidJSON),
    ],
)
def test_broken_layouts(layout: Path, name: str, content: bytes | None, error: type[Error]) -> None:
    (layout / name).unlink()
    if content is not None:
        (layout / name).write_bytes(content)
    with pytest.raises(error):
        top_of(f"oci:{layout}")


def test_no_layout_at_all(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for name in ("absent", "file", "."):
        with pytest.raises(ImageNotFound):
            top_of(f"oci:{tmp_path}/{name}:v1")
    for rest in ("", ":v1", "a\0b"):
        with pytest.raises(InvalidReference):
            LayoutSource.open(rest)
    with pytest.raises(NotFound, match="does not exist"):
        LayoutDestination.open(f"{tmp_path}/absent/layout:v1")
    with pytest.raises(NotFound):
        LayoutDestination.open(f"{tmp_path}/file:v1")
    for ref in ("@0", "a b", "-x", "a//b", "x" * 5000):
        with pytest.raises(InvalidReference):
            LayoutDestination.open(f"{tmp_path}/layout:{ref}")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file"]


def test_links_are_not_followed(layout: Path, tmp_path: Path) -> None:
    sample = images.random_image("v1")
    blob = layout / "blobs/sha256" / sample.top.digest.hex
    blob.rename(tmp_path / "outside")
    blob.symlink_to(tmp_path / "outside")
    with pytest.raises(UnsafePath):
        top_of(f"oci:{layout}:v1")
    blob.unlink()
    os.mkfifo(blob)
    with pytest.raises(UnsafePath):
        top_of(f"oci:{layout}:v1")
    (layout / "blobs/sha256").rename(tmp_path / "elsewhere")
    (layout / "blobs/sha256").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UnsafePath):
        top_of(f"oci:{layout}:v1")
    with (
        LayoutDestination.open(f"{layout}:v2") as destination,
        pytest.raises(UnsafePath),
    ):
        destination.put_manifest(sample.top, top=True)


def test_contents_are_verified(layout: Path) -> None:
    sample = images.random_image("v1")
    manifest = layout / "blobs/sha256" / sample.top.digest.hex
    good = manifest.read_bytes()
    manifest.write_bytes(good.replace(b'"size"', b'"sizf"'))
    with pytest.raises(DigestMismatch):
        top_of(f"oci:{layout}:v1")
    manifest.write_bytes(good + b" ")
    with pytest.raises(SizeMismatch):
        top_of(f"oci:{layout}:v1")
    manifest.write_bytes(good)
    descriptor = max(sample.blobs, key=lambda d: d.size)
    blob = layout / "blobs/sha256" / descriptor.digest.hex
    blob.write_bytes(bytes(descriptor.size))
    with LayoutSource.open(f"{layout}:v1") as source:
        with pytest.raises(DigestMismatch), source.open_blob(descriptor) as reader:
            reader.read()
        blob.write_bytes(b"")
        with pytest.raises(SizeMismatch):
            source.open_blob(descriptor)


def test_documents_are_bounded(layout: Path) -> None:
    digest = images.random_image("v1").top.digest
    size = 5 * 1024 * 1024
    os.truncate(layout / "blobs/sha256" / digest.hex, size)
    change_index(layout, lambda d: d["manifests"][0].update(size=size))
    with pytest.raises(LimitExceeded):
        top_of(f"oci:{layout}:v1")
    os.truncate(layout / "index.json", 100 * 1024 * 1024)
    with pytest.raises(LimitExceeded):
        top_of(f"oci:{layout}:v1")


def test_broken_index_is_refused_before_anything_is_written(layout: Path) -> None:
    (layout / "index.json").write_text("{")
    before = tree(layout)
    with pytest.raises(InvalidJSON):
        LayoutDestination.open(f"{layout}:v2")
    assert tree(layout) == before


def test_nothing_is_written_before_the_first_blob(tmp_path: Path) -> None:
    with LayoutDestination.open(f"{tmp_path}/layout:v1") as destination:
        assert destination.current() is None
        assert not destination.has_blob(images.random_image().top.descriptor())
    assert list(tmp_path.iterdir()) == []


def test_closing_takes_back_what_was_stored(layout: Path, tmp_path: Path) -> None:
    before = tree(layout)
    for where in (layout, tmp_path / "new"):
        with LayoutDestination.open(f"{where}:v2") as destination:
            put(destination, images.random_image("v2"))
    assert tree(layout) == before
    assert not (tmp_path / "new").exists()


def test_closing_leaves_what_another_writer_may_count_on(tmp_path: Path) -> None:
    sample = images.random_image("both")
    one = LayoutDestination.open(f"{tmp_path}/layout:one")
    two = LayoutDestination.open(f"{tmp_path}/layout:two")
    with one, two:
        put(one, sample)
        for descriptor in sample.blobs:
            assert two.has_blob(descriptor)
        two.put_manifest(sample.top, top=True)
        one.close()
        two.commit()
    same(f"oci:{tmp_path}/layout:two", sample)


def test_next_writer_clears_what_a_dead_one_left(layout: Path) -> None:
    left = [layout / "blobs/sha256/.imgtools-new-dead", layout / ".imgtools-new-dead"]
    for path in left:
        path.touch()
    with LayoutDestination.open(f"{layout}:v2") as living:
        put(living, images.random_image("v2"))
        assert not left[0].exists()
        left[0].touch()
        # Not alone now: the file might be the other one's.
        write(f"oci:{layout}:v3", images.random_image("v3"))
        assert left[0].exists()
        living.commit()
    assert not left[1].exists()


def test_manifest_is_stored_by_its_own_algorithm(tmp_path: Path) -> None:
    sample = images.random_image("512", algorithm="sha512")
    write(f"oci:{tmp_path}/layout:v1", sample)
    same(f"oci:{tmp_path}/layout:v1", sample)
    assert (tmp_path / "layout/blobs/sha512" / sample.top.digest.hex).exists()


def test_current_is_what_the_name_holds(layout: Path) -> None:
    digest = images.random_image("v1").top.digest
    with LayoutDestination.open(f"{layout}:v1") as destination:
        found = destination.current()
        assert found is not None
        assert found.digest == digest
        assert destination.has_manifest(found)
    with LayoutDestination.open(f"{layout}:v2") as destination:
        assert destination.current() is None
    (layout / "blobs/sha256" / digest.hex).unlink()
    with LayoutDestination.open(f"{layout}:v1") as destination:
        assert destination.current() is None


def test_committing_nothing_is_an_error(tmp_path: Path) -> None:
    with (
        LayoutDestination.open(f"{tmp_path}/layout:v1") as destination,
        pytest.raises(InvalidInput),
    ):
        destination.commit()


def test_reader_for_another_digest_is_refused(tmp_path: Path) -> None:
    sample = images.random_image()
    descriptor = max(sample.blobs, key=lambda d: d.size)
    with (
        LayoutDestination.open(f"{tmp_path}/layout:v1") as destination,
        pytest.raises(DigestMismatch),
    ):
        destination.put_blob(descriptor, opener(b"x", Digest.of(b"x")), task=Task())


WRITER = """
import sys
from imgtools.testing import images
from tests.local_images import write
for number in range(8):
    write(f"oci:{sys.argv[1]}:{sys.argv[2]}-{number}", images.random_image(number % 3))
"""


def test_writers_in_several_processes_all_land(tmp_path: Path) -> None:
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, tmp_path / "layout", name],
            cwd=Path(__file__).parents[1],
            stderr=subprocess.PIPE,
        )
        for name in ("a", "b", "c")
    ]
    for writer in writers:
        _, errors = writer.communicate()
        assert writer.returncode == 0, errors.decode()
    for name in ("a", "b", "c"):
        for number in range(8):
            same(f"oci:{tmp_path}/layout:{name}-{number}", images.random_image(number % 3))


def test_path_that_resolves_to_one_with_a_colon(tmp_path: Path) -> None:
    (tmp_path / "a:b").mkdir()
    (tmp_path / "link").symlink_to("a:b")
    for name in ("oci:{}/link/layout:v1", "oci-archive:{}/link/image.tar:v1"):
        full = name.format(tmp_path)
        write(full, images.random_image("v1"))
        with (
            Transports() as transports,
            transports.open_destination(full, DestinationOptions()) as destination,
        ):
            found = destination.current()
            assert found is not None
            assert found.digest == images.random_image("v1").top.digest


def test_others_unfinished_work_is_not_in_the_way(tmp_path: Path) -> None:
    """Names like those of our leftovers may be anything in a directory that others write."""
    prefix = unfinished_prefix("target")
    os.mkfifo(tmp_path / f"{prefix}pipe")
    (tmp_path / f"{prefix}link").symlink_to("/etc/passwd")
    (tmp_path / f"{prefix}tree" / "deeper").mkdir(parents=True)
    for name in ("dir:{}/target", "oci-archive:{}/target:v1"):
        write(name.format(tmp_path), images.random_image("v1"))
        same(name.format(tmp_path), images.random_image("v1"))
        if name.startswith("dir:"):
            (tmp_path / "target").rename(tmp_path / "done")
    assert Path("/etc/passwd").exists()
