"""Diffs: the same changes give the same bytes whichever driver, and applied the same tree."""

from __future__ import annotations

import io
import os
import shutil
import socket
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.storage.changes import ChangeKind
from engine.storage.options import Snapshot
from imgtools.blob.tar import EntryType
from imgtools.errors import Conflict, InvalidInput, LimitExceeded, NotFound, Unsupported
from imgtools.spec.digest import Digest
from tests.engine.layer_tools import (
    DRIVERS,
    Store,
    Tree,
    archive,
    directory,
    entries,
    file,
    hardlink,
    members,
    python,
    symlink,
)

CAPABILITY = bytes.fromhex("0100000200040000000000000000000000000000")
BASE = archive(
    directory("./", mtime_ns=10**9),
    directory("etc", mtime_ns=2 * 10**9),
    file("etc/group", b"group", mtime_ns=7 * 10**9),
    file("etc/passwd", b"root", mtime_ns=8 * 10**9),
    file("etc/shadow", b"secret", 0o640, gid=42),
    directory("one", mtime_ns=2 * 10**9),
    file("one/only"),
    directory("tmp", 0o1777, mtime_ns=3 * 10**9),
    file("usr/bin/ping", b"ping", xattrs={"security.capability": CAPABILITY, "user.a": b"1"}),
    symlink("lib", "usr/lib"),
    file("pair/a", b"pair"),
    hardlink("pair/b", "pair/a"),
)
SECOND = archive(directory("usr/lib"), file("usr/lib/libc.so", b"libc"), file("etc/more"))


def changed(store: Store, change: Callable[[str], object], name: str = "s") -> Snapshot:
    """A snapshot of BASE and SECOND in which `change` did something to the tree it is given."""
    snapshot = store.snapshots.prepare(store.stack(BASE, SECOND), name)
    with store.inside(snapshot) as path:
        change(path)
    return snapshot


def shell(script: str) -> Callable[[str], object]:
    def run(path: str) -> None:
        fd = int(path.rpartition("/")[2])
        subprocess.run(["sh", "-ec", f"cd {path}/.\n{script}"], check=True, pass_fds=[fd], cwd="/")

    return run


RESTORED = "touch -d @2 etc one"

