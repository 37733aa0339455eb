"""Disks that are full, closed or not ours: an error that says so, and nothing left behind."""

from __future__ import annotations

import os
import resource
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from imgtools.testing import images
from tests.bad_input import Outcome, everything
from tests.local_images import write
from tests.rig import RunCli

SAMPLE = images.random_image("disk", layers=1, size=300_000)
OLD = images.random_image("old", layers=1, size=300)
TRANSPORTS = ("oci", "dir", "oci-archive", "docker-archive")


def limited(run_cli: RunCli, *arguments: str, before: Callable[[], None] | None = None) -> Outcome:
    """Run a process without root's privilege to go where it may not, after `before`."""
    command = RunCli.command(*arguments)
    if os.geteuid() == 0:
        command = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", *command]
    done = subprocess.run(
        command, env=run_cli.env, cwd=run_cli.work, capture_output=True, timeout=60,
        check=False, preexec_fn=before,
    )  # fmt: skip
    return Outcome(done.returncode, done.stdout, done.stderr.decode())


def small_files() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))


def assert_failed(done: Outcome, *words: str) -> None:
    """Every line is an error or the note about a digest that changes."""
    done.refused(*words, lines=len(done.err.splitlines()))
    assert done.err


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_no_room(tmp_path: Path, run_cli: RunCli, transport: str) -> None:
    """The limit on file sizes stands in for a full disk: the same writes fail."""
    write(f"dir:{tmp_path}/source", SAMPLE)
    if transport != "docker-archive":
        write(f"{transport}:{tmp_path}/old", OLD)
    before = everything(tmp_path)
    for target in ("old", "new"):
        name = f"{transport}:{tmp_path}/{target}"
        done = limited(run_cli, "copy", "-q", f"dir:{tmp_path}/source", name, before=small_files)
        assert_failed(done, "file too large", str(tmp_path / target))
    assert everything(tmp_path) == before


@pytest.mark.parametrize("transport", ["oci-archive", "docker-archive"])
def test_full_device(tmp_path: Path, run_cli: RunCli, transport: str) -> None:
    write(f"dir:{tmp_path}/source", OLD)
    name = f"{transport}:/dev/full"
    done = limited(run_cli, "copy", "-q", f"dir:{tmp_path}/source", name)
    assert_failed(done, "no space left", "--tmpdir")


@pytest.mark.parametrize("view", [[], ["--raw"], ["--config"], ["--layers"], ["--files"]])
def test_full_standard_output(tmp_path: Path, run_cli: RunCli, view: list[str]) -> None:
    write(f"dir:{tmp_path}/source", OLD)
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            RunCli.command("inspect", *view, f"dir:{tmp_path}/source"),
            env=run_cli.env, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60,
            check=False,
        )  # fmt: skip
    Outcome(done.returncode, b"", done.stderr).refused("standard output", "no space left")


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_directory_that_is_not_ours(tmp_path: Path, run_cli: RunCli, transport: str) -> None:
    write(f"dir:{tmp_path}/source", OLD)
    locked = tmp_path / "locked"
    locked.mkdir()
    locked.chmod(0o555)
    done = limited(run_cli, "copy", "-q", f"dir:{tmp_path}/source", f"{transport}:{locked}/new")
    assert_failed(done, "permission denied", "check the permissions")
    assert everything(locked) == {}


@pytest.mark.parametrize("transport", ["oci", "dir"])
def test_image_that_is_not_ours(tmp_path: Path, run_cli: RunCli, transport: str) -> None:
    write(f"{transport}:{tmp_path}/source", OLD)
    (tmp_path / "source").chmod(0)
    try:
        done = limited(run_cli, "inspect", f"{transport}:{tmp_path}/source")
        done.refused("source", "permission denied", "check the permissions")
    finally:
        (tmp_path / "source").chmod(0o755)


def test_temporary_directory_that_is_not_there(tmp_path: Path, run_cli: RunCli) -> None:
    write(f"oci-archive:{tmp_path}/source", OLD)
    subprocess.run(["gzip", tmp_path / "source"], check=True)
    nowhere = str(tmp_path / "nowhere")
    done = run_cli("--tmpdir", nowhere, "inspect", f"oci-archive:{tmp_path}/source.gz")
    Outcome(done.returncode, b"", done.stderr).refused(nowhere)
