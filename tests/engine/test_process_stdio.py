"""Who owns the standard streams, and streams that are closed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from engine.runtime.kernel.files import open_missing_stdio
from engine.runtime.process.stdio import give_stdio
from tests.engine.rootfs_driver import in_child

UID = 4241


def owners(streams: list[int], *, terminal: bool = False) -> list[int]:
    """The owners of descriptors 0 to 2, made of `streams`, after they were given."""
    for target, fd in enumerate(streams):
        os.dup2(fd, target)
    give_stdio(UID, terminal=terminal)
    return [os.fstat(fd).st_uid for fd in range(3)]


def test_pipes_are_given_and_can_be_opened_again() -> None:
    def work() -> list[int]:
        pipes = [*os.pipe(), os.pipe()[1]]
        found = owners(pipes)
        os.setresuid(UID, UID, UID)
        for fd in (1, 2):
            os.close(os.open(f"/proc/self/fd/{fd}", os.O_WRONLY))
        return found

    assert in_child(work) == [UID] * 3


def test_what_belongs_to_others_stays_theirs(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")

    def work() -> list[int]:
        null = os.open("/dev/null", os.O_RDWR)
        file = os.open(tmp_path / "file", os.O_CREAT | os.O_RDWR)
        fifo = os.open(tmp_path / "fifo", os.O_RDWR)
        return owners([null, file, fifo])

    assert in_child(work) == [0, 0, 0]
    assert os.stat("/dev/null").st_uid == 0


@pytest.mark.parametrize(("terminal", "owner"), [(True, UID), (False, 0)])
def test_a_terminal_is_given_only_if_it_is_the_container_s(terminal: bool, owner: int) -> None:
    def work() -> list[int]:
        _, slave = os.openpty()
        os.fchown(slave, 0, -1)
        return owners([slave, slave, slave], terminal=terminal)

    assert in_child(work) == [owner] * 3


def test_sockets_and_closed_streams_are_left_alone() -> None:
    def work() -> list[int]:
        os.close(0)
        give_stdio(UID, terminal=False)
        return [1]

    assert in_child(work) == [1]


def test_an_owner_that_cannot_be_set_is_no_error() -> None:
    def work() -> list[int]:
        pipes = [*os.pipe(), os.pipe()[1]]
        for target, fd in enumerate(pipes):
            os.dup2(fd, target)
        os.setresuid(UID, UID, UID)
        give_stdio(77, terminal=False)
        return [os.fstat(fd).st_uid for fd in range(3)]

    assert in_child(work) == [0, 0, 0]


@pytest.mark.parametrize("closed", [(0,), (1,), (0, 2), (0, 1, 2)])
def test_d6_closed_streams_become_dev_null(closed: tuple[int, ...]) -> None:
    def work() -> list[object]:
        for fd in closed:
            os.close(fd)
        before = set(os.listdir("/proc/self/fd"))
        open_missing_stdio()
        after = set(os.listdir("/proc/self/fd"))
        links = [os.readlink(f"/proc/self/fd/{fd}") for fd in closed]
        return [links, sorted(after - before - {str(fd) for fd in closed}),
                all(os.get_inheritable(fd) for fd in closed)]  # fmt: skip

    links, others, inheritable = in_child(work)
    assert links == ["/dev/null"] * len(closed)
    assert inheritable
    assert len(others) <= 1, "the directory that was listed"
