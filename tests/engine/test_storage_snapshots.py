"""Snapshots: made at once, mounted by whoever wants, gone without a trace."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest

from engine.runtime.kernel import mounting
from engine.storage.drivers import mounts
from engine.storage.layout import Layout
from engine.storage.options import RootMount, StoreLocation
from imgtools.errors import Conflict, InvalidInput, NotFound, StorageError
from imgtools.spec.digest import Digest
from tests.engine.layer_tools import (
    Store,
    archive,
    directory,
    file,
    members,
    python,
)

BASE = archive(directory("./", 0o751, uid=3, mtime_ns=5), file("a/b", b"text"), file("c"))


def test_snapshot_is_the_layer_and_leaves_it_alone(store: Store) -> None:
    base = store.stack(BASE)
    before = store.tree(base)
    snapshot = store.snapshots.prepare(base, "one")
    assert store.tree(snapshot) == before
    with store.inside(snapshot) as path:
        Path(path, "a/b").write_text("changed")
        Path(path, "new").write_text("x")
        os.chmod(path + "/.", 0o700)
    assert store.tree(snapshot)["."][0] == "0o40700"
    assert store.tree(base) == before
    assert store.snapshots.get("one") == snapshot
    assert list(store.snapshots.list()) == [snapshot]
    assert store.snapshots.remove("one")
    assert not store.snapshots.remove("one")
    assert list(store.snapshots.list()) == []
    assert store.left_over() == []


def test_snapshot_without_changes_is_an_empty_layer(store: Store) -> None:
    snapshot = store.snapshots.prepare(store.stack(BASE), "one")
    assert store.diff(snapshot) == archive()


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "-x", "a b", "x" * 129, "a\n"])
def test_bad_ids_are_refused(store: Store, name: str) -> None:
    base = store.stack(BASE)
    with pytest.raises(InvalidInput):
        store.snapshots.prepare(base, name)
    with pytest.raises(InvalidInput):
        store.snapshots.remove(name)


def test_taken_ids_and_missing_layers(store: Store) -> None:
    base = store.stack(BASE)
    store.snapshots.prepare(base, "one")
    with pytest.raises(Conflict):
        store.snapshots.prepare(base, "one")
    with pytest.raises(NotFound):
        store.snapshots.prepare(Digest.of(b"no"), "two")
    with pytest.raises(NotFound):
        store.snapshots.get("two")
    assert store.left_over() == []


@pytest.mark.parametrize("text", ["", "{}", "[", '{"version": 9}'])
def test_damaged_snapshot_is_an_error_and_can_be_removed(store: Store, text: str) -> None:
    snapshot = store.snapshots.prepare(store.stack(BASE), "one")
    Path(snapshot.path, "meta.json").write_text(text)
    with pytest.raises(InvalidInput):
        store.snapshots.get("one")
    assert list(store.snapshots.list()) == []
    assert list(store.snapshots.damaged()) == ["one"]
    assert store.snapshots.remove("one")
    assert list(store.snapshots.damaged()) == []


def test_read_only_view(store: Store) -> None:
    for base in (store.stack(BASE), store.stack(BASE, archive(file("d")))):
        snapshot = store.snapshots.prepare(base, base.short, read_only=True)
        assert store.tree(snapshot) == store.tree(base)
        assert store.snapshots.root_mount(snapshot).read_only
        assert store.snapshots.root_mount(snapshot).upper == ""
        with pytest.raises(InvalidInput):
            store.diff(snapshot)


def test_overlay_snapshot_costs_the_same_whatever_the_size(root: Path) -> None:
    store = Store(root / "store", "overlay")
    snapshot = store.snapshots.prepare(
        store.stack(archive(*(file(f"{i % 50}/{i}") for i in range(2000)))), "one"
    )
    inside = sum(len(dirs) + len(files) for _, dirs, files in os.walk(snapshot.path))
    assert inside == 3


def test_f16_names_that_mount_options_cannot_hold(root: Path) -> None:
    odd = root / "a:b,c\\d e\n\udcff=" / ("long" * 60) / ("dir" * 20)
    store = Store(odd, "overlay")
    base = store.stack(BASE, archive(file("second")))
    snapshot = store.snapshots.prepare(base, "one")
    with store.inside(snapshot) as path:
        Path(path, "new").write_text("x")
    assert [n for n, _ in members(store.diff(snapshot))] == ["new"]


def test_f16_as_many_layers_as_a_stack_has(root: Path) -> None:
    store = Store(root / "store", "overlay")
    limit = store.disk.driver.max_stack
    base = store.stack(*(archive(file(f"f{i}")) for i in range(limit)))
    snapshot = store.snapshots.prepare(base, "one")
    assert len(snapshot.stack) == limit
    assert len([n for n in store.tree(snapshot) if n.startswith("f")]) == limit


def test_kernels_that_take_no_single_layers(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before Linux 6.7: mount(2) with descriptors for names."""
    store = Store(root / "odd:name,\\", "overlay")
    base = store.stack(*(archive(file(f"f{i}")) for i in range(150)))
    snapshot = store.snapshots.prepare(base, "one", volatile=True)
    real = mounting.fsconfig_string

    def old(fd: int, key: bytes, value: bytes) -> None:
        if key == b"lowerdir+":
            raise OSError(22, "Invalid argument")
        real(fd, key, value)

    wanted = store.tree(snapshot)
    monkeypatch.setattr(mounting, "fsconfig_string", old)
    assert store.tree(snapshot) == wanted
    with store.inside(snapshot) as path:
        os.unlink(f"{path}/f7")
        os.mkdir(f"{path}/f7")
    assert [n for n, _ in members(store.diff(snapshot))] == ["f7/"]
    assert str(root) not in Path("/proc/self/mountinfo").read_text()


