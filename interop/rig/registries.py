"""Registries beside Debian's: the newest distribution, go-containerregistry's, and imgtools serve.

Each is a process on a loopback port that it takes itself and tells in what it prints.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Self

from interop.rig.peers import BIN
from tests.rig import RegistryServer

CONFIGURATION = """\
version: 0.1
log: {{level: info, formatter: json, accesslog: {{disabled: true}}}}
storage:
  filesystem: {{rootdirectory: "{storage}"}}
  delete: {{enabled: true}}
  maintenance: {{uploadpurging: {{enabled: false}}}}
http: {{addr: "127.0.0.1:0", secret: the same for every test registry}}
validation: {{manifests: {{urls: {{allow: ["."]}}}}}}
"""
LISTENING = re.compile(r"(?:listening on |http://)127\.0\.0\.1:(\d+)")

# Name -> whether it has the referrers API; those without it get tags in its place.
REGISTRIES = {
    "debian": False,
    "distribution": False,
    "go-containerregistry": True,
    "imgtools-serve": True,
}


class Registry(RegistryServer):
    """A registry of REGISTRIES on plain HTTP, open to everyone; use it in a `with` block."""

    def __init__(self, name: str, directory: Path, certificates: Path) -> None:
        """Describe the registry `name` that keeps its files, if any, in `directory`."""
        super().__init__("plain", directory, certificates)
        self.name = name
        self.has_referrers_api = REGISTRIES[name]

    def __enter__(self) -> Self:
        """Start and wait until it listens."""
        if self.name == "debian":
            return super().__enter__()
        self.storage.mkdir(parents=True)
        with (self.directory / "log").open("wb") as log:
            self._process = subprocess.Popen(
                # The registry ends with the tests even if they are killed.
                ["setpriv", "--pdeathsig", "KILL", *self._command()],
                env={
                    "HOME": str(self.directory),
                    "OTEL_TRACES_EXPORTER": "none",
                    "PATH": "/usr/bin:/bin",
                },
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        try:
            self.port = self._await_port()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _command(self) -> list[str]:
        if self.name == "distribution":
            configuration = self.directory / "config.yml"
            configuration.write_text(CONFIGURATION.format(storage=self.storage))
            return [str(BIN / "registry"), "serve", str(configuration)]
        if self.name == "go-containerregistry":
            return [str(BIN / "ggcr-registry")]
        serve = ["serve", str(self.storage), "--writable", "--listen", "127.0.0.1:0"]
        return [sys.executable, "-m", "imgtools", *serve]

    def _await_port(self) -> int:
        if self.name == "debian":
            return super()._await_port()
        assert self._process is not None
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            if found := LISTENING.search(self.log):
                return int(found[1])
            assert self._process.poll() is None, f"{self.name} ended:\n{self.log}"
            time.sleep(0.02)
        raise AssertionError(f"{self.name} does not listen after 30 s:\n{self.log}")
