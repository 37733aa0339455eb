"""OCI archives: read in place or spooled, written beside the target, exchanged with skopeo."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import subprocess
import sys
import tarfile
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from imgtools.blob.reader import BlobReader
from imgtools.errors import (
    Conflict,
    Denied,
    Error,
    ImageNotFound,
    InvalidArchive,
    InvalidManifest,
    InvalidReference,
    NotFound,
    StorageError,
    Unsupported,
)
from imgtools.spec.descriptor import Descriptor
from imgtools.task import Task
from imgtools.testing import images
from imgtools.testing.contract_kit import Failing, check_same, put
from imgtools.transport.archive_index import Archive
from imgtools.transport.archive_writer import ArchiveWriter
from imgtools.transport.oci_archive import OciArchiveDestination, OciArchiveSource
from imgtools.transport.options import SourceOptions
from tests.local_images import same, tar, top_of, tree, write

Skopeo = Callable[..., subprocess.CompletedProcess[str]]
ONE, TWO = images.random_image("one"), images.random_image("two", size=5000)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """An archive with the image ONE, called v1."""
    write(f"oci-archive:{tmp_path}/one.tar:v1", ONE)
    return tmp_path / "one.tar"


@pytest.mark.parametrize("sample", [ONE, images.random_index(1), images.random_artifact(2)])
def test_skopeo_and_we_read_each_other(
    sample: images.Sample, skopeo: Skopeo, tmp_path: Path
) -> None:
    write(f"oci-archive:{tmp_path}/ours.tar:a/b:1", sample)
    skopeo("copy", "--all", f"oci-archive:{tmp_path}/ours.tar:a/b:1", f"dir:{tmp_path}/dir")
    skopeo("copy", "--all", f"dir:{tmp_path}/dir", f"oci-archive:{tmp_path}/theirs.tar:a/b:1")
    same(f"oci-archive:{tmp_path}/theirs.tar:a/b:1", sample)
    same(f"oci-archive:{tmp_path}/theirs.tar", sample)
    with (
        tarfile.open(tmp_path / "ours.tar") as ours,
        tarfile.open(tmp_path / "theirs.tar") as theirs,
    ):
        assert sorted(ours.getnames()) == sorted(theirs.getnames())
        assert ours.getnames()[-2:] == theirs.getnames()[-2:]
        for name in ("index.json", "oci-layout"):
            mine, other = ours.extractfile(name), theirs.extractfile(name)
            assert mine is not None
            assert other is not None
            assert mine.read() == other.read()


@pytest.mark.parametrize(
    "compress",
    [gzip.compress, lzma.compress, bz2.compress, zstandard.ZstdCompressor().compress],
    ids=["gzip", "xz", "bzip2", "zstd"],
)
def test_compressed_archives_are_spooled(
    archive: Path, compress: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    packed = tmp_path / "packed"
    packed.write_bytes(compress(archive.read_bytes()))
    spool = tmp_path / "spool"
    spool.mkdir()
    same(f"oci-archive:{packed}:v1", ONE, SourceOptions(tmpdir=str(spool)))
    assert list(spool.iterdir()) == []
    packed.write_bytes(packed.read_bytes()[:-20])
    with pytest.raises(InvalidArchive):
        top_of(f"oci-archive:{packed}:v1")


def test_pipes_are_spooled(archive: Path, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_bytes(archive.read_bytes()))
    writer.start()
    try:
        with OciArchiveSource.open(f"{pipe}:v1", tmpdir=str(tmp_path)) as source:
            assert source.top() == ONE.top
    finally:
        writer.join()


@pytest.mark.parametrize("name", ["-", "/dev/stdin"])
@pytest.mark.parametrize("piped", [True, False])
def test_standard_input(archive: Path, name: str, piped: bool, tmp_path: Path) -> None:
    script = (
        "import sys; from tests.local_images import top_of;"
        f"sys.stdout.buffer.write(top_of('oci-archive:{name}:v1'))"
    )
    command = [sys.executable, "-c", script]
    cwd = Path(__file__).parents[1]
    if piped:
        done = subprocess.run(
            command, input=archive.read_bytes(), cwd=cwd, capture_output=True, check=True
        )
    else:
        with archive.open("rb") as file:
            done = subprocess.run(command, stdin=file, cwd=cwd, capture_output=True, check=True)
    assert done.stdout == ONE.top.content


def test_pipe_gets_the_finished_archive(tmp_path: Path) -> None:
    pipe, got = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()))
    reader.start()
    with OciArchiveDestination.open(f"{pipe}:v1", tmpdir=str(tmp_path)) as destination:
        put(destination, ONE)
        destination.commit()
    reader.join()
    (tmp_path / "file.tar").write_bytes(got[0])
    same(f"oci-archive:{tmp_path}/file.tar:v1", ONE)


def test_overwriting_replaces_at_once(archive: Path) -> None:
    with OciArchiveSource.open(f"{archive}:v1") as source:
        with OciArchiveDestination.open(f"{archive}:v1") as destination:
            found = destination.current()
            assert found is not None
            assert found.digest == ONE.top.digest
            put(destination, TWO)
            same(f"oci-archive:{archive}:v1", ONE)
            destination.commit()
        same(f"oci-archive:{archive}:v1", TWO)
        check_same(source, ONE)  # who was reading goes on with the old archive
    assert [p.name for p in archive.parent.iterdir()] == ["one.tar"]


@pytest.mark.parametrize("failing", [0, 1, 2])
def test_blob_that_failed_for_good_leaves_no_gap(tmp_path: Path, failing: int) -> None:
    samples = [images.random_image(n, layers=1, size=300_000 + 1000 * n) for n in range(3)]
    kept = images.index_of([s for n, s in enumerate(samples) if n != failing])
    lost, content = max(samples[failing].blobs.items(), key=lambda item: item[0].size)

    def fail() -> BlobReader:
        return BlobReader(Failing(content[:-1]), lost.digest, lost.size)

    with OciArchiveDestination.open(f"{tmp_path}/a.tar:v1") as destination:
        for number, sample in enumerate(samples):
            if number == failing:
                with pytest.raises(Denied):
                    destination.put_blob(lost, fail, task=Task())
                continue
            for descriptor, blob in sample.blobs.items():
                destination.put_blob(descriptor, lambda b=blob: BlobReader.of(b), task=Task())  # type: ignore[misc]
        put(destination, kept)
        destination.commit()
    same(f"oci-archive:{tmp_path}/a.tar:v1", kept)
    with tarfile.open(tmp_path / "a.tar") as archive:
        assert f"blobs/sha256/{lost.digest.hex}" not in archive.getnames()
        assert len(archive.getnames()) == 4 + len(kept.blobs) + 3


def test_unfinished_files_of_dead_writers_are_cleared(archive: Path) -> None:
    living = OciArchiveDestination.open(f"{archive}:v1")
    dead = ArchiveWriter(str(archive))
    with living:
        put(living, TWO)
        dead._begin()
        os.close(dead._begin().fd)  # as the kernel does for a process that died
        assert len(list(archive.parent.iterdir())) == 3
        write(f"oci-archive:{archive}:v1", TWO)
        assert len(list(archive.parent.iterdir())) == 2
        living.commit()
    assert [p.name for p in archive.parent.iterdir()] == ["one.tar"]
    same(f"oci-archive:{archive}:v1", TWO)


def test_member_names_are_normalised(archive: Path, tmp_path: Path) -> None:
    with tarfile.open(archive) as found:
        members = []
        for info in found:
            file = found.extractfile(info)
            if file is not None:
                members.append((f".//{info.name}", file.read()))
    # An earlier member of the same name counts for nothing, nor does what lies outside.
    members.insert(0, ("index.json", b"{}"))
    members.append(("../../index.jsonx", b"{}"))
    tar(tmp_path / "odd.tar", members)
    same(f"oci-archive:{tmp_path}/odd.tar:v1", ONE)


def test_links_stay_inside(archive: Path, tmp_path: Path) -> None:
    blob = f"blobs/sha256/{ONE.top.digest.hex}"
    members: dict[str, bytes | tuple[bytes, str]] = {}
    with tarfile.open(archive) as found:
        for info in found:
            file = found.extractfile(info)
            if file is not None:
                members[info.name] = file.read()
    content = members.pop(blob)
    cases: list[tuple[dict[str, bytes | tuple[bytes, str]], type[Error] | None]] = [
        ({blob: (tarfile.SYMTYPE, "../../real"), "real": content}, None),
        ({"real": content, blob: (tarfile.LNKTYPE, "real")}, None),
        ({blob: (tarfile.SYMTYPE, "../../../../../real"), "real": content}, None),
        ({blob: (tarfile.SYMTYPE, "/etc/passwd")}, InvalidArchive),
        ({blob: (tarfile.SYMTYPE, ONE.top.digest.hex)}, InvalidArchive),
        ({blob: (tarfile.SYMTYPE, "b"), "blobs/sha256/b": (tarfile.LNKTYPE, blob)}, InvalidArchive),
        ({blob: (tarfile.DIRTYPE, "")}, InvalidArchive),
        ({}, NotFound),
    ]
    for number, (extra, error) in enumerate(cases):
        path = tmp_path / f"{number}.tar"
        tar(path, [*members.items(), *extra.items()])
        if error is None:
            same(f"oci-archive:{path}:v1", ONE)
        else:
            with pytest.raises(error):
                top_of(f"oci-archive:{path}:v1")


def test_what_is_no_archive(archive: Path, tmp_path: Path) -> None:
    cases: list[tuple[bytes, type[Error]]] = [
        (b"", ImageNotFound),
        (b"hello " * 200, InvalidArchive),
        (archive.read_bytes()[:1700], InvalidArchive),
        (gzip.compress(b"hello " * 200), InvalidArchive),
    ]
    for content, error in cases:
        (tmp_path / "bad").write_bytes(content)
        with pytest.raises(error):
            top_of(f"oci-archive:{tmp_path}/bad")
    with pytest.raises(ImageNotFound):
        top_of(f"oci-archive:{tmp_path}/absent.tar")
    with pytest.raises(StorageError, match="is a directory"):
        top_of(f"oci-archive:{tmp_path}")
    tar(tmp_path / "bad", [("index.json", b"{}")])
    with pytest.raises(InvalidManifest, match="no oci-layout"):
        top_of(f"oci-archive:{tmp_path}/bad")
    for rest in ("", ":v1", f"{tmp_path}/x:@0"):
        with pytest.raises(InvalidReference):
            OciArchiveDestination.open(rest)
    with pytest.raises(NotFound):
        OciArchiveDestination.open(f"{tmp_path}/no/such.tar:v1")


def test_compressed_archive_tells_nothing_about_what_is_there(archive: Path) -> None:
    archive.write_bytes(gzip.compress(archive.read_bytes()))
    with OciArchiveDestination.open(f"{archive}:v1") as destination:
        assert destination.current() is None
    with pytest.raises(Unsupported):
        Archive.open(str(archive), spool=False)


def test_schema1_is_refused(tmp_path: Path, images_dir: Path) -> None:
    from imgtools.transport.directory import DirectorySource

    with DirectorySource(str(images_dir / "dir" / "schema1")) as source:
        raw = source.top()
    with (
        OciArchiveDestination.open(f"{tmp_path}/a.tar:v1") as destination,
        pytest.raises(Unsupported, match="schema 1"),
    ):
        destination.put_manifest(raw, top=True)
    assert tree(tmp_path) == {}


def test_sparse_members_are_not_read_as_something_else(tmp_path: Path) -> None:
    hole = tmp_path / "index.json"
    with hole.open("wb") as file:
        file.truncate(1 << 20)
        file.seek(1 << 20)
        file.write(b"{}")
    subprocess.run(
        ["tar", "-cSf", "sparse.tar", "index.json"], cwd=tmp_path, check=True, capture_output=True
    )
    with pytest.raises(Unsupported, match="sparse"):
        top_of(f"oci-archive:{tmp_path}/sparse.tar")


def test_descriptor_of_another_size_does_not_count_as_there(tmp_path: Path) -> None:
    descriptor, content = next(iter(ONE.blobs.items()))
    with OciArchiveDestination.open(f"{tmp_path}/a.tar:v1") as destination:
        destination.put_blob(descriptor, lambda: BlobReader.of(content), task=Task())
        other = Descriptor(media_type="", digest=descriptor.digest, size=1)
        assert not destination.has_blob(other)


def test_a_file_that_is_no_archive_is_not_replaced(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("root:x:0:0:root:/root:/bin/bash\n")
    with pytest.raises(Conflict, match="is not a tar archive"):
        OciArchiveDestination.open(f"{precious}:tag")
    assert precious.read_text().startswith("root:")
    empty = tmp_path / "empty"
    empty.touch()
    OciArchiveDestination.open(f"{empty}:tag").close()
