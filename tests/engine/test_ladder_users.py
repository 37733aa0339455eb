"""Users in containers with a single id: the program has their ids, the kernel treats it as a user,
and what it makes is theirs; the same layers as where there are all ids."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.engine import ladder_rig as rig
from tests.engine.ladder_rig import Environment, Ladder
from tests.engine.run_rig import IMAGE, make_image

SINGLE = (rig.UNGRANTED, rig.NAMELESS, rig.POD)
OTHERS = (rig.GRANTED, *SINGLE)
SCRIPT = """
refused() { if "$@" 2>/dev/null; then echo "allowed: $*"; else echo "refused: $*"; fi; }
echo $(id -u) $(id -g) $HOME
id
id >/tmp/id
cd /home/joe
umask 022
echo made >file && mkdir -p dir/sub && ln -s nowhere link && ln file hard
busybox mkfifo -m 640 fifo
chown joe:joe file && chown 1000 dir && chgrp joe link && chown -h joe:joe link
chgrp wheel dir/sub && chmod 2750 dir/sub
refused chown root file
refused chown :audio file
refused chown -h root link
refused chown 1000:0 dir
refused chown joe /etc/passwd
refused chgrp joe /usr
refused busybox mknod node c 1 3
mkdir moved && touch moved/inside && mv moved /tmp/moved
rm -f given && echo new >given
sed -i s/new/newer/ given
touch -- -1 && chown 4294967295 ./-1 && chmod 4755 ./-1
"""
PRINTED = """1000 1000 /home/joe
uid=1000(joe) gid=1000(joe) groups=10(wheel),1000(joe)
refused: chown root file
refused: chown :audio file
refused: chown -h root link
refused: chown 1000:0 dir
refused: chown joe /etc/passwd
refused: chgrp joe /usr
refused: busybox mknod node c 1 3
""".splitlines()


@pytest.fixture(scope="module", name="ladder")
def _ladder() -> Iterator[Ladder]:
    """A ladder whose environments all have the image."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        directory.chmod(0o755)
        ladder = Ladder(directory)
        small = make_image(directory)
        for where in (rig.ROOT, *OTHERS):
            done = ladder.imgtools(where, "copy", f"tarball:{small}", f"containers-storage:{IMAGE}")
            assert done.code == 0, done.err
        yield ladder


def _run(ladder: Ladder, where: Environment, user: str, script: str, *options: str) -> str:
    """What a script prints, run by `user`; nothing may be left of its container."""
    done = ladder.imgtools(
        where, "run", "--network=none", f"--user={user}", *options, IMAGE, "sh", "-c", script
    )
    # busybox says so of a line in the image's passwd.
    said = [line for line in done.err.splitlines() if not line.endswith(": bad record")]
    assert (done.code, said) == (0, []), done
    for kind in ("containers", "runtime"):
        place = ladder.home(where) / "run/store/imgtools" / kind
        assert not place.exists() or os.listdir(place) == [], kind
    assert os.listdir(ladder.home(where) / "store/imgtools/snapshots") == []
    return done.out


def _changes(
    ladder: Ladder, where: Environment, script: str, user: str, warned: int = 0, **choice: object
) -> dict[str, Any]:
    """What a script prints, and the layer that it leaves."""
    ran = ladder.child(
        where, "run", image=IMAGE, keep="kept", script=script, user=user, choice=choice
    )
    assert ran.code == 0, ran.err
    *printed, answer = ran.out.splitlines()
    assert json.loads(answer)["code"] == 0, ran.err
    assert len(json.loads(answer)["warnings"]) == warned
    differing = ladder.child(where, "diff", keep="kept")
    assert differing.code == 0, differing.err
    return {"printed": printed, **json.loads(differing.out)}


def test_a_user_leaves_the_same_layer_on_every_rung(ladder: Ladder) -> None:
    """Owners of all that it makes; chown(2) as far as a user may, and no further."""
    script = SCRIPT.replace("/usr", "/bin")
    printed = [line.replace("/usr", "/bin") for line in PRINTED]
    expected = _changes(ladder, rig.ROOT, script, "joe")
    assert expected["printed"] == printed
    members = expected["members"]
    assert members["home/joe/dir/sub"][1:4] == ["0o2750", 1000, 10]
    assert members["tmp/moved/inside"][2:4] == [1000, 1000]
    for where in OTHERS:
        assert _changes(ladder, where, script, "joe") == expected, where.name


