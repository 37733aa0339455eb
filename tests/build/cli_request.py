"""The command line of `build` up to what it asks for, without building anything."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from imgtools.cli import build_run, main
from imgtools.cli.build_request import BuildRequest
from imgtools.cli.settings import Settings
from imgtools.cli.state import Cli
from imgtools.spec.platform import Platform

HOST = Platform(os="linux", architecture="amd64")
Ask = Callable[..., BuildRequest]


@contextmanager
def kept_signals() -> Iterator[None]:
    """Put back the handlers that running the command line in this process replaces."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def requests(monkeypatch: pytest.MonkeyPatch) -> list[BuildRequest]:
    """A list that gets what is asked for instead of it being done."""
    found: list[BuildRequest] = []

    def instead(
        cli: Cli, access: object, request: BuildRequest, registry: object, *signing: object
    ) -> int:
        found.append(request)
        return 0

    monkeypatch.setattr(build_run, "run_build", instead)
    return found


def run(directory: Path, *words: str, verb: str = "build") -> int:
    """The exit code of a command line, run in this process as user of `directory`."""
    settings = Settings.from_environment({"HOME": str(directory), "TMPDIR": str(directory)})
    with kept_signals():
        return main.run([verb, *words], Cli(settings=settings))
