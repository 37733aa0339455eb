"""Programs under root emulation: what they see, and what is noted, as root and as a user."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.rig import REPOSITORY

APPLETS = "sh chown chgrp chmod mknod mkdir ls stat cat ln mv rm touch cp id echo mkfifo"
AS_ON_DISK = -1
Noted = list[object]


@dataclass(frozen=True)
class Ran:
    """What a run left: exit status, output, notes by path and by inode number, the tree."""

    status: int
    output: str
    notes: dict[str, Noted]
    inodes: dict[str, list[int]]
    root: Path

    def owner(self, path: str) -> tuple[object, object]:
        """The noted uid and gid."""
        return self.notes[path][0], self.notes[path][1]


@dataclass(frozen=True)
class World:
    """A rootfs with a shell that belongs to `uid`."""

    uid: int
    directory: Path

    @property
    def root(self) -> Path:
        """The rootfs."""
        return self.directory / "root"

    def run(self, kind: str, text: str, mode: str = "record") -> Ran:
        """Run a script; the process that records is another than this one."""
        done = subprocess.run(
            [
                *(sys.executable, "-m", "tests.engine.emulated", str(self.uid), mode),
                *(str(self.root), str(self.directory / "notes"), kind, text),
            ],
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
            check=False,
        )
        output, _, last = done.stdout.rpartition("\n")
        assert last.startswith("{"), done.stdout
        report = json.loads(last)
        return Ran(report["status"], output, report["notes"], report["inodes"], self.root)


@pytest.fixture(params=[0, 12345], ids=["root", "user"])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    """As root and as a user without anything; in a directory that the user can reach."""
    uid = request.param
    directory = Path(tempfile.mkdtemp(prefix="emulation-"))
    try:
        root = directory / "root"
        for name in ("bin", "proc", "etc", "tmp", "ro"):
            (root / name).mkdir(parents=True)
        shutil.copy("/bin/busybox", root / "bin/busybox")
        for name in APPLETS.split():
            (root / "bin" / name).symlink_to("busybox")
        (root / "below").write_text("x")
        (root / "ro/file").write_text("x")
        for path in (directory, *directory.rglob("*")):
            os.chown(path, uid, uid, follow_symlinks=False)
        yield World(uid, directory)
    finally:
        shutil.rmtree(directory)


INSTALL = """
mkdir -p /usr/bin /var/mail
echo x > /usr/bin/tool
chown 0:102 /usr/bin/tool
chmod 2755 /usr/bin/tool
cp /etc/../usr/bin/tool /etc/conf
chown 33:34 /etc/conf
chmod 0644 /etc/conf
chgrp 8 /var/mail
ln -s conf /etc/link
chown -h 5:6 /etc/link
chown 44:34 /etc/link
mknod -m 0640 /tmp/disk b 8 300
mknod /tmp/zero c 1 5
mkfifo /tmp/pipe
chown 70000:80000 /tmp/pipe
"""


def test_fake_mode_lets_scripts_succeed(world: World) -> None:
    """And notes nothing; device nodes are not there."""
    ran = world.run("sh", INSTALL + "ls /tmp/zero || echo none", mode="fake")
    assert (ran.status, ran.notes) == (0, {})
    assert "none" in ran.output
    assert (ran.root / "etc/conf").stat().st_uid == world.uid


def test_record_mode_notes_what_scripts_ask_for(world: World) -> None:
    """Owners through links and not, devices, and files that are renamed afterwards."""
    ran = world.run("sh", INSTALL + "mv /etc/conf /etc/renamed")
    assert ran.status == 0, ran.output
    assert ran.owner("usr/bin/tool") == (0, 102)
    assert ran.owner("etc/renamed") == (44, 34)
    assert ran.owner("etc/link") == (5, 6)
    assert ran.owner("var/mail") == (0, 8)
    assert ran.owner("tmp/pipe") == (70000, 80000)
    assert ran.notes["tmp/disk"][2:4] == [stat.S_IFBLK | 0o640, [8, 300]]
    assert ran.notes["tmp/zero"][2:4] == [stat.S_IFCHR | 0o644, [1, 5]]
    assert ran.notes["usr/bin/tool"][2] == AS_ON_DISK
    disk = (ran.root / "tmp/disk").stat()
    assert stat.S_ISREG(disk.st_mode)
    assert (disk.st_size, stat.S_IMODE(disk.st_mode), disk.st_uid) == (0, 0o640, world.uid)
    assert (ran.root / "usr/bin/tool").stat().st_mode & 0o7777 == 0o2755


DPKG = """
names = ["usr", "usr/lib", "usr/lib/ssh-agent.dpkg-new", "usr/lib/ssh-agent"]
os.mkdir("/usr"); os.chown("/usr", 0, 0)
os.mkdir("/usr/lib"); os.chown("/usr/lib", 0, 0); os.chmod("/usr/lib", 0o755)
fd = os.open("/usr/lib/ssh-agent.dpkg-new", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0)
os.write(fd, b"elf"); os.fchown(fd, 0, 102); os.fchmod(fd, 0o2755); os.fsync(fd); os.close(fd)
os.rename("/usr/lib/ssh-agent.dpkg-new", "/usr/lib/ssh-agent")
capability = bytes.fromhex("0100000200200000000000000000000000000000")
os.setxattr("/usr/lib/ssh-agent", "security.capability", capability)
os.setgid(65534); os.setuid(65534); os.setgroups([1, 2, 3]); os.setresuid(1, 2, 3)
os.seteuid(42)
"""


def test_what_dpkg_does(world: World) -> None:
    """Owner and mode by descriptor, rename, file capabilities, and changing ids."""
    ran = world.run("python", DPKG)
    assert ran.status == 0, ran.output
    noted = ran.notes["usr/lib/ssh-agent"]
    assert noted == [
        0,
        102,
        AS_ON_DISK,
        [0, 0],
        {"security.capability": "0100000200200000000000000000000000000000"},
    ]
    assert (ran.root / "usr/lib/ssh-agent").stat().st_mode & 0o7777 == 0o2755
    assert world.run("python", DPKG.replace('"/usr', '"/tmp/usr'), mode="fake").status == 0


def test_errors_are_those_of_the_kernel(world: World) -> None:
    """A program must not be told of success where a real root would not be."""
    ran = world.run(
        "python",
        """