@pytest.mark.parametrize("where", SINGLE, ids=lambda w: w.name)
def test_the_program_has_the_ids_of_its_user(ladder: Ladder, where: Environment) -> None:
    script = "echo $(id -u):$(id -g) $HOME $(stat -c %u:%g /proc/self/)"
    for user, ids, home in (
        ("joe", "1000:1000", "/home/joe"),
        ("joe:audio", "1000:29", "/home/joe"),
        ("7:8", "7:8", "/"),
        ("4294967294:4294967294", "4294967294:4294967294", "/"),
        ("root:audio", "0:29", "/root"),
        ("root", "0:0", "/root"),
    ):
        assert _run(ladder, where, user, script).split() == [ids, home, ids], user


def test_users_where_no_calls_can_be_answered(ladder: Ladder) -> None:
    """What it makes is its own even so, and the kernel itself refuses what a user may not do."""
    script = """
touch /tmp/a && mkdir /tmp/d && ln -s a /tmp/l && chown 1000:1000 /tmp/a && id -u
chown 0:0 /tmp/a 2>/dev/null || echo refused
"""
    expected = _changes(ladder, rig.ROOT, script, "joe")
    assert expected["printed"] == ["1000", "refused"]
    for emulation in ("errno", ""):
        assert _changes(ladder, rig.UNGRANTED, script, "joe", emulation=emulation) == expected
    instead = _changes(ladder, rig.UNGRANTED, script, "joe", warned=1, own_user=False)
    assert instead["printed"] == ["0"]
    assert instead["members"]["tmp/d"] == expected["members"]["tmp/d"]
    assert instead["members"]["tmp/a"][2:4] == [0, 0], "root gave it away"


def test_a_user_without_many_rights(ladder: Ladder) -> None:
    """What programs look at that refuse to be root, or to be of others."""
    script = """
grep -E 'Cap(Prm|Eff|Amb)|NoNewPrivs' /proc/self/status
echo x >/dev/null && echo y >/dev/stdout && cat </dev/null
busybox sh -c 'kill -0 1' && readlink /proc/1/exe
mount -t tmpfs none /tmp 2>/dev/null || echo mount refused
hostname other 2>/dev/null || echo name refused
busybox su root -c true 2>/dev/null || echo su refused
busybox setpriv --reuid=0 true 2>/dev/null || echo root refused
"""
    lines = _run(ladder, rig.UNGRANTED, "joe", script).split("\n")
    zeros = "0" * 16
    assert lines == [
        f"CapPrm:\t{zeros}",
        f"CapEff:\t{zeros}",
        f"CapAmb:\t{zeros}",
        "NoNewPrivs:\t1",
        "y",
        "/bin/busybox",
        "mount refused",
        "name refused",
        "su refused",
        "root refused",
        "",
    ]


@pytest.mark.parametrize("where", SINGLE, ids=lambda w: w.name)
def test_users_own_their_terminal(ladder: Ladder, where: Environment) -> None:
    """Its mode and owner, /dev/pts, and a terminal more."""
    script = "tty; stat -c %u:%a $(tty) /dev/console; test -c /dev/ptmx; ls /dev/pts; id -u"
    run = ladder.program(where, "run")
    words = (*run, "--network=none", "-it", "-u", "joe", IMAGE, "sh", "-c", script)
    program = f"import pty, sys; sys.exit(pty.spawn({words!r}) >> 8)"
    done = ladder.execute(where, f"{rig.INTERPRETER}/bin/python", "-c", program)
    assert done.code == 0, done
    lines = done.out.split()
    assert lines[0] == "/dev/pts/0"
    assert lines[1].startswith("1000:6"), lines
    assert lines[2] == lines[1]
    assert lines[3:] == ["0", "ptmx", "1000"]


def test_networks_volumes_and_tmpfs_of_a_user(ladder: Ladder) -> None:
    where = rig.UNGRANTED
    data = ladder.home(where) / "tmp/data"
    data.mkdir()
    os.chown(data, where.uid, where.uid)
    script = "ls /sys/class/net; echo mine >/data/file; stat -c %u:%g /data/file; "
    script += "touch /mnt/t && chown joe:joe /mnt/t /data/file && stat -c %u /mnt/t"
    options = (f"--volume={data}:/data", "--tmpfs=/mnt")
    assert _run(ladder, where, "joe", script, *options).split() == ["lo", "1000:1000", "1000"]
    found = (data / "file").stat()
    assert (found.st_uid, (data / "file").read_text()) == (where.uid, "mine\n")
    host = _run(ladder, where, "joe", "ls /sys/class/net", "--network=host")
    assert set(host.split()) == set(os.listdir("/sys/class/net"))


