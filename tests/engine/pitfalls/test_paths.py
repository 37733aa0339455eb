"""Paths inside a root that an attacker owns, by whole containers."""

from __future__ import annotations

import io
import os
import shutil
import stat
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.engine.pitfalls.kit import Box, Images, Victim

Member = tuple[str, bytes, str, bytes]

WAYS: dict[str, Callable[[Victim], str]] = {
    "absolute": lambda victim: f"{victim.path}/dir",
    "a file": lambda victim: f"{victim.path}/file",
    "upwards": lambda victim: "../" * 40 + f"{victim.path}/dir",
    "dangling": lambda victim: f"{victim.path}/dir/new",
    "a loop": lambda victim: "loop",
    "magic": lambda victim: f"/proc/self/root{victim.path}/dir",
    "host root": lambda victim: "/proc/1/root",
}
TARGETS = (
    "proc",
    "sys",
    "dev",
    "dev/pts",
    "dev/shm",
    "dev/mqueue",
    "sys/fs/cgroup",
    "volumes/a",
    "volumes/a/b",
    "volumes",
    "work",
    "work/deep",
)


def plant(root: Path, target: str, link: str) -> None:
    """Make `target` a link where the image has a directory."""
    path = root / target
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    path.symlink_to(path.name if link == "loop" else link)


@pytest.mark.parametrize("target", TARGETS)
def test_f1_links_at_every_target_lead_nowhere(box: Box, victim: Victim, target: str) -> None:
    """Of mounts, of a volume, of the working directory, and of the directories above them."""
    source = box.bundle / "volume"
    source.mkdir()
    box.mount(
        {"destination": "/volumes/a/b/c", "type": "bind", "source": "volume", "options": ["rbind"]}
    )
    assert box.says("echo", "without links") == "without links\n"
    for way, link in WAYS.items():
        if (box.rootfs / target).is_symlink():
            (box.rootfs / target).unlink()
        plant(box.rootfs, target, link(victim))
        done = box.run("true", cwd="/work/deep/er")
        assert done.returncode == 0 or done.stderr.startswith("imgtools-runtime: "), (way, done)
        victim.check()
        assert list(source.iterdir()) == []


@pytest.fixture
def spoiled(images: Images) -> Iterator[Path]:
    """The files of the image, which are as before afterwards."""
    kept = images.path / "kept"
    shutil.copytree(images.tree, kept, symlinks=True)
    yield images.tree
    shutil.rmtree(images.tree)
    shutil.move(kept, images.tree)


FILES = ("etc/resolv.conf", "etc/hosts", "etc/hostname", "run/.containerenv")


@pytest.mark.parametrize("way", ["absolute", "upwards", "dangling", "parents"])
def test_f1_links_where_run_puts_its_files(
    images: Images, spoiled: Path, victim: Victim, way: str
) -> None:
    names = ("file", "dir/file", "null", "dir/below/none")
    links = [str(victim.path / ("new" * (way == "dangling") + name)) for name in names]
    if way == "upwards":
        links = ["../" * 30 + link for link in links]
    if way == "parents":
        shutil.rmtree(spoiled / "etc")
        for name in ("etc", "run", "dev", "proc", "sys"):
            (spoiled / name).symlink_to(victim.path / "dir")
    else:
        (spoiled / "run").mkdir()
        for name, link in zip(FILES, links, strict=True):
            (spoiled / name).unlink(missing_ok=True)
            (spoiled / name).symlink_to(link)
    done = images.run("-v", f"{victim.path}/dir:/etc/vol/ume:ro", "IMAGE", "cat", "/etc/hosts")
    assert done.returncode == 0 or done.stderr.startswith("imgtools: "), done
    if done.returncode == 0:
        assert "localhost" in done.stdout
    images.check_clean()


@contextmanager
def passwd(path: Path, kind: str, victim: Victim) -> Iterator[None]:
    """/etc/passwd of an odd kind."""
    path.unlink()
    if kind == "link":
        (victim.path / "passwd").write_text("user:x:4242:4242::/:/bin/sh\n")
        path.symlink_to(victim.path / "passwd")
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "device":
        os.mknod(path, stat.S_IFCHR | 0o644, os.makedev(1, 5))
    elif kind == "huge":
        with open(path, "wb") as file:
            file.truncate(10 << 30)
    else:
        path.write_bytes(
            b"user:x:4294967295:0::/:/bin/sh\r\nuser:x:-1:0::/:\nuser:x:0x0:0:\nuser:\0:0:0::/:\n"
        )
    yield
    path.unlink()
    (victim.path / "passwd").unlink(missing_ok=True)


@pytest.mark.parametrize("kind", ["link", "fifo", "device", "huge", "malformed"])
def test_f9_a_user_of_an_odd_passwd(
    images: Images, spoiled: Path, tmp_path: Path, kind: str
) -> None:
    """It is an error in words, soon."""
    victim = Victim(tmp_path / "victim")
    with passwd(spoiled / "etc/passwd", kind, victim):
        done = images.run("-u", "user", "IMAGE", "id", "-u")
        assert done.returncode == 125
        assert done.stdout == ""
        assert "user" in done.stderr or "/etc/passwd" in done.stderr
        done = images.run("-u", "1000:1000", "IMAGE", "id", "-u")
        assert (done.returncode, done.stdout) in ((0, "1000\n"), (125, ""))
        assert images.run("-u", "4294967295", "IMAGE", "id", "-u").returncode == 125


