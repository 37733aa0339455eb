"""Layers as one: the same tree as of all of them, whiteouts included, and history that fits."""

from __future__ import annotations

import io
import os
import stat
import tarfile
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imgtools.blob.placing import ChunkReader
from imgtools.blob.reader import BlobReader
from imgtools.blob.tar import UnpackOptions, unpack_tree
from imgtools.build.outputs.merge import merged, merged_members
from imgtools.build.outputs.squash import squashed, squashed_history
from imgtools.errors import Cancelled, InvalidArchive, UnsafePath
from imgtools.spec.config import History
from imgtools.task import CancelToken, Task
from tests.build.outputs_kit import base_image, built, link, new_store, tar
from tests.build.store_double import EMPTY_TAR

TASK = Task()


def merge(layers: Sequence[bytes], *, whole: bool = False, prefix: str = "") -> bytes:
    openers = [partial(BlobReader.of, layer) for layer in layers]
    if prefix:
        return b"".join(merged_members(openers, whole=whole, prefix=prefix, task=TASK))
    return b"".join(merged(openers, whole=whole, task=TASK))


def names(content: bytes) -> list[str]:
    """The members of a tar in order, directories with a slash."""
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        return [info.name + ("/" if info.isdir() else "") for info in archive]


def applied(layers: Sequence[bytes]) -> dict[str, tuple[Any, ...]]:
    """The tree that layers make one after the other: type, mode, content and name of the file
    that a name is another one of."""
    with tempfile.TemporaryDirectory() as directory:
        for layer in layers:
            unpack_tree(io.BytesIO(layer), directory, UnpackOptions(layered=True))
        found: dict[str, tuple[Any, ...]] = {}
        inodes: dict[int, str] = {}
        for path in sorted(Path(directory).rglob("*")):
            status, name = path.lstat(), str(path.relative_to(directory))
            content: str | bytes = b""
            if stat.S_ISLNK(status.st_mode):
                content = os.readlink(path)
            elif stat.S_ISREG(status.st_mode):
                content = path.read_bytes()
            same = "" if stat.S_ISDIR(status.st_mode) else inodes.setdefault(status.st_ino, name)
            time = 0 if stat.S_ISDIR(status.st_mode) else status.st_mtime_ns
            found[name] = (stat.filemode(status.st_mode), content, same, time)
        return found


NAMES = ("a", "b", "c")
LEAVES = st.one_of(
    st.binary(max_size=3).map(lambda data: ("file", data)),
    st.sampled_from(("x", "../a")).map(lambda target: ("link", target)),
    st.just(("gone", None)),
    st.just(("again", None)),
)
TREES = st.recursive(
    LEAVES,
    lambda inner: st.tuples(
        st.sampled_from(("dir", "implied", "opaque")),
        st.dictionaries(st.sampled_from(NAMES), inner, max_size=3),
    ),
    max_leaves=8,
)
LAYERS = st.lists(st.dictionaries(st.sampled_from(NAMES), TREES, max_size=3), max_size=4)


def real(names: dict[str, tuple[str, Any]]) -> bool:
    """Whether a directory has more than marks in it: no tool makes a mark in a directory that
    is nowhere."""
    return any(
        kind in ("file", "link", "dir", "opaque") or (kind == "implied" and real(value))
        for kind, value in names.values()
    )


def layer_of(tree: dict[str, tuple[str, Any]], number: int) -> bytes:
    """A layer of a random tree; "again" is a hard link to the last file before it."""
    members: list[tarfile.TarInfo | tuple[str, bytes]] = []
    files: list[str] = []

    def add(prefix: str, names: dict[str, tuple[str, Any]]) -> None:
        for name, (kind, value) in names.items():
            path = prefix + name
            if kind == "file":
                members.append((path, value + b"%d" % number))
                files.append(path)
            elif kind == "link":
                members.append(link(path, value, tarfile.SYMTYPE))
            elif kind == "gone":
                members.append((f"{prefix}.wh.{name}", b""))
            elif kind == "again" and files:
                members.append(link(path, files[-1]))
            elif kind in ("dir", "implied", "opaque"):
                if kind != "implied" or not real(value):
                    members.append((path + "/", b""))
                if kind == "opaque":
                    members.append((path + "/.wh..wh..opq", b""))
                add(path + "/", value)

    add("", tree)
    return tar(*members)


@settings(max_examples=150)
@given(LAYERS, LAYERS)
def test_e94_squashed_layers_have_the_effect_of_all(
    below: list[dict[str, tuple[str, Any]]], above: list[dict[str, tuple[str, Any]]]
) -> None:
    base = [layer_of(tree, number) for number, tree in enumerate(below)]
    new = [layer_of(tree, number + 10) for number, tree in enumerate(above)]
    assert applied([*base, merge(new)]) == applied([*base, *new])
    everything = merge([*base, *new], whole=True)
    assert applied([everything]) == applied([*base, *new])
    assert not [name for name in names(everything) if ".wh." in name]


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        ([tar(("d/f", b"1")), tar((".wh.d", b""))], [".wh.d"]),
        ([tar(("d/f", b"1")), tar((".wh.d", b""), ("d/g", b"2"))], ["d/.wh..wh..opq", "d/g"]),
        ([tar(("d/f", b"1")), tar(("d/.wh.f", b""), ("d/g", b""))], ["d/.wh.f", "d/g"]),
        ([tar(("d", b"1")), tar(("d/", b""), ("d/x", b""))], ["d/", "d/.wh..wh..opq", "d/x"]),
        ([tar(("d/", b""), ("d/x", b"")), tar(("d", b"now a file"))], ["d"]),
        ([tar((".wh.f", b"")), tar(("f", b"back"))], ["f"]),
        ([tar(("b", b"1"), ("a", b"2")), tar(("c", b"3"))], ["b", "a", "c"]),
        ([tar((".wh..wh.plnk", b""), ("f", b""))], ["f"]),
    ],
)
def test_e94_marks_are_kept_first_and_made_where_needed(
    layers: list[bytes], expected: list[str]
) -> None:
    assert names(merge(layers)) == expected


