"""COPY of a directory of 20,000 files beside buildah: walked, hashed, and a layer in a store."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from bench import images
from bench.measure import Row, Sample, alternate, compare, run
from bench.rig import Rig

COPY = "import sys, bench.copying; bench.copying.copy(*sys.argv[1:])"
FILES = 20_000


def copy(rig: Rig, count: int) -> list[Row]:
    """Each run has a store of its own. Ours is the step alone, with the interpreter's start;
    buildah's is a build FROM scratch with nothing else in it."""
    base = rig.directory("copy")
    context = images.tree(base / "tree", FILES)
    containerfile = base / "Containerfile"
    containerfile.write_text("FROM scratch\nCOPY . /app/\n")
    env = {**rig.environment("ours"), "PYTHONPATH": str(Path(__file__).parent.parent)}

    def ours(number: int) -> Sample:
        store = base / f"ours-{number}"
        argv = [context, base / f"spool-{number}", store]
        os.sync()
        return run([sys.executable, "-c", COPY, *map(str, argv)], env)

    def peer(number: int) -> Sample:
        store = base / f"buildah-{number}"
        place = [f"--root={store}", f"--runroot={store}-run", "--storage-driver=vfs"]
        build = ["build", "-q", "--isolation=chroot", "--layers", "-f", str(containerfile)]
        os.sync()
        return run(["buildah", *place, *build, str(context)], dict(os.environ))

    mine, theirs = alternate(count, ours, peer)
    what = f"{FILES:,} files"
    return [compare("copy", what, mine, theirs, bar=1.0, peer_name="buildah")]
