"""Ctrl-C between any two lines of the store's own: whatever was being made is gone with it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from engine.storage import layers_workspace
from engine.storage.layers_workspace import Workspace


def _interrupting(count: int) -> Callable[..., Any]:
    """A trace function that interrupts at the line with this number of the workspace's code."""
    seen = [0]

    def trace(frame: FrameType, event: str, arg: object) -> Any:
        if frame.f_code.co_filename != layers_workspace.__file__:
            return None
        if event == "line":
            seen[0] += 1
            if seen[0] == count:
                raise KeyboardInterrupt
        return trace

    return trace


def _use(workspace: Workspace) -> None:
    with workspace.directory() as path:
        os.mkdir(os.path.join(path, "inside"))


def test_an_interrupt_anywhere_leaves_nothing(tmp_path: Path) -> None:
    count, ended = 0, False
    before = sys.gettrace()
    while not ended:
        count += 1
        workspace = Workspace(str(tmp_path / "tmp"))
        sys.settrace(_interrupting(count))
        try:
            _use(workspace)
            ended = True
        except KeyboardInterrupt:
            pass
        finally:
            sys.settrace(before)
        workspace.close()
        workspace.close()
        left = os.listdir(tmp_path / "tmp") if (tmp_path / "tmp").exists() else []
        assert left == [], f"interrupted at line {count}"
    assert count > 20


def test_what_others_make_is_not_touched(tmp_path: Path) -> None:
    mine, other = Workspace(str(tmp_path)), Workspace(str(tmp_path))
    with other.directory() as path:
        mine.close()
        assert os.path.isdir(path)
    assert os.listdir(tmp_path) == []
