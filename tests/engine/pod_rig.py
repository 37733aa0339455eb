"""Runs a script in a pod with a read-only root file system: a user without a name whose home
cannot be written, and two small places that can.

Run as a program it becomes a process of such a pod and executes the script there.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from engine.runtime.kernel.mounting import MS_BIND, MS_RDONLY, MS_REC, MS_REMOUNT, mount
from tests.engine import jail
from tests.engine.ladder_rig import APPLICATION, INTERPRETER, PATH, START, Done
from tests.rig import REPOSITORY

SECONDS = 60
UID, GID = 1000640000, 0
DATA, TEMPORARY = "/etc/data", "/etc/temporary"


@dataclass(frozen=True, kw_only=True)
class Pod:
    """`data` and `temporary` are the sizes of its two places, in KiB; 0 is none at all."""

    data: int
    temporary: int
    rung: str = "E-crio"


def execute(pod: Pod, script: str, **variables: str) -> Done:
    """Run a shell script there, in which `imgtools` is a command."""
    python = f"{INTERPRETER}/bin/python"
    command = f"imgtools() {{ {python} -c '{START}' \"$@\"; }}\n"
    known = {"PATH": PATH, "LC_ALL": "C.UTF-8", "PYTHONPATH": APPLICATION, "HOME": "/"}
    order = {"pod": asdict(pod), "variables": {**known, **variables}}
    done = subprocess.run(
        [sys.executable, "-m", "tests.engine.pod_rig", json.dumps(order), command + script],
        cwd=REPOSITORY,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=SECONDS,
        check=False,
        text=True,
    )
    return Done(done.returncode, done.stdout, done.stderr)


def become(pod: Pod, variables: dict[str, str], script: str) -> None:
    """Turn into a process of the pod, and execute `script`."""
    os.chdir("/")

    def prepare() -> None:
        for source, target in ((str(REPOSITORY), APPLICATION), (sys.prefix, INTERPRETER)):
            os.mkdir(target)
            mount(source.encode(), target.encode(), None, MS_BIND | MS_REC, None)
        for name in ("passwd", "group", "subuid", "subgid"):
            Path("/etc", name).write_text("root:x:0:0::/root:/bin/sh\n" if name == "passwd" else "")
        sizes = {DATA: pod.data, TEMPORARY: pod.temporary}
        for name in sizes:
            os.mkdir(name)
        _make_read_only()
        for name, size in sizes.items():
            if size:
                # An emptyDir is root's, and for everybody.
                mount(b"tmpfs", name.encode(), b"tmpfs", 0, b"mode=777,size=%dk" % size)
        jail.hide_proc()

    jail.enter(pod.rung, prepare, ids=(UID, GID))
    os.execve("/bin/sh", ("sh", "-c", script), variables)


def _make_read_only() -> None:
    """Let nothing be written in any file system that can be seen."""
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        places = [line.split()[4].encode().decode("unicode_escape") for line in file]
    for place in places:
        if place != "/dev" and not place.startswith("/proc"):
            mount(None, place.encode(), None, MS_REMOUNT | MS_BIND | MS_RDONLY, None)


if __name__ == "__main__":
    _order = json.loads(sys.argv[1])
    become(Pod(**_order["pod"]), _order["variables"], sys.argv[2])