def test_nothing_is_ever_mounted_on_the_host(store: Store) -> None:
    snapshot = store.snapshots.prepare(store.stack(BASE, archive(file("d"))), "one")
    with store.inside(snapshot):
        assert store.disk.layout.root not in Path("/proc/self/mountinfo").read_text()
    store.diff(snapshot)
    assert store.disk.layout.root not in Path("/proc/self/mountinfo").read_text()


def test_volatile_snapshot_can_be_mounted_again(root: Path) -> None:
    store = Store(root / "store", "overlay")
    snapshot = store.snapshots.prepare(store.stack(BASE), "one", volatile=True)
    for number in range(3):
        mount = store.snapshots.root_mount(snapshot)
        assert ("volatile", "") in mount.options
        fd = mounts.open_root(mount)
        os.close(os.open(f"f{number}", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
        os.close(fd)
    assert [n for n, _ in members(store.diff(snapshot))] == ["f0", "f1", "f2"]


MOUNTED = """
import os, sys
from pathlib import Path
from tests.engine.layer_tools import Store
store = Store(Path(sys.argv[1]))
at = sys.argv[2]
snapshot = store.snapshots.get(sys.argv[3])
with store.snapshots.mounted(snapshot, at):
    print(sorted(os.listdir(at)), at in Path("/proc/self/mountinfo").read_text())
    try:
        Path(at, "new").write_text("x")
    except OSError as e:
        print(e.strerror)
print(os.listdir(at), at in Path("/proc/self/mountinfo").read_text())
"""


@pytest.mark.parametrize("read_only", [False, True])
def test_mounted_in_a_namespace_of_its_own(store: Store, root: Path, read_only: bool) -> None:
    store.snapshots.prepare(store.stack(BASE), "one", read_only=read_only)
    (root / "at").mkdir()
    out = python(
        MOUNTED,
        str(root / "store"),
        str(root / "at"),
        "one",
        unshare=("unshare", "-m", "--propagation", "private"),
    )
    refused = ["Read-only file system"] if read_only else []
    assert out.splitlines() == ["['a', 'c'] True", *refused, "[] False"]


def test_mounting_what_is_not_there_is_an_error(root: Path) -> None:
    with pytest.raises(StorageError):
        mounts.open_root(RootMount(lower=(str(root / "no"), str(root / "nono"))))
    with pytest.raises(NotFound):
        mounts.open_root(RootMount(path=str(root / "no")))


def test_store_keeps_its_driver(root: Path) -> None:
    store = Store(root / "store", "flat")
    assert Store(root / "store").disk.choice == store.disk.choice
    assert Store(root / "store", "overlay").disk.driver.name == "overlay", "nothing in it yet"
    store = Store(root / "store")
    store.stack(BASE)
    with pytest.raises(Conflict):
        Store(root / "store", "flat")
    Path(Layout(str(root / "store")).store_file).write_text('{"version": 99}')
    with pytest.raises(InvalidInput):
        Store(root / "store")


def test_unknown_driver_is_refused(root: Path) -> None:
    with pytest.raises(InvalidInput, match="aufs"):
        Store(root / "store", "aufs")
    assert StoreLocation(root="/r", runroot="/run").driver == ""


def test_file_changed_as_soon_as_the_snapshot_is_there(root: Path) -> None:
    """Same size and time as before, in the same tick of the clock as the copy."""
    store = Store(root / "store", "flat")
    base = store.stack(BASE)
    for number in range(20):
        snapshot = store.snapshots.prepare(base, f"s{number}")
        path = Path(snapshot.path, "tree/a/b")
        st = path.stat()
        path.write_text("TEXT")
        os.utime(path, ns=(st.st_atime_ns, st.st_mtime_ns))
        assert [n for n, _ in members(store.diff(snapshot))] == ["a/", "a/b"]


def test_status_changed_without_change_is_no_change(root: Path) -> None:
    store = Store(root / "store", "flat")
    snapshot = store.snapshots.prepare(store.stack(BASE), "one")
    time.sleep(0.01)
    for name in ("a", "a/b", "c"):
        os.chmod(Path(snapshot.path, "tree", name), os.stat(f"{snapshot.path}/tree/{name}").st_mode)
    assert store.diff(snapshot) == archive()


def test_overlay_on_overlay_is_not_chosen_and_says_why(root: Path) -> None:
    code = """
import os, sys
from pathlib import Path
from engine.storage.drivers.mounts import mounted, overlay
from tests.engine.layer_tools import Store, archive, file
root = Path(sys.argv[1])
for name in ("lower", "upper", "work", "at"):
    (root / name).mkdir()
mount = overlay((str(root / "lower"),), str(root / "upper"), str(root / "work"), userxattr=False)
with mounted(mount, str(root / "at")):
    store = Store(root / "at")
    print(store.disk.choice.name)
    print(store.disk.choice.reason)
    print(sorted(store.tree(store.stack(archive(file("x"))))))
    try:
        Store(root / "at" / "second", "overlay")
    except Exception as e:
        print(type(e).__name__)
"""
    out = python(code, str(root), unshare=("unshare", "-m", "--propagation", "private"))
    name, reason, tree, error = out.splitlines()
    assert (name, tree, error) == ("flat", "['.', 'x']", "StorageError")
    assert "overlay does not work here" in reason
    assert subprocess.run(["mountpoint", "-q", root / "at"], check=False).returncode != 0
