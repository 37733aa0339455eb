"""The command line of `build` on a store of a test's own, with a small image to build from."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.engine.run_rig import Runs


class Builds:
    """The command line on a store with a small image, in a directory with Containerfiles."""

    def __init__(self, directory: Path) -> None:
        self.runs = Runs(directory)
        self.work = self.runs.cli.work
        self.env = self.runs.cli.env

    def command(self, *words: str, verb: str = "build") -> list[str]:
        """The argument vector."""
        at = ("--root", str(self.runs.root), "--runroot", str(self.runs.runroot))
        return self.runs.cli.command(*verb.split(), *at, *words)

    def shown(self, verb: str, *words: str) -> str:
        """What another verb prints."""
        done = subprocess.run(
            self.command(*words, verb=verb),
            capture_output=True,
            env=self.env,
            cwd=self.work,
            timeout=60,
            check=True,
        )
        return done.stdout.decode()

    def __call__(
        self, *words: str, stdin: bytes = b"", env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        """Build to the end."""
        return subprocess.run(
            self.command(*words),
            input=stdin,
            capture_output=True,
            env={**self.env, **(env or {})},
            cwd=self.work,
            timeout=60,
            check=False,
        )

    def lines(self, text: str, *words: str, code: int = 0) -> tuple[list[str], list[str]]:
        """What a build of a Containerfile with `text` printed; it has to exit with `code`."""
        done = self("-f", "-", "--network", "none", *words, ".", stdin=text.encode())
        assert done.returncode == code, done.stderr.decode()
        return done.stdout.decode().splitlines(), done.stderr.decode().splitlines()

    def start(self, text: str, *words: str) -> subprocess.Popen[bytes]:
        """Begin to build a Containerfile with `text`."""
        (self.work / "Started").write_text(text)
        return subprocess.Popen(
            self.command("-f", "Started", "--network", "none", *words, "."),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=self.env,
            cwd=self.work,
        )

    def images(self) -> list[str]:
        """All names in the store."""
        return self.shown("images", "--format", "{{.Repository}}:{{.Tag}}").split()
