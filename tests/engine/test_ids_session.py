"""User namespaces entered for real, by root and by users of every rung of jail.py."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.ids.model import IdOptions
from engine.ids.survey import find_helper, identify
from tests.engine import jail
from tests.engine.id_child import run

FIRST, COUNT = jail.SUBORDINATE


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A directory that every user can look into; pytest's own are closed to others."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        directory.chmod(0o755)
        yield directory


@pytest.mark.parametrize(
    ("rung", "mode", "entered", "uid_map"),
    [
        ("A", "root", False, None),
        ("B", "ranges", True, [[0, jail.USER, 1], [1, FIRST, COUNT]]),
        ("C", "single", True, [[0, jail.USER, 1]]),
        ("D-crio", "ranges", True, None),
        ("E-crio", "single", True, [[0, jail.USER, 1]]),
    ],
)
def test_session_of_each_rung(
    rung: str, mode: str, entered: bool, uid_map: list[list[int]] | None
) -> None:
    """This process itself is root inside, with nothing left behind."""
    found = run(rung, "session")
    assert (found["mode"], found["entered"]) == (mode, entered)
    assert found["ids"] == [0] * 6
    assert found["uid_map"] == found["maps"]["uids"]
    assert found["gid_map"] == found["maps"]["gids"]
    if uid_map is not None:
        assert found["uid_map"] == uid_map
    if rung == "D-crio":
        # Outer uid 0 is not mapped: that takes CAP_SETFCAP, which CRI-O does not give.
        assert found["uid_map"][0][:2] == [0, 1]
    assert found["setgroups"] == (mode != "single")
    assert found["outer"]["uid"] == (0 if rung in ("A", "D-crio") else jail.USER)
    assert found["children"] == ""
    assert found["same_parent"]
    assert found["writable_self"]
    assert found["reason"]


@pytest.mark.parametrize("rung", ["D", "E"])
def test_n5_docker_profile_admits_no_user_namespace(rung: str) -> None:
    """The message says what denies it, and what would not."""
    found = run(rung, "session")
    assert found["error"] == "Unsupported"
    assert "unshare(CLONE_NEWUSER): EPERM: a seccomp filter denies it" in found["message"]
    assert "Unconfined" in found["hint"]


@pytest.mark.parametrize(
    ("rung", "mode", "entered", "can_mount"),
    [
        ("A", "root", False, True),
        ("B", "ranges", True, True),
        ("C", "single", True, True),
        ("D", "root", False, False),
        ("D-crio", "ranges", True, True),
        ("E", "single", False, False),
        ("E-crio", "single", True, True),
    ],
)
def test_ids_that_can_be_had_anywhere(rung: str, mode: str, entered: bool, can_mount: bool) -> None:
    """Unpacking and packing need no namespace, and work without."""
    found = run(rung, "session", lenient=True)
    assert (found["mode"], found["entered"], found["can_mount"]) == (mode, entered, can_mount)
    if not can_mount:
        assert "unshare(CLONE_NEWUSER): EPERM" in found["reason"]
        assert found["ids"] == [0 if rung == "D" else jail.USER] * 6
    asked = run("E", "session", lenient=True, mode="single")
    assert asked["error"] == "Unsupported"


def test_n5_helpers_that_lost_their_privileges(open_directory: Path) -> None:
    """An image copied without set-uid bits and capabilities."""
    options = {"path": [str(open_directory)], "unprivileged": str(open_directory)}
    found = run("B", "session", **options)
    assert found["mode"] == "single"
    assert "neither set-uid root nor has file capabilities" in found["reason"]
    asked = run("B", "session", mode="ranges", **options)
    assert "neither set-uid root" in asked["message"]
    assert "chmod u+s" in asked["hint"]


def test_n5_missing_helpers() -> None:
    """Named with the package that has them."""
    found = run("B", "session", path=["/nonexistent"], mode="ranges")
    assert "newuidmap is not installed" in found["message"]
    assert "uidmap" in found["hint"]


def test_helper_that_fails_falls_back_to_a_single_id() -> None:
    """As long as it has written nothing, and only where no mode was asked for."""
    found = run("B", "session", broken="/usr/bin/newgidmap")
    assert (found["mode"], found["uid_map"]) == ("single", [[0, jail.USER, 1]])
    assert "newgidmap" in found["reason"]
    asked = run("B", "session", broken="/usr/bin/newgidmap", mode="ranges")
    assert asked["error"] == "Unsupported"
    assert "newgidmap" in asked["message"]


def test_half_written_maps_are_an_error() -> None:
    """A namespace with ranges of groups and no users is of no use, and no map can be undone."""
    found = run("B", "session", broken="/usr/bin/newuidmap")
    assert found["error"] == "Unsupported"
    assert "newuidmap" in found["message"]


def test_c9_ranges_beyond_what_is_granted_are_refused_in_words(open_directory: Path) -> None:
    """newuidmap's own text reaches the user."""
    path = open_directory / "subuid"
    path.write_text(f"{jail.USER}:{FIRST}:{COUNT * 2}\n")
    found = run("B", "session", subuid=str(path), subgid=str(path), mode="ranges")
    assert "range" in found["message"]
    assert "/etc/subgid" in found["hint"]


