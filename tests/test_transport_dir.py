"""`dir:` directories: skopeo's bytes, what may be overwritten, hostile content."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from imgtools.errors import (
    Conflict,
    DigestMismatch,
    Error,
    ImageNotFound,
    InvalidInput,
    InvalidJSON,
    InvalidManifest,
    LimitExceeded,
    NotFound,
    SizeMismatch,
    UnsafePath,
    Unsupported,
)
from imgtools.spec.descriptor import Descriptor
from imgtools.testing import images
from imgtools.testing.contract_kit import put
from imgtools.transport.directory import DirectorySource
from imgtools.transport.directory_writer import DirectoryDestination
from tests.local_images import same, top_of, tree, write

Skopeo = Callable[..., subprocess.CompletedProcess[str]]
ONE, TWO = images.random_image("one"), images.random_image("two")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A directory with the image ONE."""
    write(f"dir:{tmp_path}/image", ONE)
    return tmp_path / "image"


@pytest.mark.parametrize(
    "sample",
    [ONE, images.random_index(3), images.random_artifact(4), images.random_index(5, docker=True)],
)
def test_directory_has_the_bytes_that_skopeo_writes(
    sample: images.Sample, skopeo: Skopeo, tmp_path: Path
) -> None:
    write(f"dir:{tmp_path}/ours", sample)
    for _ in range(2):
        skopeo("copy", "--all", f"dir:{tmp_path}/ours", f"dir:{tmp_path}/theirs")
        assert tree(tmp_path / "ours") == tree(tmp_path / "theirs")
        write(f"dir:{tmp_path}/ours", sample)
    same(f"dir:{tmp_path}/theirs", sample)


def test_test_images_of_every_kind_survive(images_dir: Path, tmp_path: Path) -> None:
    for kind in ("oci", "docker", "index", "artifact", "schema1", "nested-index", "zero-layers"):
        source = images_dir / "dir" / kind
        assert top_of(f"dir:{source}") == (source / "manifest.json").read_bytes()


def test_overwriting_leaves_only_the_new_image(directory: Path, skopeo: Skopeo) -> None:
    skopeo("copy", "--all", f"dir:{directory}", f"dir:{directory}-2")
    for where in (directory, Path(f"{directory}-2")):
        (where / "signature-1").write_bytes(b"old")
        (where / "notes.txt").write_text("mine")
        write(f"dir:{where}", TWO)
        same(f"dir:{where}", TWO)
        assert len(list(where.iterdir())) == len(TWO.blobs) + 3
        assert (where / "notes.txt").read_text() == "mine"


def test_foreign_directories_are_not_touched(tmp_path: Path) -> None:
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "thesis.tex").write_text("ten years")
    for version in (None, b"Directory Transport Version: 9.1\n", b"something"):
        if version is not None:
            (foreign / "version").write_bytes(version)
        before = tree(foreign)
        with pytest.raises(Conflict, match="not overwritten"):
            DirectoryDestination(str(foreign))
        assert tree(foreign) == before


def test_directory_that_turned_foreign_meanwhile_is_not_touched(tmp_path: Path) -> None:
    target = tmp_path / "image"
    with DirectoryDestination(str(target)) as destination:
        put(destination, ONE)
        target.mkdir()
        (target / "thesis.tex").write_text("ten years")
        with pytest.raises(Conflict):
            destination.commit()
    assert [p.name for p in tmp_path.iterdir()] == ["image"]
    assert tree(target) == {"thesis.tex": b"ten years"}


def test_target_that_appeared_meanwhile_is_replaced(tmp_path: Path) -> None:
    with DirectoryDestination(str(tmp_path / "image")) as destination:
        put(destination, TWO)
        write(f"dir:{tmp_path}/image", ONE)
        destination.commit()
    same(f"dir:{tmp_path}/image", TWO)
    assert [p.name for p in tmp_path.iterdir()] == ["image"]


def test_nothing_is_visible_before_commit(tmp_path: Path) -> None:
    target = tmp_path / "image"
    with DirectoryDestination(str(target)) as destination:
        assert list(tmp_path.iterdir()) == []
        put(destination, ONE)
        assert not target.exists()
        destination.commit()
    assert [p.name for p in tmp_path.iterdir()] == ["image"]


