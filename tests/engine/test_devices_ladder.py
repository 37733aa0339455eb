"""Devices that commands of a build are given by whoever may open them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine import ladder_rig as rig
from tests.engine.ladder_rig import Environment, Ladder
from tests.engine.run_rig import make_image

SCRIPT = "echo x >/dev/nothing && stat -c '%F %t %T' /dev/nothing; ls /dev | grep -c zero"
BUILDERS = (rig.ROOT, rig.GRANTED, rig.UNGRANTED, rig.POD, rig.ROOT_POD)


@pytest.fixture(scope="module", name="ladder")
def _ladder() -> Iterator[Ladder]:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        directory.chmod(0o755)
        ladder = Ladder(directory)
        base = ladder.base(make_image(directory))
        (directory / "context").mkdir()
        (directory / "file").write_text(f"FROM oci-archive:{base}\nRUN {SCRIPT}\n")
        yield ladder


@pytest.mark.parametrize("where", BUILDERS, ids=lambda where: where.name)
def test_a_device_of_the_host_is_there(ladder: Ladder, where: Environment) -> None:
    done = ladder.imgtools(
        where, "build", "--file", f"{ladder.directory}/file", "--network=none",
        "--device=/dev/null:/dev/nothing:rw", f"{ladder.directory}/context",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert "character special file 1 3" in done.out.splitlines()


def test_what_is_no_device_is_refused(ladder: Ladder) -> None:
    done = ladder.imgtools(
        rig.GRANTED, "build", "--file", f"{ladder.directory}/file", "--network=none",
        "--no-cache", f"--device={ladder.directory}/file:/dev/nothing",
        f"{ladder.directory}/context",
    )  # fmt: skip
    assert done.code == 125
    assert "is not a device" in done.err
