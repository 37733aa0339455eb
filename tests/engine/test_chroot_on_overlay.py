"""A chroot that is asked for on a store with overlay layers: what can mount them is used instead,
with the host's network, and makes the same layers."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine import ladder_rig as rig
from tests.engine.ladder_image import layer
from tests.engine.ladder_rig import Done, Environment, Ladder

IMAGE = "localhost/programs:latest"
KINDS = {rig.ROOT: "root", rig.GRANTED: "ranges", rig.UNGRANTED: "single"}
EVERYWHERE = pytest.mark.parametrize("where", KINDS, ids=lambda where: where.name)
SCRIPT = (
    "mkdir /made; echo x >/made/file; chown 3:4 /made/file; chmod 4711 /made/file; rm /etc/group"
)
INTERFACES = " ".join(sorted(os.listdir("/sys/class/net")))
SHOWN = "cd /sys/class/net && echo *"


@pytest.fixture(scope="module")
def ladder() -> Iterator[Ladder]:
    """A ladder with the image in the store of each environment."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        directory.chmod(0o755)
        found = Ladder(directory)
        (directory / "layer.tar").write_bytes(layer())
        (directory / "context").mkdir()
        text = f"FROM {IMAGE}\nRUN {SCRIPT}\nRUN {SHOWN}\n"
        (directory / "context" / "Containerfile").write_text(text)
        for where in KINDS:
            made = found.imgtools(
                where, "copy", f"tarball:{name}/layer.tar", f"containers-storage:{IMAGE}"
            )
            assert made.code == 0, made.err
        yield found


def _told(done: Done, where: Environment) -> bool:
    """Whether it was said, once, what is used instead."""
    lines = [line for line in done.err.splitlines() if "warning: --isolation chroot: " in line]
    assert len(lines) <= 1, done.err
    return bool(lines) and f"the isolation {KINDS[where]} instead" in lines[0]


@EVERYWHERE
def test_run(ladder: Ladder, where: Environment) -> None:
    ran = ladder.imgtools(where, "run", "--isolation", "chroot", IMAGE, "sh", "-c", SHOWN)
    assert (ran.code, ran.out.split()) == (0, INTERFACES.split()), ran.err
    assert _told(ran, where)
    other = ladder.imgtools(where, "run", "--isolation", "chroot", "--network", "none", IMAGE,
                            "sh", "-c", SHOWN)  # fmt: skip
    assert (other.code, other.out) == (0, "lo\n"), other.err


@EVERYWHERE
def test_build_makes_the_same_layers(ladder: Ladder, where: Environment) -> None:
    context = f"{ladder.directory}/context"
    found = []
    for name, more in (("usual", ("--network", "host")), ("rooted", ("--isolation", "chroot"))):
        words = ("--no-cache", "--timestamp", "7", *more, "-t", name, context)
        done = ladder.imgtools(where, "build", *words)
        assert done.code == 0, done.err
        assert _told(done, where) == (name == "rooted")
        assert INTERFACES in done.out + done.err
        shown = ladder.imgtools(where, "inspect", f"containers-storage:localhost/{name}")
        assert shown.code == 0, shown.err
        found.append(json.loads(shown.out)["Layers"])
    assert found[0] == found[1]
    again = ladder.imgtools(where, "build", "--timestamp", "7", "--isolation", "chroot", context)
    assert again.code == 0, again.err
    assert not _told(again, where)


@EVERYWHERE
def test_working_containers(ladder: Ladder, where: Environment) -> None:
    made = ladder.imgtools(where, "from", "--isolation", "chroot", IMAGE)
    assert made.code == 0, made.err
    ran = ladder.imgtools(where, "run", made.out.strip(), "sh", "-c", f"{SCRIPT}; {SHOWN}")
    assert (ran.code, ran.out.split()) == (0, INTERFACES.split()), ran.err
    assert _told(ran, where)
    done = ladder.imgtools(where, "commit", "--rm", "--quiet", made.out.strip(), "committed")
    assert done.code == 0, done.err
    shown = ladder.imgtools(where, "run", "--network", "host", "committed", "stat", "-c", "%a",
                            "/made/file")  # fmt: skip
    assert (shown.code, shown.out) == (0, "4711\n"), shown.err


def test_plain_copies_are_run_in_a_chroot(ladder: Ladder) -> None:
    """What was asked for is what there is, with the host's network and without a word."""
    more = ("--root", f"{ladder.directory}/plain", "--runroot", f"{ladder.directory}/plain-run")
    copied = ladder.imgtools(rig.ROOT, "copy", "--storage-driver", "vfs", *more,
                             f"tarball:{ladder.directory}/layer.tar",
                             f"containers-storage:{IMAGE}")  # fmt: skip
    assert copied.code == 0, copied.err
    script = "test -e /proc/self || echo no procfs"
    ran = ladder.imgtools(
        rig.ROOT, "run", *more, "--isolation", "chroot", IMAGE, "sh", "-c", script
    )
    assert (ran.code, ran.out) == (0, "no procfs\n"), ran.err
    assert "instead" not in ran.err