SHOWN = {
    "nothing": ("true", []),
    "reading": ("cat etc/passwd usr/bin/ping >/dev/null; ls -R . >/dev/null", []),
    "new file": ("echo x >etc/new", ["etc/", "etc/new"]),
    "new directory": ("mkdir -p a/b", ["a/", "a/b/"]),
    "removed": ("rm etc/passwd", ["etc/", "etc/.wh.passwd"]),
    "removed, and its directory's time put back":
        (f"rm etc/passwd; {RESTORED}", ["etc/", "etc/.wh.passwd"]),
    "removed directory": ("rm -r etc", [".wh.etc"]),
    "removed one of one": ("rm one/only", ["one/", "one/.wh.only"]),
    "emptied directory": ("rm etc/*", ["etc/", "etc/.wh..wh..opq"]),
    "replaced directory": ("rm -r etc; mkdir etc; echo >etc/new; echo >etc/a",
                           ["etc/", "etc/.wh..wh..opq", "etc/a", "etc/new"]),
    "replaced directory with an old name": ("rm -r etc; mkdir etc; echo >etc/passwd",
        ["etc/", "etc/.wh.group", "etc/.wh.more", "etc/.wh.shadow", "etc/passwd"]),
    "replaced directory with the same": (
        "cp -a etc etc2; rm -r etc; mkdir etc; cp -a etc2/. etc; rm -r etc2; touch -d @2 etc", []),
    "file over directory": ("rm -r etc; echo >etc", ["etc"]),
    "directory over file": ("rm one/only; mkdir one/only; echo >one/only/x; touch -d @2 one",
                            ["one/", "one/only/", "one/only/x"]),
    "directory over link": ("rm lib; mkdir lib; echo >lib/x", ["lib/", "lib/x"]),
    "link over directory": ("rm -r etc; ln -s usr etc", ["etc"]),
    "link over link": ("ln -sfn elsewhere lib", ["lib"]),
    "made and removed": ("echo >x; rm x; mkdir y; rmdir y", []),
    "made and removed below": (f"echo >etc/x; rm etc/x; {RESTORED}", []),
    "touched directory": ("touch -d @99 etc", ["etc/"]),
    "mode of a directory": ("chmod 700 tmp", ["tmp/"]),
    "mode of the root": ("chmod 700 .", ["./"]),
    "time of the root": ("touch -d @99 .", []),
    "mode put back": ("chmod 600 etc/passwd; chmod 644 etc/passwd", []),
    "same owner": ("chown -R 0:0 etc/passwd usr/lib; chgrp 42 etc/shadow", []),
    "another owner": ("chown 1:2 etc/passwd", ["etc/", "etc/passwd"]),
    "written with the same": ("printf root >etc/passwd; touch -d @8 etc/passwd", []),
    "written with other, same size and time":
        ("printf toor >etc/passwd; touch -d @8 etc/passwd", ["etc/", "etc/passwd"]),
    "only the time": ("touch -d @9 etc/passwd", ["etc/", "etc/passwd"]),
    "renamed": (f"mv etc/passwd etc/p; {RESTORED}", ["etc/", "etc/.wh.passwd", "etc/p"]),
    "new pair": ("mkdir d; echo >d/x; ln d/x d/a", ["d/", "d/a", "d/x"]),
    "second name of a lower file": (f"ln etc/passwd etc/q; {RESTORED}",
                                    ["etc/", "etc/passwd", "etc/q"]),
    "removed one of a pair": ("rm pair/a", ["pair/", "pair/.wh.a"]),
    "fifo": ("mkfifo f", ["f"]),
    "device": ("mknod n c 1 3", ["n"]),
    "whiteouts before names that sort in front": ("rm etc/passwd; echo >'etc/!'; echo >etc/+",
        ["etc/", "etc/.wh.passwd", "etc/!", "etc/+"]),
    "removed in a new copy of a removed directory":
        ("rm -r usr; mkdir -p usr/bin; echo >usr/bin/sh; touch -d @1 usr usr/bin",
         ["usr/", "usr/.wh.lib", "usr/bin/", "usr/bin/.wh.ping", "usr/bin/sh"]),
}  # fmt: skip


@pytest.mark.parametrize(("script", "expected"), SHOWN.values(), ids=SHOWN.keys())
def test_changes_become_these_members(root: Path, script: str, expected: list[str]) -> None:
    tars = []
    for driver in DRIVERS:
        store = Store(root / driver, driver)
        snapshot = changed(store, shell(script))
        tar = store.diff(snapshot, mtime=5)
        assert [path for path, _ in members(tar)] == expected
        tars.append(tar)
        assert without_times(applied(store, snapshot)) == without_times(store.tree(snapshot))
    assert tars[0] == tars[1]


def applied(store: Store, snapshot: Snapshot) -> Tree:
    """The tree of the layer that the changes of `snapshot` make."""
    tar = store.diff(snapshot, subsecond=True)
    layer = store.layers.apply(snapshot.chain_id, Digest.of(tar), io.BytesIO(tar))
    return store.tree(layer.chain_id)


def without_times(tree: Tree) -> Tree:
    """But for times, which differ in the root only if its mtime alone changed."""
    return {path: (*value[:3], *value[4:]) for path, value in tree.items()}


def test_applied_changes_keep_times(store: Store) -> None:
    snapshot = changed(store, shell("echo x >etc/new; rm etc/group; mkdir etc/d; chmod 711 tmp"))
    wanted, found = store.tree(snapshot), applied(store, snapshot)
    assert {**wanted, ".": ()} == {**found, ".": ()}


def test_pair_is_a_file_and_a_link(store: Store) -> None:
    tar = store.diff(changed(store, shell("mkdir d; echo x >d/x; ln d/x d/a; ln d/x d/z")))
    found = entries(tar)
    assert found["d/a"].type is EntryType.FILE
    assert [found[n].linkname for n in ("d/x", "d/z")] == ["d/a", "d/a"]


