"""Reading trees: never outside the root, links as in a chroot, records before the disk."""

from __future__ import annotations

import errno
import os
import random
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.runtime.kernel.paths import open_in_root
from imgtools.build import trees
from imgtools.build.tree import AS_ON_DISK, NoRecords, Records, Tree
from imgtools.build.trees.beneath import _walk, open_beneath
from imgtools.errors import InvalidInput, LimitExceeded, NotFound, StorageError, UnsafePath


@dataclass(frozen=True)
class Noted:
    """A record."""

    uid: int = 0
    gid: int = 0
    mode: int = AS_ON_DISK
    rdev: tuple[int, int] = (0, 0)
    xattrs: Mapping[str, bytes] = field(default_factory=dict)


@contextmanager
def opened(
    path: Path | str, records: Records | None = None, *, recorded_owners: bool = False
) -> Iterator[Tree]:
    """The tree at `path`."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield Tree(
            fd=fd, name="here", records=records or NoRecords(), recorded_owners=recorded_owners
        )
    finally:
        os.close(fd)


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Tree]:
    """A root with a secret beside it and links that try to get there."""
    (tmp_path / "secret").write_text("outside")
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets/s").write_text("outside")
    root = tmp_path / "root"
    (root / "usr/lib").mkdir(parents=True)
    (root / "usr/lib/x").write_text("in lib")
    (root / "file").write_text("content")
    for name, target in {
        "lib": "usr/lib",
        "abs": "/usr/lib",
        "up": "../secret",
        "far": "/../../../../secret",
        "out": "../secrets",
        "real": str(tmp_path / "secret"),
        "loop": "loop",
        "ping": "pong",
        "pong": "ping",
        "dangling": "usr/none/../lib/y",
        "usr/back": "..",
        "chain": "usr/back/lib/../lib/x",
    }.items():
        (root / name).symlink_to(target)
    with opened(root) as tree:
        yield tree


@pytest.mark.parametrize(
    ("path", "last", "expected"),
    [
        (b"", True, b""),
        (b"/", True, b""),
        (b"../../..", True, b""),
        (b"lib/x", True, b"usr/lib/x"),
        (b"/lib//./x/", True, b"usr/lib/x"),
        (b"abs", True, b"usr/lib"),
        (b"abs", False, b"abs"),
        (b"abs/", False, b"abs"),
        (b"usr/back/abs/x", False, b"usr/lib/x"),
        (b"chain", True, b"usr/lib/x"),
        (b"up", True, b"secret"),
        (b"far", True, b"secret"),
        (b"out/s", True, b"secrets/s"),
        (b"dangling", True, b"usr/lib/y"),
        (b"none/../file", True, b"file"),
        (b"none/lib", True, b"none/lib"),
        (b"none/../lib", True, b"usr/lib"),
        (b"none/a/../../lib/x", True, b"usr/lib/x"),
        (b"file/below", True, b"file/below"),
        (b"loop", False, b"loop"),
    ],
)
def test_links_are_followed_within_the_root(
    tree: Tree, path: bytes, last: bool, expected: bytes
) -> None:
    """As a process would whose root it is; what does not exist is kept as written."""
    assert trees.resolve(tree, path, last=last) == expected


@pytest.mark.parametrize("path", [b"loop", b"ping", b"loop/x", b"pong/../x"])
def test_loops_of_links_are_an_error(tree: Tree, path: bytes) -> None:
    """And end."""
    with pytest.raises(UnsafePath, match="loop of symbolic links"):
        trees.resolve(tree, path, last=True)


def test_links_that_grow_end(tmp_path: Path) -> None:
    """Forty long links that lead through one another are many components, and refused."""
    for number in range(39):
        (tmp_path / f"l{number}").symlink_to("./" + f"l{number + 1}/../" * 300)
    with opened(tmp_path) as tree, pytest.raises(UnsafePath):
        trees.resolve(tree, b"l0", last=True)


def test_real_path_of_the_host_means_a_path_in_the_tree(tree: Tree, tmp_path: Path) -> None:
    """An absolute link to what exists outside leads to nothing."""
    path = trees.resolve(tree, b"real", last=True)
    assert path == os.fsencode(tmp_path / "secret").strip(b"/")
    assert trees.stat_of(tree, path) is None


PATHS = st.lists(st.sampled_from(["a", "b", "c", "..", "."]), min_size=1, max_size=5)


@given(st.lists(st.tuples(PATHS, st.booleans(), PATHS), max_size=8), st.lists(PATHS, min_size=1))
def test_resolve_agrees_with_the_kernel(
    links: list[tuple[list[str], bool, list[str]]], asked: list[list[str]]
) -> None:
    """Where openat2 with RESOLVE_IN_ROOT finds something, it is what we say it is."""
    import tempfile

    with tempfile.TemporaryDirectory() as root:
        for where, absolute, target in links:
            here = os.path.join(root, *[part for part in where if part not in ("..", ".")])
            os.makedirs(os.path.dirname(here), exist_ok=True) if _free(here, root) else None
            if here != root and _free(here, root) and not os.path.lexists(here):
                os.symlink("/" * absolute + "/".join(target), here)
        with opened(root) as tree:
            for parts in asked:
                path = "/".join(parts).encode()
                try:
                    fd = open_in_root(tree.fd, path)
                except OSError as e:
                    if e.errno == errno.ELOOP:
                        with pytest.raises(UnsafePath):
                            trees.resolve(tree, path, last=True)
                    continue
                try:
                    found = os.fstat(fd)
                finally:
                    os.close(fd)
                node = trees.stat_of(tree, trees.resolve(tree, path, last=True))
                assert node is not None
                assert node.identity == (found.st_dev, found.st_ino)


def _free(path: str, root: str) -> bool:
    """Whether no component above `path` is a link."""
    while (path := os.path.dirname(path)) != root and len(path) > len(root):
        if os.path.islink(path) or os.path.isfile(path):
            return False
    return True


@pytest.mark.parametrize("path", [b"lib/x", b"up", b"out/s", b"../secret", b"/etc/passwd", b"a\0b"])
def test_nothing_is_reached_through_links_or_above(tree: Tree, path: bytes) -> None:
    """stat_of says what is at a path itself; what is not there is nothing."""
    node = trees.stat_of(tree, path)
    assert node is None or node.is_link
    with pytest.raises((NotFound, InvalidInput, StorageError)):
        trees.open_file(tree, path)


@pytest.mark.parametrize(
    ("path", "flags"),
    [
        (b"file", os.O_RDONLY),
        (b"usr/lib/x", os.O_RDONLY),
        (b"", os.O_RDONLY | os.O_DIRECTORY),
        (b"lib", os.O_PATH | os.O_NOFOLLOW),
    ],
)
def test_walking_by_hand_opens_what_openat2_opens(tree: Tree, path: bytes, flags: int) -> None:
    """For where the system call is refused."""
    found = []
    for opening in (open_beneath, _walk):
        fd = opening(tree.fd, path, flags)
        status = os.fstat(fd)
        assert not os.get_inheritable(fd)
        os.close(fd)
        found.append((status.st_dev, status.st_ino))
    assert found[0] == found[1]


@pytest.mark.parametrize("path", [b"lib/x", b"up", b"../secret", b"usr/../file", b"/file", b"none"])
def test_walking_by_hand_refuses_what_openat2_refuses(tree: Tree, path: bytes) -> None:
    """Links, what is above, and what is not there."""
    for opening in (open_beneath, _walk) if b".." not in path else (_walk,):
        with pytest.raises(OSError):  # noqa: PT011 - which error it is differs
            os.close(opening(tree.fd, path, os.O_RDONLY))


def test_e56_paths_longer_than_the_kernel_takes(tmp_path: Path) -> None:
    """A tree of 30 directories with names of 250 bytes is walked, and its file read."""
    name = "d" * 250
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    depth = 30
    for _ in range(depth):
        os.mkdir(name, dir_fd=fd)
        below = os.open(name, os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd)
        os.close(fd)
        fd = below
    with open(os.open("f", os.O_WRONLY | os.O_CREAT, dir_fd=fd), "wb") as file:
        file.write(b"deep")
    os.close(fd)
    with opened(tmp_path) as tree:
        found = [path for path, _ in trees.walk(tree)]
        deepest = b"/".join([name.encode()] * depth + [b"f"])
        assert found[-1] == deepest
        assert len(found) == depth + 1
        assert trees.read_small(tree, deepest, 10) == b"deep"
        assert trees.resolve(tree, b"/" + deepest, last=True) == deepest


def test_e56_names_that_are_no_text(tmp_path: Path) -> None:
    """Bytes that are no UTF-8, newlines, 255 bytes, and names that differ in case only."""
    names = sorted([b"\xff\xfe", b"a\nb", b"n" * 255, b"Name", b"name", b" ", b"\\", b"*"])
    for name in names:
        Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), name))).write_bytes(name)
    with opened(tmp_path) as tree:
        assert trees.list_names(tree, b"") == names
        assert [path for path, _ in trees.walk(tree)] == names
        for name in names:
            assert trees.read_small(tree, name, 255) == name


def test_walk_is_in_order_and_skips(tmp_path: Path) -> None:
    """Directories before their content, names by their bytes; a skipped directory is not read."""
    for path in ("a/z", "a/b/c", "a-b", "B", "skip/me/x"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(path)
    (tmp_path / "link").symlink_to("a")
    asked = []

    def skip(path: bytes, node: trees.Node) -> bool:
        asked.append(path)
        return path == b"skip" and node.is_dir

    with opened(tmp_path) as tree:
        found = [path for path, _ in trees.walk(tree, b"", skip)]
        below = [path for path, _ in trees.walk(tree, b"a")]
    assert found == [b"B", b"a", b"a/b", b"a/b/c", b"a/z", b"a-b", b"link"]
    assert b"skip/me" not in asked
    assert below == [b"a/b", b"a/b/c", b"a/z"]


def test_walk_passes_over_what_vanishes(tmp_path: Path) -> None:
    """A directory that goes while its parent is walked is left out; one that never was fails."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    with opened(tmp_path) as tree:
        walk = trees.walk(tree)
        assert next(walk)[0] == b"a"
        (tmp_path / "b").rmdir()
        assert [path for path, _ in walk] == [b"b"]
        with pytest.raises(NotFound, match="none in here"):
            next(trees.walk(tree, b"none"))