def test_capabilities_by_name_are_a_users_too(ladder: Ladder) -> None:
    """With CAP_CHOWN a user gives files away."""
    script = "touch /tmp/a && chown 7:8 /tmp/a /bin/busybox && grep CapEff /proc/self/status"
    found = _run(ladder, rig.UNGRANTED, "joe", script, "--cap-add=CHOWN")
    assert found == "CapEff:\t0000000000000001\n"


def test_users_take_turns_in_a_working_container(ladder: Ladder) -> None:
    """Each has what it made, and the image is the same on every rung."""
    script = """
set -e
c=$({from_} {image})
{run} $c -- sh -c 'mkdir -m 777 /work && touch /work/root /etc/mine'
{run} --user joe $c -- sh -c 'touch /work/joe /tmp/t; chown root /work/joe 2>/dev/null || id -u'
{run} --user 7:8 $c -- sh -c 'touch /work/seven; chown 7 /work/joe 2>/dev/null || id -u'
{run} $c -- sh -c 'touch /work/last; chown 12:13 /work/joe; rm /tmp/t; id -u'
{commit} --quiet --timestamp 1 $c
{rm} $c >/dev/null
"""
    found = {}
    for where in (rig.ROOT, *OTHERS):
        verbs = {
            name: " ".join(f"'{word}'" for word in ladder.program(where, name))
            for name in ("from", "run", "commit", "rm")
        }
        text = script.format(image=IMAGE, from_=verbs.pop("from"), **verbs)
        done = ladder.execute(where, "sh", "-c", text.replace("run'", "run' --network=host"))
        assert done.code == 0, (where.name, done)
        found[where.name] = done.out.split()
    assert found["root"][:3] == ["1000", "7", "0"]
    assert all(one == found["root"] for one in found.values()), found


def test_exec_finds_the_user_and_others(ladder: Ladder) -> None:
    """The same namespace for the same user, one more for another, and root's for root."""
    where = rig.UNGRANTED
    run = " ".join(f"'{word}'" for word in ladder.program(where, "run"))
    runtime = f"{rig.INTERPRETER}/bin/python -m engine.cli"
    runtime += f" --root {ladder.home(where)}/run/store/imgtools/runtime"
    script = f"""
mkfifo up
{run} --network=none -u joe {IMAGE} sh -c 'echo up; exec sleep 60' >up &
read line <up
id=$({runtime} list -q)
{runtime} exec $id sh -c 'id -u; readlink /proc/1/exe; cd /proc; for i in self 1; do
    readlink $i/ns/user; done'
{runtime} exec -u 0:0 $id sh -c 'id -u; kill -0 1 && grep -c . /proc/1/uid_map'
{runtime} exec -u 7:8 $id sh -c 'id -u; id -g; kill -0 1 && touch /tmp/a && stat -c %u:%g /tmp/a'
{runtime} kill $id KILL
wait
rm up
"""
    done = ladder.execute(where, "sh", "-c", script)
    lines = done.out.split()
    assert lines[:2] == ["1000", "/bin/busybox"], done
    assert lines[2] == lines[3]
    assert lines[4:] == ["0", "1", "7", "8", "7:8"], done


def test_root_is_used_where_no_namespace_can_be_had(ladder: Ladder) -> None:
    """With a warning; what is made belongs to the user nevertheless."""
    where = rig.UNGRANTED
    words = (*ladder.program(where, "run"), "--network=none", "-u", "joe", IMAGE, "id", "-u")
    limited = 'echo 0 >/proc/sys/user/max_user_namespaces && exec "$@"'
    done = ladder.execute(where, "unshare", "-Ur", "sh", "-c", limited, "sh", *words)
    assert (done.code, done.out) == (0, "0\n"), done
    assert "user 1000:1000 does not exist where there is a single id: root is used" in done.err


def test_further_groups_are_seen_but_give_no_rights(ladder: Ladder) -> None:
    for user, groups in (("joe", "10 29 1000"), ("root", "0 29"), ("7:8", "8 29")):
        words = ("--network=none", "-u", user, "--group-add=audio", IMAGE, "sh", "-c")
        script = "for each in $(id -G); do echo $each; done | sort -n"
        done = ladder.imgtools(rig.UNGRANTED, "run", *words, script)
        assert (done.code, done.out.split()) == (0, groups.split()), done
        assert done.err.count("--group-add") == 1
