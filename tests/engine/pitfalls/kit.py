"""What the pitfalls share: a runtime with a bundle to spoil, a store with an image to spoil, a
victim on the host that has to stay as it is, and what a container may leave behind: nothing."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any

from engine.runtime.spec.defaults import default_config
from tests.engine.test_cli_containers import Runtime
from tests.rig import REPOSITORY

PYTHON = os.path.realpath(sys.executable)
ENTRY = "from engine.cli.main import entry; entry()"
LIMIT = 60
APPLETS = ("cat", "echo", "false", "grep", "head", "id", "ln", "ls", "mkdir", "mount", "readlink",
           "rm", "sh", "sleep", "stat", "touch", "true", "yes")  # fmt: skip


def prologue(text: str = "") -> list[str]:
    """The runtime's command, isolated as it is installed; `text` is executed before it."""
    lines = f"import sys; sys.path.insert(0, {str(REPOSITORY)!r})\n{text}\n{ENTRY}"
    return [sys.executable, "-I", "-S", "-B", "-X", "utf8", "-c", lines]


class Box(Runtime):
    """One container, whose id no other test has."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, *prologue())
        self.id = f"pit-{os.urandom(8).hex()}"
        for name in APPLETS:
            path = self.rootfs / "bin" / name
            if not path.is_symlink():
                path.symlink_to("busybox")

    @property
    def rootfs(self) -> Path:
        """The image's files."""
        return self.bundle / "rootfs"

    @property
    def config(self) -> dict[str, Any]:
        """config.json."""
        found: dict[str, Any] = json.loads((self.bundle / "config.json").read_text())
        return found

    @config.setter
    def config(self, value: dict[str, Any]) -> None:
        (self.bundle / "config.json").write_text(json.dumps(value))

    def mount(self, *entries: dict[str, Any]) -> None:
        """Add mounts to those of the default configuration."""
        config = self.config
        config["mounts"] = [*default_config(rootless=False)["mounts"], *entries]
        self.config = config

    def run(self, *args: str, **process: Any) -> subprocess.CompletedProcess[str]:
        """Run `args` in the container; `options` are those of subprocess."""
        options = process.pop("options", {})
        if args:
            before = self.config
            self.configure(*args, **process)
            # What a test has changed beside the process stays.
            self.config = {**before, "process": self.config["process"]}
        return self("run", self.id, **options)

    def says(self, *args: str, **process: Any) -> str:
        """The output of a container that has to succeed."""
        done = self.run(*args, **process)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def start(self, *args: str, **process: Any) -> int:
        """Let the container run in the background; its init's pid."""
        before = self.config
        self.configure(*args, **process)
        self.config = {**before, "process": self.config["process"]}
        self.spawned("run", "-d", self.id)
        return int(self.state(self.id)["pid"])

    def exec(self, *words: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run something in the container that runs."""
        return self("exec", self.id, *words, **options)

    def delete(self) -> None:
        """Whatever there is, it has to go."""
        done = self("delete", "--force", self.id)
        assert done.returncode == 0, done.stderr


class Victim:
    """Files of the host, which no container may touch."""

    def __init__(self, path: Path) -> None:
        self.path = path
        (path / "dir/below").mkdir(parents=True)
        (path / "file").write_text("precious\n")
        (path / "dir/file").write_text("precious\n")
        os.mknod(path / "null", stat.S_IFCHR | 0o600, os.makedev(1, 3))
        self._before = self._look()

    def _look(self) -> list[tuple[Any, ...]]:
        found = []
        for path in sorted([self.path, *self.path.rglob("*")]):
            st = path.lstat()
            content = path.read_bytes() if stat.S_ISREG(st.st_mode) else b""
            found.append((str(path), st.st_mode, st.st_uid, st.st_mtime_ns, st.st_rdev, content))
        return found

    def check(self) -> None:
        """Assert that everything is as it was."""
        assert self._look() == self._before


class Images:
    """A store of the test's own, with one image whose files can be spoiled behind its back."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True)
        self.flags = ["--root", str(path / "store"), "--runroot", str(path / "run")]
        self.name = "localhost/pit:latest"
        # What it is made of is elsewhere: the names of other transports take fewer paths.
        self.work = Path(tempfile.mkdtemp(dir=path.parent))
        tree = self.work / "tree"
        (tree / "bin").mkdir(parents=True)
        busybox = shutil.which("busybox")
        assert busybox is not None, "busybox (static) is needed"
        shutil.copy(busybox, tree / "bin/busybox")
        for name in APPLETS:
            (tree / "bin" / name).symlink_to("busybox")
        for name in ("etc", "tmp", "root"):
            (tree / name).mkdir()
        (tree / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\nuser:x:1000:1000::/:/bin/sh\n")
        archive = self.work / "layer.tar"
        with tarfile.open(archive, "w") as tar:
            tar.add(tree, ".")
        self.take(archive)
        (self.tree,) = (path / "store").glob("imgtools/layers/sha256/*/diff")

    def cli(self, *words: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """imgtools with these words."""
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), **options.pop("env", {})}
        options = {"stdin": subprocess.DEVNULL, "capture_output": True, **options}
        return subprocess.run(
            [sys.executable, "-m", "imgtools", *words],
            env=environment,
            text=True,
            errors="surrogateescape",
            timeout=LIMIT,
            check=False,
            **options,
        )

    def take(self, archive: Path) -> None:
        """Make the image of one layer."""
        layout = f"oci:{self.work}/layout:one"
        for words in ((f"tarball:{archive}", layout), (layout, f"containers-storage:{self.name}")):
            flags = self.flags if words[1].startswith("containers-storage") else []
            done = self.cli("copy", "-q", *flags, *words)
            assert done.returncode == 0, done.stderr

    def words(self, *words: str, network: str = "none") -> list[str]:
        """`run` with options and a command; IMAGE stands for the image."""
        named = [self.name if word == "IMAGE" else word for word in words]
        return ["run", *self.flags, "--network", network, *named]

    def run(self, *words: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """`imgtools run` without network; options first, then IMAGE and the command."""
        return self.cli(*self.words(*words), **options)

    def says(self, *words: str, **options: Any) -> str:
        """The output of a container that has to succeed."""
        done = self.run(*words, **options)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def check_clean(self) -> None:
        """Assert that no container has left anything on disk."""
        left = [
            *(self.path / "store/imgtools/snapshots").iterdir(),
            *(self.path / "store/imgtools/uses").iterdir(),
            *(self.path / "run/imgtools/containers").glob("*"),
            *(self.path / "run/imgtools/runtime").glob("*"),
        ]
        assert left == []


def processes_with(text: str) -> list[int]:
    """The processes that have `text` in their command line."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdecimal() and int(name) != os.getpid():
            try:
                line = Path(f"/proc/{name}/cmdline").read_bytes()
            except OSError:
                continue
            if text.encode() in line:
                found.append(int(name))
    return found


def cgroups_with(text: str) -> list[str]:
    """The cgroups that have `text` in their name."""
    found = []
    for top, names, _ in os.walk("/sys/fs/cgroup"):
        found += [os.path.join(top, name) for name in names if text in name]
    return found


def await_none(look: Any, text: str, seconds: float = 20.0) -> None:
    """Assert that what `look(text)` finds goes away."""
    end = time.monotonic() + seconds
    while found := look(text):
        assert time.monotonic() < end, found
        time.sleep(0.05)


def without(*names: str) -> str:
    """A prologue after which these system calls do not exist, as on an old kernel."""
    return (
        "import os\n"
        "from engine.runtime.kernel.processes import prctl\n"
        "from engine.runtime.seccomp.compiler import compile_profile\n"
        "from engine.runtime.seccomp.load import load\n"
        "from engine.runtime.spec.model import Seccomp, SeccompSyscall\n"
        "load(compile_profile(Seccomp(default_action='SCMP_ACT_ALLOW', syscalls=(SeccompSyscall("
        f"names={names!r}, action='SCMP_ACT_ERRNO', errno_ret=38),)), os.uname().machine))\n"
    )
