"""Digests of files are remembered as long as they cannot be wrong, and the memory may fail."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from imgtools.build import trees
from imgtools.build.contexts import hashes
from imgtools.build.contexts.hashes import FileHashes
from imgtools.build.tree import Tree
from imgtools.errors import InvalidInput, NotFound

OLD = 1_600_000_000_123_456_789


class Counting:
    """Counts the files that are opened to be hashed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.paths: list[bytes] = []
        original = hashes.open_file

        def counted(tree: Tree, path: bytes) -> int:
            self.paths.append(path)
            return original(tree, path)

        monkeypatch.setattr(hashes, "open_file", counted)

    def take(self) -> list[bytes]:
        """What was opened since the last time."""
        taken, self.paths = self.paths, []
        return sorted(taken)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Counting:
    """The files that are opened."""
    return Counting(monkeypatch)


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Tree]:
    """Three files, settled long enough ago for their times to mean something."""
    monkeypatch.setattr(hashes, "_TICK_NS", 10_000_000)
    root = tmp_path / "root"
    root.mkdir()
    for name in ("a", "b", "c"):
        (root / name).write_text(f"content of {name}")
    # The time of the last change cannot be set, only waited for.
    time.sleep(0.03)
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    yield Tree(fd=fd, name="here", identity="directory here")
    os.close(fd)


def look(memory: FileHashes, tree: Tree) -> dict[bytes, bytes]:
    """The digests of all files."""
    return {path: memory.digest(tree, path, node) for path, node in trees.walk(tree)}


def real(tree: Tree) -> dict[bytes, bytes]:
    """What they have to be."""
    return {
        path: hashlib.sha256(trees.read_small(tree, path, 1 << 20) or b"").digest()
        for path, _ in trees.walk(tree)
    }


def test_a_file_is_hashed_once(tmp_path: Path, tree: Tree, opened: Counting) -> None:
    """In this build and in the next one."""
    for number in range(3):
        with FileHashes(str(tmp_path / "memory")) as memory:
            assert look(memory, tree) == look(memory, tree) == real(tree)
        assert opened.take() == ([b"a", b"b", b"c"] if number == 0 else [])


def test_changed_files_are_hashed_again(tmp_path: Path, tree: Tree, opened: Counting) -> None:
    """Size, time, or another file by that name; only they."""
    path = str(tmp_path / "memory")
    with FileHashes(path) as memory:
        look(memory, tree)
    opened.take()
    root = tmp_path / "root"
    (root / "a").write_text("CONTENT OF A")
    status = (root / "b").stat()
    (root / "new").write_text("CONTENT of b")
    os.utime(root / "new", ns=(status.st_atime_ns, status.st_mtime_ns))
    (root / "new").rename(root / "b")
    assert (root / "b").stat().st_size == status.st_size
    with FileHashes(path) as memory:
        assert look(memory, tree) == real(tree)
    assert opened.take() == [b"a", b"b"]


def test_time_that_was_set_back_does_not_hide_a_change(
    tmp_path: Path, tree: Tree, opened: Counting
) -> None:
    """Same inode, same size, same mtime: the time of the change of the inode tells."""
    path = str(tmp_path / "memory")
    with FileHashes(path) as memory:
        look(memory, tree)
    status = (tmp_path / "root/a").stat()
    (tmp_path / "root/a").write_text("CONTENT of a")
    os.utime(tmp_path / "root/a", ns=(status.st_atime_ns, status.st_mtime_ns))
    with FileHashes(path) as memory:
        assert look(memory, tree) == real(tree)


