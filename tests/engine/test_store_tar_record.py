"""Layers come back byte for byte from their record and the tree they were unpacked into."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.storage.tar_record import Recorder
from engine.storage.tar_replay import Replay, comes_back, size_of
from imgtools.blob.tar import Devices, UnpackOptions, unpack_tree
from imgtools.errors import InvalidArchive, StorageError

Fill = Callable[[tarfile.TarFile], object]


def archive(fill: Fill, form: int = tarfile.PAX_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as tar:
        fill(tar)
    return out.getvalue()


def member(tar: tarfile.TarFile, name: str, content: bytes = b"", **fields: object) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for key, value in fields.items():
        setattr(info, key, value)
    tar.addfile(info, io.BytesIO(content))


class Pieces:
    """A stream in pieces of given sizes, again and again."""

    def __init__(self, content: bytes, sizes: list[int]) -> None:
        self._content = io.BytesIO(content)
        self._sizes = sizes
        self._count = 0

    def read(self, size: int, /) -> bytes:
        step = self._sizes[self._count % len(self._sizes)]
        self._count += 1
        return self._content.read(min(size, step))


def recorded(content: bytes, where: Path, sizes: list[int] | None = None) -> tuple[str, str]:
    """(record, tree) of an archive that was unpacked."""
    record, tree = str(where / "record"), str(where / "tree")
    os.mkdir(tree)
    with open(record, "wb", buffering=0) as out:
        recorder = Recorder(Pieces(content, sizes or [1 << 18]), out)
        unpack_tree(recorder, tree, UnpackOptions(devices=Devices.SKIP, layered=True))
        recorder.finish()
        assert recorder.size == len(content)
    return record, tree


def replayed(record: str, tree: str) -> bytes:
    replay = Replay(record, tree)
    try:
        parts = []
        while data := replay.read(1000):
            parts.append(data)
        return b"".join(parts)
    finally:
        replay.close()


def back(record: str, tree: str) -> bool:
    with open(record, "rb", buffering=0) as file:
        return comes_back(file, tree)


def everything(tar: tarfile.TarFile) -> None:
    member(tar, "dir/", type=tarfile.DIRTYPE, mode=0o755)
    member(tar, "dir/file", b"some content", mode=0o640)
    member(tar, "dir/empty")
    member(tar, "x" * 90 + "/" + "y" * 120, b"long name" * 99)
    member(tar, "ü/ñ", b"not ascii", pax_headers={"SCHILY.xattr.user.a": "b"})
    member(tar, "link", type=tarfile.SYMTYPE, linkname="dir/file")
    member(tar, "hard", type=tarfile.LNKTYPE, linkname="dir/file")
    member(tar, "fifo", type=tarfile.FIFOTYPE)
    member(tar, "null", type=tarfile.CHRTYPE, devmajor=1, devminor=3)
    member(tar, ".wh.gone")
    member(tar, "dir/.wh..wh..opq")
    member(tar, "big", bytes(range(256)) * 2000)
    member(tar, "sub/through/a", b"implicit parents")


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
@pytest.mark.parametrize("sizes", [[1 << 18], [3], [511], [512], [7, 513, 3000]])
def test_every_kind_of_member_comes_back(form: int, sizes: list[int], tmp_path: Path) -> None:
    def fill(tar: tarfile.TarFile) -> None:
        everything(tar)

    if form == tarfile.USTAR_FORMAT:

        def fill(tar: tarfile.TarFile) -> None:
            member(tar, "p" * 90 + "/" + "q" * 90, b"prefix")
            member(tar, "a/b", b"c")

    content = archive(fill, form)
    record, tree = recorded(content, tmp_path, sizes)
    assert back(record, tree)
    assert replayed(record, tree) == content


@pytest.mark.parametrize(
    "content",
    [b"", bytes(512), bytes(1024), bytes(1024) + b"what is behind the end" * 100],
    ids=["no byte", "one zero block", "two", "rubbish behind the end"],
)
def test_archives_without_members_come_back(content: bytes, tmp_path: Path) -> None:
    record, tree = recorded(content, tmp_path)
    assert back(record, tree)
    assert replayed(record, tree) == content


def test_contents_of_files_are_not_recorded(tmp_path: Path) -> None:
    noise = os.urandom(3_000_000)
    record, tree = recorded(archive(lambda tar: member(tar, "noise", noise)), tmp_path)
    assert os.path.getsize(record) < 2000
    with open(record, "rb") as file:
        assert size_of(file, record) > len(noise)
    assert noise in replayed(record, tree)


def sparse(tmp_path: Path, form: str) -> bytes:
    """An archive of a sparse file, by GNU tar."""
    import subprocess

    path = tmp_path / "holes"
    with path.open("wb") as file:
        for place in range(0, 40 * 100_000, 100_000):
            file.seek(place)
            file.write(b"data" * 2000)
        file.truncate(5_000_000)
    command = ["tar", "-C", str(tmp_path), "--sparse", f"--format={form}", "-cf", "-", "holes"]
    return subprocess.run(command, check=True, capture_output=True).stdout


@pytest.mark.parametrize("form", ["gnu", "pax"])
def test_sparse_files_come_back(form: str, tmp_path: Path) -> None:
    content = sparse(tmp_path, form)
    record, tree = recorded(content, tmp_path)
    assert back(record, tree)
    assert replayed(record, tree) == content


def twice(tar: tarfile.TarFile) -> None:
    member(tar, "a", b"first")
    member(tar, "a", b"other")


def twice_by_a_link(tar: tarfile.TarFile) -> None:
    member(tar, "usr/lib/", type=tarfile.DIRTYPE, mode=0o755)
    member(tar, "lib", type=tarfile.SYMTYPE, linkname="usr/lib")
    member(tar, "lib/a", b"first")
    member(tar, "usr/lib/a", b"other")


def replaced_by_a_hard_link(tar: tarfile.TarFile) -> None:
    member(tar, "a", b"first")
    member(tar, "b", b"other")
    member(tar, "a", type=tarfile.LNKTYPE, linkname="b")


def replaced_by_a_link(tar: tarfile.TarFile) -> None:
    member(tar, "d/a", b"first")
    member(tar, "e/a", b"other")
    member(tar, "d", type=tarfile.SYMTYPE, linkname="e")


def shortened(tar: tarfile.TarFile) -> None:
    member(tar, "a", b"longer than the next")
    member(tar, "a", b"short")


@pytest.mark.parametrize(
    "fill", [twice, twice_by_a_link, replaced_by_a_hard_link, replaced_by_a_link, shortened]
)
def test_content_that_is_gone_is_noticed(fill: Fill, tmp_path: Path) -> None:
    record, tree = recorded(archive(fill), tmp_path)
    assert not back(record, tree)


def test_whole_record_needs_no_tree(tmp_path: Path) -> None:
    content = archive(twice)
    path = str(tmp_path / "whole")
    with open(path, "wb", buffering=0) as out:
        recorder = Recorder(io.BytesIO(content), out, whole=True)
        while recorder.read(100):
            pass
        recorder.finish()
    assert back(path, str(tmp_path))
    assert replayed(path, str(tmp_path)) == content


def remove(tree: Path) -> None:
    (tree / "dir/file").unlink()


def shorten(tree: Path) -> None:
    os.truncate(tree / "dir/file", 3)


def lead_out(tree: Path) -> None:
    (tree / "dir/file").unlink()
    (tree / "dir/file").symlink_to("/etc/hostname")


def lead_out_by_the_directory(tree: Path) -> None:
    os.rename(tree / "dir", tree / "other")
    (tree / "dir").symlink_to("/etc")


def pipe(tree: Path) -> None:
    (tree / "dir/file").unlink()
    os.mkfifo(tree / "dir/file")


@pytest.mark.parametrize("change", [remove, shorten, lead_out, lead_out_by_the_directory, pipe])
def test_changed_tree_is_an_error(change: Callable[[Path], object], tmp_path: Path) -> None:
    record, tree = recorded(archive(everything), tmp_path)
    change(Path(tree))
    with pytest.raises(StorageError, match="is not what was unpacked there"):
        replayed(record, tree)


@pytest.mark.parametrize("cut", [0, 10, 30, 60, -40])
def test_damaged_record_is_an_error(cut: int, tmp_path: Path) -> None:
    record, tree = recorded(archive(everything), tmp_path)
    os.truncate(record, cut if cut >= 0 else os.path.getsize(record) + cut)
    with pytest.raises(StorageError, match="damaged"):
        replayed(record, tree)


names = st.text("abc/.é", min_size=1, max_size=12).filter(
    lambda n: ".." not in n and n.strip("/.") and not n.startswith("/")
)


@settings(max_examples=40, deadline=None)
@given(
    files=st.lists(st.tuples(names, st.binary(max_size=900)), max_size=6),
    sizes=st.lists(st.integers(100, 2000), min_size=1, max_size=4),
)
def test_what_is_said_to_come_back_does(
    files: list[tuple[str, bytes]], sizes: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    where = tmp_path_factory.mktemp("layer")

    def fill(tar: tarfile.TarFile) -> None:
        for name, content in files:
            member(tar, name, content)

    content = archive(fill)
    try:
        record, tree = recorded(content, where, sizes)
    except InvalidArchive:
        return  # a file where a directory has to be
    if back(record, tree):
        assert replayed(record, tree) == content
    else:
        parts = [[p for p in name.split("/") if p not in ("", ".")] for name, _ in files]
        assert any(
            n != m and one[: len(other)] == other
            for n, one in enumerate(parts)
            for m, other in enumerate(parts)
        )