def test_e50_special_files_are_seen_and_never_opened(tmp_path: Path) -> None:
    """A FIFO without a writer does not hold anybody up, a socket is no file either."""
    import socket

    os.mkfifo(tmp_path / "fifo")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(os.path.relpath(tmp_path / "socket"))
    with opened(tmp_path) as tree:
        kinds = {path: stat.S_IFMT(node.mode) for path, node in trees.walk(tree)}
        assert kinds == {b"fifo": stat.S_IFIFO, b"socket": stat.S_IFSOCK}
        for path in kinds:
            assert trees.read_small(tree, path, 10) is None
            with pytest.raises(InvalidInput, match="is not a regular file"):
                trees.open_file(tree, path)
            assert trees.xattrs_of(tree, path) == {}
        with pytest.raises(InvalidInput, match="is not a regular file"):
            trees.open_file(tree, b"")


def test_e51_names_of_one_file_have_one_identity(tmp_path: Path) -> None:
    """Hard links, and only they."""
    (tmp_path / "a").write_text("x")
    (tmp_path / "c").write_text("x")
    os.link(tmp_path / "a", tmp_path / "b")
    with opened(tmp_path) as tree:
        nodes = dict(trees.walk(tree))
    assert nodes[b"a"].identity == nodes[b"b"].identity != nodes[b"c"].identity
    assert nodes[b"a"].nlink == 2


