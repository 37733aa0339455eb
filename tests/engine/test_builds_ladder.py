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


OWNERS = """
id -u; echo >/a; chown 5:6 /a; chmod 6755 /a; mkdir -m 1777 /b; chown 1000:1000 /b; touch /b/c
mknod /n p; chmod 666 /n; ln -s a /l; chown -h 7 /l; ln /a /h; chown 8:9 /h
echo >/home/joe/x; chown -R 1000:7 /home/joe; rm /etc/group; echo new >/etc/group
"""


def test_e81_owners_with_a_single_id(ladder: Ladder) -> None:
    """Calls succeed, and in the layer owners are those of any builder."""
    found = {
        where: built(ladder, where, mounts=False, script=f"({OWNERS}) 2>/dev/null")
        for where in (rig.ROOT, rig.GRANTED, rig.UNGRANTED, rig.POD)
    }
    for where, each in found.items():
        assert (each["code"], each["output"]) == (0, "0\n0\n"), (where, each)
    assert len({each["layer"] for each in found.values()}) == 1


BELOW = """
mkdir /d; for n in a b c e f g; do echo $n >/d/$n; done; chown 5:6 /d/a /d/b /d/e; chown 7:8 /d/c
ln /d/e /d/linked; cp /bin/busybox /d/tool; chown 9:9 /d/tool
"""
CHANGES = """
mv /d/a /d/moved; ln /d/b /d/again; mv /d/f /d/c; chmod 600 /d/linked; echo >>/d/e
mv /d/g /d/a; rm /d/tool; echo >/d/tool; mv /d/b /tmp/b; mv /tmp/b /d/b
"""


def test_owners_of_layers_below_go_with_their_files(ladder: Ladder) -> None:
    """A name that changes, a second one, and the parting of two, on disk and in records."""
    text = f"FROM oci-archive:{ladder.base(ladder.directory / 'small.tar')}\n"
    for script in (BELOW, CHANGES):
        text += f"RUN <<END\nset -e\n{script}END\n"
    (ladder.directory / "below").write_text(text)
    outputs = []
    for where in (rig.ROOT, rig.UNGRANTED, rig.POD):
        done = ladder.imgtools(
            where, "build", "-q", "-f", f"{ladder.directory}/below", "--network=none",
            "--timestamp=0", f"{ladder.directory}/context",
        )  # fmt: skip
        assert done.code == 0, done.err
        outputs.append(done.out)
    assert len(set(outputs)) == 1


PROGRAMS = """
cat </bin/busybox >/once; chmod 711 /once; mv /once /bin/unreadable; chown 0:0 /bin/unreadable
ln -s unreadable /bin/x; sh -c 'exec sh -c "echo $0"' ; echo a | cat | cat
exec 3</bin/busybox; /proc/self/fd/3 true || echo no; (sh -c 'kill -9 $$' || echo killed)
"""


def test_e82_programs_of_every_kind(ladder: Ladder) -> None:
    """Static ones, by pipes, forks, and signals, under emulation as without it."""
    outputs = {
        built(ladder, where, mounts=False, script=f"({PROGRAMS}) 2>/dev/null")["output"]
        for where in (rig.ROOT, rig.GRANTED, rig.UNGRANTED)
    }
    assert len(outputs) == 1
    assert "killed" in outputs.pop()


def test_e83_programs_that_cannot_be_read(ladder: Ladder) -> None:
    """Whoever may only execute them is not dumpable, and has its calls answered all the same."""
    script = (
        "cat /bin/busybox >/mine; chmod 4711 /mine; chown 3:4 /mine; ln -s /mine /tmp/chown;"
        "echo >/f; chmod 711 /mine; /tmp/chown 9:9 /f; rm /tmp/chown"
    )
    layers = set()
    for where in (rig.ROOT, rig.GRANTED, rig.UNGRANTED):
        found = built(ladder, where, mounts=False, script=f"({script}) 2>/dev/null")
        assert (found["code"], found["output"]) == (0, ""), found
        layers.add(found["layer"])
    assert len(layers) == 1


def test_steps_in_a_chroot(ladder: Ladder) -> None:
    found = built(ladder, rig.DOCKER, mounts=False, network="")
    assert (found["kind"], found["code"], found["output"]) == ("chroot", 0, "0\n0\n")
    other = built(ladder, rig.ROOT, mounts=False)
    assert found["layer"] == other["layer"]
    refused = built(ladder, rig.DOCKER, network="")
    assert "env=" in refused["error"]


LENT = """
cat /context/plain /writable/plain /stage/etc/group
echo more >>/writable/plain; ! test -e /context/hidden; echo lost >/memory/file; /bin/script
echo cached >>/cache/file; wc -l </cache/file; echo made >/made; stat -c '%u:%g %a' /cache
"""


def test_mounts_in_a_chroot(ladder: Ladder) -> None:
    """Moved into the tree and out of it again, with no trace in the layer."""
    order = {"network": "", "script": LENT, "without": ["secret"]}
    lent = built(ladder, rig.DOCKER, **order)
    assert lent.get("error") is None, lent
    text = OUTPUT.partition("secret")[0] + "script\n{}\n0:0 700\n"
    assert lent["output"] == text.format(1) + text.format(2)
    assert [name for name, *_ in lent["members"]] == ["made"]
    other = built(ladder, rig.ROOT, **{**order, "network": "none"})
    assert other["layer"] == lent["layer"]


TAKEN = "! test -e /cache/passwd; rm -r /cache; ln -s /etc /cache; mv /memory /kept; echo >/memory"


def test_what_is_lent_may_be_taken_apart(ladder: Ladder) -> None:
    """A link in the place of a cache does not become the cache, whatever it points at."""
    order = {"network": "", "script": TAKEN, "without": ["secret", "file"]}
    found = built(ladder, rig.DOCKER, **order)
    assert (found.get("error"), found["output"]) == (None, "")
    assert [name for name, *_ in found["members"]] == ["cache", "kept", "memory"]


def test_nothing_can_be_run_in_a_restricted_pod(ladder: Ladder) -> None:
    """The store works there all the same, and the error names call, errno and remedy."""
    found = built(ladder, rig.RESTRICTED, mounts=False, network="")
    assert (found["kind"], found["runs"]) == ("none", False)
    assert found["error"].startswith("Unsupported: ")
    assert "unshare" in found["error"]
    assert "EPERM" in found["error"]
