"""Compiled filters on disk: found again, never believed when damaged or foreign."""

from __future__ import annotations

import hashlib
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from engine.runtime.errors import InvalidConfig
from engine.runtime.seccomp import cache
from engine.runtime.seccomp.cache import cached, decode, encode, key
from engine.runtime.seccomp.compiler import compile_profile
from engine.runtime.seccomp.filter import Filter
from engine.runtime.spec.model import Seccomp, SeccompArg, SeccompSyscall
from tests.rig import REPOSITORY

PROFILE = Seccomp(
    default_action="SCMP_ACT_ERRNO",
    syscalls=(
        SeccompSyscall(names=("read", "write", "unknown_one"), action="SCMP_ACT_ALLOW"),
        SeccompSyscall(
            names=("ioctl",), action="SCMP_ACT_LOG", args=(SeccompArg(index=1, value=7),)
        ),
    ),
)
COMPILED = compile_profile(PROFILE, "x86_64")


def test_compiled_once(tmp_path: Path) -> None:
    """The second time it is read, with its flags and the names that were ignored."""
    assert cached(str(tmp_path), PROFILE, "x86_64") == COMPILED
    (file,) = tmp_path.iterdir()
    assert file.name == key(PROFILE, "x86_64")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    changed = COMPILED.with_values(program=COMPILED.program[:-8] + bytes(8), flags=2)
    file.write_bytes(encode(changed))
    assert cached(str(tmp_path), PROFILE, "x86_64") == changed


def test_reading_imports_no_compiler(tmp_path: Path) -> None:
    """That is what the cache is for."""
    cached(str(tmp_path), PROFILE, "x86_64")
    program = (
        "import sys; from tests.engine.test_seccomp_cache import PROFILE\n"
        "for name in [n for n in sys.modules if n.startswith('engine.runtime.seccomp')]:\n"
        "    del sys.modules[name]\n"
        "from engine.runtime.seccomp.cache import cached\n"
        f"assert cached({str(tmp_path)!r}, PROFILE, 'x86_64').unknown_names == ('unknown_one',)\n"
        "assert 'engine.runtime.seccomp.compiler' not in sys.modules\n"
        "assert 'engine.runtime.seccomp.tables' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, check=True, timeout=60)


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[:10],
        lambda content: content[:-1],
        lambda content: content + b"x",
        lambda content: content[:60] + bytes([content[60] ^ 1]) + content[61:],
        lambda content: b"#" * len(content),
        lambda content: b"#" * (1 << 20),
    ],
)
def test_a_damaged_file_is_compiled_anew(tmp_path: Path, damage: object) -> None:
    """And replaced."""
    assert callable(damage)
    cached(str(tmp_path), PROFILE, "x86_64")
    (file,) = tmp_path.iterdir()
    file.write_bytes(damage(file.read_bytes()))
    assert cached(str(tmp_path), PROFILE, "x86_64") == COMPILED
    assert decode(file.read_bytes()) == COMPILED


@pytest.mark.parametrize(
    "content",
    [
        (b"other!!\x01", 0, 0, 8),
        (b"imgbpf\0\x01", 0, 0, 0),
        (b"imgbpf\0\x01", 0, 0, 7),
        (b"imgbpf\0\x01", 0, 0, 16),
        (b"imgbpf\0\x02", 0, 0, 8),
    ],
)
def test_bounds_are_checked_behind_a_right_digest(content: tuple[bytes, int, int, int]) -> None:
    """Sizes that do not fit, and other versions."""
    body = cache._HEADER.pack(*content) + bytes(8)
    assert decode(body + hashlib.sha256(body).digest()) is None


def test_any_difference_is_another_file() -> None:
    """All that the compiler reads is in the name; what it does not read is not."""
    rule = PROFILE.syscalls[1]
    others = [
        PROFILE.with_values(default_action="SCMP_ACT_KILL"),
        PROFILE.with_values(default_errno_ret=1),
        PROFILE.with_values(architectures=("SCMP_ARCH_X86",)),
        PROFILE.with_values(flags=()),
        PROFILE.with_values(syscalls=PROFILE.syscalls[:1]),
        PROFILE.with_values(syscalls=PROFILE.syscalls[::-1]),
        PROFILE.with_values(syscalls=(rule.with_values(errno_ret=0),)),
        PROFILE.with_values(syscalls=(rule.with_values(args=()),)),
        PROFILE.with_values(syscalls=(rule.with_values(names=("ioctl", "read")),)),
        PROFILE.with_values(syscalls=(rule.with_values(names=("ioctl read",)),)),
        PROFILE.with_values(syscalls=(rule.with_values(names=("\ud800",)),)),
    ]
    names = {key(profile, "x86_64") for profile in (PROFILE, *others)}
    assert len(names) == len(others) + 1
    assert key(PROFILE, "aarch64") not in names
    assert key(PROFILE.with_values(listener_metadata="x"), "x86_64") in names


def test_directories_that_cannot_be_used(tmp_path: Path) -> None:
    """Missing, or open to others: only the time is lost."""
    assert cached(str(tmp_path / "none"), PROFILE, "x86_64") == COMPILED
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    assert cached(str(shared), PROFILE, "x86_64") == COMPILED
    assert list(shared.iterdir()) == []
    os.mkfifo(tmp_path / key(PROFILE, "x86_64"))
    assert cached(str(tmp_path), PROFILE, "x86_64") == COMPILED
    link = tmp_path / key(PROFILE, "aarch64")
    link.symlink_to("/etc/passwd")
    cached(str(tmp_path), PROFILE, "aarch64")
    assert link.is_symlink() is False


def test_errors_are_not_kept(tmp_path: Path) -> None:
    """A wrong profile is told each time."""
    wrong = PROFILE.with_values(default_action="SCMP_ACT_WRONG")
    with pytest.raises(InvalidConfig, match="SCMP_ACT_WRONG"):
        cached(str(tmp_path), wrong, "x86_64")
    assert list(tmp_path.iterdir()) == []


def test_names_of_any_kind_survive() -> None:
    """Also those that are no UTF-8."""
    compiled = Filter(program=bytes(8), unknown_names=("a b", "\ud800", "ü"))
    assert decode(encode(compiled)) == compiled
