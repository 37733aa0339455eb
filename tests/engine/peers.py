"""Debian's podman, buildah and umoci with our runtime in the place of theirs."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.engine.screen import LIMIT
from tests.rig import REPOSITORY

APPLETS = ("cat", "echo", "false", "grep", "hostname", "id", "ls", "sh", "sleep", "touch", "true",
           "tty")  # fmt: skip
_HARD = min(1024, *(resource.getrlimit(k)[1] for k in (resource.RLIMIT_NOFILE,)))
LIMITS = (f"--ulimit=nofile={_HARD}:{_HARD}", "--ulimit=nproc=1024:1024")
"""podman and buildah ask for limits of a million, which takes CAP_SYS_RESOURCE."""


def launcher(directory: Path) -> Path:
    """An executable that is our runtime, as conmon and shims call it: by its path alone."""
    start = directory / "start.py"
    start.write_text(
        f"import sys\nsys.path.insert(0, {str(REPOSITORY)!r})\n"
        "from engine.cli.main import entry\nentry()\n"
    )
    program = directory / "imgtools-runtime"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -I -S {start} "$@"\n')
    program.chmod(0o755)
    return program


def tree(directory: Path) -> Path:
    """A root file system with busybox and two users."""
    binaries = directory / "bin"
    binaries.mkdir(parents=True)
    busybox = shutil.which("busybox")
    assert busybox is not None, "busybox (static) is needed"
    shutil.copy(busybox, binaries / "busybox")
    for name in APPLETS:
        (binaries / name).symlink_to("busybox")
    (directory / "etc").mkdir()
    (directory / "etc/passwd").write_text(
        "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n"
    )
    return directory


class Peer:
    """podman and buildah with a store of the test's own and our runtime; one image, `box`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.runtime = launcher(directory)
        # podman refuses a run root of more than 50 characters, whatever holds the tests.
        self.runroot = Path(tempfile.mkdtemp(prefix="peer-", dir="/tmp"))
        stores = ("--root", str(directory / "root"), "--runroot", str(self.runroot))
        # The store's driver is the one that works on any file system.
        self.podman = (
            "podman", *stores, "--storage-driver=vfs", "--cgroup-manager=cgroupfs",
            f"--tmpdir={directory}/tmp", "--events-backend=file", f"--runtime={self.runtime}",
        )  # fmt: skip
        self.buildah = ("buildah", *stores, "--storage-driver=vfs")
        files = tree(directory / "tree")
        archive = directory / "box.tar"
        subprocess.run(["tar", "-C", files, "-cf", archive, "."], check=True)
        self(*self.podman, "import", str(archive), "box")

    def __call__(self, *words: str, code: int = 0) -> str:
        """What a command prints that has to end with `code`."""
        done = subprocess.run(
            words, cwd=self.directory, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=4 * LIMIT, check=False, env={**os.environ, "CONTAINERS_CONF": "/dev/null"},
        )  # fmt: skip
        assert done.returncode == code, (words, done.returncode, done.stdout, done.stderr)
        self.errors = done.stderr
        return done.stdout

    def run(self, *words: str, code: int = 0) -> str:
        """`podman run` of the image, without network."""
        return self(*self.podman, "run", "--rm", "--network=none", *LIMITS, *words, code=code)

    def close(self) -> None:
        """Remove all containers, and what holds the store's directory."""
        try:
            self(*self.podman, "rm", "--all", "--force", "--time=0")
        finally:
            shutil.rmtree(self.runroot)
