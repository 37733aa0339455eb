"""Single commands in a snapshot, as builds run them, with both drivers: output by lines, exit
codes, what stays in the snapshot and what does not, cancelling, several at once."""

from __future__ import annotations

import io
import os
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.containers.engine import Engine, RunFailed
from engine.containers.options import Limits, Security, Tmpfs, Volume
from engine.containers.ownership import diff_container
from engine.containers.steps import MAX_LINE, StepOptions, run_step
from engine.storage.options import Snapshot, StoreLocation
from engine.storage.store import Store
from imgtools.errors import Cancelled
from imgtools.task import CancelToken, Task
from tests.engine.run_rig import IMAGE, engine_of, fill, make_image

DRIVERS = ("overlay", "flat")


@pytest.fixture(scope="module", params=DRIVERS)
def engine(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Engine]:
    """An engine on a store with the image."""
    directory = tmp_path_factory.mktemp("steps")
    location = StoreLocation(
        root=str(directory / "store"), runroot=str(directory / "run"), driver=request.param
    )
    with Store.open(location) as store:
        fill(store, make_image(directory))
    with engine_of(location, str(directory / "cache")) as found:
        yield found
        for name in ("containers", "runtime"):
            assert list((directory / "run/imgtools" / name).iterdir()) == []


@pytest.fixture
def snapshot(engine: Engine) -> Iterator[Snapshot]:
    """A snapshot of the image."""
    image, _ = engine.store.find(IMAGE)
    yield engine.store.snapshots.prepare(image.chain_id, "steps")
    engine.store.snapshots.remove("steps")


class Outputs:
    """What a step wrote."""

    def __init__(self) -> None:
        self.lines: list[tuple[int, bytes]] = []

    def __call__(self, number: int, line: bytes) -> None:
        self.lines.append((number, line))


def run(
    engine: Engine, snapshot: Snapshot, *args: str, **options: object
) -> tuple[int, list[tuple[int, bytes]]]:
    """Exit code and output of a step."""
    output = Outputs()
    asked = StepOptions(args=args, network="none", **options)  # type: ignore[arg-type]
    return run_step(engine, snapshot, asked, output=output, task=Task()), output.lines


def layer(engine: Engine, snapshot: Snapshot) -> dict[str, tarfile.TarInfo]:
    """The members of the layer that the snapshot is."""
    found = io.BytesIO()
    diff_container(engine.store.snapshots, snapshot, found.write)
    found.seek(0)
    with tarfile.open(fileobj=found) as tar:
        return {member.name: member for member in tar}


def test_twenty_steps_leave_no_mount_points(engine: Engine, snapshot: Snapshot) -> None:
    """The image has no /etc/hosts, no /run, no /proc, no /dev: they are made for every step and
    gone after it, the times of the directories above included."""
    for number in range(20):
        code, lines = run(engine, snapshot, "sh", "-c", f"cat /etc/hosts >/dev/null; exit {number}")
        assert (code, lines) == (number, [])
    assert layer(engine, snapshot) == {}


def test_what_a_step_does_stays(engine: Engine, snapshot: Snapshot) -> None:
    script = (
        "echo data > /etc/made; echo lost > /etc/hosts; rm -r /home; mkdir -p /run/kept/below;"
        "touch /run/kept/file; echo gone > /dev/shm/x"
    )
    assert run(engine, snapshot, "sh", "-c", script) == (0, [])
    assert run(engine, snapshot, "cat", "/etc/made") == (0, [(1, b"data\n")])
    found = layer(engine, snapshot)
    assert set(found) == {"etc", "etc/made", ".wh.home", "run", "run/kept", "run/kept/below",
                          "run/kept/file"}  # fmt: skip


def test_names_of_mount_points_that_the_image_made_its_own(
    engine: Engine, snapshot: Snapshot
) -> None:
    """A file that is there before, even empty, is the image's and stays."""
    with engine.store.snapshots.written(snapshot) as fd:
        os.makedirs(f"/proc/self/fd/{fd}/etc", exist_ok=True)
        os.close(os.open("etc/hosts", os.O_CREAT | os.O_WRONLY, 0o644, dir_fd=fd))
    assert run(engine, snapshot, "true") == (0, [])
    assert "etc/hosts" in layer(engine, snapshot)


