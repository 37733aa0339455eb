"""The cases of the engine's storage: a root file system as a layer, and snapshots of it.

With mmdebstrap and a Debian mirror at hand the root file system is Debian's, else a tree of
15,000 files. Overlay needs a machine where it works on the temporary directory.
"""

from __future__ import annotations

import hashlib
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from bench import images, storage
from bench.measure import Row, Sample, alternate, compare, run
from bench.rig import Rig

APPLY = "import sys, bench.storage; bench.storage.apply(*sys.argv[1:])"
PREPARE_SECONDS = 0.005
"""What making a snapshot may take, whatever the size."""


def unpack(rig: Rig, count: int) -> list[Row]:
    """A root file system as a layer, digest and all, beside GNU tar, which only unpacks."""
    base = rig.directory("unpack")
    what, archive, diff_id = _root_file_system(base)
    env = {**rig.environment("ours"), "PYTHONPATH": str(Path(__file__).parent.parent)}

    def ours(driver: str) -> Callable[[int], Sample]:
        def go(number: int) -> Sample:
            target = base / f"{driver}-{number}"
            argv = [sys.executable, "-c", APPLY, str(archive), diff_id, str(target), driver]
            return run(argv, env)

        return go

    def peer(driver: str) -> Callable[[int], Sample]:
        def go(number: int) -> Sample:
            target = base / f"tar-{driver}-{number}"
            target.mkdir()
            return run(["tar", "-C", str(target), "-xpf", str(archive)], env)

        return go

    return [
        compare("unpack", f"{what}, {driver}", *alternate(count, ours(driver), peer(driver)),
                bar=1.5, peer_name="GNU tar")
        for driver in ("overlay", "flat")
    ]  # fmt: skip


def prepare(rig: Rig, count: int) -> list[Row]:
    """A snapshot of a root file system: overlay beside what it may take, flat beside cp."""
    base = rig.directory("prepare")
    what, archive, diff_id = _root_file_system(base)
    env = {**rig.environment("ours"), "PYTHONPATH": str(Path(__file__).parent.parent)}
    rows = []
    for driver in ("overlay", "flat"):
        store = base / driver
        run([sys.executable, "-c", APPLY, str(archive), diff_id, str(store), driver], env)
        prepared, compared = storage.prepare(diff_id, str(store), count + 1)
        ours = statistics.median(prepared[1:])
        peer, name = PREPARE_SECONDS, "5 ms"
        if driver == "flat":
            peer, name = _copied(store, base, env, count), "cp -a"
        rows.append(
            Row(case="prepare", what=f"{what}, {driver}", ours=ours, peer=peer, unit="s",
                ratio=ours / peer, bar=1.5 if driver == "flat" else 1.0, peer_name=name,
                notes={"empty_diff_ms": round(statistics.median(compared[1:]) * 1000, 1)})
        )  # fmt: skip
    return rows


def _copied(store: Path, base: Path, env: dict[str, str], count: int) -> float:
    """Seconds in which cp copies the only layer of a flat store."""
    (tree,) = store.glob("imgtools/layers/*/*/tree")
    samples = [
        run(["cp", "-a", str(tree), str(base / f"copy-{number}")], env)
        for number in range(count + 1)
    ]
    return statistics.median(sample.wall for sample in samples[1:])


def _root_file_system(base: Path) -> tuple[str, Path, str]:
    """What it is, a tar of it, and its digest."""
    archive = base / "root.tar"
    what = "15,000 files"
    if shutil.which("mmdebstrap") is not None:
        argv = ["mmdebstrap", "--quiet", "--variant=important", "bookworm", str(archive)]
        if subprocess.run(argv, check=False, stderr=subprocess.DEVNULL).returncode == 0:
            what = "Debian"
    if what != "Debian":
        tree = images.tree(base / "tree", 15_000)
        subprocess.run(["tar", "-C", tree, "-cf", archive, "."], check=True)
    with open(archive, "rb") as content:
        return what, archive, f"sha256:{hashlib.file_digest(content, 'sha256').hexdigest()}"
