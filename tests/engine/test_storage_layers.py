"""Layers: the same tree whichever driver, whatever the archive; whole or not there."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.storage.layers_workspace import Workspace
from engine.storage.options import ApplyOptions
from imgtools.blob.compression import Compressor
from imgtools.blob.tar import Entry, EntryType, TarLimits
from imgtools.errors import (
    Conflict,
    DigestMismatch,
    Error,
    InvalidArchive,
    InvalidInput,
    LimitExceeded,
    NotFound,
    UnsafePath,
)
from imgtools.spec.digest import Digest
from imgtools.spec.identity import chain_id
from tests.engine.layer_tools import (
    DRIVERS,
    PROJECT,
    Member,
    Store,
    archive,
    directory,
    file,
    hardlink,
    opaque,
    other,
    symlink,
    whiteout,
)

BASE = [
    directory("./", mtime_ns=10**9),
    directory("etc", mtime_ns=2 * 10**9),
    file("etc/passwd", b"root"),
    file("etc/shadow", b"secret", 0o640, gid=42),
    directory("tmp", 0o1777, mtime_ns=3 * 10**9),
    directory("usr/lib", mtime_ns=4 * 10**9),
    file("usr/lib/libc.so"),
    symlink("lib", "usr/lib"),
    symlink("abs", "/etc"),
    symlink("loop", "loop"),
    file("file"),
]

NASTY: dict[str, list[Member]] = {
    "below a lower link": [file("lib/new")],
    "below a lower absolute link": [file("abs/new")],
    "below a lower loop": [file("loop/x/y")],
    "below a lower file": [file("file/x/y")],
    "directory without entry keeps mode and time": [file("tmp/x")],
    "link of this layer through a lower link": [symlink("l", "lib/deep"), file("l/x")],
    "link of this layer to a lower directory": [symlink("l", "etc"), file("l/new")],
    "file over directory": [file("etc")],
    "directory over file": [directory("file"), file("file/x")],
    "directory over link": [directory("lib", mtime_ns=5), file("lib/x")],
    "link over directory": [symlink("etc", "usr"), file("etc/x")],
    "whiteout": [whiteout("etc/passwd")],
    "whiteout of directory, then again": [whiteout("etc"), directory("etc"), file("etc/x")],
    "directory first, then its whiteout": [directory("etc"), file("etc/x"), whiteout("etc")],
    "whiteout and opaque": [whiteout("etc"), opaque("etc"), file("etc/y")],
    "whiteout below a lower link": [whiteout("lib/libc.so")],
    "whiteout of a link": [whiteout("lib")],
    "whiteout of what is not there": [whiteout("no/such/thing")],
    "opaque": [opaque("etc"), file("etc/new")],
    "opaque last": [file("etc/new"), opaque("etc")],
    "opaque root": [opaque("."), file("only")],
    "opaque below a lower link": [opaque("lib")],
    "whiteout as device": [other("etc/passwd", EntryType.CHAR)],
    "whiteout as device twice": [file("new"), other("new", EntryType.CHAR)],
    "device": [other("null", EntryType.CHAR, 0o666, devmajor=1, devminor=3)],
    "block device": [other("loop0", EntryType.BLOCK, 0o660, devmajor=7, gid=6)],
    "fifo over file": [other("file", EntryType.FIFO)],
    "hard link to a lower file": [hardlink("second", "etc/shadow")],
    "hard link over itself": [hardlink("file", "file")],
    "hard link in the layer": [file("a", b"1"), hardlink("b", "a"), file("a", b"2")],
    "same file twice": [file("x", b"1", uid=1), file("x", b"22", uid=2)],
    "mode and owner of a directory": [directory("etc", 0o700, uid=7, gid=8, mtime_ns=9)],
    "setuid": [file("su", b"x", 0o4755, uid=1, gid=2)],
    "attributes": [file("cap", b"x", xattrs={"user.a": b"\0b", "security.capability": bytes.fromhex(
        "0100000200040000000000000000000000000000")})],
    "overlay's own attributes": [directory("etc", xattrs={"trusted.overlay.opaque": b"y",
                                                           "user.overlay.opaque": b"y"})],
    "root": [directory("./", 0o700, uid=3, gid=4, mtime_ns=7), file("x")],
    "names": [file("a\nb\\ c:,\udcff"), directory("ä" * 100), file("-rf")],
    "deep": [file("/".join(["d"] * 400))],
}  # fmt: skip


@pytest.mark.parametrize("layer", NASTY.values(), ids=NASTY.keys())
def test_f12_both_drivers_make_the_same_tree(root: Path, layer: list[Member]) -> None:
    layers = [archive(*BASE), archive(*layer), archive(file("later/still"), whiteout("tmp"))]
    trees = []
    for driver in DRIVERS:
        store = Store(root / driver, driver)
        trees.append([store.tree(store.stack(*layers[:count])) for count in (1, 2, 3)])
        assert store.left_over() == []
    assert trees[0] == trees[1]


def test_layer_entry_below_a_lower_link_hides_the_link(store: Store) -> None:
    """As where a layer is unpacked by itself: podman, Docker, and our own view of an image."""
    tree = store.tree(store.stack(archive(*BASE), archive(file("lib/new"))))
    assert tree["lib"][0] == "0o40755"
    assert "lib/new" in tree
    assert "usr/lib/new" not in tree
    assert "usr/lib/libc.so" in tree


def test_directory_without_an_entry_stays_as_it_was(store: Store) -> None:
    tree = store.tree(store.stack(archive(*BASE), archive(file("tmp/x"), whiteout("etc/passwd"))))
    assert tree["tmp"][0] == "0o41777"
    assert tree["tmp"][3] == 3 * 10**9
    assert tree["etc"][3] == 2 * 10**9
    assert tree["usr"][0:4] == ("0o40755", 0, 0, 0)


def test_node_that_is_overlays_whiteout_removes(store: Store) -> None:
    tree = store.tree(store.stack(archive(*BASE), archive(other("etc/passwd", EntryType.CHAR))))
    assert "etc/passwd" not in tree


def test_root_of_the_tree_has_the_metadata_of_the_last_entry_for_it(store: Store) -> None:
    tree = store.tree(store.stack(archive(directory("./", 0o751, uid=5)), archive(file("x"))))
    assert tree["."][0:3] == ("0o40751", 5, 0)


NAMES = st.sampled_from(["a", "b", "c"])
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
MEMBERS = st.one_of(
    st.builds(file, PATHS, st.sampled_from([b"", b"1", b"22"]), st.sampled_from([0o644, 0o4711])),
    st.builds(directory, PATHS, st.sampled_from([0o755, 0o1777]), mtime_ns=st.sampled_from([0, 5])),
    st.builds(symlink, PATHS, st.one_of(PATHS, PATHS.map("/{}".format), st.just(".."))),
    st.builds(whiteout, PATHS),
    st.builds(opaque, PATHS),
    st.builds(other, PATHS, st.sampled_from([EntryType.FIFO, EntryType.CHAR])),
)
"""No hard links: those to lower files become copies when an overlay changes one of them."""


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.lists(st.lists(MEMBERS, max_size=6), min_size=1, max_size=3))
def test_any_layers_make_the_same_tree_with_both_drivers(
    root: Path, layers: list[list[Member]]
) -> None:
    outcomes = []
    for driver in DRIVERS:
        store = Store(root / driver, driver)
        parent: Digest | None = None
        outcome: list[object] = []
        for layer in layers:
            tar = archive(*layer)
            try:
                parent = store.layers.apply(parent, Digest.of(tar), io.BytesIO(tar)).chain_id
                outcome.append(store.tree(parent))
            except Error as e:
                outcome.append((type(e), e.message))
                break
        outcomes.append(outcome)
    assert outcomes[0] == outcomes[1]


HOSTILE = {
    "dotdot": ([file("../../evil")], UnsafePath),
    "dotdot hard link": ([hardlink("x", "../../store.json")], UnsafePath),
    "hard link to nothing": ([hardlink("x", "no")], InvalidArchive),
    "hard link through a lower link": ([hardlink("x", "lib/libc.so")], InvalidArchive),
    "whiteout of dotdot": ([file(".wh...", b"")], InvalidArchive),
    "too deep": ([file("d/" * 600 + "x")], LimitExceeded),
    "file of this layer as directory": ([file("x"), file("x/y")], InvalidArchive),
    "loop of this layer": ([symlink("x", "x"), file("x/y")], UnsafePath),
}


@pytest.mark.parametrize(("layer", "error"), HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_layer_leaves_nothing(
    store: Store, layer: list[Member], error: type[Error]
) -> None:
    base = store.stack(archive(*BASE))
    before = store.tree(base)
    with pytest.raises(error):
        store.stack(archive(*BASE), archive(file("fine"), *layer))
    assert [layer.chain_id for layer in store.layers.list()] == [base]
    assert store.tree(base) == before
    assert store.left_over() == []


def test_layer_is_made_once_and_named_by_its_chain(store: Store) -> None:
    tars = [archive(*BASE), archive(file("second"))]
    name = store.stack(*tars)
    assert name == chain_id([Digest.of(tar) for tar in tars])
    layer = store.layers.get(name)
    assert layer.parent == Digest.of(tars[0])
    assert layer.diff_id == Digest.of(tars[1])
    assert (layer.size, layer.entries) == (4, 1)

    class Unread:
        def read(self, _: int, /) -> bytes:
            raise AssertionError("the layer is there already")

    assert store.layers.apply(layer.parent, layer.diff_id, Unread()) == layer


@pytest.mark.parametrize("form", ["gzip", "zstd"])
def test_compressed_layer_is_the_layer(store: Store, form: str) -> None:
    from imgtools.blob.compression import Compression

    tar = archive(*BASE)
    out: list[bytes] = []
    compressor = Compressor(out.append, Compression(form))
    compressor.write(tar)
    compressor.finish()
    name = store.layers.apply(None, Digest.of(tar), io.BytesIO(b"".join(out))).chain_id
    assert name == Digest.of(tar)


def test_wrong_diff_id_and_cut_archives_leave_nothing(store: Store) -> None:
    tar = archive(*BASE)
    with pytest.raises(DigestMismatch):
        store.layers.apply(None, Digest.of(b"other"), io.BytesIO(tar))
    with pytest.raises(InvalidArchive):
        store.layers.apply(None, Digest.of(tar), io.BytesIO(tar[:700]))
    with pytest.raises(LimitExceeded):
        store.layers.apply(
            None, Digest.of(tar), io.BytesIO(tar), ApplyOptions(limits=TarLimits(entries=2))
        )
    assert list(store.layers.list()) == []
    assert store.left_over() == []


def test_error_of_the_reader_comes_out(store: Store) -> None:
    class Cut:
        def read(self, _: int, /) -> bytes:
            raise OSError("no more")

    with pytest.raises(OSError, match="no more"):
        store.layers.apply(None, Digest.of(b""), Cut())
    assert store.left_over() == []


def test_layer_needs_its_parent(store: Store) -> None:
    with pytest.raises(NotFound):
        store.layers.apply(Digest.of(b"no"), Digest.of(b""), io.BytesIO(b""))


def test_removing_a_layer_that_another_stands_on_is_refused(store: Store) -> None:
    base = store.stack(archive(*BASE))
    top = store.stack(archive(*BASE), archive(file("x")))
    with pytest.raises(Conflict):
        store.layers.remove(base)
    assert store.layers.remove(top)
    assert store.layers.remove(base)
    assert not store.layers.remove(base)
    assert list(store.layers.list()) == []
    assert store.left_over() == []


def test_power_loss_takes_layers_that_were_not_settled(store: Store) -> None:
    base = store.stack(archive(*BASE))
    store.layers.settle()
    top = store.stack(archive(*BASE), archive(file("x")))
    mark = Path(store.layers.get(top).path, "boot")
    mark.write_text("another boot")
    assert store.layers.has(base)
    assert not store.layers.has(top)
    with pytest.raises(InvalidInput):
        store.layers.get(top)
    assert store.stack(archive(*BASE), archive(file("x"))) == top
    assert store.layers.has(top)
    mark.write_text("")
    assert store.layers.sweep() == 1
    assert not store.layers.has(top)
    assert store.layers.has(base)


def test_damaged_metadata_is_an_error_and_swept(store: Store) -> None:
    base = store.stack(archive(*BASE))
    for text in ("", "[]", "{}", '{"version": 2}', "{" * 100):
        Path(store.layers.get(base).path, "meta.json").write_text(text)
        with pytest.raises(InvalidInput):
            store.layers.get(base)
        assert store.stack(archive(*BASE)) == base
    Path(store.layers.get(base).path, "meta.json").write_text("")
    assert store.layers.sweep() == 1
    assert os.listdir(os.path.dirname(store.disk.layout.layer(base))) == []


def test_more_layers_than_a_mount_takes_are_merged(root: Path) -> None:
    store = Store(root / "store", "overlay")
    tars = [archive(*BASE), *(archive(file(f"f{i}"), whiteout(f"f{i - 3}")) for i in range(205))]
    top = store.layers.get(store.stack(*tars))
    assert len(top.stack) < store.disk.driver.max_stack
    flat = Store(root / "flat", "flat")
    expected = flat.stack(*tars[:4], *tars[-4:])
    names = {name for name in store.tree(top.chain_id) if not name.startswith("f")}
    assert names == {name for name in flat.tree(expected) if not name.startswith("f")}
    found = {n for n in store.tree(top.chain_id) if n.startswith("f") and n != "file"}
    assert found == {"f202", "f203", "f204"}


def test_two_that_make_one_layer_agree(store: Store) -> None:
    tar = archive(*BASE, *(file(f"many/{i}") for i in range(300)))
    made: list[object] = []
    threads = [
        threading.Thread(
            target=lambda: made.append(store.layers.apply(None, Digest.of(tar), io.BytesIO(tar)))
        )
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == [store.layers.get(Digest.of(tar))] * 4
    assert store.left_over() == []


KILLED = """
import sys, os, time
from tests.engine.layer_tools import Store, archive, file
from imgtools.spec.digest import Digest
from pathlib import Path
store = Store(Path(sys.argv[1]), sys.argv[2])
tar = archive(*(file(f"d/{i}") for i in range(400)))

