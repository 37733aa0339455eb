"""Names of users in images: passwd and group files that whoever made the image wrote."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from imgtools.build.execute.step_workdir import missing_directories
from imgtools.build.execute.users import owner_of_user, resolve_owner
from imgtools.build.tree import Tree
from imgtools.errors import Conflict, InvalidInput, NotFound, UnsafePath

PASSWD = """\
# a comment:x:9:9::/:/bin/sh
root:x:0:0:root:/root:/bin/sh
broken line
short:x
app:x:1001:1002:App:/home/app:/bin/sh
named:x:nan:1:::
last:x:5:6"""
GROUP = "root:x:0:\nstaff:x:50:app\nbroken\nnamed:x:x:\n"


@contextmanager
def opened(path: Path) -> Iterator[Tree]:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield Tree(fd=fd, name="image")
    finally:
        os.close(fd)


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Tree]:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text(PASSWD)
    (tmp_path / "etc/group").write_text(GROUP)
    with opened(tmp_path) as tree:
        yield tree


@pytest.mark.parametrize(
    ("text", "owner"),
    [
        ("0", (0, 0)),
        ("7", (7, 7)),
        ("7:8", (7, 8)),
        ("app", (1001, 1002)),
        ("app:staff", (1001, 50)),
        ("app:3", (1001, 3)),
        ("7:staff", (7, 50)),
        (":staff", (0, 50)),
        ("last", (5, 6)),
    ],
)
def test_e64_owners(tree: Tree, text: str, owner: tuple[int, int]) -> None:
    assert resolve_owner(tree, text, option="--chown") == owner


@pytest.mark.parametrize(
    "text", ["nobody", "short", "named", "app:nogroup", "7:named", "# a comment"]
)
def test_e64_names_that_are_not_there(tree: Tree, text: str) -> None:
    with pytest.raises(NotFound, match="--chown: there is no"):
        resolve_owner(tree, text, option="--chown")


@pytest.mark.parametrize("text", ["", ":", "4294967295", "99999999999"])
def test_owners_that_are_refused(tree: Tree, text: str) -> None:
    with pytest.raises(InvalidInput):
        resolve_owner(tree, text, option="--chown")


@pytest.mark.parametrize(
    ("user", "owner"),
    [("1001", (1001, 1002)), ("77", (77, 0)), ("app", (1001, 1002)), ("77:50", (77, 50))],
)
def test_the_ids_of_a_process(tree: Tree, user: str, owner: tuple[int, int]) -> None:
    assert owner_of_user(tree, user) == owner


def test_names_without_a_tree_are_not_there() -> None:
    assert resolve_owner(None, "5:6", option="--chown") == (5, 6)
    with pytest.raises(NotFound):
        resolve_owner(None, "app", option="--chown")


def test_e64_links_lead_within_the_image(tmp_path: Path) -> None:
    (tmp_path / "root/etc").mkdir(parents=True)
    (tmp_path / "passwd").write_text("evil:x:666:666:::\n")
    (tmp_path / "root/etc/passwd").symlink_to("../../passwd")
    with opened(tmp_path / "root") as tree, pytest.raises(NotFound):
        resolve_owner(tree, "evil", option="--chown")
    (tmp_path / "root/passwd").write_text("good:x:5:5:::\n")
    with opened(tmp_path / "root") as tree:
        assert resolve_owner(tree, "good", option="--chown") == (5, 5)


def test_e64_a_fifo_for_passwd_is_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    os.mkfifo(tmp_path / "etc/passwd")
    with opened(tmp_path) as tree, pytest.raises((InvalidInput, NotFound)):
        resolve_owner(tree, "app", option="--chown")


def test_e63_directories_that_workdir_has_to_make(tmp_path: Path) -> None:
    (tmp_path / "real/there").mkdir(parents=True)
    (tmp_path / "link").symlink_to("/real")
    (tmp_path / "file").write_text("")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "dangling").symlink_to("gone/far")
    with opened(tmp_path) as tree:
        assert missing_directories(tree, b"/") == ()
        assert missing_directories(tree, b"/real/there") == ()
        assert missing_directories(tree, b"/link/there/a/b") == (b"real/there/a", b"real/there/a/b")
        assert missing_directories(tree, b"/dangling/x") == (b"gone", b"gone/far", b"gone/far/x")
        with pytest.raises(Conflict, match="/file is no directory"):
            missing_directories(tree, b"/file/x")
        with pytest.raises(UnsafePath):
            missing_directories(tree, b"/loop/x")
