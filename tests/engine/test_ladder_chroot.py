"""Containers in a chroot, where no namespace may be made, and environments that run nothing."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.engine import ladder_rig as rig
from tests.engine.ladder_image import busybox
from tests.engine.ladder_rig import Done, Environment, Ladder

IMAGE = "localhost/busybox:latest"
DOCKER, RESTRICTED = rig.DOCKER, rig.RESTRICTED


@pytest.fixture(scope="module")
def ladder() -> Iterator[Ladder]:
    """A ladder on which both environments have the image."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        directory.chmod(0o755)
        found = Ladder(directory)
        (directory / "layer.tar").write_bytes(busybox())
        for where in (DOCKER, RESTRICTED):
            source, target = f"tarball:{name}/layer.tar", f"containers-storage:{IMAGE}"
            made = found.imgtools(where, "copy", source, target)
            assert made.code == 0, made.err
        yield found


def _run(ladder: Ladder, script: str, *more: str) -> Done:
    return ladder.imgtools(DOCKER, "run", *more, IMAGE, "sh", "-c", script)


def _changed(ladder: Ladder, script: str) -> dict[str, Any]:
    """What `script` changed."""
    ran = ladder.child(DOCKER, "run", image=IMAGE, keep="kept", script=script)
    assert ran.code == 0, ran.err
    assert json.loads(ran.out.splitlines()[-1])["code"] == 0, ran.out + ran.err
    done = ladder.child(DOCKER, "diff", keep="kept")
    assert done.code == 0, done.err
    members: dict[str, Any] = json.loads(done.out)["members"]
    return members


def test_devices_and_files_are_lent(ladder: Ladder) -> None:
    """Scripts find /dev/null and names; nothing of it is in the layer."""
    script = """set -e
        [ -c /dev/null ] && [ -c /dev/urandom ] && [ -c /dev/tty ] && [ ! -e /dev/console ]
        echo lost > /dev/null; [ -z "$(cat /dev/null)" ]
        grep -q nameserver /etc/resolv.conf; grep -q localhost /etc/hosts; [ -s /etc/hostname ]
        [ -e /run/.containerenv ]
        echo 192.0.2.9 mine >> /etc/hosts"""
    assert _changed(ladder, script) == {}


def test_what_the_image_had_there_comes_back(ladder: Ladder) -> None:
    """The image's own resolv.conf is only out of the way, whatever is done to the lent one."""
    assert _changed(ladder, "! grep -q 192.0.2.1 /etc/resolv.conf && rm /etc/resolv.conf") == {
        # The directory was written to.
        "etc": ["5", "0o755", 0, 0, 0, "", [0, 0], [], ""]
    }
    members = _changed(ladder, "rm /etc/hosts; echo own > /etc/hosts; mkdir /dev/mine")
    assert members.keys() == {"dev", "dev/mine", "etc", "etc/hosts"}


def test_container_cannot_leave_the_chroot(ladder: Ladder) -> None:
    """What leaves a chroot or reaches disks is withheld, and a seccomp filter is in force."""
    script = """chroot / true 2>/dev/null && echo chroot
        mknod /disk b 8 0 2>/dev/null && echo mknod
        ls /proc/1 2>/dev/null && echo proc
        exit 0"""
    ran = _run(ladder, script)
    assert (ran.code, ran.out) == (0, ""), ran.err


def test_root_of_the_container_is_root(ladder: Ladder) -> None:
    """Owners and users are real."""
    ran = _run(ladder, "touch /f; chown 33:42 /f; stat -c '%u %g' /f; id -u; su www-data -c id")
    assert ran.out.startswith("33 42\n0\n"), ran.err
    ran = _run(ladder, "id -u; id -g", "--user", "33:42")
    assert ran.out == "33\n42\n", ran.err