def test_hard_links_across_layers() -> None:
    first, second = tar(("a", b"old")), tar(link("b", "a"))
    third = tar(("a", b"new"))
    content = merge([first, second, third])
    assert applied([content])["b"][1] == b"old"
    assert applied([content])["a"][1] == b"new"
    assert applied([first, merge([second])])["b"][2] == "a"
    with pytest.raises(InvalidArchive, match="hard link"):
        merge([second, third])
    with pytest.raises(InvalidArchive, match="hard link"):
        merge([second], whole=True)


def test_attributes_times_and_odd_names_survive() -> None:
    info = tarfile.TarInfo("a" * 120 + "/\udcffname")
    info.uid, info.gid, info.mode, info.mtime = 3_000_000, 7, 0o4755, 1.5
    info.pax_headers = {"SCHILY.xattr.user.note": "kept"}
    device = link("null", "", tarfile.CHRTYPE)
    device.devmajor, device.devminor = 1, 3
    with tarfile.open(fileobj=io.BytesIO(merge([tar(info, device)]))) as archive:
        found = {member.name: member for member in archive}
    file = found[info.name]
    assert (file.uid, file.gid, file.mode, file.mtime) == (3_000_000, 7, 0o4755, 1.5)
    assert file.pax_headers["SCHILY.xattr.user.note"] == "kept"
    assert (found["null"].type, found["null"].devmajor) == (tarfile.CHRTYPE, 1)


def test_bad_layers_are_refused_and_cancelling_stops() -> None:
    with pytest.raises(UnsafePath):
        merge([tar(("../x", b""))])
    token = CancelToken()
    token.cancel()
    with pytest.raises(Cancelled):
        list(merged([partial(BlobReader.of, tar(("a", b"")))], whole=True, task=Task(cancel=token)))


def test_a_prefix_goes_in_front_of_names_and_links() -> None:
    layer = tar(("d/", b""), ("d/a", b"1"), link("b", "d/a"), link("s", "d", tarfile.SYMTYPE))
    content = merge([layer], whole=True, prefix="linux_amd64/")
    assert applied([content])["linux_amd64/d/a"][2] == "linux_amd64/b"
    assert applied([content])["linux_amd64/s"][1] == "d"


def test_chunks_as_a_stream() -> None:
    reader = ChunkReader(iter([b"abc", b"", b"defgh"]))
    parts = []
    while data := reader.read(2):
        parts.append(data)
    assert parts == [b"ab", b"c", b"de", b"fg", b"h"]


def test_squash_keeps_the_base_and_squash_all_does_not(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    base, _ = base_image(store, "base", [tar(("etc/os", b"base"), ("bin", b"sh"))])
    image = built(store, [tar(("app", b"1")), tar(("etc/.wh.os", b""), ("app", b"2"))], base=base)
    new = squashed(image, "new", store, task=TASK)
    assert new.config.diff_ids == tuple(layer.diff_id for layer in new.layers)
    assert new.config.diff_ids[0] == base.config.diff_ids[0]
    assert len(new.layers) == 2
    assert [entry.empty_layer for entry in new.config.history] == [False, True, False]
    everything = squashed(image, "all", store, task=TASK)
    assert len(everything.layers) == 1
    assert [entry.empty_layer for entry in everything.config.history] == [True, True, False]
    for result in (image, new, everything):
        assert store.content(result.config.diff_ids) == {"app": b"2", "bin": b"sh"}
    assert squashed(image, "new", store, task=TASK) == new


def test_e95_nothing_to_squash(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    base, _ = base_image(store, "base", [tar(("a", b""))])
    unchanged = built(store, [], base=base)
    assert squashed(unchanged, "new", store, task=TASK) == unchanged
    empty = squashed(built(store, [EMPTY_TAR], base=base), "new", store, task=TASK)
    assert empty.config.diff_ids == base.config.diff_ids
    assert [entry.empty_layer for entry in empty.config.history] == [False, True]
    nothing = squashed(built(store, []), "all", store, task=TASK)
    assert nothing.layers == ()


@given(st.lists(st.booleans(), max_size=8), st.integers(0, 8), st.booleans())
def test_e90_history_counts_layers(flags: list[bool], below: int, has_layer: bool) -> None:
    history = [History(created_by=str(n), empty_layer=flag) for n, flag in enumerate(flags)]
    layers = flags.count(False)
    result = squashed_history(history, below, has_layer)
    count = sum(not entry.empty_layer for entry in result)
    assert count == min(below, layers) + (has_layer and layers > below)
    assert [entry.created_by for entry in result] == [entry.created_by for entry in history]
