"""What drivers are made of: copying and removing trees, and finding out what works."""

from __future__ import annotations

import fcntl
import os
import socket
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.storage.drivers import treecopy
from engine.storage.drivers.base import above, identity_of
from engine.storage.drivers.choice import choose_driver, probe_overlay
from engine.storage.drivers.removal import DEEPEST, remove_tree
from engine.storage.drivers.treecopy import copy_tree
from engine.storage.options import Ownership
from imgtools.errors import Conflict, InvalidInput, LimitExceeded, StorageError
from tests.engine.layer_tools import Tree, python, tree_of, working_directory


def remove(path: Path) -> None:
    fd = os.open(path.parent, os.O_RDONLY)
    try:
        remove_tree(os.fsencode(path.name), fd)
    finally:
        os.close(fd)


def deep(path: Path, levels: int, name: str = "d") -> None:
    path.mkdir()
    fd = os.open(path, os.O_RDONLY)
    for _ in range(levels):
        os.mkdir(name, dir_fd=fd)
        os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
        below = os.open(name, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)


@pytest.mark.parametrize("levels", [0, 1, DEEPEST - 1, DEEPEST, 3 * DEEPEST, 1200])
def test_f16_any_depth_is_removed(tmp_path: Path, levels: int) -> None:
    deep(tmp_path / "tree", levels)
    deep(tmp_path / "tree" / "second", levels, "x" * 200)
    remove(tmp_path / "tree")
    assert os.listdir(tmp_path) == []


def test_removal_follows_nothing(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("x")
    tree = tmp_path / "tree"
    (tree / "sub").mkdir(parents=True)
    (tree / "link").symlink_to(outside)
    (tree / "sub" / "link").symlink_to("../../outside")
    os.link(outside / "kept", tree / "sub" / "hard")
    os.mkfifo(tree / "fifo")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tree / "socket"))
    remove(tree)
    assert (outside / "kept").read_text() == "x"
    assert not tree.exists()
    os.symlink(outside, tree)
    remove(tree)
    assert os.listdir(tmp_path) == ["outside"]
    assert os.listdir(outside) == ["kept"]


def test_what_is_not_there_is_no_error(tmp_path: Path) -> None:
    remove(tmp_path / "no")
    (tmp_path / "file").write_text("x")
    remove(tmp_path / "file")
    assert os.listdir(tmp_path) == []


REMOVER = """
import os, sys
from engine.storage.drivers.removal import remove_tree
os.setgroups([]); os.setresgid(1777, 1777, 1777); os.setresuid(1777, 1777, 1777)
os.chdir(sys.argv[1])
path = "tree"
for level in range(120):
    os.mkdir(path)
    os.close(os.open(path + "/file", os.O_CREAT | os.O_WRONLY, 0))
    path += "/d"
for level in range(120):
    path = path.rpartition("/")[0]
    os.chmod(path, 0)
fd = os.open(".", os.O_RDONLY)
remove_tree(b"tree", fd)
print(os.listdir("."))
"""


def test_directories_closed_to_their_owner_are_removed() -> None:
    with tempfile.TemporaryDirectory() as path:
        os.chown(path, 1777, 1777)
        assert python(REMOVER, path) == "[]\n"


MOUNTED = """
import os, sys
from pathlib import Path
from engine.runtime.kernel import mounting
from engine.storage.drivers.removal import remove_tree
from imgtools.errors import Conflict
top = Path(sys.argv[1])
for name in ("tree/a/b", "outside"):
    (top / name).mkdir(parents=True)
(top / "outside/kept").write_text("x")
fd = os.open(top, os.O_RDONLY)
for at in ("tree/a/b", "tree"):
    mounting.mount(bytes(top / "outside"), bytes(top / at), None, mounting.MS_BIND, None)
    try:
        remove_tree(b"tree", fd)
    except Conflict as e:
        print(e.message)
    mounting.umount(bytes(top / at))
remove_tree(b"tree", fd)
print(sorted(os.listdir(top)), os.listdir(top / "outside"))
"""


def test_what_is_mounted_in_a_tree_is_left_alone(tmp_path: Path) -> None:
    """A bind mount of the same file system too: its device number tells nothing."""
    out = python(MOUNTED, str(tmp_path), unshare=("unshare", "-m", "--propagation", "private"))
    assert out.splitlines() == [
        "something is mounted at 'b' in the tree to remove",
        "something is mounted at 'tree' in the tree to remove",
        "['outside'] ['kept']",
    ]


