"""State is kept where only its owner can touch it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from engine.cli import root
from engine.cli.root import default_root
from engine.runtime.errors import InvalidConfig

USER = os.geteuid() or 1000


@pytest.fixture
def runtime_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What a login gives to a user that is not root, as whom we pass."""
    made = tmp_path / "user"
    made.mkdir(mode=0o700)
    os.chown(made, USER, -1)
    monkeypatch.setattr(os, "geteuid", lambda: USER)
    return made


def test_of_root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Below /run, even after `su` kept XDG_RUNTIME_DIR of a user; root of a user namespace is
    that user."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert default_root({}) == "/run/imgtools-runtime"
    monkeypatch.setattr(root, "in_initial_user_namespace", lambda: True)
    environ = {"XDG_RUNTIME_DIR": str(tmp_path)}
    assert default_root(environ) == "/run/imgtools-runtime"
    monkeypatch.setattr(root, "in_initial_user_namespace", lambda: False)
    os.chmod(tmp_path, 0o700)
    if os.stat(tmp_path).st_uid == 0:
        assert default_root(environ) == f"{tmp_path}/imgtools-runtime"
    assert default_root({}) == "/run/imgtools-runtime"


def test_of_a_user(runtime_dir: Path) -> None:
    """With the bit that keeps it from being cleaned up, and again."""
    for _ in range(2):
        path = default_root({"XDG_RUNTIME_DIR": str(runtime_dir)})
        assert path == f"{runtime_dir}/imgtools-runtime"
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o1700


def test_s6_of_a_user_nobody_else_may_write_to(runtime_dir: Path) -> None:
    """A directory that somebody else owns or can write to is not trusted."""
    file = runtime_dir / "file"
    file.write_text("")
    for path, problem in (
        ("relative", "is not an absolute path"),
        (str(runtime_dir / "none"), "is not usable: no such file"),
        (str(file), "is not a directory"),
    ):
        with pytest.raises(InvalidConfig, match=problem) as caught:
            default_root({"XDG_RUNTIME_DIR": path})
        assert "--root" in caught.value.hint
    runtime_dir.chmod(0o770)
    with pytest.raises(InvalidConfig, match="is writable for others"):
        default_root({"XDG_RUNTIME_DIR": str(runtime_dir)})
    runtime_dir.chmod(0o700)
    assert not (runtime_dir / "imgtools-runtime").exists()


def test_s6_of_another_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is ours here is not of the one we pass for."""
    monkeypatch.setattr(os, "geteuid", lambda: os.stat(tmp_path).st_uid + 1)
    with pytest.raises(InvalidConfig, match="belongs to user"):
        default_root({"XDG_RUNTIME_DIR": str(tmp_path)})
