"""Kills a writer before its n-th change of the file system, for every transport that writes.

Run as `python -m tests.killed TRANSPORT DIRECTORY [COUNT]`: COUNT kills are spread over all the
changes that one write makes, over a new target and over one that holds another image. After each,
the target must hold the old image or the new one, whole; then a second run must complete and leave
nothing but the image. The process forks, so it has a single thread.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from imgtools.errors import ImageNotFound, Unsupported
from imgtools.testing.contract_kit import check_same, put, suitable
from imgtools.testing.images import Sample
from imgtools.transport.base import Destination, Source
from imgtools.transport.options import DestinationOptions, RegistryOptions, SourceOptions
from imgtools.transport.partial import LEAST_BLOB
from imgtools.transport.partial_journal import PartialJournal
from imgtools.transport.table import Transports

NAMES = {
    "dir": "dir:{}/target",
    "dir-existing": "dir:{}",
    "oci": "oci:{}/target:name",
    "oci-archive": "oci-archive:{}/target.tar:name",
    "docker-archive": "docker-archive:{}/target.tar:name:tag",
    "dir-journal": "dir:{}/target",
    "oci-journal": "oci:{}/target:name",
}
LARGE = LEAST_BLOB + 100_000
CHANGES = (
    "mkdir",
    "open",
    "write",
    "pwrite",
    "ftruncate",
    "fsync",
    "rename",
    "unlink",
    "rmdir",
)


class Target:
    """One name, opened for reading and writing."""

    def __init__(self, transport: str, directory: Path) -> None:
        self.name = NAMES[transport].format(directory)
        self.directory = directory
        self.journal = directory.with_name("journal") if transport.endswith("journal") else None
        self.transports = Transports()

    def destination(self) -> Destination:
        """The target, to be written."""
        registry = RegistryOptions(journal_dir=str(self.journal) if self.journal else None)
        return self.transports.open_destination(self.name, DestinationOptions(registry=registry))

    def source(self) -> Source:
        """The target, to be read."""
        return self.transports.open_source(self.name, SourceOptions())

    def write(self, sample: Sample) -> None:
        """Write and commit `sample`."""
        with self.destination() as destination:
            put(destination, sample)
            destination.commit()

    def files(self) -> set[str]:
        """The paths of everything below the directory."""
        found = {str(path.relative_to(self.directory)) for path in self.directory.rglob("*")}
        if self.journal is not None:
            found.update(entry.path for entry in PartialJournal(str(self.journal)).entries())
        return found


def count_changes(action: Callable[[], None], limit: int) -> int:
    """Run `action` in a process that is killed before change number `limit`.

    Returns the number of changes made, which is below `limit` when it completed.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        _die_before(limit, writing)
        try:
            action()
        except Unsupported:
            os._exit(2)
        except BaseException:  # noqa: BLE001 - the child must not go on as its parent
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        made = len(pipe.read())
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    if code == 2:
        raise Unsupported("the writer refuses what is there")
    assert code in (0, -signal.SIGKILL), "the writer failed"
    return made


def _die_before(limit: int, pipe: int) -> None:
    write = os.write
    made = 0

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            nonlocal made
            if made == limit:
                os.kill(os.getpid(), signal.SIGKILL)
            made += 1
            write(pipe, b".")
            return function(*arguments, **named)

        return call

    for name in CHANGES:
        setattr(os, name, counted(getattr(os, name)))


def check_kills(transport: str, directory: Path, count: int) -> int:
    """Kill a writer `count` times in all; returns how many instants there were to choose from."""
    probe = _fresh(transport, directory, None)
    with probe.destination() as destination:
        old = suitable(destination.capabilities, "old", size=3000)
        new = suitable(
            destination.capabilities, "new", layers=1 if probe.journal else 2,
            size=LARGE if probe.journal else 400_000,
        )  # fmt: skip
    instants = 0
    for before in (None, old):
        target = _fresh(transport, directory, before)
        try:
            total = count_changes(lambda target=target: target.write(new), 1 << 30)  # type: ignore[misc]
        except Unsupported:
            continue  # it does not replace what is there, so it cannot harm it
        instants += total
        clean = target.files()
        kills = max(1, count // 2)
        for number in range(kills):
            limit = number * total // kills
            target = _fresh(transport, directory, before)
            made = count_changes(lambda target=target: target.write(new), limit)  # type: ignore[misc]
            assert made == limit
            _check_after_kill(target, before, new)
            _complete(target, new)
            check_same(target.source(), new)
            left = target.files() ^ clean
            assert not left, f"left over after change {limit}: {left}"
    return instants


def _fresh(transport: str, directory: Path, before: Sample | None) -> Target:
    shutil.rmtree(directory)
    directory.mkdir()
    target = Target(transport, directory)
    if before is not None:
        target.write(before)
    return target


def _check_after_kill(target: Target, before: Sample | None, new: Sample) -> None:
    try:
        with target.source() as source:
            found = source.top()
    except ImageNotFound:
        assert before is None, "the old image is gone"
        return
    config = [d.digest for d in new.blobs]
    is_new = any(str(digest) in found.content.decode() for digest in config)
    assert is_new or before is not None, "an image that nobody wrote"
    check_same(target.source(), new if is_new or before is None else before)


def _complete(target: Target, new: Sample) -> None:
    try:
        target.write(new)
    except Unsupported:
        check_same(target.source(), new)  # the kill came after the archive was complete


if __name__ == "__main__":
    chosen, where = sys.argv[1], Path(sys.argv[2])
    where.mkdir(exist_ok=True)
    found = check_kills(chosen, where, int(sys.argv[3]) if len(sys.argv) > 3 else 50)
    print(f"{chosen}: killed among {found} changes, every time whole")
