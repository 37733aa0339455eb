"""Programs that Containerfiles run, on rungs with every id and with a single one: what they do
as root, as other users and in ways that emulation has to follow."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine import ladder_rig as rig
from tests.engine.ladder_image import layer_with_python
from tests.engine.ladder_rig import Done, Environment, Ladder

MORE = ("busybox", "git", "ssh-keygen", "head")
SINGLE = (rig.UNGRANTED, rig.POD)
RUNGS = (rig.ROOT, rig.GRANTED, *SINGLE)


@pytest.fixture(scope="module", name="ladder")
def _ladder() -> Iterator[Ladder]:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        directory.chmod(0o755)
        ladder = Ladder(directory)
        layer = directory / "layer.tar"
        layer.write_bytes(layer_with_python(*MORE))
        ladder.base(layer)
        yield ladder


def build(ladder: Ladder, where: Environment, text: str, *options: str) -> Done:
    """Build a Containerfile on the image with the programs; the last line is the id."""
    file = ladder.directory / "Containerfile"
    file.write_text(f"FROM oci-archive:{ladder.directory}/base.tar\n{text}")
    file.chmod(0o644)
    return ladder.imgtools(
        where, "build", "--network=none", "--timestamp=1700000000", "--progress=plain", *options,
        "-f", str(file), str(ladder.home(where) / "tmp"),
    )  # fmt: skip


def same(ladder: Ladder, text: str) -> dict[str, list[str]]:
    """What builds of `text` say by rung, of RUNGS; the image has to be the same on all."""
    said: dict[str, list[str]] = {}
    for where in RUNGS:
        done = build(ladder, where, text)
        assert done.code == 0, (where.name, done.out, done.err)
        said[where.name] = done.out.splitlines()
    assert len({lines[-1] for lines in said.values()}) == 1, said
    return said


CALLS = """\
RUN <<EOF
set -e
id -u; chown www-data:shadow /srv/mine; stat -c %u:%g /srv/mine
busybox su -s /bin/sh www-data -c 'id -u; id -g'
setpriv --reuid=33 --regid=42 --clear-groups sh -c 'id -u; id -g'
mkdir -p /src/a /dst; echo x >/src/a/f; chmod 4710 /src/a/f; cp -a /src /copied
tar -C /src --owner=77 --group=78 -cf /t.tar a; tar -C /dst -xpf /t.tar; stat -c %u:%g /dst/a/f
mkdir /own; tar -C /own --no-same-owner -xf /t.tar; rm /t.tar
cd /dst; git init -q repo 2>/dev/null; cd repo; git status --porcelain; cd /; rm -rf /dst/repo
ssh-keygen -q -t ed25519 -N '' -f /key; ssh-keygen -y -f /key >/dev/null; rm /key /key.pub
useradd -u 1500 -U -d /home/wim -m -k /nowhere wim 2>/dev/null
install -o wim -g wim -m 2755 /dev/null /home/wim/file; chown --from=0:0 33 /own
rm -rf /etc/*- /var/log/* /etc/.pwd.lock
EOF
USER www-data
RUN id -u; id -g; echo mine >/tmp/own
"""


def test_e81_programs_that_ask_who_they_are(ladder: Ladder) -> None:
    """Accounts, keys, repositories and archives come out the same with one id as with all."""
    for name, lines in same(ladder, CALLS).items():
        begin = lines.index("0")
        # What stat and id show with a single id is root, whatever is recorded.
        expected = ["0", "33:42", "33", "33", "33", "42", "77:78"]
        if name in {where.name for where in SINGLE}:
            expected = ["0", "0:0", "0", "0", "0", "0", "0:0"]
        assert lines[begin : begin + 7] == expected, name


WAYS = """\
import _thread, os
done = _thread.allocate_lock()
done.acquire()
def other():
    os.close(os.open("/by/thread", os.O_CREAT | os.O_WRONLY))
    os.chown("/by/thread", 3, 4)
    done.release()
os.makedirs("/by", exist_ok=True)
_thread.start_new_thread(other, ())
done.acquire()
# The C library makes this child with CLONE_VM and CLONE_VFORK.
child = os.posix_spawn("/usr/bin/install", ["install", "-o", "5", "-g", "6", "/dev/null",
                       "/by/vfork"], os.environ)
print("vfork", os.waitpid(child, 0)[1])
# A program without a name, from memory, that is linked statically.
memory = os.memfd_create("program")
with open("/usr/bin/busybox", "rb") as program:
    while data := program.read(1 << 20):
        os.write(memory, data)
open("/by/memory", "w").close()
if not (child := os.fork()):
    os.execve(memory, ["chown", "7:8", "/by/memory"], os.environ)
print("memory", os.waitpid(child, 0)[1])
open("/by/static", "w").close()
child = os.posix_spawn("/usr/bin/busybox", ["chown", "9:10", "/by/static"], os.environ)
print("static", os.waitpid(child, 0)[1])
for name in sorted(os.listdir("/by")):
    found = os.stat(f"/by/{name}")
    print(name, found.st_uid, found.st_gid)
"""


def test_e82_threads_vfork_programs_from_memory_and_static_ones(ladder: Ladder) -> None:
    said = same(ladder, f"ENV PYTHONHOME=/usr\nRUN <<EOF python -S -\n{WAYS}EOF\n")
    lines = said[rig.ROOT.name]
    at = lines.index("vfork 0")
    assert lines[at : at + 7] == [
        "vfork 0", "memory 0", "static 0", "memory 7 8", "static 9 10", "thread 3 4", "vfork 5 6",
    ]  # fmt: skip


UNREADABLE = """\
RUN cp /usr/bin/busybox /usr/bin/busybox-secret && chmod 0711 /usr/bin/busybox-secret && touch /mine
RUN busybox-secret chown 5:6 /mine && busybox-secret chmod 4750 /mine
RUN busybox-secret stat -c '%u:%g %a' /mine
RUN chown 33:33 /tmp
USER www-data
RUN busybox-secret touch /tmp/made && busybox-secret stat -c '%u:%g %a' /tmp/made
RUN cat /usr/bin/busybox-secret >/dev/null 2>&1 || echo unreadable
"""


def test_e83_programs_of_mode_0711(ladder: Ladder) -> None:
    """Their memory cannot be read by whoever answers their calls, and need not be."""
    lines = same(ladder, UNREADABLE)[rig.ROOT.name]
    assert [said in lines for said in ("5:6 4750", "33:33 644", "unreadable")] == [True] * 3