def test_e52_modes_and_attributes_are_read(tmp_path: Path) -> None:
    """Setuid, and attributes of a layer; those of an overlay mount are left out."""
    path = tmp_path / "f"
    path.write_text("x")
    path.chmod(0o4751)
    os.setxattr(path, "user.kept", b"1")
    os.setxattr(path, "user.overlay.opaque", b"y")
    (tmp_path / "dir").mkdir()
    os.setxattr(tmp_path / "dir", "user.on.dir", b"2")
    (tmp_path / "link").symlink_to("f")
    noted = {b"f": Noted(xattrs={"security.capability": b"c" * 20, "user.overlay.x": b"no"})}
    with opened(tmp_path, noted) as tree:
        node = trees.stat_of(tree, b"f")
        assert node is not None
        assert node.mode == stat.S_IFREG | 0o4751
        found = trees.xattrs_of(tree, b"f")
        assert found == {"user.kept": b"1", "security.capability": b"c" * 20}
        assert trees.xattrs_of(tree, b"dir") == {"user.on.dir": b"2"}
        assert trees.xattrs_of(tree, b"link") == {}


def test_e53_unreadable_files_say_so(tmp_path: Path) -> None:
    """Without privileges a file of mode 0 is seen but not read; the error names it."""
    root = tmp_path / "root"
    (root / "shut").mkdir(parents=True)
    (root / "secret").write_text("x")
    (root / "readonly").mkdir()
    (root / "readonly/f").write_text("readable")
    os.chmod(root / "secret", 0)
    os.chmod(root / "shut", 0)
    os.chmod(root / "readonly", 0o555)
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    code = _as_nobody(lambda: _look(fd))
    os.close(fd)
    os.chmod(root / "shut", 0o755)
    os.chmod(root / "readonly", 0o755)
    assert code == 0


