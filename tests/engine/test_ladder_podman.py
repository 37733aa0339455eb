"""Inside a container of podman with its default confinement: capabilities, seccomp, masked /proc.

The container's root file system is put together from this machine's /usr, the source tree and
the interpreter's environment, all read-only; only a volume for the store can be written.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.engine import ladder_rig as rig
from tests.engine.ladder_image import busybox
from tests.engine.ladder_rig import Environment, Ladder
from tests.rig import REPOSITORY

IMAGE = "localhost/busybox:latest"
SCRIPT = """set -e
exec 2>/volume/err
i() { /interpreter/bin/python -c "START" "$@"; }
i copy -q tarball:/volume/layer.tar containers-storage:IMAGE >/dev/null
echo "images $(i images --noheading --format '{{.Repository}}')"
echo "run $(i run IMAGE sh -c 'id -u; stat -c %u:%g:%a /f' | tr '\\n' ' ')"
code=0
echo in | i run -i IMAGE sh -c 'cat >/dev/null; exit 7' || code=$?
echo "code $code"
echo "background $(i run IMAGE sh -c 'sleep 999 & echo left')"
echo "user $(i run -u 33 IMAGE sh -c 'touch /tmp/x; stat -c %u /tmp/x')"
echo "unshare $(i unshare id -u)"
echo "info $(i info --format '{{.isolation.kind}} {{.isolation.proc}}')"
i rmi IMAGE >/dev/null
i prune -a -f >/dev/null
for process in /proc/[0-9]*; do
    if tr '\\0' ' ' <$process/cmdline | grep '^sleep 999'; then echo "alive $process"; fi
done
"""


@pytest.fixture
def ladder() -> Iterator[Ladder]:
    """Directories that every user can look into."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        directory.chmod(0o755)
        yield Ladder(directory)


def _prepared(ladder: Ladder, where: Environment) -> tuple[Path, Path]:
    """A root file system to mount on, and the volume."""
    home = ladder.home(where)
    rootfs, volume = home / "rootfs", home / "volume"
    for name in ("usr", "proc", "sys", "dev", "run", "etc", "root", "application", "interpreter",
                 "volume", "var/tmp", "tmp"):  # fmt: skip
        (rootfs / name).mkdir(parents=True)
    for name in ("bin", "sbin", "lib", "lib64"):
        (rootfs / name).symlink_to(f"usr/{name}")
    (rootfs / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\n")
    (rootfs / "etc/group").write_text("root:x:0:\n")
    volume.mkdir()
    (volume / "layer.tar").write_bytes(busybox())
    script = SCRIPT.replace("START", rig.START).replace("IMAGE", IMAGE)
    (volume / "script").write_text(script)
    for path in (rootfs, *rootfs.rglob("*"), volume, *volume.iterdir()):
        os.lchown(path, where.uid, where.uid)
    return rootfs, volume


def _run(ladder: Ladder, where: Environment, *options: str) -> list[str]:
    """Run the script in a container; what it prints."""
    rootfs, volume = _prepared(ladder, where)
    home = ladder.home(where)
    binds = {"/usr": "/usr", str(REPOSITORY): "/application", sys.prefix: "/interpreter"}
    mounts = [f"-v={source}:{target}:ro" for source, target in binds.items()]
    try:
        done = ladder.execute(
            where,
            *("podman", f"--root={home}/podman", f"--runroot={home}/run/podman"),
            *(f"--tmpdir={home}/run/tmp", "--storage-driver=vfs", "--runtime=runc"),
            # Debian's podman asks for limits that only a host's root may have.
            *("--cgroup-manager=cgroupfs", "--events-backend=none", "run", "--rm"),
            *("--network=host", "--ulimit=nofile=1024:1024", "--ulimit=nproc=4096:4096"),
            *mounts,
            *(f"-v={volume}:/volume:rw", "-e=HOME=/volume", "-e=PYTHONPATH=/application"),
            *(*options, "--rootfs", str(rootfs), "sh", "/volume/script"),
        )
    finally:
        pause = home / "run/tmp/pause.pid"
        if pause.exists():
            os.kill(int(pause.read_text()), signal.SIGKILL)
    assert done.code == 0, f"{done.out} {done.err} {_text(volume / 'err')}"
    return done.out.splitlines()


@pytest.mark.parametrize(
    ("where", "options", "kind", "owner"),
    [
        (rig.PODMAN, (), "ranges", "33:42:640"),
        (rig.PODMAN, ("--cap-drop=all", "--cap-add=setfcap"), "single", "0:0:640"),
        (rig.PODMAN, ("--security-opt=unmask=ALL",), "ranges", "33:42:640"),
        (rig.USER_PODMAN, (), "ranges", "33:42:640"),
    ],
    ids=["root", "root without capabilities", "root, /proc unmasked", "user"],
)
def test_images_run_inside_podman(
    ladder: Ladder,
    where: Environment,
    options: tuple[str, ...],
    kind: str,
    owner: str,
) -> None:
    """N1: pull, run, remove, with no privilege that podman does not give by default."""
    found = _run(ladder, replace(where, name=f"{where.name} {len(options)}"), *options)
    assert found == [
        "images localhost/busybox",
        f"run 0 {owner} ",
        "code 7",
        "background left",
        "user 33",
        "unshare 0",
        f"info {kind} {'mount' if '--security-opt=unmask=ALL' in options else 'bind'}",
    ]


def _text(path: Path) -> str:
    return path.read_text() if path.exists() else ""
