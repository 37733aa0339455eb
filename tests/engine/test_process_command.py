"""Finding the program and the working directory inside a container."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.runtime.errors import (
    CommandNotExecutable,
    CommandNotFound,
    Failure,
    InvalidConfig,
    KernelRefused,
)
from engine.runtime.kernel.processes import CLONE_NEWNS, unshare
from engine.runtime.process.command import (
    DEFAULT_PATH,
    enter_cwd,
    exec_failure,
    find_program,
    make_cwd,
    quoted,
    search_path,
)
from tests.engine.rootfs_driver import in_child


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Two directories of a PATH: a/tool, b/tool, b/only; a/plain and a/dir are not executable."""
    for name in ("a/tool", "b/tool", "b/only", "a/plain", "b/denied"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("#!/bin/sh\n")
        path.chmod(0o755)
    (tmp_path / "a/plain").chmod(0o644)
    (tmp_path / "b/denied").chmod(0o600)
    (tmp_path / "a/dir").mkdir()
    (tmp_path / "a/link").symlink_to("../b/only")
    (tmp_path / "a/loop").symlink_to("loop")
    (tmp_path / "a/dangling").symlink_to("nowhere")
    os.mkfifo(tmp_path / "a/fifo", 0o777)
    return tmp_path


def find(tree: Path, name: str, path: str = "{0}/a:{0}/b") -> str:
    found = find_program(name.format(tree).encode(), path.format(tree).encode())
    return os.fsdecode(found).replace(str(tree), "")


@pytest.mark.parametrize(
    ("name", "path", "expected"),
    [
        ("tool", "{0}/a:{0}/b", "/a/tool"),
        ("tool", "{0}/b:{0}/a", "/b/tool"),
        ("tool", "{0}/b//:{0}/a", "/b/tool"),
        ("only", "{0}/a:{0}/b", "/b/only"),
        ("link", "{0}/a", "/a/link"),
        ("only", "{0}/missing:{0}/a/plain:{0}/b", "/b/only"),
        ("{0}/b/only", "", "/b/only"),
        ("{0}/a/../b/only", "", "/a/../b/only"),
    ],
)
def test_programs_are_found_as_execvp_does(tree: Path, name: str, path: str, expected: str) -> None:
    assert find(tree, name, path) == expected


def test_an_empty_component_is_the_working_directory(tree: Path) -> None:
    def work() -> list[str]:
        os.chdir(tree / "b")
        return [find(tree, "only", path) for path in ("", ":/bin", "/none::/none")]

    assert in_child(work) == ["./only"] * 3


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("nosuch", 'exec: "nosuch": executable file not found in $PATH'),
        ("dangling", 'exec: "dangling": executable file not found in $PATH'),
        ("", 'exec: "": executable file not found in $PATH'),
        ("{0}/nosuch", 'exec: "{0}/nosuch": no such file or directory'),
        ("{0}/a/tool/x", 'exec: "{0}/a/tool/x": not a directory'),
        ("n\n", 'exec: "n\\n": executable file not found in $PATH'),
        ("{0}/\0", 'exec: "{0}/\\x00": no such file or directory'),
    ],
)
def test_not_found_is_127(tree: Path, name: str, text: str) -> None:
    with pytest.raises(CommandNotFound) as caught:
        find(tree, name)
    assert caught.value.message == text.format(tree)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("plain", "permission denied"),
        ("fifo", "permission denied"),
        ("{0}/a/plain", "permission denied"),
        ("{0}/a/dir", "is a directory: permission denied"),
        ("{0}/a/loop", "too many levels of symbolic links"),
    ],
)
def test_not_executable_is_126(tree: Path, name: str, text: str) -> None:
    with pytest.raises(CommandNotExecutable) as caught:
        find(tree, name)
    assert caught.value.message == f'exec: "{name.format(tree)}": {text}'


def test_permissions_are_those_of_the_user(tree: Path) -> None:
    def work() -> str:
        for path in (tree, *tree.parents):  # what pytest made is for its owner only
            if os.stat(path).st_uid == 0 and path != Path("/tmp"):
                os.chmod(path, 0o755)
        os.setgroups([])
        os.setresgid(4241, 4241, 4241)
        os.setresuid(4241, 4241, 4241)
        return find(tree, "denied")

    with pytest.raises(CommandNotExecutable, match='exec: "denied": permission denied'):
        in_child(work)


def test_directories_in_path_are_passed_over(tree: Path) -> None:
    (tree / "a/only").mkdir()
    assert find(tree, "only") == "/b/only"


def test_path_of_an_environment() -> None:
    assert search_path((b"XPATH=/x", b"PATH=/a:/b", b"PATH=/c")) == b"/a:/b"
    assert search_path((b"PATH=",)) == b""
    assert search_path((b"HOME=/",)) == DEFAULT_PATH


