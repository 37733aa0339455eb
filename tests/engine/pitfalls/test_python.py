"""What an interpreter brings along: modules looked up late, ctypes, its environment, its file."""

from __future__ import annotations

import ctypes
import errno
import importlib
import os
import pkgutil
import shutil
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import engine.runtime.kernel
from engine.runtime.kernel import calls, processes
from tests.engine.pitfalls.kit import ENTRY, LIMIT, PYTHON, Box, Images
from tests.rig import REPOSITORY

IN_ACCESS, IN_OPEN, IN_NONBLOCK = 0x1, 0x20, 0o4000
SITE = f"python3.{sys.version_info[1]}"
TRAPS = (
    *(
        f"usr/lib/{SITE}/{name}"
        for name in (
            "warnings.py", "traceback.py", "re/__init__.py", "json/__init__.py", "socket.py",
            "encodings/__init__.py", "encodings/utf_8.py", "encodings/idna.py", "linecache.py",
            "site-packages/sitecustomize.py", "lib-dynload/_json.so", "signal.py", "struct.py",
        )
    ),
    "etc/nsswitch.conf",
    "etc/group",
    "etc/ld.so.preload",
    "etc/ld.so.cache",
    "etc/localtime",
    "lib/x86_64-linux-gnu/libnss_files.so.2",
    "lib/x86_64-linux-gnu/libc.so.6",
    "usr/lib/locale/locale-archive",
    "usr/share/locale/de/LC_MESSAGES/libc.mo",
    "usr/share/locale/locale.alias",
    "usr/lib/x86_64-linux-gnu/gconv/gconv-modules",
    "engine/runtime/errors.py",
    "engine/runtime/seccomp/load.py",
)  # fmt: skip


def set_traps(root: Path) -> set[Path]:
    """Files that leave a trace when they are executed; the directories they are in."""
    directories = set()
    content = "open('/tmp/sprung', 'w').write(__name__)\n"
    prefixes = {sys.prefix.lstrip("/"), sys.base_prefix.lstrip("/"), str(REPOSITORY).lstrip("/")}
    names = list(TRAPS)
    for prefix in prefixes:
        names += [f"{prefix}/lib/{SITE}/warnings.py", f"{prefix}/engine/runtime/errors.py"]
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            path.write_text(content)
        directories.add(path.parent)
    (root / "tmp").chmod(0o1777)
    return directories


class Watch:
    """Notes by inotify(7) which files are opened or read."""

    def __init__(self, directories: set[Path]) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self.fd = libc.inotify_init1(IN_NONBLOCK)
        self.names: dict[int, str] = {}
        for directory in directories:
            number = libc.inotify_add_watch(self.fd, os.fsencode(directory), IN_OPEN | IN_ACCESS)
            assert number >= 0
            self.names[number] = str(directory)

    def seen(self) -> list[str]:
        """What was opened since the last time."""
        found = []
        try:
            content = os.read(self.fd, 1 << 20)
        except BlockingIOError:
            return []
        while content:
            number, _, _, size = struct.unpack_from("iIII", content)
            name = content[16 : 16 + size].rstrip(b"\0").decode()
            found.append(f"{self.names[number]}/{name}")
            content = content[16 + size :]
        return found


@contextmanager
def watching(box: Box) -> Iterator[Watch]:
    watch = Watch(set_traps(box.rootfs))
    try:
        yield watch
    finally:
        os.close(watch.fd)


LOCALES = {"LC_ALL": "de_DE.UTF-8", "LANGUAGE": "de:fr", "LANG": "de_DE.ISO-8859-1"}


def test_y2_the_watch_sees_what_is_opened(box: Box) -> None:
    """Else the next test would prove nothing."""
    with watching(box) as watch:
        box.says("cat", "/etc/nsswitch.conf", f"/usr/lib/{SITE}/warnings.py")
        assert {Path(name).name for name in watch.seen()} == {"nsswitch.conf", "warnings.py"}


@pytest.mark.parametrize(
    "way", ["success", "not found", "not executable", "no directory", "exec", "terminal", "hook"]
)
def test_y2_nothing_is_taken_from_the_image(box: Box, way: str) -> None:
    """Neither modules nor codecs, locales, users or libraries; not for errors either."""
    (box.rootfs / "bin/text").write_text("no program\n")
    args = {"not found": ["nosuch"], "not executable": ["/bin/text"]}.get(way, ["true"])
    config = box.config
    config["root"]["readonly"] = False
    if way == "hook":
        config["hooks"] = {
            name: [{"path": "/bin/false"}] for name in ("createContainer", "startContainer")
        }
        del config["hooks"]["createContainer"]
    box.config = config
    with watching(box) as watch:
        if way == "exec":
            box.start("sleep", "60")
            for words in (("true",), ("nosuch",), ("/bin/text",)):
                box.exec(*words, env=LOCALES)
        else:
            box.run(
                *args,
                cwd="/bin/text" if way == "no directory" else "/",
                terminal=way == "terminal",
                user={"uid": 1000, "gid": 1000, "additionalGids": [7]},
                options={"env": LOCALES},
            )
        assert watch.seen() == []
    assert not (box.rootfs / "tmp/sprung").exists()


