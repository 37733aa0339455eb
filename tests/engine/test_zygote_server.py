"""The launcher: what it is asked for and what it answers, what it leaves when it or its client
goes, and that what a client sends cannot end it."""

from __future__ import annotations

import hashlib
import json
import os
import select
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.runtime.container.channel import Channel, pair
from engine.runtime.container.extras import Extras
from engine.runtime.errors import CommandNotFound, ContainerExists, Damaged, Failure, InvalidConfig
from engine.runtime.rootfs.model import RootOverlay
from engine.runtime.seccomp.filter import Filter
from engine.runtime.spec.defaults import default_config
from engine.runtime.zygote.client import Zygote
from engine.runtime.zygote.request import LaunchRequest, from_document, to_document
from engine.runtime.zygote.server import MOST_FREE
from tests.engine.run_rig import children, wait_until


@pytest.fixture
def zygote() -> Iterator[Zygote]:
    """A launcher; it has ended afterwards, with all that it started."""
    with Zygote.start(sys.executable) as found:
        yield found


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A root file system with busybox; state is kept beside it."""
    busybox = shutil.which("busybox")
    assert busybox is not None
    binaries = tmp_path / "rootfs/bin"
    binaries.mkdir(parents=True)
    shutil.copy(busybox, binaries / "busybox")
    for name in ("sh", "sleep", "true", "cat"):
        (binaries / name).symlink_to("busybox")
    return tmp_path


def config(*args: str) -> dict[str, Any]:
    found: dict[str, Any] = default_config(rootless=False)
    found["process"].update(args=list(args), terminal=False)
    return found


def request(bundle: Path, name: str = "one") -> LaunchRequest:
    """The cgroup is called after the container, for all tests that run now."""
    name = f"{name}-{hashlib.sha256(bytes(bundle)).hexdigest()[:16]}"
    return LaunchRequest(id=name, state_root=str(bundle / "state"), bundle=str(bundle))


@pytest.fixture
def null() -> Iterator[tuple[int, int, int]]:
    fd = os.open(os.devnull, os.O_RDWR)
    yield (fd, fd, fd)
    os.close(fd)


def test_containers_one_after_the_other(
    zygote: Zygote, bundle: Path, null: tuple[int, int, int]
) -> None:
    for code in range(5):
        with zygote.launch(
            request(bundle, f"c{code}"), config("/bin/sh", "-c", f"exit {code}"), null
        ) as running:
            assert running.wait_started() > 0
            assert running.wait() == code
    zygote.close()
    assert os.listdir(bundle / "state") == []


def test_descriptors_are_only_those_given(zygote: Zygote, bundle: Path) -> None:
    """D2, D6: of the launcher's and monitor's own nothing comes through."""
    reading, writing = os.pipe()
    extra, other = os.pipe()
    null = os.open(os.devnull, os.O_RDONLY)
    script = "for f in /proc/self/fd/*; do echo ${f##*/}; done; echo kept >&3"
    with zygote.launch(
        request(bundle), config("/bin/sh", "-c", script), (null, writing, writing),
        preserve=(other,),
    ) as running:  # fmt: skip
        assert running.wait() == 0
    os.close(writing)
    os.close(other)
    with os.fdopen(reading, "rb") as file:
        # 4 or so is the shell's own, on the directory that it lists.
        assert set(file.read().split()) <= {b"0", b"1", b"2", b"3", b"4"}
    with os.fdopen(extra, "rb") as file:
        assert file.read() == b"kept\n"
    os.close(null)


def test_closing_kills(zygote: Zygote, bundle: Path, null: tuple[int, int, int]) -> None:
    running = zygote.launch(request(bundle), config("/bin/sleep", "600"), null)
    pid = running.wait_started()
    running.close()
    wait_until(lambda: not os.path.exists(f"/proc/{pid}"), "the container goes on")
    wait_until(lambda: os.listdir(bundle / "state") == [], "its state stays")


def test_errors_come_back_as_they_are(
    zygote: Zygote, bundle: Path, null: tuple[int, int, int]
) -> None:
    for args, kind in ((("/bin/nope",), CommandNotFound), ((), Failure)):
        with pytest.raises(kind), zygote.launch(request(bundle), config(*args), null) as running:
            running.wait()
    broken = {**config("/bin/true"), "root": 5}
    with pytest.raises(InvalidConfig), zygote.launch(request(bundle), broken, null) as running:
        running.wait()
    with zygote.launch(request(bundle), config("/bin/sleep", "60"), null) as first:
        first.wait_started()
        second = zygote.launch(request(bundle), config("/bin/true"), null)
        with pytest.raises(ContainerExists), second:
            second.wait()
        # Who could not have the id leaves the one alone that has it.
        assert not first.ended(0.3)
        first.signal(9)
        assert first.wait() == 137


def test_many_at_once(zygote: Zygote, bundle: Path, null: tuple[int, int, int]) -> None:
    running = [
        zygote.launch(request(bundle, f"c{n}"), config("/bin/sh", "-c", f"exit {n}"), null)
        for n in range(20)
    ]
    assert [each.wait() for each in running] == list(range(20))
    for each in running:
        each.close()
    # Monitors are reaped as soon as they have ended; some wait for other containers.
    wait_until(lambda: len(children(zygote._pid)) == MOST_FREE, "monitors stay")


def test_a_free_monitor_that_is_killed_is_not_missed(
    zygote: Zygote, bundle: Path, null: tuple[int, int, int]
) -> None:
    for number in range(6):
        container = request(bundle, f"c{number}")
        with zygote.launch(container, config("/bin/sh", "-c", f"exit {number}"), null) as running:
            assert running.wait() == number
        if number in (2, 4):
            for free in children(zygote._pid):
                os.kill(free, signal.SIGKILL)
            wait_until(lambda: not children(zygote._pid), "the free monitor stays")
    zygote.close()
    assert os.listdir(bundle / "state") == []


def test_a_monitor_keeps_nothing_of_its_containers(
    zygote: Zygote, bundle: Path, null: tuple[int, int, int]
) -> None:
    """The next one has the same process, and none of the descriptors."""
    for number in range(30):
        reading, writing = os.pipe()
        container = request(bundle, f"c{number}")
        streams = (null[0], writing, writing)
        with zygote.launch(container, config("/bin/sh", "-c", "echo x"), streams) as running:
            os.close(writing)
            assert running.wait() == 0
        with open(reading, "rb") as output:
            assert output.read() == b"x\n"  # Up to its end: nobody else has the pipe.
    assert len(children(zygote._pid)) <= MOST_FREE

    def few() -> bool:
        counts = [len(os.listdir(f"/proc/{pid}/fd")) for pid in children(zygote._pid)]
        return max(counts) <= 15

    wait_until(few, "monitors have descriptors of containers")


def test_a_free_monitor_ends_with_its_launcher(
    zygote: Zygote, bundle: Path, null: tuple[int, int, int]
) -> None:
    with zygote.launch(request(bundle), config("/bin/true"), null) as running:
        assert running.wait() == 0
    (free,) = children(zygote._pid)
    held = os.pidfd_open(free)
    os.kill(zygote._pid, signal.SIGKILL)
    assert select.select([held], [], [], 10)[0], "the free monitor stays"
    os.close(held)


def test_what_is_no_request_is_passed_over(
    zygote: Zygote, bundle: Path, null: tuple[int, int, int]
) -> None:
    ours, theirs = pair()
    control = zygote._control
    control.send({"type": "other"})
    control.send({"type": "launch"})
    control._socket.send(b"\0not json")
    fds = (null[0], theirs.fileno(), *null)
    control.send({"type": "launch", "id": 5, "more": []}, fds)
    theirs.close()
    with pytest.raises(Damaged, match="launch request"):
        ours.expect("started")
    ours.close()
    with zygote.launch(request(bundle), config("/bin/true"), null) as running:
        assert running.wait() == 0
    assert len(os.listdir(f"/proc/{zygote._pid}/fd")) < 12


def test_launchers_end_with_their_client(bundle: Path, null: tuple[int, int, int]) -> None:
    zygote = Zygote.start(sys.executable)
    running = zygote.launch(request(bundle), config("/bin/sleep", "600"), null)
    pid = running.wait_started()
    running.close()
    zygote.close()
    assert not os.path.exists(f"/proc/{pid}")
    assert os.listdir(bundle / "state") == []
    zygote.close()


def test_interpreters_that_are_not_there() -> None:
    with pytest.raises(Failure, match="/nonexistent/python"):
        Zygote.start("/nonexistent/python")


def test_launchers_that_cannot_start_are_errors(
    tmp_path: Path, bundle: Path, null: tuple[int, int, int]
) -> None:
    fake = tmp_path / "python"
    fake.write_text("#!/bin/sh\nexit 1\n")
    fake.chmod(0o755)
    with Zygote.start(str(fake)) as zygote:
        os.waitid(os.P_PID, zygote._pid, os.WEXITED | os.WNOWAIT)
        with pytest.raises(Failure):
            zygote.launch(request(bundle), config("/bin/true"), null).wait()


def test_requests_cross_whole() -> None:
    overlay = RootOverlay(
        lower=(b"/a\xff", b"/b,c:d"), upper=b"/u\n", work=b"/w", userxattr=True, volatile=True
    )
    some = Filter(program=b"\0" * 8, flags=1, optional_flags=2)
    wanted = LaunchRequest(
        id="x", state_root="/s", bundle="/b", rootless=True, no_pivot=True, linked=True,
        extras=Extras(overlay=overlay, filters=(some,), profile=some, forgiving=True,
                      die_with_creator=True),
    )  # fmt: skip
    assert from_document(json.loads(json.dumps(to_document(wanted)))) == wanted


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"id": "x"},
        {"id": "x", "state_root": "/", "bundle": "/", "filters": [["zz", 0, 0]]},
        {"id": "x", "state_root": "/", "bundle": "/", "filters": 3},
        {"id": "x", "filters": [], "profile": None, "overlay": {"lower": ["00"]}},
    ],
)
def test_requests_that_are_none(document: dict[str, Any]) -> None:
    with pytest.raises(Damaged):
        from_document(document)


def test_channels_are_closed(zygote: Zygote) -> None:
    """A channel that nobody answers any more says so."""
    ours, theirs = pair()
    theirs.close()
    with pytest.raises(Failure, match="without a word"):
        ours.expect("anything")
    assert isinstance(ours, Channel)
    ours.close()