def test_engines_find_their_words_in_every_text() -> None:
    """podman tells 127 from 126 by these texts, whatever stands around them."""
    assert "executable file not found in $PATH" in str(_failure(lambda: find_program(b"x", b"/")))
    assert "no such file or directory" in exec_failure(b"x", 2).message
    assert "permission denied" in exec_failure(b"x", 13).message
    assert "permission denied" in exec_failure(b"x", 21).message
    assert "exec format error" in exec_failure(b"x", 8).message


def _failure(work: Callable[[], object]) -> Failure:
    with pytest.raises(Failure) as caught:
        work()
    return caught.value


@pytest.mark.parametrize(
    ("name", "shown"),
    [(b"a b", '"a b"'), (b"\xff", '"\\xff"'), (b"\x1b[2J", '"\\x1b[2J"'), ("é".encode(), '"é"')],
)
def test_r7_names_cannot_speak_to_a_terminal(name: bytes, shown: str) -> None:
    assert quoted(name) == shown


def chrooted(root: Path, work: Callable[[], Any], uid: int = 0) -> Any:
    """What `work` returns in a root of its own with a procfs of the host's."""

    def inside() -> Any:
        os.chroot(root)
        os.chdir("/")
        if uid:
            os.setgroups([])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
        return work()

    return in_child(inside)


def entered(cwd: str, **options: bool) -> list[Any]:
    return [enter_cwd(cwd.encode(), **options), os.getcwd()]


def test_the_working_directory_is_entered(tmp_path: Path) -> None:
    (tmp_path / "w/d").mkdir(parents=True)
    (tmp_path / "link").symlink_to("/w")
    assert chrooted(tmp_path, lambda: entered("/w/d")) == [True, "/w/d"]
    assert chrooted(tmp_path, lambda: entered("/link/../w")) == [True, "/w"]


@pytest.mark.parametrize(
    ("cwd", "text"),
    [
        ("/nosuch", 'chdir to cwd ("/nosuch") set in config.json failed: no such file'),
        ("/file", 'chdir to cwd ("/file") set in config.json failed: not a directory'),
    ],
)
def test_a_working_directory_that_is_none(tmp_path: Path, cwd: str, text: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(KernelRefused) as caught:
        chrooted(tmp_path, lambda: entered(cwd))
    assert text in caught.value.message


def test_f15_a_directory_only_root_may_enter(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "root").mkdir(0o700)
    with pytest.raises(KernelRefused, match="permission denied"):
        chrooted(tmp_path, lambda: entered("/root"), uid=4241)
    work = lambda: entered("/root", may_be_denied=True)  # noqa: E731
    assert chrooted(tmp_path, work, uid=4241) == [False, "/"]


@pytest.mark.parametrize("cwd", ["/proc/self/fd/{0}", "/proc/self/fd/{0}/etc", "/link"])
def test_d1_a_working_directory_over_a_leaked_descriptor(cwd: str) -> None:
    def work() -> list[Any]:
        leaked = os.open("/", os.O_RDONLY | os.O_DIRECTORY)
        os.symlink(f"/proc/self/fd/{leaked}", "/tmp/d1-link")
        return entered(cwd.format(leaked).replace("/link", "/tmp/d1-link"))

    def in_own_tmp() -> list[Any]:
        from engine.runtime.kernel.mounting import MS_PRIVATE, MS_REC, mount

        unshare(CLONE_NEWNS)
        mount(None, b"/", None, MS_REC | MS_PRIVATE, None)
        mount(b"tmpfs", b"/tmp", b"tmpfs", 0, None)
        return work()

    with pytest.raises(InvalidConfig, match="leads over links of /proc"):
        in_child(in_own_tmp)


def test_d1_a_directory_outside_of_the_root_is_noticed(tmp_path: Path) -> None:
    """Without the check of links: the working directory was outside before."""
    (tmp_path / "root").mkdir()

    def work() -> list[Any]:
        os.chdir(tmp_path)
        os.chroot(tmp_path / "root")
        return entered(".")

    with pytest.raises(InvalidConfig, match="outside of the container's root"):
        in_child(work)


def test_f15_a_missing_directory_is_made_inside(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    root.mkdir()
    outside.mkdir()
    (root / "abs").symlink_to(outside)
    (root / "up").symlink_to("../../outside")
    fd = os.open(root, os.O_PATH | os.O_DIRECTORY)
    try:
        for cwd in (b"/a/b/c", b"/abs/x", b"/up/y", b"/a/b/c"):
            make_cwd(fd, cwd)
        assert (root / "a/b/c").stat().st_mode & 0o7777 == 0o755
        assert list(outside.iterdir()) == []
        assert (root / outside.relative_to("/") / "x").is_dir()
        assert (root / "outside/y").is_dir()
        (root / "magic").symlink_to("/proc/self/root/tmp/f15")
        (root / "file").touch()
        with pytest.raises(KernelRefused, match="not a directory"):
            make_cwd(fd, b"/file/x")
        make_cwd(fd, b"/magic")
        assert not os.path.lexists("/tmp/f15")
    finally:
        os.close(fd)
