"""Runs the command line as its user would, away from the home and environment of the tester.

The interpreter is the tests' own; HOME, the XDG directories and TMPDIR lead into a directory that
the test can look into afterwards.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

Argument: TypeAlias = str | Path


class RunCli:
    """Calls `python -m imgtools` with arguments; one HOME for all calls through one instance."""

    def __init__(self, root: Path) -> None:
        """Lay out an empty home below `root`."""
        self.home = root / "home"
        self.runtime = root / "runtime"
        self.work = root / "work"
        for directory in (self.home, self.runtime, self.work, root / "tmp"):
            directory.mkdir(parents=True)
            directory.chmod(0o700)
        # What a test does not say about a store is not about the machine's.
        conf = root / "storage.conf"
        conf.write_text(f'[storage]\ngraphroot = "{root}/store"\nrunroot = "{root}/store-run"\n')
        self.env = {
            "CONTAINERS_STORAGE_CONF": str(conf),
            "HOME": str(self.home),
            "LC_ALL": "C.UTF-8",
            "PATH": os.environ["PATH"],
            "TMPDIR": str(root / "tmp"),
            "XDG_CACHE_HOME": str(self.home / ".cache"),
            "XDG_CONFIG_HOME": str(self.home / ".config"),
            "XDG_DATA_HOME": str(self.home / ".local" / "share"),
            "XDG_RUNTIME_DIR": str(self.runtime),
        }

    def __call__(
        self,
        *arguments: Argument,
        input: str | None = None,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        check: bool = False,
        timeout: float = 60,
    ) -> subprocess.CompletedProcess[str]:
        """Run with text in and out; `env` adds to the environment, `check` expects status 0."""
        done = subprocess.run(
            self.command(*arguments),
            input=input or "",
            env={**self.env, **(env or {})},
            cwd=cwd or self.work,
            timeout=timeout,
            capture_output=True,
            encoding="utf-8",
            check=False,
        )
        if check:
            assert done.returncode == 0, f"status {done.returncode}: {done.stderr}"
        return done

    def start(
        self, *arguments: Argument, env: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """Start without waiting, with bytes in pipes; the caller ends it."""
        return subprocess.Popen(
            self.command(*arguments),
            env={**self.env, **(env or {})},
            cwd=self.work,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    @staticmethod
    def command(*arguments: Argument) -> list[str]:
        """The argument vector."""
        return [sys.executable, "-m", "imgtools", *map(str, arguments)]