def test_y2_no_module_is_loaded_after_the_root_has_changed(box: Box) -> None:
    """As strace sees it: from pivot_root on, no file is opened but those of the container's
    making, by their descriptors."""
    strace = shutil.which("strace")
    assert strace is not None, "strace is needed"
    trace = box.bundle / "trace"
    box.command = (strace, "-ff", "-o", str(trace), "-e", "trace=file", *box.command)
    done = box.run("nosuch")
    assert done.returncode == 127, done.stderr
    checked = 0
    for path in box.bundle.glob("trace.*"):
        before, pivot, after = path.read_text().partition("pivot_root(")
        if pivot:
            checked += 1
            opened = [line for line in after.splitlines() if ".py" in line or ".so" in line]
            assert opened == []
            assert "nsswitch" not in after
            assert "locale" not in after
            assert before
    assert checked == 1


def children() -> list[str]:
    return Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()


def command(pid: str) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


def test_y3_a_fork_has_no_other_threads() -> None:
    """The processes that fork are single-threaded, whatever their caller is: a launcher is
    executed, not forked."""
    from engine.runtime.zygote.client import Zygote

    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    try:
        with Zygote.start(sys.executable):
            end = time.monotonic() + LIMIT
            # Between execve(2) and its arguments in view there is a moment.
            while not (found := [pid for pid in children() if b"launcher" in command(pid)]):
                assert time.monotonic() < end
            (launcher,) = found
            assert len(os.listdir(f"/proc/{launcher}/task")) == 1
    finally:
        stop.set()
        thread.join()


def test_y4_every_call_says_what_its_arguments_are() -> None:
    """Without argtypes, numbers above 32 bits are cut off and pointers with them."""
    checked = 0
    for module in pkgutil.iter_modules(engine.runtime.kernel.__path__):
        loaded = importlib.import_module(f"engine.runtime.kernel.{module.name}")
        for value in vars(loaded).values():
            # syscall(2) takes any number; `calls.syscall` makes longs and pointers of them.
            if isinstance(value, type(calls.LIBC.prctl)) and value is not calls._syscall:
                assert value.argtypes is not None, (module.name, value)
                checked += 1
    assert checked > 5


def test_y4_numbers_and_pointers_are_whole() -> None:
    """A pointer above 4 GiB arrives, and so does a flag above 32 bits."""
    name = ctypes.create_string_buffer(16)
    assert ctypes.addressof(name) >> 32
    processes.prctl(16, ctypes.addressof(name))
    assert name.value == Path("/proc/self/comm").read_bytes().strip()[:15]
    how = (ctypes.c_uint64 * 3)(1 << 40, 0, 0)
    with pytest.raises(OSError, match=os.strerror(errno.EINVAL)):
        calls.syscall(437, -100, b"/", ctypes.byref(how), ctypes.sizeof(how))


def test_y4_errno_is_that_of_the_call() -> None:
    """Not that of what the interpreter did meanwhile."""
    for _ in range(100):
        with pytest.raises(OSError, match=os.strerror(errno.EBADF)):
            processes.setns(-1, 0)


@pytest.mark.parametrize("where", ["private", "closed"])
def test_y7_an_interpreter_that_the_containers_ids_cannot_read(
    box: Box, tmp_path: Path, where: str
) -> None:
    """In a home of mode 0700, or readable by its owner alone; the container has other ids."""
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    copy = private / "python"
    shutil.copy(PYTHON, copy)
    copy.chmod(0o700 if where == "closed" else 0o755)
    lines = f"import sys; sys.path.insert(0, {str(REPOSITORY)!r})\n{ENTRY}"
    script = 'mount --bind "$1" "$2"; shift; exec "$@"'
    ids = [{"containerID": 0, "hostID": 100000, "size": 65536}]
    config = box.config
    config["linux"]["namespaces"].append({"type": "user"})
    config["linux"] |= {"uidMappings": ids, "gidMappings": ids}
    config["process"]["args"] = ["id", "-u"]
    config["process"]["user"] = {"uid": 1000, "gid": 1000}
    box.config = config
    for directory in (box.bundle, *box.bundle.parents):
        if str(directory) != "/":
            directory.chmod(directory.stat().st_mode | 0o055)
    private.chmod(0o700)
    command = [PYTHON, "-I", "-S", "-c", lines, "--root", str(box.root), "run", box.id]
    done = subprocess.run(
        ["unshare", "-m", "--propagation", "private", "sh", "-ec", script, "sh", copy, *command],
        cwd=box.bundle, capture_output=True, text=True, timeout=LIMIT, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "1000\n"), done.stderr


def test_y6_run_is_not_moved_by_variables_of_python(images: Images, tmp_path: Path) -> None:
    """The launcher, which has the privileges, takes nothing from the caller's environment."""
    (tmp_path / "engine").mkdir()
    (tmp_path / "sitecustomize.py").write_text("raise SystemExit('moved')\n")
    environment = {"PYTHONHASHSEED": "0", "PYTHONINSPECT": "", "PYTHONNOUSERSITE": ""}
    said = images.says("IMAGE", "sh", "-c", "echo $PYTHONHASHSEED$PYTHONPATH", env=environment)
    assert said == "\n"
    assert sorted(os.listdir(tmp_path)) == ["engine", "sitecustomize.py"]
