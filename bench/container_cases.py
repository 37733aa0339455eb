"""The cases of starting containers: /bin/true in a root file system of busybox alone.

A fresh `imgtools-runtime run` beside crun, or runc where crun refuses; warm launches over one
launcher, and steps of a build, beside what they may take.
"""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

from bench.measure import OURS, Row, Sample, alternate, compare, run
from bench.rig import Rig
from engine.runtime.spec.defaults import default_config

LAUNCH_MS = 10.0
"""What a warm launch may take."""
IMAGE = "localhost/bench:latest"
REPOSITORY = Path(__file__).parent.parent
SHM = Path("/dev/shm")


def launch(rig: Rig, count: int) -> list[Row]:
    """Fresh and warm starts of one bundle."""
    # In memory, as /run is on most machines: a disk would take longer than the runtimes do.
    place = SHM if SHM.is_dir() else None
    with tempfile.TemporaryDirectory(dir=place, prefix="imgtools-bench-") as name:
        return _launches(rig, rig.directory("launch"), _bundle(Path(name)), count)


def _launches(rig: Rig, base: Path, bundle: Path, count: int) -> list[Row]:
    env = {**rig.environment("ours"), "PYTHONPATH": str(REPOSITORY)}
    peer = _peer(bundle, env)
    ours = str(Path(sys.executable).with_name("imgtools-runtime"))
    rows = []
    if peer:
        rows.append(
            compare(
                "launch", "fresh /bin/true",
                *alternate(count, _starts(ours, bundle, env), _starts(peer, bundle, env)),
                bar=2.5, peer_name=peer,
            )
        )  # fmt: skip
    rows.append(_inside("warm /bin/true", ["launches", str(bundle)], count, env))
    store = base / "store"
    at = ["--root", str(store), "--runroot", str(store / "run")]
    with tarfile.open(base / "root.tar", "w") as tar:
        tar.add(bundle / "rootfs", ".")
    run([OURS, "copy", *at, f"tarball:{base}/root.tar", f"containers-storage:{IMAGE}"], env)
    rows.append(
        _inside("RUN /bin/true", ["steps", str(store), str(bundle / "run"), IMAGE], count, env)
    )
    return rows


def _starts(runtime: str, bundle: Path, env: dict[str, str]) -> Callable[[int], Sample]:
    name = Path(runtime).name

    def go(number: int) -> Sample:
        argv = [runtime, "--root", str(bundle / f"state-{name}"), "run", "-b", str(bundle)]
        return run([*argv, f"bench-{name}-{number}"], env)

    return go


def _peer(bundle: Path, env: dict[str, str]) -> str:
    """crun, or runc where that refuses this machine; none where both do."""
    for name in ("crun", "runc"):
        found = shutil.which(name)
        if found is not None:
            argv = [found, "--root", str(bundle / "try"), "run", "-b", str(bundle), f"try-{name}"]
            done = subprocess.run(argv, env=env, capture_output=True, check=False,
                                  stdin=subprocess.DEVNULL)  # fmt: skip
            if done.returncode == 0:
                return found
    return ""


def _inside(what: str, arguments: list[str], count: int, env: dict[str, str]) -> Row:
    done = subprocess.run(
        [sys.executable, "-m", "bench.containers", *arguments, str(count)],
        env=env, capture_output=True, check=False, text=True,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"bench.containers {arguments[0]} failed: {done.stderr}")
    times = [float(line) for line in done.stdout.split()]
    median = statistics.median(times)
    return Row(
        case="launch", what=what, ours=median / 1000, peer=LAUNCH_MS / 1000, unit="s",
        ratio=median / LAUNCH_MS, bar=1.0, peer_name=f"{LAUNCH_MS:.0f} ms",
        notes={"min_ms": round(min(times), 1)},
    )  # fmt: skip


def _bundle(bundle: Path) -> Path:
    """A config.json and a root of busybox, in a new directory."""
    busybox = shutil.which("busybox")
    if busybox is None:
        raise SystemExit("the case launch needs busybox, linked statically")
    (bundle / "rootfs/bin").mkdir(parents=True)
    shutil.copy(busybox, bundle / "rootfs/bin/busybox")
    for name in ("true", "sh"):
        (bundle / "rootfs/bin" / name).symlink_to("busybox")
    config = default_config(rootless=False)
    process = config["process"]
    assert isinstance(process, dict)
    process.update(args=["/bin/true"], terminal=False)
    config["ociVersion"] = "1.0.2"
    (bundle / "config.json").write_text(json.dumps(config))
    return bundle
