"""Removals that nobody waits for: over when the block is, the caller's where there is no room,
and of no harm where they fail."""

from __future__ import annotations

import os
import threading
from contextlib import closing
from pathlib import Path

import pytest

from engine.storage.later import MOST, Later
from engine.storage.layers_workspace import Workspace
from imgtools.errors import StorageError


def test_all_jobs_are_done_at_the_end() -> None:
    done: list[int] = []
    later = Later()
    for number in range(100):
        assert later.take(lambda number=number: done.append(number))  # type: ignore[misc]
    later.close()
    assert sorted(done) == list(range(100))
    later.close()
    assert not later.take(lambda: done.append(-1))


def test_who_brings_too_many_does_its_own() -> None:
    go = threading.Event()
    later = Later()
    taken = [later.take(go.wait) for _ in range(2 * MOST)]
    assert taken[:MOST] == [True] * MOST
    assert not taken[-1]
    go.set()
    later.close()


def test_a_job_that_fails_is_no_end_of_the_others() -> None:
    done: list[int] = []

    def fail() -> None:
        raise StorageError("no", path="/")

    with closing(Later()) as later:
        for number in range(20):
            assert later.take(fail)
            assert later.take(lambda number=number: done.append(number))  # type: ignore[misc]
    assert sorted(done) == list(range(20))


def test_without_threads_the_caller_does_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    with closing(Later()) as later:
        assert not later.take(lambda: None)


def test_directories_are_gone_after_the_block(tmp_path: Path) -> None:
    workspace = Workspace(str(tmp_path))
    with closing(workspace), workspace.unhurried():
        for number in range(30):
            with workspace.directory(later=True) as path:
                (Path(path) / f"{number}").mkdir()
        (tmp_path / "old").mkdir()
        assert workspace.discard(str(tmp_path / "old"), later=True)
        assert not (tmp_path / "old").exists()
    assert os.listdir(tmp_path) == []


def test_what_waits_to_be_removed_is_not_swept_by_others(tmp_path: Path) -> None:
    go = threading.Event()
    with closing(Workspace(str(tmp_path))) as workspace:
        with workspace.unhurried():
            for _ in range(4):
                assert workspace.take_later(go.wait)
            with workspace.directory(later=True) as path:
                (Path(path) / "file").touch()
            with closing(Workspace(str(tmp_path))) as other:
                assert other.sweep() == 0
            assert (Path(path) / "file").exists()
            go.set()
        assert os.listdir(tmp_path) == []


def test_a_hurried_workspace_removes_at_once(tmp_path: Path) -> None:
    with closing(Workspace(str(tmp_path))) as workspace:
        with workspace.directory(later=True) as path:
            pass
        assert not Path(path).exists()
