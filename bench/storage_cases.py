"""The cases of the engine's storage: a root file system as a layer, and snapshots of it.

With mmdebstrap and a Debian mirror at hand the root file system is Debian's, else a tree of
15,000 files. Overlay needs a machine where it works on the temporary directory. Before each
run everything is written out, so that none pays for what the one before left to be written,
and nothing is removed in between.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from bench import images, storage
from bench.measure import Row, Sample, alternate, compare, run
from bench.rig import Rig

APPLY = "import sys, bench.storage; bench.storage.apply(*sys.argv[1:])"
PREPARE_SECONDS = 0.005
"""What making a snapshot may take, whatever the size."""


def unpack(rig: Rig, count: int) -> list[Row]:
    """A root file system as a layer, digest and all, beside GNU tar, which only unpacks.

    Compared is the unpacking; the notes have what the start of the interpreter and of our
    code adds to it (and its end), and the ratio with that counted.
    """
    base = rig.directory("unpack")
    what, archive, diff_id = _root_file_system(base)
    packed = base / "root.tar.gz"
    with open(packed, "wb") as out:
        subprocess.run(["gzip", "-5", "-c", archive], stdout=out, check=True)
    env = _environment(rig)
    return [
        _unpack_row(f"{what}, {driver}", base / driver, archive, diff_id, env, count)
        for driver in ("overlay", "flat")
    ] + [_unpack_row(f"{what}, overlay, gzip", base / "overlay-gzip", packed, diff_id, env, count)]


def _unpack_row(
    what: str, base: Path, archive: Path, diff_id: str, env: dict[str, str], count: int
) -> Row:
    base.mkdir()
    whole: list[Sample] = []
    driver = base.name.partition("-")[0]

    def ours(number: int) -> Sample:
        report = base / f"seconds-{number}"
        argv = [archive, diff_id, base / f"store-{number}", driver, report]
        os.sync()
        sample = run([sys.executable, "-c", APPLY, *map(str, argv)], env)
        whole.append(sample)
        return replace(sample, wall=float(report.read_text()))

    def peer(number: int) -> Sample:
        target = base / f"tar-{number}"
        target.mkdir()
        os.sync()
        return run(["tar", "-C", str(target), "-xpf", str(archive)], env)

    mine, theirs = alternate(count, ours, peer)
    del whole[0]
    around = [a.wall - b.wall for a, b in zip(whole, mine, strict=True)]
    with_start = [a.wall / b.wall for a, b in zip(whole, theirs, strict=True)]
    notes = {
        "start_ms": round(statistics.median(around) * 1000, 1),
        "ratio_with_start": round(statistics.median(with_start), 2),
        "cpu_s": round(statistics.median(sample.cpu for sample in whole), 3),
        "peer_cpu_s": round(statistics.median(sample.cpu for sample in theirs), 3),
    }
    return compare("unpack", what, mine, theirs, bar=1.5, peer_name="GNU tar", notes=notes)


def prepare(rig: Rig, count: int) -> list[Row]:
    """A snapshot of a root file system: overlay beside what it may take, flat beside cp."""
    base = rig.directory("prepare")
    what, archive, diff_id = _root_file_system(base)
    env = _environment(rig)
    rows = []
    for driver, peer, name, bar in (
        ("overlay", lambda _store, _number: PREPARE_SECONDS, "5 ms", 1.0),
        ("flat", _copy, "cp -a", 1.5),
    ):
        store = base / driver
        argv = [archive, diff_id, store, driver, base / f"seconds-{driver}"]
        run([sys.executable, "-c", APPLY, *map(str, argv)], env)
        rows.append(_prepare_row(f"{what}, {driver}", store, diff_id, peer, name, bar, count))
    return rows


def _prepare_row(
    what: str,
    store: Path,
    diff_id: str,
    peer: Callable[[Path, int], float],
    peer_name: str,
    bar: float,
    count: int,
) -> Row:
    snapshots = storage.open_snapshots(str(store))
    rounds = [
        (*storage.prepare(snapshots, diff_id, number), peer(store, number))
        for number in range(count + 1)
    ][1:]
    return Row(
        case="prepare",
        what=what,
        ours=statistics.median(ours for ours, _, _ in rounds),
        peer=statistics.median(theirs for _, _, theirs in rounds),
        unit="s",
        ratio=statistics.median(ours / theirs for ours, _, theirs in rounds),
        bar=bar,
        peer_name=peer_name,
        notes={"empty_diff_ms": round(statistics.median(diff for _, diff, _ in rounds) * 1000, 1)},
    )


def _copy(store: Path, number: int) -> float:
    """Seconds in which cp copies the only layer of a flat store."""
    (tree,) = store.glob("imgtools/layers/*/*/tree")
    os.sync()
    return run(["cp", "-a", str(tree), str(store / f"copy-{number}")], dict(os.environ)).wall


def _environment(rig: Rig) -> dict[str, str]:
    return {**rig.environment("ours"), "PYTHONPATH": str(Path(__file__).parent.parent)}


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
