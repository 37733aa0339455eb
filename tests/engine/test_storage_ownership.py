"""Owners that the file system cannot hold: kept in a table, back in the next layer."""

from __future__ import annotations

import io
import json
import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.storage import ownership_file
from engine.storage.options import AS_ON_DISK, Owner, Ownership
from engine.storage.ownership import OwnerTree, identity
from engine.storage.ownership_file import load_owners, read_owners, write_owners
from engine.storage.ownership_ids import ALL, IdRanges, Ids, best_ownership, owner_map, survey_ids
from imgtools.errors import InvalidArchive, LimitExceeded, Unsupported
from tests.engine.layer_tools import PROJECT

NAMES = st.binary(min_size=1, max_size=6).filter(lambda b: not {0, 47} & set(b) and b != b".")
PATHS = st.lists(NAMES, min_size=1, max_size=4).map(b"/".join)
OWNERS = st.builds(
    Owner,
    uid=st.integers(0, ownership_file.MAX_ID),
    gid=st.integers(0, ownership_file.MAX_ID),
    mode=st.one_of(st.just(AS_ON_DISK), st.integers(0, 0o177777)),
    rdev=st.tuples(st.integers(0, 4095), st.integers(0, 1 << 20)),
    xattrs=st.dictionaries(st.text(min_size=1, max_size=8), st.binary(max_size=8), max_size=3),
)
TABLES = st.dictionaries(st.one_of(PATHS, st.just(b"")), OWNERS, max_size=12)


def tree_of(table: dict[bytes, Owner]) -> OwnerTree:
    tree = OwnerTree()
    for path, owner in table.items():
        tree.set(path, owner)
    return tree


@given(TABLES)
def test_file_gives_back_the_tree(table: dict[bytes, Owner]) -> None:
    file = io.BytesIO()
    assert write_owners(tree_of(table), file) == len(table)
    file.seek(0)
    found = list(read_owners(file))
    assert dict(found) == table
    assert [path for path, _ in found] == sorted(table, key=lambda p: p.split(b"/") if p else [])


@given(TABLES, st.data())
def test_cut_or_changed_file_is_refused_or_another_table(
    table: dict[bytes, Owner], data: st.DataObject
) -> None:
    file = io.BytesIO()
    write_owners(tree_of(table), file)
    raw = file.getvalue()
    cut = data.draw(st.integers(0, len(raw) - 1))
    with pytest.raises(InvalidArchive):
        load_owners(io.BytesIO(raw[:cut]))
    at, byte = data.draw(st.integers(0, len(raw) - 1)), data.draw(st.integers(0, 255))
    with suppress(InvalidArchive):
        load_owners(io.BytesIO(raw[:at] + bytes([byte]) + raw[at + 1 :]))


@pytest.mark.parametrize(
    "body",
    [
        b"x 1 2 - 0\n= 1\n",
        b"x 1 2 - 0 0 a\n= 1\n",
        b"x 1 2 9 0 0\n= 1\n",
        b"x -1 2 - 0 0\n= 1\n",
        b"x 4294967295 2 - 0 0\n= 1\n",
        b"x 1 2 - 0 0 a=0\n= 1\n",
        b"= 1\n",
        b"= 0\nx",
        b"",
        b"\xff\n= 1\n",
    ],
)
def test_malformed_files_are_refused(body: bytes) -> None:
    with pytest.raises(InvalidArchive):
        load_owners(io.BytesIO(ownership_file.MAGIC + body))
    with pytest.raises(InvalidArchive):
        load_owners(io.BytesIO(b"imgtools owners 2\n" + body))


def test_endless_line_is_refused() -> None:
    class Endless(io.BytesIO):
        def readline(self, size: int | None = -1, /) -> bytes:
            return ownership_file.MAGIC if size == len(ownership_file.MAGIC) + 1 else b"x" * size

    with pytest.raises(LimitExceeded):
        load_owners(Endless())


def test_removing_forgets_what_is_below() -> None:
    one = Owner(uid=1, gid=1)
    tree = tree_of(dict.fromkeys([b"a", b"a/b", b"a/b/c", b"a-b", b"d/e"], one))
    tree.remove(b"a")
    assert [path for path, _ in tree.items()] == [b"a-b", b"d/e"]
    tree.remove(b"not/there")
    tree.set(b"d/e", None)
    assert [path for path, _ in tree.items()] == [b"a-b"]
    tree = tree_of(dict.fromkeys([b"a", b"a/b", b"a/b/c", b"a/d"], one))
    tree.clear(b"a", {b"a/b"})
    assert [path for path, _ in tree.items()] == [b"a", b"a/b"]
    tree.clear(b"", set())
    assert list(tree.items()) == []


