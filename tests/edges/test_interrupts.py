"""Case 69: Ctrl-C in the middle of transfers, in processes of their own."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from imgtools.spec import media_type as mt
from imgtools.testing import images
from imgtools.testing.dialects import Dialect
from imgtools.testing.registry import ScriptedRegistry
from tests.bad_input import push
from tests.rig import RunCli
from tests.rig.cutting import CutLink

SMALL = images.random_image("small", layers=2, size=400_000)
# Large enough to be remembered for another run.
BIG = images.random_image("big", layers=1, size=12_000_000, compression="none")
LAYER = next(d for d in BIG.blobs if mt.kind(d.media_type) == "layer")
MB = 1 << 20
STORE = ("copy", "-q", "--dest-tls-verify=false")
FETCH = ("copy", "-q", "--src-tls-verify=false")


def interrupted(
    process: subprocess.Popen[bytes], reached: Callable[[], bool], number: int = signal.SIGINT
) -> None:
    """Wait until the work is in the middle, interrupt it, and see it end as it should."""
    try:
        deadline = time.monotonic() + 30
        while not reached():
            assert process.poll() is None, process.stderr and process.stderr.read()
            assert time.monotonic() < deadline, "it never came that far"
            time.sleep(0.01)
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
    finally:
        process.kill()
    words = {signal.SIGINT: (130, b"interrupted"), signal.SIGTERM: (143, b"terminated")}
    code, word = words[signal.Signals(number)]
    assert (process.returncode, out) == (code, b"")
    assert err in (b"imgtools: interrupted\n", b"imgtools: %b\n" % word)


def temporary(run_cli: RunCli) -> list[Path]:
    """What is left where temporary files go."""
    return list(Path(run_cli.env["TMPDIR"]).iterdir())


def journal(run_cli: RunCli) -> list[dict[str, object]]:
    """The entries of the journal of transfers, all of which have to be whole."""
    directory = run_cli.home / ".local" / "state" / "imgtools" / "transfers"
    found = [path for path in directory.rglob("*") if path.suffix == ".json"]
    return [json.loads(path.read_text()) for path in found]


@pytest.fixture
def layouts(tmp_path: Path, run_cli: RunCli) -> Callable[[images.Sample], str]:
    """Gives a sample a place of its own on disk; its name."""

    def make(sample: images.Sample) -> str:
        with ScriptedRegistry() as registry:
            name = push(registry, "app", sample)
            run_cli(*FETCH, name, f"oci:{tmp_path}/layout:1", check=True)
        return f"oci:{tmp_path}/layout:1"

    return make


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_69_upload_gives_its_sessions_up(
    run_cli: RunCli, layouts: Callable[[images.Sample], str], number: signal.Signals
) -> None:
    source = layouts(SMALL)
    with ScriptedRegistry(auth="basic") as registry:
        name = f"docker://{registry.host}/app:1"
        arguments = (*STORE, "--dest-creds", "user:secret", source, name)
        registry.fail(method="PUT", path="/blobs/uploads/", stall=60)
        process = run_cli.start(*arguments)
        # All of them, because a session whose place was not told cannot be given up.
        blobs = len(SMALL.blobs)
        interrupted(process, lambda: registry.count("PUT", "/blobs/uploads/") == blobs, number)
        opened = {
            (e.response_headers or {})["location"].partition("?")[0]
            for e in registry.requests
            if e.method == "POST" and e.status == 202
        }
        given_up = {e.path for e in registry.requests if e.method == "DELETE"}
        assert opened
        assert given_up == opened
        assert all("authorization" in e.headers for e in registry.requests[-len(opened) :])
        assert temporary(run_cli) == []
        assert journal(run_cli) == []
        assert registry.repository("app").tags == {}
        registry.faults.clear()
        run_cli(*arguments, check=True)
        assert registry.repository("app").tags["1"] == SMALL.top.digest


def test_69_upload_may_not_be_allowed_to_give_up(
    run_cli: RunCli, layouts: Callable[[images.Sample], str]
) -> None:
    source = layouts(SMALL)
    with ScriptedRegistry(dialect=Dialect(cancel=403)) as registry:
        arguments = (*STORE, source, f"docker://{registry.host}/app:1")
        registry.fail(method="PUT", path="/blobs/uploads/", stall=60)
        process = run_cli.start(*arguments)
        interrupted(process, lambda: registry.count("PUT", "/blobs/uploads/") >= 2)
        assert registry.count("DELETE") >= 1
        registry.faults.clear()
        run_cli(*arguments, check=True)
        assert registry.repository("app").tags["1"] == SMALL.top.digest


def test_69_large_upload_is_left_for_the_next_run(
    run_cli: RunCli, layouts: Callable[[images.Sample], str]
) -> None:
    """What came is not given up but remembered, and only the rest is sent then."""
    source = layouts(BIG)
    with ScriptedRegistry() as registry, CutLink(registry.host, pace=0.005) as link:
        arguments = (*STORE, source, f"docker://{link.host}/app:1")
        interrupted(run_cli.start(*arguments), lambda: link.carried > 4 * MB)
        link.pace = 0.0
        assert temporary(run_cli) == []
        (entry,) = journal(run_cli)
        assert (entry["digest"], entry["repository"]) == (str(LAYER.digest), "app")
        assert registry.count("DELETE") == 0
        before = link.carried
        run_cli(*arguments, check=True)
        assert link.carried - before < LAYER.size - 2 * MB
        assert journal(run_cli) == []
        assert registry.repository("app").tags["1"] == BIG.top.digest


@pytest.mark.parametrize("form", ["oci", "dir", "oci-archive", "docker-archive"])
def test_69_download_leaves_nothing_or_what_goes_on(
    run_cli: RunCli, tmp_path: Path, form: str
) -> None:
    """Directories keep what came for the next run, archives are not there at all."""
    room = tmp_path / "room"
    room.mkdir()
    target = f"{form}:{room}/image" + ("" if form == "dir" else ":app:1")
    with ScriptedRegistry() as registry:
        arguments = (*FETCH, push(registry, "app", BIG), target)
        path = f"/blobs/{LAYER.digest}"
        registry.fail(method="GET", path=path, stall_after=5 * MB)

        def halfway() -> bool:
            return any(e.sent == 5 * MB for e in registry.requests)

        interrupted(run_cli.start(*arguments), halfway)
        assert temporary(run_cli) == []
        keeps = form in ("oci", "dir")
        if not keeps:
            assert list(room.iterdir()) == []
        assert len(journal(run_cli)) == keeps
        registry.faults.clear()
        registry.forget_requests()
        run_cli(*arguments, check=True)
        again = [e for e in registry.requests if e.path.endswith(path)]
        assert ("range" in again[-1].headers) is keeps
        assert (again[-1].sent <= LAYER.size - MB) is keeps
        assert temporary(run_cli) == []
        assert journal(run_cli) == []
        left = [p.name for p in room.rglob("*") if p.name.startswith(".")]
        assert left in ([], [".lock"], [".imgtools-lock"])
        # It is whole: another registry gets the very same image.
        if form in ("oci", "dir"):
            run_cli(*STORE, target, f"docker://{registry.host}/copy:1", check=True)
            assert registry.repository("copy").tags["1"] == BIG.top.digest
