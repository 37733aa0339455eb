"""The cases of leaks.py at a size for every day."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine import leaks
from tests.engine.run_rig import IMAGE, Runs, engine_of


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    """The image in a store."""
    found = Runs(tmp_path_factory.mktemp("leaks"))
    yield found
    found.stop()


def test_runs_over_one_launcher_leave_nothing(runs: Runs, tmp_path: Path) -> None:
    with engine_of(runs.location, str(tmp_path / "cache")) as engine:
        assert leaks.in_one_process(runs, engine, 20) == {}
        assert leaks.steps(runs, engine, 20) == {}


def test_commands_at_once_leave_nothing(runs: Runs) -> None:
    assert leaks.by_command_line(runs, 8, 8) == {}
    assert runs.left() == []


def test_what_is_left_is_counted(runs: Runs) -> None:
    """The counting itself: a snapshot, a process and a descriptor are seen."""
    before = leaks.Counts.now(runs)
    process = runs.start(IMAGE, "sh", "-c", "echo up; exec sleep 60")
    assert process.stdout is not None
    process.stdout.readline()
    found = leaks.Counts.now(runs).since(before)
    process.kill()
    process.communicate()
    assert found["processes"] >= 3
    assert found["descriptors"] >= 1
    assert found["files"] >= 5
