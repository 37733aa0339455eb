"""What `imgtools sync` tells while it runs, and what an interruption leaves: events, digests."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from imgtools.testing.images import random_artifact, random_image
from imgtools.testing.registry import ScriptedRegistry
from tests.rig import RunCli
from tests.sync_rig import PLAIN, Sync, load


@pytest.fixture
def sync(run_cli: RunCli) -> Iterator[Sync]:
    """Two registries; the source has ns/app with some tags."""
    with ScriptedRegistry() as source, ScriptedRegistry() as target:
        for tag in "abcdef":
            load(source, "ns/app", random_image(tag), tag)
        yield Sync(run_cli, source, target)


def arguments(sync: Sync, *flags: str | Path) -> list[str | Path]:
    """A command line for `Sync.cli`."""
    names = (f"{sync.source.host}/ns/app", f"{sync.target.host}/mirror")
    return ["sync", "--src", "docker", "--dest", "docker", *PLAIN, *flags, *names]


def test_an_event_for_each_image(sync: Sync) -> None:
    """As soon as it is done, in the words of the result; also for what is the same."""
    image = random_image("a")
    report = random_artifact("report", subject=image.top.descriptor())
    load(sync.source, "ns/app", report)
    sync.source.fail(method="HEAD", path="/manifests/c", status=404)
    for outcome in ("new", "same"):
        done = sync("--json", "--keep-going", check=False)
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        events = [line for line in lines if line["event"] == "image"]
        assert lines[-1]["event"] == "result"
        found = {each["source"].rpartition(":")[2]: each for each in events}
        tags = {tag: found[tag]["outcome"] for tag in "abcdef"}
        assert tags == {**dict.fromkeys("abdef", outcome), "c": "failed"}
        assert found["c"]["error"].endswith("ns/app:c does not exist")
        result = lines[-1]["images"]
        assert sorted(result, key=str) == sorted(
            ({k: v for k, v in each.items() if k != "event"} for each in events), key=str
        )
        assert sum(each["referrer"] for each in events) == (outcome == "new")


def test_events_come_before_the_end(sync: Sync) -> None:
    """A program that reads them sees one image while others are on their way."""
    sync.source.fail(method="GET", path="/manifests/", nth=6, stall=30)
    with sync.cli.start(*arguments(sync, "--json")) as process:
        assert process.stdout is not None
        seen = 0
        for line in process.stdout:
            seen += json.loads(line)["event"] == "image"
            if seen == 5:
                break
        assert process.poll() is None
        process.terminate()
        process.communicate(timeout=30)
    assert seen == 5
    assert process.returncode == 143


@pytest.mark.parametrize(("number", "said"), [(signal.SIGTERM, "terminated"),
                                              (signal.SIGINT, "interrupted")])  # fmt: skip
def test_digest_file_of_an_interrupted_sync(
    sync: Sync, tmp_path: Path, number: int, said: str
) -> None:
    """It names what the destination has by then, and nothing of an older run."""
    digests = tmp_path / "there" / "digests"
    digests.parent.mkdir()
    digests.write_text("sha256:older docker://other\n")
    sync.source.fail(method="GET", path="/manifests/", nth=6, stall=30)
    with sync.cli.start(*arguments(sync, "--digestfile", digests)) as process:
        deadline = time.monotonic() + 30
        while len(sync.tags()) < 5 and time.monotonic() < deadline:
            time.sleep(0.02)
        # The answer to the last PUT has to arrive before it counts as done.
        time.sleep(0.3)
        process.send_signal(number)
        _, err = process.communicate(timeout=30)
    assert err.decode().splitlines()[-1] == f"imgtools: {said}"
    place = f"docker://{sync.target.host}/mirror/app"
    assert digests.read_text().splitlines() == [
        f"{digest} {place}:{tag}" for tag, digest in sorted(sync.tags().items())
    ]
    assert len(sync.tags()) == 5
    assert os.listdir(digests.parent) == ["digests"]


def test_digest_file_is_what_it_was(sync: Sync, tmp_path: Path) -> None:
    """A link stays a link, a mode a mode; a pipe is written to once."""
    digests, link, pipe = (tmp_path / name for name in ("digests", "link", "pipe"))
    digests.touch(mode=0o600)
    link.symlink_to(digests)
    sync("--digestfile", str(link))
    assert link.is_symlink()
    assert digests.stat().st_mode & 0o777 == 0o600
    lines = digests.read_text()
    assert lines.count("\n") == 6
    os.mkfifo(pipe)
    with subprocess.Popen(["cat", pipe], stdout=subprocess.PIPE, encoding="utf-8") as reader:
        sync("--digestfile", str(pipe))
        assert reader.communicate(timeout=30)[0] == lines
    refused = sync("--digestfile", str(tmp_path / "absent" / "digests"), check=False)
    assert refused.returncode == 1
    assert "absent" in refused.stderr


@pytest.mark.parametrize("redirection", ["2>/dev/full", "2>&-", ">&-", "<&- >&- 2>&-"])
def test_outputs_that_are_not_there(sync: Sync, redirection: str) -> None:
    """Notes that nobody can read keep no image from being copied."""
    words = sync.cli.command(*arguments(sync))
    done = subprocess.run(
        ["sh", "-c", f'"$@" {redirection}', "sh", *words],
        env=sync.cli.env, capture_output=True, encoding="utf-8", timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, len(sync.tags())) == (0, 6)
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("redirection", [">/dev/full", ">&-"])
def test_results_that_cannot_be_written(sync: Sync, redirection: str) -> None:
    """Who asked for them has to know."""
    words = sync.cli.command(*arguments(sync, "--dry-run"))
    done = subprocess.run(
        ["sh", "-c", f'"$@" {redirection}', "sh", *words],
        env=sync.cli.env, capture_output=True, encoding="utf-8", timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith("imgtools: standard output: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("keep_going", [True, False])
def test_a_name_that_the_destination_refuses(sync: Sync, keep_going: bool) -> None:
    """Other names of the same image come, unless the first failure is the end."""
    load(sync.source, "ns/app", random_image("many names"), "x1", "x2", "x3")
    number = sync.target.fail(
        method="PUT", path="/manifests/x1", status=403,
        body='{"errors":[{"code":"DENIED","message":"tag is immutable"}]}',
    )  # fmt: skip
    flags = ("--keep-going",) if keep_going else ()
    outcomes = sync.outcomes(*flags, check=False)
    assert sync.target.faults.applied(number) == 1
    others = {outcomes["app:x2"], outcomes["app:x3"]}
    assert (outcomes["app:x1"], others) == ("failed", {"new" if keep_going else "skipped"})
    assert {"x2", "x3"} & set(sync.tags()) == ({"x2", "x3"} if keep_going else set())


@pytest.mark.parametrize("first", [True, False])
def test_command_timeout_ends_a_hanging_sync(sync: Sync, tmp_path: Path, first: bool) -> None:
    """Before or after the verb, however many answers are waited for; what was done stands."""
    sync.source.fail(method="GET", path="/blobs/", nth=range(4, 100), stall=60)
    digests = tmp_path / "digests"
    words = arguments(sync, "--digestfile", digests)
    timeout = "--command-timeout=2s"
    started = time.monotonic()
    done = sync.cli(*((timeout, *words) if first else (*words, timeout)), timeout=30)
    assert time.monotonic() - started < 25
    assert (done.returncode, "longer than 2 seconds" in done.stderr) == (1, True)
    assert len(digests.read_text().splitlines()) == len(sync.tags()) < 6