RECORDED, REAL = Ownership.RECORDED, Ownership.REAL
REGULAR, DIRECTORY = stat.S_IFREG, stat.S_IFDIR
CHAR = stat.S_IFCHR | 0o666

IDENTITIES = [
    (REGULAR | 0o644, None, RECORDED, (REGULAR | 0o644, 0, 0)),
    (REGULAR | 0o644, None, REAL, (REGULAR | 0o644, 7, 8)),
    (REGULAR | 0o644, Owner(uid=1, gid=2), RECORDED, (REGULAR | 0o644, 1, 2)),
    (REGULAR | 0o644, Owner(uid=1, gid=2), REAL, (REGULAR | 0o644, 7, 8)),
    (REGULAR | 0o600, Owner(uid=1, gid=2, mode=REGULAR), RECORDED, (REGULAR, 1, 2)),
    (REGULAR | 0o644, Owner(uid=1, gid=2, mode=REGULAR), RECORDED, (REGULAR | 0o644, 1, 2)),
    (DIRECTORY | 0o700, Owner(uid=0, gid=0, mode=DIRECTORY | 0o500), RECORDED,
     (DIRECTORY | 0o500, 0, 0)),
    (DIRECTORY | 0o755, Owner(uid=0, gid=0, mode=REGULAR), RECORDED, (DIRECTORY | 0o755, 0, 0)),
    (REGULAR | 0o666, Owner(uid=0, gid=0, mode=CHAR, rdev=(1, 3)), REAL, (CHAR, 7, 8)),
    (REGULAR | 0o640, Owner(uid=1, gid=2, mode=CHAR, rdev=(1, 3)), RECORDED,
     (stat.S_IFCHR | 0o640, 1, 2)),
    (REGULAR | 0o644, Owner(uid=1, gid=2, mode=stat.S_IFCHR | 0o44, rdev=(1, 3)), RECORDED,
     (stat.S_IFCHR | 0o44, 1, 2)),
    (DIRECTORY | 0o700, Owner(uid=0, gid=0, mode=CHAR, rdev=(1, 3)), REAL,
     (DIRECTORY | 0o700, 7, 8)),
]  # fmt: skip


@pytest.mark.parametrize(("mode", "owner", "ownership", "expected"), IDENTITIES)
def test_what_a_file_is(
    mode: int, owner: Owner | None, ownership: Ownership, expected: tuple[int, int, int]
) -> None:
    found = identity(mode, 7, 8, (0, 0), owner, ownership)
    assert (found.mode, found.uid, found.gid) == expected
    assert found.rdev == ((1, 3) if stat.S_ISCHR(found.mode) else (0, 0))


def ids(users: str, *, superuser: bool = True) -> Ids:
    ranges = IdRanges.parse(users)
    return Ids(users=ranges, groups=ranges, superuser=superuser)


def test_ranges_of_a_map() -> None:
    ranges = IdRanges.parse("         0       1000          1\n         1     100000      65536\n")
    assert (0 in ranges, 65536 in ranges, 65537 in ranges, -1 in ranges) == (
        True,
        True,
        False,
        False,
    )
    assert ranges.count == 65537
    assert str(ranges) == "0, 1-65536"
    assert str(IdRanges(())) == "none"
    assert survey_ids().users.count > 0


def test_best_ownership_and_map() -> None:
    assert best_ownership(ids(f"0 0 {ALL}")) is REAL
    assert best_ownership(ids("0 1000 1\n1 100000 65536")) is REAL
    assert best_ownership(ids("0 1000 1")) is RECORDED
    assert best_ownership(ids(f"0 0 {ALL}", superuser=False)) is RECORDED
    assert owner_map(ids(f"0 0 {ALL}"), ignore_errors=False) is None
    mapped = owner_map(ids("0 1000 10"), ignore_errors=False)
    assert mapped is not None
    assert mapped(9, 0) == (9, 0)
    with pytest.raises(Unsupported, match="user 10, which is not mapped") as caught:
        mapped(10, 0)
    assert "/etc/subuid" in str(caught.value.hint)
    with pytest.raises(Unsupported, match="group 77"):
        mapped(0, 77)
    lenient = owner_map(ids("0 1000 10"), ignore_errors=True)
    assert lenient is not None
    assert lenient(10, 5) == (0, 5)


