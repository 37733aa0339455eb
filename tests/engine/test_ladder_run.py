"""Every environment of the isolation ladder runs the same image, and makes the same layer."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.engine import ladder_rig as rig
from tests.engine.ladder_image import OWNERS, SCRIPT, layer
from tests.engine.ladder_rig import Environment, Ladder

IMAGE = "localhost/programs:latest"
SINGLE = (rig.UNGRANTED, rig.HELPERLESS, rig.NAMELESS, rig.MASKED, rig.POD)
KINDS = {
    rig.ROOT: "root",
    rig.GRANTED: "ranges",
    rig.ROOT_POD: "ranges",
    rig.DOCKER: "chroot",
    **dict.fromkeys(SINGLE, "single"),
}
FLAT = (rig.ROOT, rig.GRANTED, rig.UNGRANTED, rig.DOCKER)


@pytest.fixture(scope="module")
def ladder() -> Iterator[Ladder]:
    """A ladder with an image to copy from, readable for all."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        directory.chmod(0o755)
        found = Ladder(directory)
        (directory / "layer.tar").write_bytes(layer())
        source, target = f"tarball:{name}/layer.tar", f"oci:{name}/layout:programs"
        made = found.imgtools(rig.ROOT, "copy", "--dest-compress=false", source, target)
        assert made.code == 0, made.err
        yield found


def _copy(ladder: Ladder, where: Environment, *more: str) -> None:
    source = f"oci:{ladder.directory}/layout:programs"
    done = ladder.imgtools(where, "copy", *more, source, f"containers-storage:{IMAGE}")
    assert done.code == 0, done.err


def _changed(ladder: Ladder, where: Environment, script: str, **options: Any) -> dict[str, Any]:
    """Run `script` in a container, then have another process say what it changed."""
    ran = ladder.child(where, "run", image=IMAGE, keep="kept", script=script, **options)
    assert ran.code == 0, ran.err
    *printed, answer = ran.out.splitlines()
    document = json.loads(answer)
    assert document["code"] == 0, ran.err
    differing = ladder.child(where, "diff", keep="kept", **options)
    assert differing.code == 0, differing.err
    return {**document, **json.loads(differing.out), "printed": printed, "err": ran.err}


@pytest.fixture(scope="module")
def expected(ladder: Ladder) -> dict[str, Any]:
    """What root's container changes."""
    _copy(ladder, rig.ROOT)
    return _changed(ladder, rig.ROOT, SCRIPT)


def test_root_leaves_the_owners_that_the_script_asks_for(expected: dict[str, Any]) -> None:
    """What the others are compared with is right itself."""
    members = expected["members"]
    assert {n: (m[2], m[3], int(m[1], 8)) for n, m in members.items() if n in OWNERS} == OWNERS
    assert members["opt/tool/suid"][7] == ["SCHILY.xattr.security.capability"]
    assert not [name for name in members if name.startswith(("dev", "run", "proc", "sys"))]
    assert not {"etc/hosts", "etc/hostname", "etc/resolv.conf"} & members.keys()
    assert expected["printed"] == ["refused"]


@pytest.mark.parametrize("where", [w for w in KINDS if w != rig.ROOT], ids=lambda w: w.name)
def test_same_layer_in_every_environment(
    ladder: Ladder, expected: dict[str, Any], where: Environment
) -> None:
    """N1, C4, N5, Y7: whatever the host refuses, what a script did to files is the same."""
    _copy(ladder, where)
    found = _changed(ladder, where, SCRIPT)
    assert found["kind"] == KINDS[where]
    assert found["members"] == expected["members"]
    assert found["digest"] == expected["digest"]
    assert found["printed"] == expected["printed"]
    assert os.listdir(ladder.home(where) / "store/imgtools/snapshots") == []


@pytest.mark.parametrize("where", FLAT, ids=lambda w: w.name)
def test_same_layer_with_the_flat_driver(
    ladder: Ladder, expected: dict[str, Any], where: Environment
) -> None:
    """Copies instead of overlays change nothing in layers."""
    root = f"{ladder.home(where)}/flat"
    _copy(ladder, where, "--root", root, "--storage-driver", "vfs")
    found = _changed(ladder, where, SCRIPT, root=root, driver="flat")
    assert found["digest"] == expected["digest"]


