"""A copy that is killed at any instant leaves the old image or the new one, whole.

`imgtools copy` gets SIGKILL IMGTOOLS_KILLS times per transport (default 6) at instants drawn over
the time that it takes. What is left is read wholly by both tools, and running the copy again
completes it with nothing left over.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from imgtools.copy.api import copy_by_name
from imgtools.errors import ImageNotFound
from imgtools.transport.lock import unfinished_prefix
from imgtools.transport.options import DestinationOptions, RegistryOptions, SourceOptions
from tests.e2e.debian import TAG, Made, entry, finish, image, new_layout, write_tar
from tests.e2e.forms import Place, check_equivalent, check_identical, place
from tests.rig import RegistryServer, RunCli

Skopeo = Callable[..., subprocess.CompletedProcess[str]]
KILLS = int(os.environ.get("IMGTOOLS_KILLS", "6"))
VARIANTS = (
    ("docker", False),
    ("docker", True),
    ("oci", False),
    ("oci", True),
    ("oci-archive", False),
    ("oci-archive", True),
    ("docker-archive", False),
    ("dir", False),
    ("dir", True),
)
PLAIN = RegistryOptions(tls_verify=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Images:
    """What is there before, under another name too, and what is to be there after."""

    old: Made
    new: Made


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Images]:
    """Two images with a layer in common."""
    directory = tmp_path_factory.mktemp("kill-images")
    chooser = random.Random(1)
    shared = write_tar(directory / "shared.tar", [entry("shared", chooser.randbytes(2_000_000))])

    def make(name: str, layers: int) -> Made:
        (directory / name).mkdir()
        tars = [shared]
        for n in range(layers):
            content = chooser.randbytes(4_000_000)
            tars.append(write_tar(directory / name / f"{n}.tar", [entry(f"{name}-{n}", content)]))
        layout = directory / name / "layout"
        top = image(new_layout(layout), tars, {"architecture": "amd64", "os": "linux"}, name)
        return finish(directory / name, layout, top, tars)

    yield Images(old=make("old", 1), new=make("new", 6))
    shutil.rmtree(directory)


def write(made: Made, name: str) -> None:
    """Copy an image in this process."""
    options = DestinationOptions(registry=PLAIN)
    copy_by_name(f"oci:{made.layout}:{TAG}", name, destination_options=options)


def files_below(directory: Path) -> set[str]:
    """Every path below a directory."""
    return {str(path.relative_to(directory)) for path in directory.rglob("*")}


class Target:
    """One place to be written to, and what is expected there."""

    def __init__(self, there: Place, directory: Path, images: Images, skopeo: Skopeo) -> None:
        self.there, self.directory, self.images, self.skopeo = there, directory, images, skopeo
        self.other = f"oci:{directory}/layout:other" if there.form == "oci" else ""

    def prepare(self, *, before: bool) -> None:
        """Put the old image there, or nothing."""
        if before:
            write(self.images.old, self.there.name)
            if self.other:
                write(self.images.old, self.other)

    def found(self, room: Path, *, before: bool) -> str:
        """Which image is there, after it was read wholly by both tools: old, new or none."""
        ours, theirs = room / "read-by-us", room / "read-by-skopeo"
        for directory in (ours, theirs):
            shutil.rmtree(directory, ignore_errors=True)
        flags = self.there.flags("src")
        try:
            options = SourceOptions(registry=PLAIN)
            copy_by_name(self.there.name, f"dir:{ours}", source_options=options)
        except ImageNotFound:
            refused = self.skopeo("copy", *flags, self.there.name, f"dir:{theirs}", check=False)
            assert refused.returncode != 0
            return "none"
        self.skopeo("copy", *flags, self.there.name, f"dir:{theirs}")
        if before and self.other:
            copy_by_name(self.other, f"dir:{room}/other")
            check_identical(room / "other", self.images.old)
            shutil.rmtree(room / "other")
        if self.there.form == "docker-archive":
            check_equivalent(ours, self.images.new)
            check_equivalent(theirs, self.images.new)
            return "new"
        is_new = (ours / "manifest.json").read_bytes() == self.images.new.manifest
        for directory in (ours, theirs):
            check_identical(directory, self.images.new if is_new else self.images.old)
        return "new" if is_new else "old"


def timed(run_cli: RunCli, arguments: list[str]) -> float:
    """Run to the end; the seconds it took."""
    started = time.monotonic()
    run_cli(*arguments, check=True)
    return time.monotonic() - started


def killed_after(run_cli: RunCli, arguments: list[str], seconds: float) -> int:
    """Start a copy and kill it after so many seconds; its status."""
    process = run_cli.start(*arguments)
    time.sleep(seconds)
    process.kill()
    _, errors = process.communicate()
    assert process.returncode in (0, -9), errors
    return process.returncode


@pytest.mark.parametrize(
    ("form", "before"), VARIANTS, ids=[f"{f}-{'over-old' if b else 'new'}" for f, b in VARIANTS]
)
def test_killed_copies(
    form: str,
    before: bool,
    images: Images,
    registry_plain: RegistryServer,
    repository: str,
    run_cli: RunCli,
    skopeo: Skopeo,
    room: Path,
) -> None:
    """Old or new, never between; then new, and nothing else."""
    chooser = random.Random(f"{form} {before}")

    def fresh(number: int) -> tuple[Target, list[str]]:
        directory = room / f"at-{number}"
        directory.mkdir()
        there = place(form, directory, registry_plain, f"{repository}/{number}")
        target = Target(there, directory, images, skopeo)
        target.prepare(before=before)
        source = f"oci:{images.new.layout}:{TAG}"
        return target, ["copy", "-q", *there.flags("dest"), source, there.name]

    target, arguments = fresh(0)
    whole = timed(run_cli, arguments)
    clean = files_below(target.directory)
    outcomes: Counter[str] = Counter()
    variants = sum(f == form for f, _ in VARIANTS)
    for number in range(1, -(-KILLS // variants) + 1):
        target, arguments = fresh(number)
        at_first = files_below(target.directory)
        status = killed_after(run_cli, arguments, whole * chooser.uniform(0.55, 1.05))
        begun = files_below(target.directory) - at_first
        # The machine's load changes: towards the time between the first file and the end.
        whole *= 0.85 if status == 0 else 1 if begun else 1.1
        found = target.found(room, before=before)
        assert found in ("new", "old" if before else "none")
        assert found == "new" or status != 0
        outcomes[
            f"{'killed' if status else 'completed'}, {found}, {'files' if begun else 'no files'}"
        ] += 1
        if not (form == "docker-archive" and found == "new"):
            run_cli(*arguments, check=True)
        assert target.found(room, before=before) == "new"
        assert files_below(target.directory) == clean
        assert os.listdir(run_cli.env["TMPDIR"]) == []
        shutil.rmtree(target.directory)
    print(f"\n{form}, {'over an old image' if before else 'new'}: {dict(outcomes)}")


@pytest.mark.parametrize("form", ["oci", "oci-archive", "docker-archive", "dir"])
def test_leftovers_do_not_pile_up(
    form: str, images: Images, registry_plain: RegistryServer, run_cli: RunCli, room: Path
) -> None:
    """Killed again and again in one place, then completed: as if it had been run once."""
    once, often = room / "once", room / "often"
    for directory in (once, often):
        directory.mkdir()

    def arguments(directory: Path) -> list[str]:
        there = place(form, directory, registry_plain, "unused")
        return ["copy", "-q", f"oci:{images.new.layout}:{TAG}", there.name]

    whole = timed(run_cli, arguments(once))
    for number in range(5):
        killed_after(run_cli, arguments(often), whole * (0.55 + 0.08 * number))
        if form == "docker-archive":
            # Complete before the kill came; this form refuses to replace one.
            (often / "docker.tar").unlink(missing_ok=True)
    run_cli(*arguments(often), check=True)
    assert files_below(once) == files_below(often)


def test_a_directory_that_was_not_tidied(images: Images, run_cli: RunCli, room: Path) -> None:
    """The rarest instant: the new manifest is there, and so is what only the old image had."""
    arguments = ["copy", f"oci:{images.new.layout}:{TAG}", f"dir:{room}/dir"]
    run_cli(*arguments, check=True)
    clean = files_below(room / "dir")
    (room / "dir" / unfinished_prefix(".")).mkdir()
    (room / "dir" / ("0" * 64)).write_bytes(b"a blob of the old image")
    run_cli(*arguments, check=True)
    assert files_below(room / "dir") == clean
    again = run_cli(*arguments, check=True)
    assert again.stderr.startswith("up to date: ")
