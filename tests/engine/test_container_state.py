"""What is kept about a container, whole or cut by a kill at any byte; ids; who may change it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.runtime.container import status
from engine.runtime.container.gate import is_waiting, knock, make_gate
from engine.runtime.container.state import STATE, State, StateDir, check_id, identifiers, is_alive
from engine.runtime.container.state import start_time as began
from engine.runtime.errors import ContainerExists, Damaged, InvalidConfig, NoSuchContainer

FULL = State(
    id="c",
    bundle="/b",
    oci_version="1.0.2",
    created=1.5,
    annotations=(("a", "b"),),
    creator=1,
    creator_started=2,
    rootfs="/b/rootfs",
)


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[StateDir]:
    with StateDir.make(str(tmp_path / "root"), "c") as made:
        yield made


def test_what_is_noted_later_counts(directory: StateDir) -> None:
    directory.save(FULL)
    assert directory.load() == FULL
    directory.note({"pid": 7, "started": 8})
    directory.note({"ready": True, "pid": 9})
    assert directory.load() == FULL.with_values(pid=9, started=8, ready=True)
    assert os.stat(Path(directory.path) / STATE).st_mode & 0o777 == 0o600


def test_a_state_cut_anywhere_is_the_one_before(directory: StateDir) -> None:
    """Also before the first line is complete: then nothing was made yet."""
    directory.save(FULL)
    first = (Path(directory.path) / STATE).read_bytes()
    directory.note({"pid": 7, "started": 8})
    whole = (Path(directory.path) / STATE).read_bytes()
    noted = FULL.with_values(pid=7, started=8)
    for length in range(len(whole) + 1):
        (Path(directory.path) / STATE).write_bytes(whole[:length])
        found = directory.load()
        if length < len(first):
            assert (found.pid, found.creator, found.cgroup) == (0, 0, None)
            assert status.status_of(directory, found) == status.STOPPED
        else:
            assert found == (noted if length == len(whole) else FULL)


@pytest.mark.parametrize("content", [b"[]\n", b"{\n", b"{}\n1\n", b'"x"\n', b"\xff\n", b"\n\n"])
def test_what_is_no_state_is_said(directory: StateDir, content: bytes) -> None:
    (Path(directory.path) / STATE).write_bytes(content)
    with pytest.raises((Damaged, InvalidConfig)):
        directory.load()


def test_a_directory_is_made_once_and_found_until_it_is_removed(tmp_path: Path) -> None:
    root = str(tmp_path / "root")
    assert identifiers(root) == []
    with StateDir.make(root, "c") as one:
        with pytest.raises(ContainerExists):
            StateDir.make(root, "c")
        assert identifiers(root) == ["c"]
        with StateDir.find(root, "c") as other:
            one.save(FULL)
            one.remove()
            with pytest.raises(NoSuchContainer):
                other.lock()
    with pytest.raises(NoSuchContainer):
        StateDir.find(root, "c")


def test_who_holds_the_lock_is_making_the_container(tmp_path: Path) -> None:
    root = str(tmp_path)
    with StateDir.make(root, "c") as maker, StateDir.find(root, "c") as other:
        assert status.status_of(other, other.load()) == status.STOPPED
        maker.lock()
        assert other.is_changing()
        assert not maker.is_changing(), "it is who changes it"
        assert status.status_of(other, other.load()) == status.CREATING
        maker.unlock()
        assert not other.is_changing()
        other.lock()
        assert maker.is_changing()


@pytest.mark.parametrize("name", ["a", "A_b-c.d+0", "-", "x" * 1024])
def test_ids(name: str) -> None:
    assert check_id(name) == name


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("", "invalid container ID ''"),
        (".", "invalid container ID"),
        ("..", "invalid container ID"),
        (".hidden", "invalid container ID"),
        ("x" * 1025, "invalid container ID"),
        ("a/b", "invalid character '/' in the container ID"),
        ("a b", "invalid character ' '"),
        ("a\0", r"invalid character '\x00'"),
        ("\u00e4", "invalid character"),
    ],
)
def test_what_is_no_id(name: str, text: str) -> None:
    with pytest.raises(InvalidConfig) as caught:
        check_id(name)
    assert text in caught.value.message


def test_r4_a_pid_counts_with_its_start_time() -> None:
    own = os.getpid()
    assert is_alive(own, began(own))
    assert not is_alive(own, began(own) + 1)
    assert not is_alive(0, 0)
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    assert began(child) == 0, "what has ended is not alive, reaped or not"
    os.waitpid(child, 0)
    assert began(child) == 0


def test_the_gate_is_there_as_long_as_somebody_waits(directory: StateDir) -> None:
    assert knock(directory) is None
    gate = make_gate(directory)
    assert is_waiting(directory)
    os.close(gate)
    assert not is_waiting(directory)


def test_the_state_is_one_json_value_a_line(directory: StateDir) -> None:
    directory.save(FULL.with_values(id="x\ny"))
    lines = (Path(directory.path) / STATE).read_text().splitlines()
    assert [json.loads(line)["id"] for line in lines] == ["x\ny"]