@pytest.mark.parametrize(
    "where", [rig.GRANTED, rig.NAMELESS, rig.ROOT_POD, rig.DOCKER], ids=lambda w: w.name
)
def test_verbs_work_in_every_environment(ladder: Ladder, where: Environment) -> None:
    """From copy to prune; exit codes and streams pass, and nothing is left behind."""
    _copy(ladder, where)
    listed = ladder.imgtools(where, "images", "--noheading")
    assert "localhost/programs" in listed.out
    words = ("run", "-i", "--network", "host", IMAGE, "sh", "-c", "cat; echo err >&2; exit 7")
    ran = ladder.imgtools(where, *words, stdin=b"in\n")
    assert (ran.code, ran.out) == (7, "in\n"), ran.err
    assert ran.err.endswith("err\n")
    for verb, *more in (("rmi", IMAGE), ("prune", "-a", "-f")):
        done = ladder.imgtools(where, verb, *more)
        assert done.code == 0, done.err
    home = ladder.home(where)
    assert os.listdir(home / "store/imgtools/layers/sha256") == []
    for kind in ("containers", "runtime"):
        place = home / "run/store/imgtools" / kind
        assert not place.exists() or os.listdir(place) == []


@pytest.mark.parametrize("where", [rig.MASKED, rig.POD, rig.DOCKER], ids=lambda w: w.name)
def test_r2_nothing_runs_on_without_pid_namespace(ladder: Ladder, where: Environment) -> None:
    """What a script left in the background ends with it, even what has left its session."""
    _copy(ladder, where)
    seconds = 86400 + os.getpid()
    script = f"(sleep {seconds} & sleep {seconds} &) & exec >/dev/null; echo $$ > /dev/null"
    ran = ladder.imgtools(where, "run", "--network", "host", IMAGE, "sh", "-c", script)
    assert ran.code == 0, ran.err
    assert not _running(f"sleep\0{seconds}\0")


def _running(line: str) -> list[str]:
    """The processes that have this command line."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            text = Path(f"/proc/{name}/cmdline").read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        found += [name] if text == line else []
    return found


def test_user_is_recorded_where_it_does_not_exist(ladder: Ladder) -> None:
    """What a user makes is its own, whatever it is on disk."""
    owners: dict[Environment, Any] = {}
    for where in (rig.ROOT, rig.UNGRANTED):
        _copy(ladder, where)
        script = "touch /tmp/file; mkdir /tmp/dir; ln -s x /tmp/link"
        found = _changed(ladder, where, script, user="33:42")
        owners[where] = found["members"]
        assert found["members"]["tmp/file"][2:4] == [33, 42]
    assert owners[rig.ROOT] == owners[rig.UNGRANTED]


@pytest.mark.parametrize(("where", "said"), [(rig.UNGRANTED, True), (rig.GRANTED, False)],
                         ids=["single", "ranges"])  # fmt: skip
def test_apt_is_told_of_a_single_id(ladder: Ladder, where: Environment, said: bool) -> None:
    """apt refuses to download as somebody who is root still; layers know nothing of it."""
    _copy(ladder, where)
    found = _changed(ladder, where, "cat /etc/apt/apt.conf.d/*; : > /new")
    assert found["members"].keys() == {"new"}
    assert found["printed"] == (['APT::Sandbox::User "root";'] if said else [])


@pytest.mark.parametrize(
    ("where", "asked", "said"),
    [
        (rig.ROOT, "single", "files of ids that do not exist here"),
        (rig.ROOT, "ranges", "made outside of a user namespace"),
        (rig.GRANTED, "single", "files of ids that do not exist here"),
        (rig.UNGRANTED, "ranges", "isolation ranges: /etc/subuid grants jailed nothing"),
    ],
)
def test_isolation_that_does_not_suit_is_refused(
    ladder: Ladder, where: Environment, asked: str, said: str
) -> None:
    """A store has the owners it was made with; they are never mixed up."""
    _copy(ladder, where)
    words = ("--network", "host", "--isolation", asked, IMAGE, "true")
    ran = ladder.imgtools(where, "run", *words)
    assert ran.code == 125
    assert said in ran.err
