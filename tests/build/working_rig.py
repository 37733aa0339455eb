"""What tests of working containers share: a store with a small image, and shell scripts that call
the command line on it, each in mount and user namespaces of its own."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

from engine.storage.names import StorageName
from engine.storage.options import StoreLocation
from engine.storage.store import Store
from engine.working.registry import WorkingContainers
from imgtools.blob.files import TEMPORARY_PREFIX
from imgtools.blob.tar import TarReader
from imgtools.spec.config import Config
from imgtools.spec.manifest import Manifest, parse
from imgtools.task import Task
from tests.engine.run_rig import fill, make_image
from tests.rig import RunCli

BASE = "localhost/small:latest"
TIMEOUT = 120


class Scripts:
    """Runs shell scripts in which `t VERB ...` is imgtools on a store of its own; `driver` as in
    StoreLocation. `single` has one id alone, as where user namespaces have no ranges."""

    def __init__(self, directory: Path, driver: str = "", *, single: bool = False) -> None:
        self.directory = directory
        self.location = StoreLocation(
            root=str(directory / "store"), runroot=str(directory / "run"), driver=driver
        )
        self.cli = RunCli(directory / "user")
        self.work = self.cli.work
        self._single = single

    def fill(self) -> None:
        """Put the image BASE into the store, which this process makes."""
        with Store.open(self.location) as store:
            fill(store, make_image(self.directory))

    def __call__(self, script: str, *, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run a script, which ends with the first command that fails."""
        own = ["--user", "--map-root-user"] if self._single else []
        call = shlex.join([sys.executable, "-m", "imgtools"])
        head = f't() {{ verb=$1; shift; {call} "$verb" "$@"; }}\n'
        conf = self.directory / "storage.conf"
        driver = "vfs" if self.location.driver == "flat" else "overlay"
        conf.write_text(
            f'[storage]\ndriver = "{driver}"\ngraphroot = "{self.location.root}"\n'
            f'runroot = "{self.location.runroot}"\n'
        )
        return subprocess.run(
            ["unshare", *own, "--mount", "--propagation", "private",
             "sh", "-eu", "-c", head + script],
            input=stdin,
            capture_output=True,
            encoding="utf-8",
            env={**self.cli.env, "CONTAINERS_STORAGE_CONF": str(conf)},
            cwd=self.work,
            timeout=TIMEOUT,
            check=False,
        )  # fmt: skip

    def lines(self, script: str, *, stdin: str = "") -> list[str]:
        """The lines that a script prints, which has to succeed."""
        done = self(script, stdin=stdin)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.splitlines()

    def json(self, script: str) -> Any:
        """The document that a script prints."""
        return json.loads("\n".join(self.lines(script)))

    def config(self, name: str) -> Config:
        """The config of an image of the store."""
        with Store.open(self.location) as store:
            return store.config(store.find(name)[0])

    def manifest(self, name: str) -> Manifest:
        """The manifest of an image of the store."""
        with Store.open(self.location) as store:
            found = parse(store.manifest(store.find(name)[0]))
        assert isinstance(found, Manifest)
        return found

    def layer(self, name: str, number: int = -1) -> dict[str, tuple[int, int, int]]:
        """The members of a layer of an image: mode, uid and gid by path."""
        with Store.open(self.location) as store:
            image = store.find(name)[0]
            with store.source(StorageName(image_id=image.id), task=Task()) as source:
                blob = image.layers[number].blob_as_stored()
                with source.open_blob(blob) as reader:
                    found = {
                        entry.path: (entry.mode, entry.uid, entry.gid)
                        for entry, _ in TarReader(reader)
                    }
                    while reader.read(1 << 20):
                        pass
        return found

    def names(self) -> list[str]:
        """The names of the containers."""
        with Store.open(self.location) as store:
            return [each.name for each in WorkingContainers(store).all()]

    def left(self) -> list[str]:
        """Records and snapshots of containers in the store, and what is being made there; but
        for files that a killed process was writing, which nobody reads."""
        found = []
        for name in ("working", "snapshots", "uses", "tmp"):
            directory = os.path.join(self.location.root, "imgtools", name)
            found += os.listdir(directory) if os.path.isdir(directory) else []
        return [name for name in found if not name.startswith(TEMPORARY_PREFIX)]