def child(root: Path, mode: str, task: str, id_map: str = "") -> list[Any]:
    """What owner_child.py answers."""
    env = {**os.environ, "PYTHONPATH": str(PROJECT), "PYTHONDONTWRITEBYTECODE": "1"}
    argv = [sys.executable, "-m", "tests.engine.owner_child", str(root), mode, task]
    with subprocess.Popen(
        argv, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, cwd="/",
    ) as process:  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        if id_map:
            assert process.stdout.readline() == "unshared\n"
            for name in ("uid_map", "gid_map"):
                Path(f"/proc/{process.pid}/{name}").write_text(id_map)
        out, err = process.communicate("go\n", timeout=60)
    assert process.returncode == 0, err
    answer: list[Any] = json.loads(out)
    return answer


CHANGED = {
    "bin/": ["5", "0o755", 0, 0, 0, 0, []],
    "bin/ping": ["0", "0o644", 5, 0, 0, 0, []],
    "chowned": ["0", "0o644", 1000, 1001, 0, 0, []],
    "dev/": ["5", "0o755", 0, 0, 0, 0, []],
    "dev/null": ["3", "0o666", 0, 0, 1, 3, []],
    "etc/": ["5", "0o755", 0, 0, 0, 0, []],
    "etc/shadow": ["0", "0o640", 0, 42, 0, 0, []],
    "locked/": ["5", "0o700", 0, 0, 0, 0, []],
    "locked/.wh.x": ["0", "0o0", 0, 0, 0, 0, []],
    "mail/": ["5", "0o2775", 0, 8, 0, 0, []],
    "mail/new": ["0", "0o644", 0, 0, 0, 0, []],
}
"""What `owner_child.used` changes, as the next layer is to have it."""


def without_capability(diff: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """The kernel keeps a capability when times change, which the table cannot tell from a
    write: both are fine."""
    return {name: [*value[:6], []] for name, value in diff.items()}


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory of user 1777 that they can reach."""
    with tempfile.TemporaryDirectory() as path:
        os.chmod(path, 0o711)
        (Path(path) / "place").mkdir()
        os.chown(Path(path) / "place", 1777, 1777)
        yield Path(path) / "place"


def test_user_without_any_namespace(place: Path) -> None:
    (flat,) = child(place, "user 1777", "flat")
    assert (flat["driver"], flat["ownership"]) == ("flat", "recorded")
    assert flat["owners"] == [
        "bin/ping", "dev/null", "etc/closed", "etc/shadow", "locked", "locked/x", "mail",
        "mail/box",
    ]  # fmt: skip
    # A directory that had to be opened for its owner has that mode already: only who watches
    # chmod can tell that it was asked for.
    opened = {**CHANGED, "locked/": ["5", "0o500", 0, 0, 0, 0, []]}
    assert without_capability(flat["diff"]) == opened
    assert flat["left"] == []


def test_recorded_owners_need_no_mapping(place: Path) -> None:
    message, used = child(place, "user 1777", "refused")
    assert message == ""
    assert used["driver"] == "flat"


def test_single_id_in_a_user_namespace(root: Path) -> None:
    overlay, flat = child(root, "namespace", "overlay flat", "0 0 1\n")
    assert (overlay["driver"], overlay["userxattr"]) == ("overlay", True)
    for answer in (overlay, flat):
        assert answer["ownership"] == "recorded"
        assert "etc/shadow" in answer["owners"]
        assert "dev/null" in answer["owners"]
        assert "gone/x" not in answer["owners"]
        assert without_capability(answer["diff"]) == CHANGED
        assert answer["left"] == []
    assert overlay["tar"] == flat["tar"]


def test_range_of_ids_in_a_user_namespace(root: Path) -> None:
    overlay, flat = child(root, "namespace", "overlay flat", "0 0 1100\n")
    for answer in (overlay, flat):
        assert answer["ownership"] == "real"
        assert answer["owners"] == ["dev/null"]
        # nobody emulated anything here: ids are real
        assert without_capability(answer["diff"]) == {
            **CHANGED,
            "chowned": ["0", "0o644", 0, 0, 0, 0, []],
            "mail/new": ["0", "0o644", 0, 8, 0, 0, []],
        }
    assert overlay["tar"] == flat["tar"]


def test_ids_beyond_the_range_are_named(root: Path) -> None:
    message, ignored = child(root, "namespace", "refused", "0 0 40\n")
    assert "user 5000, which is not mapped here (mapped: 0-39)" in message
    assert "/etc/subuid" in message
    assert ignored["ownership"] == "real"
    assert ignored["diff"]["etc/shadow"][2:4] == [0, 0]
