"""What is read of procfs and other small files: bounded, never waited for, any content."""

from __future__ import annotations

import os
from pathlib import Path

import hypothesis
import pytest
from hypothesis import strategies

from engine.runtime.kernel import files, proc
from engine.runtime.kernel.mountinfo import MountEntry, parse_mountinfo, survey_mounts, unescape

EXT = MountEntry(
    number=36, parent=35, device=os.makedev(98, 0), root=b"/a", point=b"/b c\\d",
    fstype=b"ext3", options=b"rw,errors=continue",
)  # fmt: skip
LINE = b"36 35 98:0 /a /b\\040c\\134d rw,noatime master:1 - ext3 /dev/root rw,errors=continue\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (LINE, (EXT,)),
        (b"bad\n" + LINE + b"1 1 0:2 / / rw - rootfs rootfs\n", (EXT,)),
        (b"x 1 0:2 / / rw - a b c\n1 2 3 4 - 5\n1 1 02 / / rw - a b c\n\n", ()),
        (LINE.replace(b"98:0", b"98:x") + LINE.replace(b"98:0", b":0"), ()),
    ],
)
def test_mountinfo_is_read(text: bytes, expected: tuple[MountEntry, ...]) -> None:
    assert parse_mountinfo(text) == expected


def test_mountinfo_of_some_types() -> None:
    assert parse_mountinfo(LINE, (b"ext3",)) == (EXT,)
    assert parse_mountinfo(LINE, (b"ext4",)) == ()


def test_the_mounts_of_this_process() -> None:
    found = {entry.point: entry for entry in survey_mounts()}
    assert found[b"/proc"].fstype == b"proc"
    assert found[b"/proc"].device == os.stat("/proc").st_dev
    assert survey_mounts("/missing") == ()


@hypothesis.given(strategies.binary(max_size=60).filter(lambda b: b"\n" not in b))
def test_unescape_restores_what_the_kernel_escaped(name: bytes) -> None:
    """Every byte that mountinfo escapes comes back."""
    escaped = b"".join(b"\\%03o" % byte if byte in b" \t\n\\#" else bytes([byte]) for byte in name)
    assert unescape(escaped) == name


@hypothesis.given(strategies.binary(max_size=60))
def test_mountinfo_of_any_content_is_survived(text: bytes) -> None:
    assert all(entry.fstype == b"ext3" for entry in parse_mountinfo(text + LINE, (b"ext3",)))
    assert isinstance(unescape(text), bytes)


def test_reads_are_bounded_and_never_wait(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    assert len(files.read_file("/dev/zero", 3 * files.CHUNK + 1)) == 3 * files.CHUNK + 1
    assert files.read_file(str(tmp_path / "fifo"), 10) == b""
    held = os.open(tmp_path / "fifo", os.O_RDWR)
    assert files.read_if_there(str(tmp_path / "fifo"), 10) == b""
    os.close(held)
    assert files.read_if_there("/missing", 10) == b""
    assert files.read_if_there("/proc\0", 10) == b""
    (tmp_path / "text").write_bytes(b"a\xffb")
    assert files.text_if_there(str(tmp_path / "text"), 2) == "a\N{REPLACEMENT CHARACTER}"
    with pytest.raises(FileNotFoundError):
        files.read_file("/missing", 10)


def test_a_pipe_takes_all_that_is_written() -> None:
    content = os.urandom(1 << 18)
    reading, writing = os.pipe()
    if (pid := os.fork()) == 0:
        files.close_all((reading, -1))
        files.write_all(writing, content)
        os._exit(0)
    files.close_all((-1, writing))
    assert files.read_all(reading, len(content) + 1) == content
    files.close_all((reading,))
    assert os.waitpid(pid, 0)[1] == 0


def test_programs_are_executable_files_of_absolute_directories(tmp_path: Path) -> None:
    for name in ("plain", "program"):
        (tmp_path / name).write_text("")
    (tmp_path / "program").chmod(0o755)
    (tmp_path / "directory").mkdir()
    path = ("relative", "/missing", str(tmp_path))
    assert files.find_program("program", path) == str(tmp_path / "program")
    assert files.find_program("plain", path) == files.find_program("directory", path) == ""
    assert files.find_program("program", (os.path.relpath(tmp_path),)) == ""


def test_what_procfs_tells_of_processes(tmp_path: Path) -> None:
    found = proc.process_stat(os.getpid())
    assert found is not None
    assert (found.state, found.parent, found.ended) == (b"R", os.getppid(), False)
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    ended = proc.process_stat(child)
    os.waitpid(child, 0)
    assert ended is not None
    assert ended.ended
    assert ended.started >= found.started
    assert proc.process_stat(child) is None
    (tmp_path / "7").mkdir()
    (tmp_path / "7/stat").write_bytes(b"7 (a) S) Z 5 " + b"1 " * 17 + b"99 0\n")
    assert proc.process_stat(7, str(tmp_path)) == proc.ProcessStat(state=b"Z", parent=5, started=99)
    (tmp_path / "7/stat").write_bytes(b"7 (a")
    assert proc.process_stat(7, str(tmp_path)) is None


def test_the_boot_has_a_name() -> None:
    assert len(proc.boot_id()) == 36
    assert proc.boot_id("/missing") == ""


@pytest.mark.parametrize(
    ("release", "expected"),
    [
        ("6.18.44-generic", (6, 18)), ("5.10", (5, 10)), ("4", (4, 0)), ("", (0, 0)),
        ("6.8-rc1", (6, 8)), ("x.y", (0, 0)), ("6.18+", (6, 18)),
    ],
)  # fmt: skip
def test_kernel_version(release: str, expected: tuple[int, int]) -> None:
    assert proc.kernel_version(release) == expected
