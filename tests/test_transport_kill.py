"""A writer killed at any instant leaves the old image or the new one, and a rerun completes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.killed import NAMES


@pytest.mark.parametrize("transport", sorted(NAMES))
def test_killed_writers_leave_whole_images(transport: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.killed", transport, tmp_path / "work", "20"],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "every time whole" in done.stdout