def _look(fd: int) -> None:
    tree = Tree(fd=fd, name="here")
    node = trees.stat_of(tree, b"secret")
    assert node is not None
    assert stat.S_IMODE(node.mode) == 0
    with pytest.raises(StorageError, match="secret in here: permission denied"):
        trees.read_small(tree, b"secret", 10)
    with pytest.raises(StorageError, match="shut in here: permission denied"):
        trees.list_names(tree, b"shut")
    assert trees.read_small(tree, b"readonly/f", 10) == b"readable"


def _as_nobody(work: object) -> int:
    """Run `work` in a child without privileges; 0 if it raised nothing."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            if os.geteuid() == 0:
                os.setgroups([])
                os.setresgid(65534, 65534, 65534)
                os.setresuid(65534, 65534, 65534)
            work()  # type: ignore[operator]
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_records_win_over_the_disk(tmp_path: Path) -> None:
    """Owner, mode with its type, and a device's numbers; the disk says the rest."""
    for name in ("owned", "device", "plain"):
        (tmp_path / name).write_text("x")
    os.chmod(tmp_path / "owned", 0o640)
    records = {
        b"owned": Noted(uid=12, gid=34),
        b"device": Noted(uid=1, gid=2, mode=stat.S_IFCHR | 0o660, rdev=(1, 3)),
    }
    with opened(tmp_path, records, recorded_owners=True) as tree:
        nodes = dict(trees.walk(tree))
        assert nodes == {path: trees.stat_of(tree, path) for path in nodes}
    owned, device, plain = nodes[b"owned"], nodes[b"device"], nodes[b"plain"]
    assert (owned.uid, owned.gid, owned.mode) == (12, 34, stat.S_IFREG | 0o640)
    assert (device.mode, device.rdev, device.uid) == (stat.S_IFCHR | 0o660, (1, 3), 1)
    assert (plain.uid, plain.gid) == (0, 0)


def test_owners_of_the_disk_count_unless_they_mean_nothing(tmp_path: Path) -> None:
    """As in a context on a machine, where everything belongs to somebody."""
    (tmp_path / "f").write_text("x")
    if os.geteuid() == 0:
        os.chown(tmp_path / "f", 4321, 1234)
    status = (tmp_path / "f").stat()
    with opened(tmp_path) as tree:
        node = trees.stat_of(tree, b"f")
    assert node is not None
    assert (node.uid, node.gid) == (status.st_uid, status.st_gid)
    assert (node.mtime_ns, node.ctime_ns) == (status.st_mtime_ns, status.st_ctime_ns)


def test_e55_times_are_whole_numbers_of_nanoseconds(tmp_path: Path) -> None:
    """Before 1970 too."""
    path = tmp_path / "f"
    path.write_text("x")
    os.utime(path, ns=(0, -1_500_000_001))
    with opened(tmp_path) as tree:
        node = trees.stat_of(tree, b"f")
    assert node is not None
    assert node.mtime_ns == -1_500_000_001


def test_small_files_have_a_limit(tmp_path: Path) -> None:
    """Exactly the limit is fine."""
    (tmp_path / "f").write_bytes(bytes(10))
    with opened(tmp_path) as tree:
        assert trees.read_small(tree, b"f", 10) == bytes(10)
        assert trees.read_small(tree, b"none", 10) is None
        with pytest.raises(LimitExceeded, match="f in here"):
            trees.read_small(tree, b"f", 9)


def test_descriptors_are_given_back(tmp_path: Path) -> None:
    """After walks that were left in the middle, and after errors."""
    shuffled = random.Random(1)
    for number in range(20):
        (tmp_path / f"d{number}/e").mkdir(parents=True)
        (tmp_path / f"d{number}/e/f").write_text("x")
    with opened(tmp_path) as tree:
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(20):
            walk = trees.walk(tree)
            for _ in range(shuffled.randrange(30)):
                next(walk)
            trees.stat_of(tree, b"d1/e/f")
            trees.xattrs_of(tree, b"d1/e/f")
            with pytest.raises(InvalidInput):
                trees.open_file(tree, b"d1")
        assert len(os.listdir("/proc/self/fd")) == before