def test_links_to_directories_are_written_through(directory: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("image")
    write(f"dir:{tmp_path}/link", TWO)
    assert (tmp_path / "link").is_symlink()
    same(f"dir:{directory}", TWO)


def test_existing_directory_keeps_its_identity(directory: Path) -> None:
    directory.chmod(0o750)
    before = directory.stat()
    write(f"dir:{directory}", TWO)
    after = directory.stat()
    assert (after.st_ino, after.st_mode) == (before.st_ino, before.st_mode)


def test_two_writers_of_one_directory_leave_one_whole_image(directory: Path) -> None:
    one, two = (DirectoryDestination(str(directory)) for _ in range(2))
    with one, two:
        put(one, images.random_image("a"))
        put(two, images.random_image("b"))
        one.commit()
        two.commit()
    same(f"dir:{directory}", images.random_image("b"))
    assert len(list(directory.iterdir())) == len(ONE.blobs) + 2


def test_other_digests_have_their_algorithm_in_the_name(tmp_path: Path) -> None:
    sample = images.random_image("512", algorithm="sha512")
    index = images.index_of([sample])
    write(f"dir:{tmp_path}/image", index)
    assert (tmp_path / "image/version").read_bytes() == b"Directory Transport Version: 1.2\n"
    for descriptor in sample.blobs:
        assert (tmp_path / "image" / f"sha512-{descriptor.digest.hex}").exists()
    same(f"dir:{tmp_path}/image", index)
    # Earlier versions left the algorithm out.
    for path in (tmp_path / "image").glob("sha512-*"):
        path.rename(path.with_name(path.name.removeprefix("sha512-")))
    same(f"dir:{tmp_path}/image", index)


def test_signatures_are_read(directory: Path) -> None:
    digest = ONE.top.digest
    (directory / "signature-1").write_bytes(b"first")
    (directory / "signature-2").write_bytes(b"second")
    (directory / "signature-4").write_bytes(b"lost")
    (directory / f"{digest.hex}.signature-1").write_bytes(b"instance")
    with DirectorySource(str(directory)) as source:
        assert source.signatures() == (b"first", b"second")
        assert source.signatures(digest) == (b"instance",)
        os.truncate(directory / "signature-1", 5 * 1024 * 1024)
        with pytest.raises(LimitExceeded):
            source.signatures()


@pytest.mark.parametrize(
    ("name", "content", "error"),
    [
        ("manifest.json", None, ImageNotFound),
        ("manifest.json", b"{}", InvalidManifest),
        ("manifest.json", b"{", InvalidJSON),
        ("version", b"Directory Transport Version: 2.0\n", Unsupported),
        ("version", b"\0" * 2000, LimitExceeded),
    ],
)
def test_broken_directories(
    directory: Path, name: str, content: bytes | None, error: type[Error]
) -> None:
    (directory / name).unlink()
    if content is not None:
        (directory / name).write_bytes(content)
    with pytest.raises(error):
        top_of(f"dir:{directory}")


def test_missing_version_is_no_obstacle_to_reading(directory: Path) -> None:
    (directory / "version").unlink()
    same(f"dir:{directory}", ONE)


def test_hostile_content(directory: Path, tmp_path: Path) -> None:
    descriptor = max(ONE.blobs, key=lambda d: d.size)
    blob = directory / descriptor.digest.hex
    with DirectorySource(str(directory)) as source:
        blob.write_bytes(bytes(descriptor.size))
        with pytest.raises(DigestMismatch), source.open_blob(descriptor) as reader:
            reader.read()
        blob.write_bytes(b"short")
        with pytest.raises(SizeMismatch):
            source.open_blob(descriptor)
        blob.unlink()
        blob.symlink_to("/etc/passwd")
        with pytest.raises(UnsafePath):
            source.open_blob(descriptor)
        blob.unlink()
        os.mkfifo(blob)
        with pytest.raises(UnsafePath):
            source.open_blob(descriptor)
        instance = directory / f"{TWO.top.digest.hex}.manifest.json"
        instance.write_bytes(ONE.top.content)
        for size, error in ((ONE.top.size, DigestMismatch), (ONE.top.size - 1, SizeMismatch)):
            with pytest.raises(error):
                source.manifest(Descriptor(media_type="", digest=TWO.top.digest, size=size))
        os.truncate(directory / "manifest.json", 5 * 1024 * 1024)
        with pytest.raises(LimitExceeded):
            source.top()


def test_top_manifest_is_found_by_its_digest(directory: Path) -> None:
    with DirectorySource(str(directory)) as source:
        assert source.manifest(ONE.top.descriptor()) == ONE.top


def test_places_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NotFound, match="does not exist"):
        DirectoryDestination(str(tmp_path / "no" / "such"))
    with pytest.raises(NotFound):
        DirectoryDestination(str(tmp_path / "file"))
    with pytest.raises(InvalidInput):
        DirectoryDestination("")
    for name in ("absent", "file"):
        with pytest.raises(ImageNotFound):
            DirectorySource(str(tmp_path / name))
    with (
        DirectoryDestination(str(tmp_path / "new")) as destination,
        pytest.raises(InvalidInput),
    ):
        destination.commit()


def test_read_only_parent_is_a_typed_error(tmp_path: Path) -> None:
    with pytest.raises(Error), DirectoryDestination("/proc/imgtools-test") as destination:
        put(destination, ONE)
