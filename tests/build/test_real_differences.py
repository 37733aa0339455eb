"""What the real builds may differ in from buildah's, and that everything else is told."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.build.real.cases import CASES, CONTEXTS
from tests.build.real.differences import REASONS, differences
from tests.build.real.programs import programs

EMPTY = {"Type": "file", "Mode": "0755", "Uid": 0, "Gid": 0, "Size": 0}
FULL = EMPTY | {"Size": 7}
FOLDER = {"Type": "directory", "Mode": "0755", "Uid": 0, "Gid": 0}
CONFIG = [
    ("config.Labels.io#buildah#version", {"B": "1"}, "label"),
    ("config.Labels.mine", {"A": "1"}, ""),
    ("created", {"A": "1", "B": "2"}, "time"),
    ("config.Healthcheck", {"A": {"Test": ["NONE"]}}, "format"),
    ("config.Healthcheck", {"B": {"Test": ["NONE"]}}, ""),
    ("config.Healthcheck", {"A": {"Test": ["NONE"]}, "B": {"Test": []}}, ""),
    ("config.Hostname", {"B": "abc"}, "docker"),
    ("config.Hostname", {"A": "abc"}, ""),
    ("config.Tty", {"B": False}, "docker"),
    ("config.Tty", {"B": True}, ""),
    ("config.User", {"A": "app", "B": ""}, ""),
    ("config.Env", {"A": ["A=1"], "B": ["A=2"]}, ""),
    ("os", {"B": ""}, ""),
]
FILES = [
    ({"Path": "etc/hosts", "Change": "added", "B": EMPTY}, "mount"),
    ({"Path": "etc/hosts", "Change": "added", "B": FULL}, ""),
    ({"Path": "run/secrets/token", "Change": "added", "B": FULL}, ""),
    ({"Path": "run/secrets/", "Change": "added", "B": FOLDER}, "mount"),
    ({"Path": "etc/hosts", "Change": "removed", "A": EMPTY}, ""),
    ({"Path": "other", "Change": "added", "B": EMPTY}, ""),
    ({"Path": "var/log/apt/term.log", "Change": "changed", "What": ["content"]}, "log"),
    ({"Path": "var/log/apt/term.log", "Change": "changed", "What": ["content", "mode"]}, ""),
    ({"Path": "var/log/apt/term.log", "Change": "removed", "A": FULL}, ""),
    ({"Path": "usr/bin/jq", "Change": "changed", "What": ["content"]}, ""),
]


@pytest.mark.parametrize(("path", "values", "reason"), CONFIG)
def test_fields_of_the_config(path: str, values: Mapping[str, Any], reason: str) -> None:
    """`#` stands for dots in names."""
    names = [name.replace("#", ".") for name in path.split(".")]
    (found,) = differences({"Config": [{"Path": names, **values}], "Files": []})
    assert found.reason == reason
    assert ".".join(names) in found.text


@pytest.mark.parametrize(("change", "reason"), FILES)
def test_files(change: Mapping[str, Any], reason: str) -> None:
    """A reason excuses one way of differing."""
    (found,) = differences({"Config": [], "Files": [change]})
    assert found.reason == reason
    assert found.reason in {"", *REASONS}
    assert change["Path"] in found.text


def test_every_build_has_a_context() -> None:
    """And no context is without a build."""
    assert {path.name for path in CONTEXTS.iterdir()} == {case.name for case in CASES}
    for case in CASES:
        folder = CONTEXTS / case.name / case.subdirectory
        assert (folder / "Containerfile").is_file()
        assert not case.parent or (folder / case.parent).is_file()


def test_both_programs_are_asked_with_the_same_words(tmp_path: Path) -> None:
    """But for where the store is, and what the other one's builds need."""
    ours, other = programs("/bin/buildah", "--isolation=chroot")
    place = [f"--root={tmp_path}", f"--runroot={tmp_path}-run"]
    assert ours.argv(tmp_path, ("push",), "name")[1:] == [
        "push", *place, "--tls-verify=false", "name",
    ]  # fmt: skip
    assert other.argv(tmp_path, ("manifest", "push"), "name") == [
        "/bin/buildah", *place, "manifest", "push", "--tls-verify=false", "name",
    ]  # fmt: skip
    assert other.argv(tmp_path, ("build",), "dir")[4:] == [
        "--layers", "--isolation=chroot", "--tls-verify=false", "dir",
    ]  # fmt: skip
    assert len(programs("", "")) == 1