@pytest.fixture
def trees(tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    with working_directory(tmp_path) as root:
        (root / "from").mkdir()
        (root / "to").mkdir()
        yield root / "from", root / "to"


def copied(source: Path, target: Path, *, owner: bool = True) -> Tree:
    one, two = os.open(source, os.O_RDONLY), os.open(target, os.O_RDONLY)
    try:
        copy_tree(one, two, owner=owner)
        return tree_of(two)
    finally:
        os.close(one)
        os.close(two)


def listed(path: Path) -> Tree:
    fd = os.open(path, os.O_RDONLY)
    try:
        return tree_of(fd)
    finally:
        os.close(fd)


def fill(top: Path) -> None:
    (top / "d/e").mkdir(parents=True)
    (top / "d/file").write_bytes(b"x" * 300_000)
    (top / "d/su").write_bytes(b"su")
    os.chown(top / "d/su", 3, 4)
    os.chmod(top / "d/su", 0o6711)
    os.setxattr(top / "d/su", "security.capability", bytes.fromhex("01000002" + "00040000" * 4))
    os.setxattr(top / "d", "user.x", b"\0y")
    os.symlink("/nowhere", top / "d/link")
    os.chown(top / "d/link", 5, 6, follow_symlinks=False)
    os.link(top / "d/link", top / "d/link2", follow_symlinks=False)
    os.mkfifo(top / "fifo", 0o620)
    os.mknod(top / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    (top / "closed").write_text("x")
    os.chmod(top / "closed", 0)
    os.link(top / "closed", top / "d/e/again")
    (top / "odd\udcff\n").write_text("x")
    for path in (top / "d/file", top / "d/e", top / "d", top):
        os.utime(path, ns=(1, 1_234_567_891))
    os.utime(top / "d/link", ns=(1, 77), follow_symlinks=False)


def test_copy_is_the_tree(trees: tuple[Path, Path]) -> None:
    source, target = trees
    fill(source)
    assert copied(source, target) == listed(source)
    assert (target / "closed").stat().st_ino == (target / "d/e/again").stat().st_ino
    assert (target / "d/link").lstat().st_nlink == 2
    assert (target / "closed").stat().st_nlink == 2
    assert (source / "closed").stat().st_nlink == 2, "nothing is shared with the original"


def test_copy_does_not_depend_on_umask_or_inherited_groups(trees: tuple[Path, Path]) -> None:
    source, target = trees
    for name in ("d", "d/e"):
        (source / name).mkdir()
        os.chmod(source / name, 0o2777)
        for number, mode in enumerate((0o777, 0o666, 0o640, 0o777, 0o7755)):
            path = source / name / f"{number}-{mode:o}"
            path.write_bytes(b"x" * number)
            os.chown(path, 0, number % 2)
            os.chmod(path, mode)
    os.chown(source / "d/e", 0, 7)
    os.chown(target, 0, 9)
    os.chmod(target, 0o2755)
    before = os.umask(0o077)
    try:
        made = copied(source, target)
    finally:
        os.umask(before)
    assert made == listed(source)


def test_copy_by_an_owner_who_may_not_write(tmp_path: Path) -> None:
    """Attributes are set on files that their modes close."""
    with working_directory(tmp_path) as root:
        os.chown(root, 1777, 1777)
        code = (
            "import os; os.chdir(sys.argv[1]); os.setgid(1777); os.setuid(1777)\n"
            "os.mkdir('from'); os.mkdir('to')\n"
            "open('from/file', 'w').close()\n"
            "os.setxattr('from/file', 'user.x', b'y'); os.chmod('from/file', 0o440)\n"
            "one, two = (os.open(n, os.O_RDONLY) for n in ('from', 'to'))\n"
            "copy_tree(one, two, owner=False)\n"
            "print(oct(os.stat('to/file').st_mode), os.getxattr('to/file', 'user.x'))\n"
        )
        imports = "import sys\nfrom engine.storage.drivers.treecopy import copy_tree\n"
        assert python(imports + code, str(root)) == "0o100440 b'y'\n"


def test_copy_without_range_calls(
    trees: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> int:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(fcntl, "ioctl", refused)
    monkeypatch.setattr(os, "copy_file_range", refused)
    fill(trees[0])
    assert copied(*trees) == listed(trees[0])


def test_copy_keeps_holes(trees: tuple[Path, Path]) -> None:
    source, target = trees
    with open(source / "sparse", "wb") as file:
        file.seek(8 << 20)
        file.write(b"middle")
        file.truncate(32 << 20)
    with open(source / "hole", "wb") as file:
        file.truncate(16 << 20)
    assert copied(source, target) == listed(source)
    assert (target / "sparse").stat().st_blocks < 2000
    assert (target / "hole").stat().st_blocks < 20


def test_copy_leaves_marks_of_the_host_out(trees: tuple[Path, Path]) -> None:
    (trees[0] / "d").mkdir()
    os.setxattr(trees[0] / "d", "trusted.overlay.opaque", b"y")
    copied(*trees)
    assert [n for n in os.listxattr(trees[1] / "d") if n.startswith("trusted")] == []


def test_copy_leaves_sockets_out(trees: tuple[Path, Path]) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(trees[0] / "socket"))
    assert list(copied(*trees)) == ["."]


def test_copy_of_a_bottomless_tree_is_refused(trees: tuple[Path, Path]) -> None:
    deep(trees[0] / "d", treecopy.MAX_DEPTH + 1)
    with pytest.raises(LimitExceeded):
        copied(*trees)
    remove(trees[0])
    remove(trees[1])


def test_directory_that_moved_is_not_walked_out_of(tmp_path: Path) -> None:
    (tmp_path / "tree/a/b").mkdir(parents=True)
    one, two = (os.open(tmp_path / at, os.O_RDONLY) for at in ("tree/a", "tree/a/b"))
    try:
        expected = identity_of(one)
        os.close(above(two, expected))
        os.rename(tmp_path / "tree/a/b", tmp_path / "b")
        with pytest.raises(Conflict):
            above(two, expected)
    finally:
        os.close(one)
        os.close(two)


SIZES = st.integers(0, 70_000)
RUNS = st.lists(st.tuples(SIZES, SIZES), max_size=4)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(RUNS, SIZES)
def test_any_pattern_of_holes_is_copied(
    trees: tuple[Path, Path], runs: list[tuple[int, int]], tail: int
) -> None:
    source, target = trees
    with open(source / "f", "wb") as file:
        for hole, data in runs:
            file.seek(hole, os.SEEK_CUR)
            file.write(b"x" * data)
        file.truncate(file.tell() + tail)
    remove(target)
    target.mkdir()
    copied(source, target)
    assert (target / "f").read_bytes() == (source / "f").read_bytes()


def test_probe_says_what_does_not_work(tmp_path: Path) -> None:
    with working_directory(tmp_path) as root:
        (root / "probe").mkdir()
        assert probe_overlay(str(root / "probe"), userxattr=False) == ""
        assert "File exists" in probe_overlay(str(root / "probe"), userxattr=False)


def never() -> str:
    raise AssertionError("nothing is tried")


def test_choice_without_privileges_tries_nothing() -> None:
    choice = choose_driver("", never, Ownership.RECORDED, superuser=False)
    assert choice.name == "flat"
    assert "superuser" in choice.reason
    with pytest.raises(StorageError, match="superuser"):
        choose_driver("overlay", never, Ownership.RECORDED, superuser=False)
    assert choose_driver("flat", never, Ownership.REAL, superuser=True).reason == "it was asked for"
    with pytest.raises(InvalidInput):
        choose_driver("btrfs", never, Ownership.REAL, superuser=True)


REFUSING = """
import sys, os
from pathlib import Path
from engine.runtime.kernel import processes
effective, permitted, inheritable = processes.capget()
without = ~(1 << 21)  # CAP_SYS_ADMIN
processes.capset(effective & without, permitted & without, inheritable & without)
from tests.engine.layer_tools import Store, archive, file
store = Store(Path(sys.argv[1]))
print(store.disk.choice.name)
print(store.disk.choice.reason)
print(sorted(store.tree(store.stack(archive(file("x", uid=5))))))
"""


def test_root_without_mounts_gets_the_flat_driver(tmp_path: Path) -> None:
    """As in a container with the default privileges of Docker."""
    name, reason, tree = python(REFUSING, str(tmp_path)).splitlines()
    assert (name, tree) == ("flat", "['.', 'x']")
    assert "Operation not permitted" in reason