def test_attributes_and_capabilities_are_kept(store: Store) -> None:
    def change(path: str) -> None:
        os.chmod(f"{path}/usr/bin/ping", 0o755)
        Path(path, "new").write_text("x")
        os.setxattr(f"{path}/new", "user.b", b"\0\xff")
        os.setxattr(f"{path}/etc", "user.c", b"dir")
        os.setxattr(f"{path}/new", "trusted.hidden", b"x")

    found = entries(store.diff(changed(store, change)))
    assert found["usr/bin/ping"].xattrs == {"security.capability": CAPABILITY, "user.a": b"1"}
    assert found["new"].xattrs == {"user.b": b"\0\xff"}
    assert found["etc/"].xattrs == {"user.c": b"dir"}


def test_changed_attribute_alone_is_a_change(store: Store) -> None:
    def change(path: str) -> None:
        st = os.stat(f"{path}/usr/bin/ping")
        os.setxattr(f"{path}/usr/bin/ping", "user.a", b"2")
        os.utime(f"{path}/usr/bin/ping", ns=(st.st_atime_ns, st.st_mtime_ns))

    assert [n for n, _ in members(store.diff(changed(store, change)))] == [
        "usr/", "usr/bin/", "usr/bin/ping",
    ]  # fmt: skip


def test_sparse_file_is_written_out(store: Store) -> None:
    def change(path: str) -> None:
        with open(f"{path}/big", "wb") as big:
            big.seek(3 << 20)
            big.write(b"end")

    snapshot = changed(store, change)
    assert entries(store.diff(snapshot))["big"].size == (3 << 20) + 3
    assert applied(store, snapshot)["big"][5] == store.tree(snapshot)["big"][5]


def test_sockets_are_left_out_and_hide_what_was_there(store: Store) -> None:
    def change(path: str) -> None:
        os.unlink(f"{path}/etc/passwd")
        for name in ("etc/passwd", "sock"):
            with socket.socket(socket.AF_UNIX) as listening:
                listening.bind(f"{path}/{name}")

    out: list[bytes] = []
    result = store.snapshots.diff(changed(store, change), out.append)
    assert result.sockets == 2
    assert [n for n, _ in members(b"".join(out))] == ["etc/", "etc/.wh.passwd"]


def test_times_can_be_set_or_clamped(store: Store) -> None:
    snapshot = changed(store, shell("echo >a; touch -d @3 a; echo >b; rm etc/passwd"))
    clamped = entries(store.diff(snapshot, mtime_clamp=100))
    assert [clamped[n].mtime for n in ("a", "b", "etc/", "etc/.wh.passwd")] == [3, 100, 100, 0]
    fixed = entries(store.diff(snapshot, mtime=50))
    assert {entry.mtime for entry in fixed.values()} == {50}


def test_fractions_of_seconds_only_on_demand(store: Store) -> None:
    snapshot = changed(store, lambda path: (Path(path, "a").touch(), os.utime(
        f"{path}/a", ns=(0, 1_500_000_000))))  # fmt: skip
    assert entries(store.diff(snapshot))["a"].mtime_ns == 1_000_000_000
    assert entries(store.diff(snapshot, subsecond=True))["a"].mtime_ns == 1_500_000_000


PLACEHOLDERS = {
    "made": "touch etc/resolv.conf",
    "removed": "rm etc/group",
    "written": "echo >>etc/group; touch -d @2 etc",
    "below": "mkdir etc/group.d; touch etc/group.d/x",
    "nothing else": "true",
}


@pytest.mark.parametrize("script", PLACEHOLDERS.values(), ids=PLACEHOLDERS.keys())
def test_excluded_paths_leave_no_trace(root: Path, script: str) -> None:
    hidden = {"etc/resolv.conf", "etc/group", "etc/group.d"}
    for driver in DRIVERS:
        store = Store(root / driver, driver)
        assert members(store.diff(changed(store, shell(script)), exclude=hidden.__contains__)) == []
        both = changed(store, shell(f"{script}; rm etc/passwd"), "both")
        assert [n for n, _ in members(store.diff(both, exclude=hidden.__contains__))] == [
            "etc/", "etc/.wh.passwd",
        ]  # fmt: skip