def test_output_comes_by_lines(engine: Engine, snapshot: Snapshot) -> None:
    code, lines = run(engine, snapshot, "sh", "-c", "echo a; sleep 0.05; echo b >&2; echo -n c")
    assert code == 0
    assert [line for number, line in lines if number == 1] == [b"a\n", b"c"]
    assert [line for number, line in lines if number == 2] == [b"b\n"]
    script = "echo a; echo b >&2; echo c"
    assert run(engine, snapshot, "sh", "-c", script, merged=True)[1] == [
        (1, b"a\n"), (1, b"b\n"), (1, b"c\n"),
    ]  # fmt: skip


def test_r7_long_lines_come_in_parts(engine: Engine, snapshot: Snapshot) -> None:
    _, lines = run(engine, snapshot, "sh", "-c", "head -c 300000 /dev/zero; echo; echo end")
    assert max(len(line) for _, line in lines) <= MAX_LINE + 1
    whole = b"".join(line for _, line in lines)
    assert whole == bytes(300000) + b"\nend\n"


def test_the_environment_of_a_step(engine: Engine, snapshot: Snapshot) -> None:
    env = ("A=1", "PATH=/bin")
    _, lines = run(engine, snapshot, "env", env=env, hostname="builder", user="joe")
    assert {line for _, line in lines} == {
        b"A=1\n", b"PATH=/bin\n", b"HOSTNAME=builder\n", b"HOME=/home/joe\n", b"container=oci\n",
    }  # fmt: skip


def test_what_a_step_is_given(engine: Engine, snapshot: Snapshot, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("secret\n")
    script = "pwd; cat /run/secrets/x; touch /m/f && grep -c NoNewPrivs:.1 /proc/self/status; cat"
    code, lines = run(
        engine, snapshot, "sh", "-c", script,
        workdir="/work/dir",
        volumes=(Volume(source=str(tmp_path / "file"), destination="/run/secrets/x"),),
        tmpfs=(Tmpfs(destination="/m"),),
        security=Security(no_new_privileges=True),
        limits=Limits(ulimits=(("RLIMIT_CORE", 0, 0),)),
    )  # fmt: skip
    assert (code, b"".join(line for _, line in lines)) == (0, b"/work/dir\nsecret\n1\n")
    # S1: the secret, and where it was, are in no layer.
    assert set(layer(engine, snapshot)) == {"work", "work/dir"}


def test_commands_that_cannot_be_run(engine: Engine, snapshot: Snapshot) -> None:
    for name, code in (("nope", 127), ("/etc/passwd", 126)):
        with pytest.raises(RunFailed) as caught:
            run(engine, snapshot, name)
        assert caught.value.code == code


def test_errors_of_who_listens_end_the_step(engine: Engine, snapshot: Snapshot) -> None:
    def refuse(number: int, line: bytes) -> None:
        raise KeyError("stop")

    options = StepOptions(args=("yes",), network="none")
    with pytest.raises(KeyError):
        run_step(engine, snapshot, options, output=refuse, task=Task())
    assert run(engine, snapshot, "true") == (0, [])


def test_cancelled_steps(engine: Engine, snapshot: Snapshot) -> None:
    token = CancelToken()

    def output(number: int, line: bytes) -> None:
        threading.Thread(target=token.cancel, args=("enough",)).start()

    options = StepOptions(args=("sh", "-c", "echo up; exec sleep 600"), network="none")
    with pytest.raises(Cancelled, match="enough"):
        run_step(engine, snapshot, options, output=output, task=Task(cancel=token))
    with pytest.raises(Cancelled):
        run_step(engine, snapshot, options, output=output, task=Task(cancel=token))


def test_steps_in_several_threads(engine: Engine) -> None:
    """As parallel stages have them, each on its own snapshot."""
    image, _ = engine.store.find(IMAGE)
    names = [f"parallel-{number}" for number in range(6)]
    found: dict[str, object] = {}

    def one(name: str) -> None:
        snapshot = engine.store.snapshots.prepare(image.chain_id, name)
        script = f"for i in 1 2 3; do echo {name}; done"
        found[name] = run(engine, snapshot, "sh", "-c", script)

    threads = [threading.Thread(target=one, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for name in names:
        engine.store.snapshots.remove(name)
        assert found[name] == (0, [(1, f"{name}\n".encode())] * 3)