os.symlink("loop", "/loop"); os.symlink("nowhere", "/dangling")
os.mkdir("/dir"); open("/dir/file", "w").close()
def check(wanted, function, *args, **more):
    got = fails(function, *args, **more)
    assert got == wanted, (errno.errorcode.get(got), errno.errorcode.get(wanted), args)
check(errno.ENOENT, os.chown, "/missing", 1, 1)
check(errno.ENOENT, os.chown, "/dangling", 1, 1)
check(0, os.lchown, "/dangling", 1, 1)
check(errno.ENOENT, os.chown, "", 1, 1)
check(errno.ELOOP, os.chown, "/loop", 1, 1)
check(0, os.lchown, "/loop", 1, 1)
check(errno.ENOTDIR, os.chown, "/dir/file/x", 1, 1)
check(errno.ENOTDIR, os.chown, "/dir/file/", 1, 1)
check(errno.EROFS, os.chown, "/ro/file", 1, 1)
check(errno.EROFS, os.setxattr, "/ro/file", "trusted.x", b"1")
check(errno.EROFS, os.mknod, "/ro/null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
check(errno.EBADF, os.fchown, 999, 1, 1)
check(errno.ENAMETOOLONG, os.chown, "/" + "x" * 300, 1, 1)
check(errno.ENAMETOOLONG, os.chown, "/x" * 2100, 1, 1)
check(errno.EEXIST, os.mknod, "/dir", stat.S_IFBLK, os.makedev(8, 1))
check(errno.EEXIST, os.mknod, "/dangling", stat.S_IFBLK, os.makedev(8, 1))
check(errno.ENOENT, os.mknod, "/none/x", stat.S_IFBLK, os.makedev(8, 1))
check(errno.ENOENT, os.mknod, "/new/", stat.S_IFBLK, os.makedev(8, 1))
check(errno.EEXIST, os.mknod, "/dir/..", stat.S_IFBLK, os.makedev(8, 1))
check(errno.ENODATA, os.setxattr, "/dir", "security.a", b"", os.XATTR_REPLACE)
check(0, os.setxattr, "/dir", "security.a", b"", os.XATTR_CREATE)
check(errno.EEXIST, os.setxattr, "/dir", "security.a", b"", os.XATTR_CREATE)
check(errno.EINVAL, os.setxattr, "/dir", "security.capability", b"short")
check(errno.EPERM, os.setxattr, "/dir", "trusted.overlay.opaque", b"y")
check(errno.ENODATA, os.removexattr, "/dir", "user.none")
check(0, os.removexattr, "/dir", "security.a")
check(0, os.setxattr, "/dir", "user.own", b"kernel")
import ctypes
assert LIBC.chown(ctypes.c_void_p(8), 1, 1) == -1 and ctypes.get_errno() == errno.EFAULT
assert LIBC.fchownat(-100, b"/dir", 1, 1, 0x4000) == -1 and ctypes.get_errno() == errno.EINVAL
assert LIBC.fchownat(os.open("/dir/file", os.O_RDONLY), b"", 3, 4, 0x1000) == 0
""",
    )
    assert ran.status == 0, ran.output
    assert ran.owner("dir/file") == (3, 4)
    assert ran.owner("dangling") == (1, 1)
    assert ran.notes["dir"][4] == {}
    assert os.getxattr(ran.root / "dir", "user.own") == b"kernel"
    assert not (ran.root / "ro/null").exists()


def test_paths_mean_what_they_mean_to_the_caller(world: World) -> None:
    """Relative to any directory, upwards, absolute links, and the links of /proc."""
    ran = world.run(
        "python",
        """
os.makedirs("/a/b/c"); os.makedirs("/out")
for name in ("/a/b/c/f1", "/a/f2", "/out/f3", "/out/f4", "/out/f5", "/f6", "/out/f7", "/f8"):
    open(name, "w").close()
os.symlink("/out", "/a/b/abs"); os.symlink("../../out", "/a/b/up")
os.chdir("/a/b")
os.chown("c/f1", 1, 1); os.chown("../f2", 2, 2); os.chown("abs/f3", 3, 3)
d = os.open("/a/b/c", os.O_RDONLY)
os.chown("../up/f4", 4, 4, dir_fd=d)
f = os.open("/out/f5", os.O_RDONLY)
os.chown(f"/proc/self/fd/{f}", 5, 5)
os.chown("../../../../f6", 6, 6)
os.dup2(os.open("/out/f7", os.O_RDONLY), 77)
os.symlink("/proc/self/fd/77", "/a/b/stdout"); os.chown("stdout", 7, 7)
os.chroot("/a") ; os.chdir("/b")
assert fails(os.chown, "/f8", 8, 8) == errno.ENOENT
""".replace('os.chroot("/a") ; ', 'assert fails(os.chroot, "/a") == 1; ')
        .replace('assert fails(os.chown, "/f8", 8, 8) == errno.ENOENT', 'os.chown("/f8", 8, -1)')
        .replace('os.chdir("/b")', "pass"),
    )
    assert ran.status == 0, ran.output
    wanted = {"a/b/c/f1": 1, "a/f2": 2, "out/f3": 3, "out/f4": 4, "out/f5": 5, "f6": 6}
    for path, uid in (wanted | {"out/f7": 7}).items():
        assert ran.owner(path) == (uid, uid), path
    assert ran.owner("f8") == (8, 0)


def test_another_process_in_proc_leads_nowhere(world: World) -> None:
    """Links of /proc are followed for the caller itself, not with the recorder's rights."""
    ran = world.run(
        "python",
        """
parent = os.getppid()
assert fails(os.chown, f"/proc/{parent}/root/etc", 1, 1) == errno.EACCES
assert fails(os.mknod, f"/proc/{parent}/cwd/made", stat.S_IFBLK, os.makedev(8, 1)) == errno.EACCES
""",
    )
    assert ran.status == 0, ran.output
    assert not (REPOSITORY / "made").exists()


def test_minus_one_keeps_and_bits_go(world: World) -> None:
    """chown(2) with -1, the owners of lower layers, set-id bits and capabilities."""
    ran = world.run(
        "python",
        """
os.chown("/below", -1, 9)
for name, mode in (("/s", 0o6755), ("/m", 0o2644), ("/d", None)):
    os.mkdir(name) if mode is None else open(name, "w").close()
    os.chmod(name, 0o6755 if mode is None else mode)
    os.setxattr(name, "security.capability", bytes.fromhex("01000002" + "00" * 16))
    os.chown(name, 1, -1); os.chown(name, -1, 2)
assert os.stat("/s").st_mode & 0o7777 == 0o755
assert os.stat("/m").st_mode & 0o7777 == 0o2644
assert os.stat("/d").st_mode & 0o7777 == 0o6755
""",
    )
    assert ran.status == 0, ran.output
    assert ran.notes["below"] == [7, 9, AS_ON_DISK, [0, 0], {"security.x": "31"}]
    assert [ran.owner(name) for name in "smd"] == [(1, 2)] * 3
    assert [len(ran.notes[name][4]) for name in "smd"] == [0, 0, 1]  # type: ignore[arg-type]


def test_chown_takes_capabilities_that_are_on_disk(world: World) -> None:
    """Those of files of a layer, which nobody noted; other attributes stay."""
    for name in ("capable", "stays"):
        path = world.root / name
        path.write_text("x")
        os.chown(path, world.uid, world.uid)
        os.setxattr(path, "user.x", b"1")
        os.setxattr(path, "security.capability", bytes.fromhex("01000002" + "00" * 16))
    ran = world.run("python", 'os.chown("/capable", 1, 2); os.chmod("/stays", 0o700)')
    assert ran.status == 0, ran.output
    assert ran.owner("capable") == (1, 2)
    assert os.listxattr(world.root / "capable") == ["user.x"]
    assert len(os.listxattr(world.root / "stays")) == 2


def test_acls_and_capabilities_of_version_3(world: World) -> None:
    """ACLs that name ids are noted; file capabilities are noted in the form for images."""
    ran = world.run(
        "python",
        """
import struct
def acl(*entries):
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *e) for e in entries)
none = 0xFFFFFFFF
named = acl((1, 6, none), (2, 6, 33), (4, 4, none), (16, 6, none), (32, 4, none))
plain = acl((1, 6, none), (4, 4, none), (32, 0, none))
open("/f", "w").close(); open("/g", "w").close()
os.setxattr("/f", "system.posix_acl_access", named)
os.setxattr("/g", "system.posix_acl_access", plain)
os.setxattr("/f", "security.capability", bytes.fromhex("01000003" + "11" * 16 + "e8030000"))
assert os.stat("/g").st_mode & 0o777 == 0o640
""",
    )
    assert ran.status == 0, ran.output
    xattrs = ran.notes["f"][4]
    assert isinstance(xattrs, dict)
    assert xattrs["security.capability"] == "01000002" + "11" * 16
    assert xattrs["system.posix_acl_access"].startswith("02000000")
    assert "g" not in ran.notes


def test_many_processes_at_once(world: World) -> None:
    """One recorder serves them all, also those that are killed while they wait."""
    ran = world.run(
        "python",
        """
children = []
for n in range(8):
    pid = os.fork()
    if pid == 0:
        for i in range(40):
            name = f"/tmp/{n}-{i}"
            open(name, "w").close(); os.chown(name, n, i)
        os._exit(0)
    children.append(pid)
victim = os.fork()
if victim == 0:
    while True: os.chown("/tmp", 1, 1)
import time; time.sleep(0.05)
os.kill(victim, 9); os.waitpid(victim, 0)
assert all(os.waitpid(pid, 0)[1] == 0 for pid in children)
""",
    )
    assert ran.status == 0, ran.output
    for n in range(8):
        assert [ran.owner(f"tmp/{n}-{i}") for i in range(40)] == [(n, i) for i in range(40)]


def test_notes_outlive_the_recorder_and_not_the_file(world: World) -> None:
    """The next run finds them; an inode number that was given anew is another file."""
    world.run("sh", "echo > /tmp/old; chown 1:2 /tmp/old; echo > /tmp/kept; chown 3:4 /tmp/kept")
    ran = world.run(
        "python",
        'os.unlink("/tmp/old"); open("/tmp/new", "w").close(); os.chown("/tmp/kept", -1, 9)',
    )
    assert ran.status == 0, ran.output
    assert ran.notes["tmp/kept"][:2] == [3, 9]
    assert "tmp/new" not in ran.notes


def test_files_of_lower_layers_are_brought_up(world: World) -> None:
    """Changing only the owner makes an overlay keep the file as its own, or no layer would have
    it; the notes are about it before and after."""
    directories = [world.directory / name for name in ("lower", "upper", "work")]
    for directory in directories:
        directory.mkdir()
    (directories[0] / "dir").mkdir()
    (directories[0] / "proc").mkdir()
    (directories[0] / "file").write_text("content")
    (directories[0] / "link").symlink_to("file")
    for path in (*directories, *directories[0].iterdir()):
        os.chown(path, world.uid, world.uid, follow_symlinks=False)
    ran = world.run(
        "python",
        """
for number, name in enumerate(("file", "dir", "link")):
    os.lchown(name, number + 1, -1)
    os.lchown(name, -1, number + 11)
    print(os.lstat(name).st_ino, flush=True)
""",
    )
    assert ran.status == 0, ran.output
    inodes = ran.output.split()
    assert [ran.inodes[inode] for inode in inodes] == [[1, 11], [2, 12], [3, 13]]
    brought = {path.name for path in directories[1].iterdir()}
    assert brought == {"file", "dir", "link"} or not list(directories[2].iterdir())
