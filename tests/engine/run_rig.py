"""What tests of running containers share: a small image in a store, the command line on it, an
engine in this process, and what may be left of a container."""

from __future__ import annotations

import io
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from engine.containers.engine import Engine
from engine.ids.model import IdOptions
from engine.ids.session import enter_user_namespace
from engine.network.survey import survey_network
from engine.probe.model import ProbeOptions
from engine.probe.survey import probe_host
from engine.runtime.zygote.client import Zygote
from engine.storage.names import StorageName
from engine.storage.options import StoreLocation
from engine.storage.store import Store
from imgtools.copy import CopyOptions, copy_image
from imgtools.spec.reference import ImageName
from imgtools.task import Task
from imgtools.transport.options import SourceOptions
from imgtools.transport.table import Transports
from tests.rig import RunCli

IMAGE = "localhost/small:latest"
PROGRAMS = ("cat", "chmod", "chown", "dd", "echo", "env", "grep", "head", "hostname", "id", "kill",
            "ln", "ls", "mkdir", "mknod", "mount", "mv", "ps", "pwd", "readlink", "rm", "rmdir",
            "sed", "sh", "sleep", "sort", "stat", "stty", "touch", "true", "tty", "wc",
            "yes")  # fmt: skip
PASSWD = b"root:x:0:0:root:/root:/bin/sh\njoe:x:1000:1000::/home/joe:/bin/sh\nbad line\n"
GROUP = b"root:x:0:\njoe:x:1000:\nwheel:x:10:joe\naudio:x:29:\n"
SECONDS = 20.0


def make_image(directory: Path) -> Path:
    """A tar of a root file system with busybox, users, and a home for one of them."""
    busybox = shutil.which("busybox")
    assert busybox is not None, "busybox (static) is needed"
    path = directory / "small.tar"
    with tarfile.open(path, "w") as tar:
        for name, mode, owner in (
            ("bin", 0o755, 0),
            ("etc", 0o755, 0),
            ("tmp", 0o1777, 0),
            ("home", 0o755, 0),
            ("home/joe", 0o750, 1000),
            ("root", 0o700, 0),
        ):
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode, entry.uid, entry.gid = tarfile.DIRTYPE, mode, owner, owner
            tar.addfile(entry)
        for name, content, mode in (
            ("bin/busybox", Path(busybox).read_bytes(), 0o755),
            ("etc/passwd", PASSWD, 0o644),
            ("etc/group", GROUP, 0o644),
        ):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), mode
            tar.addfile(entry, io.BytesIO(content))
        for name in PROGRAMS:
            entry = tarfile.TarInfo(f"bin/{name}")
            entry.type, entry.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(entry)
    return path


def fill(store: Store, archive: Path) -> None:
    """Put the image of a tar into a store, as IMAGE."""
    name = ImageName(transport="tarball", rest=str(archive))
    with (
        Transports() as transports,
        transports.open_source(name, SourceOptions()) as source,
        store.destination(StorageName(text=IMAGE)) as destination,
    ):
        copy_image(source, destination, CopyOptions(), task=Task())


class Runs:
    """The command line on a store with the image; `driver` as in StoreLocation."""

    def __init__(self, directory: Path, driver: str = "") -> None:
        self.root, self.runroot = directory / "store", directory / "run"
        self.location = StoreLocation(root=str(self.root), runroot=str(self.runroot), driver=driver)
        self.cli = RunCli(directory / "user")
        self._started: list[subprocess.Popen[bytes]] = []
        with Store.open(self.location) as store:
            fill(store, make_image(directory))

    def arguments(self, *words: str, network: str = "none") -> list[str]:
        """The argument vector of `imgtools run` with the words after the store's options."""
        at = ("--root", str(self.root), "--runroot", str(self.runroot))
        return self.cli.command("run", *at, "--network", network, *words)

    def __call__(
        self, *words: str, stdin: bytes = b"", network: str = "none"
    ) -> subprocess.CompletedProcess[bytes]:
        """Run to the end."""
        return subprocess.run(
            self.arguments(*words, network=network),
            input=stdin,
            capture_output=True,
            env=self.cli.env,
            cwd=self.cli.work,
            timeout=60,
            check=False,
        )

    def out(self, *words: str, stdin: bytes = b"") -> str:
        """The output of a run that has to succeed."""
        done = self(*words, stdin=stdin)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode()

    def start(self, *words: str, network: str = "none") -> subprocess.Popen[bytes]:
        """Start without waiting, output in pipes; `stop` ends it if the test does not."""
        process = subprocess.Popen(
            self.arguments(*words, network=network),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=self.cli.env,
            cwd=self.cli.work,
        )
        self._started.append(process)
        return process

    def stop(self) -> None:
        """End what was started and goes on, as after a test that failed."""
        for process in self._started:
            if process.poll() is None:
                process.kill()
            process.communicate()
        self._started.clear()

    def left(self) -> list[str]:
        """What is left of containers: directories, state, snapshots, records, name locks."""
        found = []
        for directory in (
            self.runroot / "imgtools/containers",
            self.runroot / "imgtools/runtime",
            self.root / "imgtools/snapshots",
            self.root / "imgtools/uses",
            self.root / "imgtools/tmp",
        ):
            if directory.exists():
                found += [str(path) for path in directory.iterdir()]
        locks = self.root / "imgtools/locks"
        found += [str(path) for path in locks.glob("container-name-*")]
        return found


@contextmanager
def engine_of(location: StoreLocation, cache: str | None = None) -> Iterator[Engine]:
    """An engine of this process on a store."""
    report = probe_host(ProbeOptions(storage=location.root))
    session = enter_user_namespace(IdOptions())
    with Zygote.start(sys.executable) as zygote, Store.open(location) as store:
        yield Engine(
            store=store,
            choice=report.choice,
            session=session,
            zygote=zygote,
            network=survey_network(("/usr/bin",)),
            runroot=location.runroot,
            cache=cache,
            warn=lambda text: None,
        )


def line_of(process: subprocess.Popen[bytes]) -> bytes:
    """The next line of its output."""
    assert process.stdout is not None
    return process.stdout.readline()


def finish(process: subprocess.Popen[bytes]) -> tuple[int, bytes, bytes]:
    """Its status and what else it wrote."""
    out, err = process.communicate(timeout=SECONDS)
    return process.returncode, out, err


def wait_until(condition: Callable[[], object], what: str) -> None:
    """Until the condition holds; fails after a long time."""
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.01)


def processes_with(text: str) -> list[int]:
    """Pids whose command line has `text`, this process excluded."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid():
            try:
                with open(f"/proc/{name}/cmdline", "rb") as file:
                    if text.encode() in file.read():
                        found.append(int(name))
            except OSError:
                continue
    return found


def children(pid: int) -> list[int]:
    """The direct children of a process."""
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
        return [int(word) for word in file.read().split()]


def kill(pid: int, number: int = signal.SIGKILL) -> None:
    """Signal a process that is there."""
    os.kill(pid, number)


def cgroups_of(container_id: str) -> list[str]:
    """Cgroups that are called after a container, in any hierarchy."""
    found = []
    for top, names, _ in os.walk("/sys/fs/cgroup"):
        found += [os.path.join(top, name) for name in names if container_id in name]
    return found


def mounts(below: Path) -> list[str]:
    """What this process sees mounted below a directory, or from there."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        return sorted(line for line in file if str(below) in line)