class Slow:
    at = 0
    def read(self, size, /):
        if self.at > 100_000:
            print("unpacking", flush=True)
            time.sleep(60)
        data = tar[self.at : self.at + 50_000]
        self.at += len(data)
        return data

store.layers.apply(None, Digest.of(tar), Slow())
"""


@pytest.mark.parametrize("driver", DRIVERS)
def test_kill_leaves_only_what_a_sweep_removes(root: Path, driver: str) -> None:
    store = Store(root / "store", driver)
    env = {**os.environ, "PYTHONPATH": str(PROJECT)}
    argv = [sys.executable, "-c", KILLED, str(root / "store"), driver]
    with subprocess.Popen(argv, env=env, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"unpacking\n"
        assert len(store.left_over()) == 2
        assert store.layers.sweep() == 0, "its maker lives"
        assert len(store.left_over()) == 2
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert list(store.layers.list()) == []
    assert store.layers.sweep() == 1
    assert store.left_over() == []


def test_sweep_and_makers_do_not_meet(root: Path) -> None:
    workspace = Workspace(str(root / "tmp"))
    stop = time.monotonic() + 0.5
    errors: list[BaseException] = []

    def make() -> None:
        try:
            while time.monotonic() < stop:
                with workspace.directory() as path:
                    Path(path, "x").write_text("x")
                    assert Path(path, "x").exists()
        except (Error, OSError, AssertionError) as e:
            errors.append(e)

    threads = [threading.Thread(target=make) for _ in range(2)]
    for thread in threads:
        thread.start()
    while time.monotonic() < stop:
        assert workspace.sweep() == 0
    for thread in threads:
        thread.join()
    assert errors == []
    assert os.listdir(root / "tmp") == []


def test_entry_is_a_value_here() -> None:
    """The tables above are used by several tests: none of them may change."""
    assert archive(*BASE) == archive(*BASE)
    assert isinstance(BASE[0][0], Entry)
