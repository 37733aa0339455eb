"""The commands that are run against changed answers, and what must hold afterwards."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random
from unittest import mock

from imgtools.spec.digest import Digest
from imgtools.transport.registry.wire.retry import RetryPolicy
from tests.bad_input import Outcome, cli
from tests.fuzz.content import IMAGE
from tests.fuzz.server import Server

PLAIN = "--tls-verify=false"
BOTH = ("--src-tls-verify=false", "--dest-tls-verify=false")
IMPATIENT = RetryPolicy(attempts=2, connect_attempts=1, first=0.0005, longest=0.001, patience=0.01)


class Runner:
    """Runs random commands in this process."""

    def __init__(self, server: Server, directory: Path, seed: int) -> None:
        self._server = server
        self._random = Random(seed)
        self._directory = directory
        name = f"docker://{server.host}/app"
        out = directory / "out"
        self._commands: dict[str, Callable[[], Outcome]] = {
            "inspect": lambda: self._run("inspect", PLAIN, f"{name}:index"),
            "raw": lambda: self._raw(f"{name}@{IMAGE.top.digest}"),
            "tree": lambda: self._run("inspect", PLAIN, "--referrers", f"{name}:1"),
            "tags": lambda: self._run("list-tags", PLAIN, name),
            "copy": lambda: self._copy(f"{name}:1", out, ()),
            "copy all": lambda: self._copy(f"{name}:index", out, ("--all",)),
            "push": lambda: self._run(
                "copy", "-q", "--all", "--referrers", *BOTH, f"{name}:1",
                f"docker://{server.host}/new{self._random.randrange(1000)}:1",
            ),
            "sync": lambda: self._run(
                "sync", "--src=docker", "--dest=dir", "--keep-going", *BOTH,
                f"{server.host}/app", out,
            ),
            "delete": lambda: self._run("delete", PLAIN, f"{name}:1"),
        }  # fmt: skip

    def one(self) -> str:
        """Run one command with changed answers; its name and exit code. Fails by
        AssertionError."""
        name = self._random.choice(sorted(self._commands))
        self._server.share(self._random.choice((0.2, 0.5, 1.0)))
        try:
            done = self._commands[name]()
        finally:
            shutil.rmtree(self._directory / "out", ignore_errors=True)
        self._check(name, done)
        return f"{name} {done.code}"

    def _check(self, name: str, done: Outcome) -> None:
        assert done.code in (0, 1, 2), (name, done)
        assert "Traceback" not in done.err, done.err
        for line in done.err.splitlines():
            assert line.isprintable(), (name, line)
            assert len(line) < 20_000, (name, len(line))
        assert done.code == 0 or done.err, (name, done)
        left = [path.name for path in self._directory.iterdir()]
        assert left == [], (name, left)

    def _run(self, *arguments: str | Path) -> Outcome:
        patch = mock.patch("tests.bad_input.QUICK", IMPATIENT)
        with patch:
            return cli(self._directory, *arguments)

    def _raw(self, name: str) -> Outcome:
        done = self._run("inspect", PLAIN, "--raw", name)
        assert done.code != 0 or Digest.of(done.out) == IMAGE.top.digest
        return done

    def _copy(self, name: str, out: Path, flags: tuple[str, ...]) -> Outcome:
        done = self._run("copy", "-q", *BOTH[:1], *flags, name, f"dir:{out}")
        if done.code == 0:
            assert _is_whole(out), name
        else:
            assert not (out / "manifest.json").exists()
        return done


def _is_whole(directory: Path) -> bool:
    """Whether every blob that a dir: image lists is there, with the digest it is named by."""
    pending = [directory / "manifest.json"]
    while pending:
        document = json.loads(pending.pop().read_bytes())
        for child in document.get("manifests", ()):
            pending.append(directory / f"{child['digest'].partition(':')[2]}.manifest.json")
        for blob in (*document.get("layers", ()), *filter(None, [document.get("config")])):
            path = directory / blob["digest"].partition(":")[2]
            if blob.get("urls"):
                continue
            if str(Digest.of(path.read_bytes())) != blob["digest"]:
                return False
    return True