def test_e57_files_that_are_too_new_are_not_trusted(
    tmp_path: Path, tree: Tree, opened: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A change in the same tick as the reading would not show: hashed again next time."""
    path = str(tmp_path / "memory")
    with FileHashes(path) as memory:
        look(memory, tree)
    (tmp_path / "root/a").write_text("just now")
    opened.take()
    monkeypatch.setattr(hashes, "_TICK_NS", 3600 * 10**9)
    for _ in range(2):
        with FileHashes(path) as memory:
            look(memory, tree)
        assert opened.take() == [b"a"]


@pytest.mark.parametrize(
    ("mtime", "ctime", "trusted"),
    [
        (0, OLD - 200_000_000, True),
        (0, OLD - 50_000_000, False),
        (0, OLD + 1, False),
        (OLD + 10**12, 5, False),
        (0, OLD // 10**9 * 10**9 - 10**9, False),
        (0, OLD // 10**9 * 10**9 - 3 * 10**9, True),
    ],
)
def test_rule_of_what_is_too_new(mtime: int, ctime: int, trusted: bool) -> None:
    """Within a tick, in the future, and within two seconds where only seconds are counted."""
    assert hashes._settled((1, 2, 3, mtime, ctime), OLD) is trusted


def test_file_that_changes_while_it_is_read_is_not_remembered(
    tmp_path: Path, tree: Tree, opened: Counting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was read is what counts in this build."""
    path = str(tmp_path / "memory")
    original = hashes._status
    count = 0

    def status(fd: int) -> tuple[int, int, int, int, int]:
        nonlocal count
        count += 1
        found = original(fd)
        return (*found[:4], found[4] + count)

    monkeypatch.setattr(hashes, "_status", status)
    with FileHashes(path) as memory:
        assert look(memory, tree) == real(tree)
    monkeypatch.undo()
    assert not _rows(path)


def _rows(path: str) -> list[tuple[object, ...]]:
    database = sqlite3.connect(path)
    try:
        return database.execute("SELECT * FROM file").fetchall()
    except sqlite3.OperationalError:
        return []
    finally:
        database.close()


def test_trees_are_told_apart(tmp_path: Path, tree: Tree, opened: Counting) -> None:
    """And one without an identity is not remembered at all."""
    path = str(tmp_path / "memory")
    other = Tree(fd=tree.fd, name="other", identity="directory other")
    nameless = Tree(fd=tree.fd, name="nameless")
    for each in (tree, other, nameless, nameless):
        with FileHashes(path) as memory:
            look(memory, each)
        assert opened.take() == [b"a", b"b", b"c"]
    assert {row[0] for row in _rows(path)} == {"directory here", "directory other"}


def test_without_a_memory_everything_is_hashed(tree: Tree, opened: Counting) -> None:
    """And nothing is written."""
    for path in (None, ""):
        with FileHashes(path) as memory:
            assert look(memory, tree) == real(tree)
        assert len(opened.take()) == 3


@pytest.mark.parametrize(
    "damage", ["garbage", "truncated", "other", "columns", "values", "directory", "future"]
)
def test_damaged_memory_is_none(tmp_path: Path, tree: Tree, opened: Counting, damage: str) -> None:
    """Nobody hears of it, digests are right, and the next build has a memory again."""
    path = tmp_path / "memory"
    with FileHashes(str(path)) as memory:
        look(memory, tree)
    _damage(path, damage)
    opened.take()
    for _ in range(2):
        with FileHashes(str(path)) as memory:
            assert look(memory, tree) == real(tree)
    with FileHashes(str(path)) as memory:
        opened.take()
        assert look(memory, tree) == real(tree)
    assert opened.take() == ([b"a", b"b", b"c"] if damage == "directory" else [])


def _damage(path: Path, damage: str) -> None:
    if damage == "garbage":
        path.write_bytes(b"no database" * 1000)
    elif damage == "truncated":
        path.write_bytes(path.read_bytes()[:5000])
    elif damage == "directory":
        path.unlink()
        path.mkdir()
    else:
        statements = {
            "other": ["DROP TABLE file"],
            "columns": ["DROP TABLE file", "CREATE TABLE file (tree TEXT)"],
            "values": ["UPDATE file SET digest = 'text', used = 'never'"],
            "future": ["PRAGMA user_version = 99"],
        }
        database = sqlite3.connect(path)
        with database:
            for statement in statements[damage]:
                database.execute(statement)
        database.close()


def test_killed_at_any_instant_the_memory_is_whole(tmp_path: Path, tree: Tree) -> None:
    """Processes that write all the time, killed at random moments."""
    path = tmp_path / "memory"
    program = (
        "import os, sys\n"
        "from imgtools.build import trees\n"
        "from imgtools.build.contexts.hashes import FileHashes\n"
        "from imgtools.build.tree import Tree\n"
        "fd = os.open(sys.argv[1], os.O_RDONLY)\n"
        "for number in range(10**6):\n"
        "    tree = Tree(fd=fd, name='x', identity=f'{os.getpid()} {number}')\n"
        "    with FileHashes(sys.argv[2]) as memory:\n"
        "        for found, node in trees.walk(tree):\n"
        "            memory.digest(tree, found, node)\n"
        "    print(number, flush=True)\n"
    )
    for delay in (0.0, 0.013, 0.031, 0.002):
        with subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path / "root"), str(path)],
            stdout=subprocess.PIPE,
        ) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(delay)
            process.kill()
    rows = _rows(str(path))
    assert len(rows) >= 4 * 3
    assert {(row[1], row[7]) for row in rows} == set(real(tree).items())


def test_several_threads_and_processes_keep_what_each_learned(
    tmp_path: Path, tree: Tree, opened: Counting
) -> None:
    """Two memories that are open at the same time do not undo each other's work."""
    path = str(tmp_path / "memory")
    nodes = dict(trees.walk(tree))
    first, second = FileHashes(path), FileHashes(path)
    first.digest(tree, b"a", nodes[b"a"])
    second.digest(tree, b"b", nodes[b"b"])
    threads = [
        threading.Thread(target=first.digest, args=(tree, name, nodes[name]))
        for name in (b"a", b"c") * 4
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    first.close()
    second.close()
    second.close()
    opened.take()
    with FileHashes(path) as memory:
        assert look(memory, tree) == real(tree)
    assert opened.take() == []


def test_what_nobody_looks_at_is_forgotten(tmp_path: Path, tree: Tree) -> None:
    """After a month; what is looked at stays."""
    path = str(tmp_path / "memory")
    with FileHashes(path) as memory:
        look(memory, tree)
    database = sqlite3.connect(path)
    with database:
        database.execute("UPDATE file SET used = used - 40 * 86400")
    database.close()
    nodes = dict(trees.walk(tree))
    with FileHashes(path) as memory:
        memory.digest(tree, b"a", nodes[b"a"])
    assert [row[1] for row in _rows(path)] == [b"a"]


def test_what_is_no_file_is_an_error(tmp_path: Path, tree: Tree) -> None:
    """It was one when the tree was walked."""
    nodes = dict(trees.walk(tree))
    (tmp_path / "root/a").unlink()
    (tmp_path / "root/b").unlink()
    (tmp_path / "root/b").symlink_to("/etc/passwd")
    with FileHashes(None) as memory:
        with pytest.raises(NotFound):
            memory.digest(tree, b"a", nodes[b"a"])
        with pytest.raises(InvalidInput):
            memory.digest(tree, b"b", nodes[b"b"])