def test_file_with_the_name_of_a_whiteout_is_refused(store: Store) -> None:
    with pytest.raises(InvalidInput, match="whiteout"):
        store.diff(changed(store, shell("echo >etc/.wh.passwd")))


def test_marks_of_foreign_overlay_mounts_are_refused(root: Path) -> None:
    store = Store(root / "store", "overlay")
    snapshot = changed(store, shell("mkdir d; echo >f"))
    upper = Path(snapshot.path, "upper")
    for path, name, value in (
        (upper / "d", "trusted.overlay.redirect", b"etc"),
        (upper / "f", "trusted.overlay.metacopy", b""),
        (upper / "d", "trusted.overlay.opaque", b"x"),
    ):
        os.setxattr(path, name, value)
        with pytest.raises(Unsupported):
            store.diff(snapshot)
        os.removexattr(path, name)
    assert [n for n, _ in members(store.diff(snapshot))] == ["d/", "f"]


def test_renaming_a_lower_directory_copies_it(root: Path) -> None:
    """No mount of ours has redirect_dir, whatever the machine's default."""
    store = Store(root / "store", "overlay")
    snapshot = changed(store, shell("mv usr/lib usr/lib2"))
    assert [n for n, _ in members(store.diff(snapshot))] == [
        "usr/", "usr/.wh.lib", "usr/lib2/", "usr/lib2/libc.so",
    ]  # fmt: skip


DEEP = """
import os, resource, sys
from pathlib import Path
from tests.engine.layer_tools import Store, archive, directory, file, members
resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
store = Store(Path(sys.argv[1]), sys.argv[2])
lower, levels = "/".join(["d"] * 300), 500
base = store.stack(archive(file(lower + "/f"), file("d/x"), file("d/d/x")), archive(file("two")))
snapshot = store.snapshots.prepare(base, "deep")
with store.inside(snapshot) as path:
    fd = os.open(path, os.O_RDONLY)
    for level in range(levels):
        if level >= 300:
            os.mkdir("d", dir_fd=fd)
        below = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(os.open("new", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
    os.close(fd)
    os.unlink(path + "/d/x")
found = [name for name, _ in members(store.diff(snapshot))]
assert found[:2] == ["d/", "d/.wh.x"], found[:2]
assert found[-1] == "d/" * levels + "new"
assert len(found) == levels + 2
flat = Store(Path(sys.argv[1]) / "flat", "flat")
top = flat.stack(archive(file(lower + "/f", uid=7)))
copy = flat.snapshots.prepare(top, "copy")
assert flat.diff(copy) == archive()
"""


@pytest.mark.parametrize("driver", DRIVERS)
def test_deep_trees_need_few_descriptors(root: Path, driver: str) -> None:
    python(DEEP, str(root / "store"), driver)


def test_too_deep_tree_is_refused(store: Store) -> None:
    def change(path: str) -> None:
        fd = os.open(path, os.O_RDONLY)
        for _ in range(520):
            os.mkdir("d", dir_fd=fd)
            below = os.open("d", os.O_RDONLY, dir_fd=fd)
            os.close(fd)
            fd = below
        os.close(fd)

    snapshot = changed(store, change)
    with pytest.raises(LimitExceeded):
        store.diff(snapshot)
    assert store.snapshots.remove(snapshot.id)


def test_error_of_the_receiver_comes_out_as_it_is(store: Store) -> None:
    def full(_: bytes) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        store.snapshots.diff(changed(store, shell("echo >x")), full)


def test_vanishing_file_is_a_conflict(store: Store) -> None:
    snapshot = changed(store, shell("dd if=/dev/zero of=a bs=1M count=1 status=none; echo >b"))
    name = "upper" if store.disk.driver.name == "overlay" else "tree"

    def write(_: bytes) -> None:
        (Path(snapshot.path, name) / "b").unlink(missing_ok=True)

    with pytest.raises(Conflict):
        store.snapshots.diff(snapshot, write)


def test_kinds_are_in_the_order_they_are_written() -> None:
    assert sorted(ChangeKind) == [ChangeKind.OPAQUE, ChangeKind.WHITEOUT, ChangeKind.ENTRY]