@pytest.mark.parametrize(
    ("option", "said"),
    [
        (("-v", "/usr:/mnt"), "/mnt cannot be made in a chroot"),
        (("--tmpfs", "/scratch"), "/scratch cannot be made in a chroot"),
        (("--read-only",), "root.readonly cannot be had in a chroot"),
        (("--network", "none"), "network none cannot be had in a chroot"),
        (("--hostname", "mine"), "a host name of its own cannot be given"),
        (("--security-opt", "mask=/etc/shadow"), "maskedPaths"),
        (("--isolation", "userns"), "unshare(CLONE_NEWUSER): EPERM: a seccomp filter denies it"),
    ],
    ids=lambda value: value if isinstance(value, str) else value[0],
)
def test_what_needs_a_namespace_is_refused(
    ladder: Ladder, option: tuple[str, ...], said: str
) -> None:
    """Never ignored: the error says what cannot be had."""
    ran = _run(ladder, "echo ran", *option)
    assert (ran.code, ran.out) == (125, ""), ran.err
    assert said in ran.err


def test_terminal_works(ladder: Ladder) -> None:
    """The host's pty without a name inside."""
    ran = ladder.execute(
        DOCKER,
        f"{rig.INTERPRETER}/bin/python",
        "-c",
        "import os, pty, sys\n"
        "status = pty.spawn(sys.argv[1:])\n"
        "sys.exit(os.waitstatus_to_exitcode(status))",
        *ladder.program(DOCKER, "run"),
        "-it",
        IMAGE,
        "sh",
        "-c",
        "[ -t 0 ] && [ -t 1 ] && echo terminal",
    )
    assert "terminal\r" in ran.out, ran.out + ran.err


def test_restricted_pod_says_why_nothing_runs(ladder: Ladder) -> None:
    """System call, errno and remedy of each way; images can be looked at all the same."""
    listed = ladder.imgtools(RESTRICTED, "images", "--noheading")
    assert "localhost/busybox" in listed.out
    ran = ladder.imgtools(RESTRICTED, "run", IMAGE, "true")
    assert ran.code == 125
    for words in (
        "unshare(CLONE_NEWUSER): EPERM: a seccomp filter denies it",
        "chroot: EPERM",
        "no_new_privs is set",
        "allowPrivilegeEscalation: true",
        "seccompProfile Unconfined",
        "the capability SYS_CHROOT",
    ):
        assert words in ran.err
    shared = ladder.imgtools(RESTRICTED, "unshare", "true")
    assert shared.code != 0
    assert "unshare(CLONE_NEWUSER): EPERM" in shared.err
    copied = ladder.imgtools(
        RESTRICTED,
        "copy",
        f"containers-storage:{IMAGE}",
        f"oci:{ladder.home(RESTRICTED)}/tmp/out:again",
    )
    assert copied.code == 0, copied.err


@pytest.mark.parametrize(
    ("where", "kind", "rung"),
    [
        (rig.ROOT, "root", "A"),
        (rig.GRANTED, "ranges", "B"),
        (rig.UNGRANTED, "single", "C"),
        (rig.ROOT_POD, "ranges", "D-crio"),
        (DOCKER, "chroot", "D"),
        (RESTRICTED, "none", "none"),
    ],
    ids=lambda value: value.name if isinstance(value, Environment) else value,
)
def test_info_says_what_is_chosen(ladder: Ladder, where: Environment, kind: str, rung: str) -> None:
    """The same choice that run makes."""
    done = ladder.imgtools(where, "info", "--format", "json")
    assert done.code == 0, done.err
    found = json.loads(done.out)["isolation"]
    assert (found["kind"], found["rung"]) == (kind, rung)


def test_home_and_runtime_directory_may_be_missing(ladder: Ladder) -> None:
    """A pod's uid has no name and no HOME: then the error says what to give."""
    python = f"{rig.INTERPRETER}/bin/python"
    done = ladder.execute(rig.NAMELESS, python, "-c", rig.START, "images")
    assert done.code == 1
    assert "HOME is not set" in done.err
    assert os.listdir(ladder.home(rig.NAMELESS) / "tmp") == []