def test_c3_groups_stay_where_setgroups_is_denied() -> None:
    """Dropping them would get around modes that deny a group."""
    alone = run("A", "session", mode="single", groups=[7, 8])
    assert alone["setgroups"] is False
    assert len(alone["groups"]) == 2
    many = run("D-crio", "session", groups=[7, 8])
    assert many["groups"] == []


def test_y3_threads_are_refused_clearly() -> None:
    """The kernel would say EINVAL."""
    found = run("C", "threads")
    assert found["error"] == "Error"
    assert "before threads are started, 2 run" in found["message"]


def test_c9_nested_namespace_keeps_to_the_extents_of_its_parent() -> None:
    """`0 0 65536` over two extents would be EPERM."""
    found = run("B", "nested")
    assert found["mode"] == "ranges"
    assert found["uid_map"] == [[0, 0, 1], [1, 1, COUNT]]


def test_root_can_ask_for_a_weaker_mode() -> None:
    """So that every rung can be tried by an administrator."""
    assert run("A", "session", mode="single")["uid_map"] == [[0, 0, 1]]
    assert run("A", "session", mode="ranges")["mode"] == "ranges"


def test_mapped_root_is_told_who_is_behind_it() -> None:
    """Outer ids come from the environment only in a user namespace."""
    assert run("A", "session", outer_uid=5, outer_gid=6)["outer"]["uid"] == 0


@pytest.mark.parametrize(
    ("rung", "expected"),
    [
        ("B", {"0": 0, "33": 33, "70000": -22}),
        ("C", {"0": 0, "33": -22, "70000": -22}),
        ("D-crio", {"0": 0, "33": 33, "70000": 70000}),
    ],
)
def test_owners_that_files_can_have(
    rung: str, expected: dict[str, int], open_directory: Path
) -> None:
    """A storage directory given to the namespace's root can be written by it, CRI-O's too."""
    storage = open_directory / "storage"
    if rung != "D-crio":
        storage.mkdir()
        os.chown(storage, jail.USER, jail.USER)
    assert run(rung, "owners", directory=str(storage)) == expected


def test_who_has_no_passwd_entry() -> None:
    """USER and HOME stand in, else the number and /."""
    bare = identify(654321, 0, IdOptions())
    assert (bare.name, bare.home, bare.in_passwd) == ("654321", "/", False)
    told = identify(654321, 0, IdOptions(user_name="app", home="/work"))
    assert (told.name, told.home, told.in_passwd) == ("app", "/work", False)
    known = identify(0, 0, IdOptions(user_name="ignored"))
    assert (known.name, known.in_passwd) == ("root", True)


def test_helpers_are_never_looked_for_below_the_working_directory() -> None:
    """A relative directory of PATH is somebody else's choice."""
    assert find_helper("newuidmap", ("", ".", "usr/bin")).problem is not None