PATHS = st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=3).map("/".join)
ACTIONS = st.one_of(
    st.tuples(st.just("write"), PATHS, st.sampled_from(["", "1", "22"])),
    st.tuples(st.just("remove"), PATHS),
    st.tuples(st.just("mkdir"), PATHS),
    st.tuples(st.just("symlink"), PATHS, st.sampled_from(["a", "/b"])),
    st.tuples(st.just("link"), PATHS, PATHS),
    st.tuples(st.just("chmod"), PATHS, st.sampled_from([0o644, 0o755, 0o4755])),
    st.tuples(st.just("chown"), PATHS, st.sampled_from([0, 5])),
    st.tuples(st.just("time"), PATHS, st.sampled_from([0, 1, 2])),
    st.tuples(st.just("move"), PATHS, PATHS),
    st.tuples(st.just("attribute"), PATHS, st.sampled_from([b"1", b"2"])),
    st.tuples(st.just("fifo"), PATHS),
)


def act(root: str, action: tuple[object, ...]) -> str:
    """Do it; how it failed, "" if it did not. Nothing that an overlay answers otherwise."""
    kind, path, *rest = action
    at = f"{root}/{path}"
    try:
        if kind == "write":
            fd = os.open(at, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_NONBLOCK)
            os.write(fd, str(rest[0]).encode())
            os.close(fd)
        elif kind == "remove":
            if stat.S_ISDIR(os.lstat(at).st_mode):
                shutil.rmtree(at)
            else:
                os.unlink(at)
        elif kind == "mkdir":
            os.mkdir(at)
        elif kind == "symlink":
            os.symlink(str(rest[0]), at)
        elif kind == "link":
            os.link(at, f"{root}/{rest[0]}", follow_symlinks=False)
        elif kind == "move" and not stat.S_ISDIR(os.lstat(at).st_mode):
            os.rename(at, f"{root}/{rest[0]}")
        elif kind == "fifo":
            os.mkfifo(at)
        elif not stat.S_ISLNK(os.lstat(at).st_mode):
            if kind == "chmod":
                os.chmod(at, int(str(rest[0])))
            elif kind == "chown":
                os.chown(at, int(str(rest[0])), 0)
            elif kind == "time":
                os.utime(at, (int(str(rest[0])), int(str(rest[0]))))
            elif kind == "attribute" and not stat.S_ISFIFO(os.lstat(at).st_mode):
                os.setxattr(at, "user.x", rest[0])  # type: ignore[arg-type]
    except OSError as e:
        return str(e.errno)
    return ""


GENERATED = archive(
    directory("a", mtime_ns=10**9), file("a/a", b"1"), directory("a/b"), file("a/b/c", b"22"),
    directory("b"), file("b/a", b"1", mtime_ns=10**9), file("b/b", b"", 0o4755), file("c", b"1"),
)  # fmt: skip


@settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.lists(ACTIONS, max_size=12))
def test_any_actions_give_the_same_layer_with_both_drivers(
    root: Path, actions: list[tuple[object, ...]]
) -> None:
    tars, outcomes = [], []
    for driver in DRIVERS:
        store = Store(root / driver, driver)
        base = store.stack(GENERATED)
        store.snapshots.remove("s")
        snapshot = store.snapshots.prepare(base, "s", volatile=True)
        with store.inside(snapshot) as path:
            outcomes.append([act(path, action) for action in actions])
        tars.append(store.diff(snapshot, mtime=1))
        assert without_times(applied(store, snapshot)) == without_times(store.tree(snapshot))
    assert outcomes[0] == outcomes[1]
    assert tars[0] == tars[1]


def test_diff_of_a_snapshot_of_nothing_is_everything(store: Store) -> None:
    snapshot = store.snapshots.prepare(None, "empty")
    with store.inside(snapshot) as path:
        Path(path, "x").write_text("x")
    assert [n for n, _ in members(store.diff(snapshot))] == ["./", "x"]
    with pytest.raises(NotFound):
        store.snapshots.get("other")
