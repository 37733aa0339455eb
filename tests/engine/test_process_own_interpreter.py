"""CVE-2019-5736, the overwriting of the runtime's interpreter, tried for real.

A copy of the interpreter plays the runtime. It executes a container's program by three ways:
directly, as a runtime without protection would; by the trampoline; and directly after the
check that stands in for it.
"""

from __future__ import annotations

import os
import shutil
import signal
import stat
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from engine.runtime.kernel.calls import c_long, function
from engine.runtime.process.trampoline import launch, prepare
from tests.engine.rootfs_driver import fork

ROOT = Path(__file__).parents[2]
INTERPRETER = os.path.realpath(sys.executable)

RUNTIME = """
import os, sys
sys.path.insert(0, {root!r})
from engine.runtime.errors import Failure
from engine.runtime.process.trampoline import launch, prepare
way, *args = [os.fsencode(a) for a in sys.argv[1:]]
env = tuple(k + b"=" + v for k, v in os.environb.items())
if way == b"unprotected":
    os.execve(args[0], args, os.environb)
try:
    launch(prepare(tuple(args), env, direct="" if way == b"trampoline" else "a test"), args[0])
except Failure as e:
    sys.stderr.write(e.message)
    sys.exit(98)
"""

ATTACK = """
import os
fd = os.open("/proc/self/exe", os.O_PATH)
os.set_inheritable(fd, True)
loop = '''
import os, time
for _ in range(2000):
    try:
        w = os.open("/proc/self/fd/%d", os.O_WRONLY)
    except OSError:
        time.sleep(0.005)
        continue
    os.write(w, b"overwritten")
    break
'''
os.execv({interpreter!r}, ["python", "-S", "-c", loop % fd])
"""


class Host:
    """A copy of the interpreter, to be overwritten."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.interpreter = path / "interpreter"
        shutil.copy(INTERPRETER, self.interpreter)
        self.runtime = path / "runtime.py"
        self.runtime.write_text(RUNTIME.format(root=str(ROOT)))

    def run(self, way: str, *args: str) -> subprocess.CompletedProcess[str]:
        """Have the runtime execute `args` this way."""
        return subprocess.run(
            [str(self.interpreter), "-S", "-s", str(self.runtime), way, *args],
            env={"PYTHONHOME": sys.base_prefix, "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def is_overwritten(self) -> bool:
        return self.interpreter.read_bytes().startswith(b"overwritten")


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def executable(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def arguments(vector: str, path: Path) -> list[str]:
    attack = ATTACK.format(interpreter=INTERPRETER)
    if vector == "program":
        return ["/proc/self/exe", "-S", "-c", attack]
    if vector == "link":
        (path / "link").symlink_to("/proc/self/exe")
        return [str(path / "link"), "-S", "-c", attack]
    if vector == "script of a script":
        inner = executable(path / "inner", b"#!/proc/self/exe -S\n" + attack.encode())
        return [executable(path / "outer", b"#!" + inner.encode() + b"\n" + attack.encode())]
    return [executable(path / "script", b"#!/proc/self/exe -S\n" + attack.encode())]


VECTORS = ("program", "link", "script", "script of a script")


@pytest.mark.parametrize("vector", ["program", "script"])
def test_d4_without_protection_the_attack_succeeds(host: Host, vector: str) -> None:
    done = host.run("unprotected", *arguments(vector, host.path))
    assert done.returncode == 0, done.stderr
    assert host.is_overwritten()


@pytest.mark.parametrize("vector", VECTORS)
def test_d4_the_trampoline_is_all_the_container_finds(host: Host, vector: str) -> None:
    done = host.run("trampoline", *arguments(vector, host.path))
    assert done.returncode == 126
    assert done.stderr.endswith("permission denied: it is or has /proc/self/exe\n")
    assert not host.is_overwritten()


@pytest.mark.parametrize("vector", VECTORS)
def test_d4_the_check_that_stands_in_refuses_it(host: Host, vector: str) -> None:
    done = host.run("checked", *arguments(vector, host.path))
    assert done.returncode == 98
    assert "permission denied: it leads to the runtime's own interpreter" in done.stderr
    assert not host.is_overwritten()


def elf_with_interpreter(interpreter: bytes) -> bytes:
    """An ELF file of this machine that asks for a dynamic loader."""
    with open(INTERPRETER, "rb") as file:
        head = file.read(64)
    header = head[:16] + struct.pack("<HHI", 2, struct.unpack_from("<H", head, 18)[0], 1)
    header += struct.pack("<QQQIHHHHHH", 0x500000, 64, 0, 0, 64, 56, 2, 0, 0, 0)
    text = interpreter + b"\0"
    load = struct.pack("<IIQQQQQQ", 1, 5, 0, 0x500000, 0x500000, 4096, 4096, 4096)
    interp = struct.pack("<IIQQQQQQ", 3, 4, 176, 0x5000B0, 0x5000B0, len(text), len(text), 1)
    return (header + interp + load + text).ljust(4096, b"\0")


def test_d4_a_dynamic_loader_that_is_the_interpreter(host: Host) -> None:
    program = executable(host.path / "elf", elf_with_interpreter(b"/proc/self/exe"))
    assert host.run("unprotected", program).returncode not in (98, 126)
    done = host.run("trampoline", program)
    assert done.returncode == 126
    assert done.stderr.endswith("permission denied: it is or has /proc/self/exe\n")
    done = host.run("checked", program)
    assert done.returncode == 98
    assert "the runtime's own interpreter" in done.stderr


@pytest.mark.parametrize("way", ["trampoline", "checked"])
def test_d4_other_programs_run(host: Host, way: str) -> None:
    script = executable(host.path / "script", b"#!/bin/sh -e\necho $0 $1 $FOO\n")
    done = host.run(way, script, "one")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{script} one\n", "")
    done = host.run(way, INTERPRETER, "-S", "-c", "print(7)")
    assert (done.returncode, done.stdout) == (0, "7\n")


def test_d4_another_process_finds_the_memfd_and_cannot_write_it() -> None:
    ptrace = function("ptrace", c_long, c_long, c_long, c_long)
    pid = fork()
    if pid == 0:
        prepared = prepare((b"true",), ())
        ptrace(0, 0, 0, 0)  # PTRACE_TRACEME: stop after each execve
        launch(prepared, b"/bin/true")
    try:
        assert os.WIFSTOPPED(os.waitpid(pid, 0)[1])
        assert os.readlink(f"/proc/{pid}/exe").startswith("/memfd:imgtools-exec")
        kept = os.open(f"/proc/{pid}/exe", os.O_PATH)
        with pytest.raises(OSError, match="Text file busy"):
            os.open(f"/proc/self/fd/{kept}", os.O_WRONLY)
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    writer = os.open(f"/proc/self/fd/{kept}", os.O_WRONLY)
    with pytest.raises(PermissionError):
        os.write(writer, b"overwritten")
    os.close(writer)
    os.close(kept)
