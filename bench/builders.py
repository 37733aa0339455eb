"""Both programs as builders, each with a store of its own and the same small base image.

buildah gets the strongest isolation that works on the machine, and overlay where that does.
"""

from __future__ import annotations

import shutil
import subprocess
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Self

from bench.measure import Sample, run

BASE = "localhost/bench/base:latest"
PROGRAMS = ("sh", "true", "sleep", "touch", "dd", "cat")
TRIED = (
    ("oci", "--isolation=oci", "--runtime=crun"),
    ("oci", "--isolation=oci", "--runtime=runc"),
    ("rootless", "--isolation=rootless", "--runtime=runc"),
    ("chroot", "--isolation=chroot"),
)
"""Isolations of buildah, the strongest first, and what each is called."""
LIMITS = ("--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024")
"""Its own defaults are more than an unprivileged machine allows."""


class Builders:
    """The programs with stores below a new directory; `ours` is our command."""

    def __init__(self, directory: Path, ours: list[str], env: Mapping[str, str]) -> None:
        self.directory = directory
        self._ours = ours
        self._env = env
        self._isolation: tuple[str, ...] = ()
        self._driver = ""
        self._number = 0
        self.archive = _root(directory / "root.tar")

    def close(self) -> None:
        """Undo the mounts that buildah leaves, which keep its store from being removed."""
        with open("/proc/self/mountinfo", encoding="utf-8") as file:
            places = [line.split()[4] for line in file]
        for place in reversed(places):
            if place.startswith(f"{self.directory}/"):
                subprocess.run(["umount", place], check=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def peer_name(self) -> str:
        """buildah with its isolation."""
        return f"buildah ({self._isolation[0]}, {self._driver})"

    def settle(self) -> None:
        """Put the base image into both stores; find out what buildah can do here."""
        self.ours(["copy", "-q", f"tarball:{self.archive}", f"containers-storage:{BASE}"])
        base = self.context("FROM scratch\nADD root.tar /\n")
        shutil.copy(self.archive, base / "root.tar")
        probe = self.context(f"FROM {BASE}\nRUN true\n")
        for isolation, driver in self._candidates():
            self._isolation, self._driver = isolation, driver
            if self._works(base, "-t", BASE) and self._works(probe, "--no-cache"):
                return
        raise SystemExit("buildah runs nothing here")

    def _candidates(self) -> Iterator[tuple[tuple[str, ...], str]]:
        for driver in ("overlay", "vfs"):
            for isolation in TRIED:
                yield isolation, driver

    def _works(self, context: Path, *words: str) -> bool:
        done = subprocess.run(self.peer_words(context, *words), env=dict(self._env), check=False,
                              stdin=subprocess.DEVNULL, capture_output=True)  # fmt: skip
        return done.returncode == 0

    def context(self, text: str, **files: str) -> Path:
        """A new context with a Containerfile and further files."""
        self._number += 1
        path = self.directory / f"context-{self._number}"
        path.mkdir()
        for name, content in {"Containerfile": text, **files}.items():
            (path / name).write_text(content)
        return path

    def build(self, context: Path, *words: str) -> Sample:
        """Build a context with ours."""
        return self.ours(["build", "-q", *words], str(context))

    def ours(self, words: list[str], *last: str) -> Sample:
        """Run a verb of ours on its store."""
        return run([*self.our_words(*words), *last], self._env)

    def our_words(self, verb: str, *words: str) -> list[str]:
        """The command of a verb of ours on its store."""
        store = self.directory / "ours"
        return [*self._ours, verb, f"--root={store}", f"--runroot={store}-run", *words]

    def peer(self, context: Path, *words: str) -> Sample:
        """Build a context with buildah, and its layers as steps like ours."""
        return run(self.peer_words(context, *words), self._env)

    def peer_push(self, name: str) -> Sample:
        """Push an image with buildah."""
        return run([*self._peer_place(), "push", "-q", "--tls-verify=false", name], self._env)

    def peer_words(self, context: Path, *words: str) -> list[str]:
        """The command of that."""
        how = ["build", "-q", "--layers", *self._isolation[1:], *LIMITS, *words]
        return [*self._peer_place(), *how, str(context)]

    def _peer_place(self) -> list[str]:
        store = self.directory / f"buildah-{self._driver}"
        at = (f"--root={store}", f"--runroot={store}-run", f"--storage-driver={self._driver}")
        return ["buildah", *at]


def _root(path: Path) -> Path:
    """A tar of a root file system of busybox."""
    busybox = shutil.which("busybox")
    if busybox is None:
        raise SystemExit("builds are measured with busybox, linked statically")
    with tarfile.open(path, "w") as tar:
        tar.add(busybox, "bin/busybox")
        for name in PROGRAMS:
            entry = tarfile.TarInfo(f"bin/{name}")
            entry.type, entry.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(entry)
        for name in ("tmp", "etc", "root"):
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(entry)
    return path