def test_f10_no_mounts_but_those_that_are_ours(images: Images, tmp_path: Path) -> None:
    """Lists of further mounts, as others keep them, are not read; nor is the host's mode."""
    victim = Victim(tmp_path / "victim")
    lists = tmp_path / "home/.config/containers/mounts.conf"
    lists.parent.mkdir(parents=True)
    lists.write_text(f"{victim.path}/dir:/run/secrets\n")
    environment = {"HOME": str(tmp_path / "home"), "XDG_CONFIG_HOME": str(lists.parents[1])}
    said = images.says("IMAGE", "cat", "/proc/self/mountinfo", env=environment)
    points = {line.split()[4] for line in said.splitlines()}
    top = {point for point in points if not point.startswith(("/proc/", "/sys/", "/dev/"))}
    assert top == {"/", "/proc", "/dev", "/sys", *(f"/{name}" for name in FILES)}
    victim.check()


def test_f11_copy_up_follows_nothing(box: Box, victim: Victim) -> None:
    """Neither the directory that is copied nor what is in it."""
    data = box.rootfs / "real"
    data.mkdir()
    (data / "dir").symlink_to(victim.path / "dir")
    (data / "file").symlink_to(victim.path / "file")
    os.mkfifo(data / "fifo")
    (box.rootfs / "data").symlink_to("/real")
    options = ["tmpcopyup", "mode=755"]
    box.mount({"destination": "/data", "type": "tmpfs", "source": "tmpfs", "options": options})
    script = "cd /data; ls; cat file dir/file; echo no > file; echo no > dir/file"
    done = box.run("sh", "-c", script)
    assert done.stdout.split() == ["dir", "fifo", "file"]
    assert "precious" not in done.stdout


HOSTILE: dict[str, Callable[[str], list[Member]]] = {
    "absolute": lambda v: [(f"{v}/file", tarfile.REGTYPE, "", b"no\n")],
    "upwards": lambda v: [("../" * 30 + f"{v}/file", tarfile.REGTYPE, "", b"no\n")],
    "through a link": lambda v: [
        ("out", tarfile.SYMTYPE, f"{v}/dir", b""),
        ("out/file", tarfile.REGTYPE, "", b"no\n"),
        ("out/new", tarfile.REGTYPE, "", b"no\n"),
    ],
    "over a link": lambda v: [
        ("out", tarfile.SYMTYPE, f"{v}/file", b""),
        ("out", tarfile.REGTYPE, "", b"no\n"),
    ],
    "hard link out": lambda v: [
        ("hard", tarfile.LNKTYPE, f"{v}/file", b""),
        ("hard", tarfile.REGTYPE, "", b"no\n"),
    ],
    "hard link to a link": lambda v: [
        ("soft", tarfile.SYMTYPE, f"{v}/file", b""),
        ("hard", tarfile.LNKTYPE, "soft", b""),
        ("hard", tarfile.REGTYPE, "", b"no\n"),
    ],
    "whiteouts": lambda v: [
        ("out", tarfile.SYMTYPE, f"{v}/dir", b""),
        ("out/.wh.file", tarfile.REGTYPE, "", b""),
        ("out/.wh..wh..opq", tarfile.REGTYPE, "", b""),
        (".wh..wh..opq", tarfile.REGTYPE, "", b""),
        (".wh...", tarfile.REGTYPE, "", b""),
    ],
}


@pytest.mark.parametrize("kind", list(HOSTILE))
def test_f12_layers_stay_in_their_directory(
    images: Images, tmp_path: Path, victim: Victim, kind: str
) -> None:
    archive = tmp_path / "layer.tar"
    with tarfile.open(archive, "w") as tar:
        for name, form, link, content in HOSTILE[kind](str(victim.path)):
            member = tarfile.TarInfo(name)
            member.type, member.linkname, member.size = form, link, len(content)
            tar.addfile(member, io.BytesIO(content))
    layout = f"oci:{tmp_path}/layout:one"
    made = images.cli("copy", "-q", f"tarball:{archive}", layout)
    if made.returncode == 0:
        target = "containers-storage:localhost/hostile"
        done = images.cli("copy", "-q", *images.flags, layout, target)
        assert done.returncode in (0, 1), done.stderr
        assert "Traceback" not in done.stderr
    assert "Traceback" not in made.stderr


@pytest.mark.parametrize(
    ("cwd", "made"),
    [("/link/new", "target/new"), ("/up/new", "new"), ("/new/a/b", "new/a/b")],
)
def test_f15_the_working_directory_is_made_inside(
    box: Box, victim: Victim, cwd: str, made: str
) -> None:
    """Where the links of the image lead within the image."""
    (box.rootfs / "target").mkdir()
    (box.rootfs / "link").symlink_to("/target")
    (box.rootfs / "up").symlink_to("../../../..")
    assert box.says("sh", "-c", "pwd", cwd=cwd) == f"/{made}\n"
    assert (box.rootfs / made).is_dir()


ODD = ("com,ma", "co:lon", "new\nline", "back\\slash", "per%cent", "sp ace", "caf\u00e9", "\udcff")


@pytest.mark.parametrize("name", ODD)
def test_f16_bundles_and_volumes_of_any_name(tmp_path: Path, name: str) -> None:
    box = Box(tmp_path / name)
    source = box.bundle / name
    source.mkdir()
    (source / "there").touch()
    box.mount(
        {
            "destination": f"/vol/{name}",
            "type": "bind",
            "source": os.fspath(source),
            "options": ["rbind", "ro"],
        }
    )
    done = box.run("ls", f"/vol/{name}")
    assert (done.returncode, done.stdout) == (0, "there\n"), done.stderr
    box.delete()


def test_f16_a_store_of_an_odd_name(tmp_path: Path) -> None:
    """Where names of layers would be split by a list of mount options."""
    images = Images(tmp_path / "a,b:c\\d\nlowerdir=e")
    assert images.says("IMAGE", "cat", "/etc/passwd").startswith("root:")
    images.check_clean()
