"""Steps of a build on every rung of the ladder: every kind of mount, and the same layer."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.engine import ladder_rig as rig
from tests.engine.ladder_rig import Environment, Ladder
from tests.engine.run_rig import make_image

KINDS = {
    rig.ROOT: "root",
    rig.GRANTED: "ranges",
    rig.ROOT_POD: "ranges",
    rig.UNGRANTED: "single",
    rig.POD: "single",
}
OUTPUT = (
    "plain\nplain\nroot:x:0:\njoe:x:1000:\nwheel:x:10:joe\naudio:x:29:\nsecret\nscript\n"
    "0:0 400\n0:0 700\n"
)


@pytest.fixture(scope="module", name="ladder")
def _ladder() -> Iterator[Ladder]:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        directory.chmod(0o755)
        make_image(directory)
        context = directory / "context"
        context.mkdir()
        for each in ("plain", "hidden"):
            (context / each).write_text(f"{each}\n")
        yield Ladder(directory)


def built(ladder: Ladder, where: Environment, **more: object) -> dict[str, Any]:
    """What the child says of a build there."""
    home = ladder.home(where)
    order = {
        "root": f"{home}/store", "runroot": f"{home}/run/store",
        "image": f"{ladder.directory}/small.tar", "context": f"{ladder.directory}/context",
        "mounts": True, "network": "none", **more,
    }  # fmt: skip
    python = f"{rig.INTERPRETER}/bin/python"
    done = ladder.execute(where, python, "-m", "tests.engine.builds_child", json.dumps(order))
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert isinstance(found, dict)
    return found


def test_e71_mounts_are_the_same_on_every_rung(ladder: Ladder) -> None:
    layers = set()
    for where, kind in KINDS.items():
        found = built(ladder, where)
        assert found.get("error") is None, (where.name, found)
        assert (found["kind"], found["code"]) == (kind, 0), (where.name, found)
        assert found["output"] == OUTPUT * 2, where.name
        layers.add(found["layer"])
    assert len(layers) == 1


@pytest.mark.parametrize("where", [rig.ROOT, rig.UNGRANTED], ids=lambda where: where.name)
def test_mounts_without_overlays(ladder: Ladder, where: Environment) -> None:
    home = ladder.home(where)
    found = built(ladder, where, root=f"{home}/run/flat", driver="flat")
    assert (found.get("error"), found.get("output")) == (None, OUTPUT * 2)


def test_steps_in_a_chroot(ladder: Ladder) -> None:
    found = built(ladder, rig.DOCKER, mounts=False, network="")
    assert (found["kind"], found["code"], found["output"]) == ("chroot", 0, "0\n0\n")
    other = built(ladder, rig.ROOT, mounts=False)
    assert found["layer"] == other["layer"]
    refused = built(ladder, rig.DOCKER, network="")
    assert "mount" in refused["error"]


def test_nothing_can_be_run_in_a_restricted_pod(ladder: Ladder) -> None:
    """The store works there all the same, and the error names call, errno and remedy."""
    found = built(ladder, rig.RESTRICTED, mounts=False, network="")
    assert (found["kind"], found["runs"]) == ("none", False)
    assert found["error"].startswith("Unsupported: ")
    assert "unshare" in found["error"]
    assert "EPERM" in found["error"]
