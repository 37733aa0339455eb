"""The cases without a network: tar beside GNU tar and tarfile, gzip beside Go's pgzip."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from bench import images
from bench.measure import OURS, Row, Sample, alternate, compare, run
from bench.rig import Rig

PACK = "import sys, bench.codec; bench.codec.pack(sys.argv[1], sys.argv[2])"
UNPACK = "import sys, bench.codec; bench.codec.unpack(sys.argv[1], sys.argv[2])"
TARFILE_PACK = (
    "import sys, tarfile\n"
    "with tarfile.open(sys.argv[2], 'w', format=tarfile.PAX_FORMAT) as t:\n"
    "    t.add(sys.argv[1], '.')"
)
TARFILE_UNPACK = (
    "import sys, tarfile\n"
    "with tarfile.open(sys.argv[1]) as t:\n"
    "    trust = {'filter': 'fully_trusted'} if hasattr(tarfile, 'data_filter') else {}\n"
    "    t.extractall(sys.argv[2], **trust)"
)


def tar(rig: Rig, count: int) -> list[Row]:
    """Pack and unpack a tree of 15,000 files."""
    base = rig.directory("tar")
    source = images.tree(base / "tree", 15_000)
    archive = base / "in.tar"
    subprocess.run(["tar", "-C", source, "-cf", archive, "."], check=True)
    env = {**rig.environment("ours"), "PYTHONPATH": str(Path(__file__).parent.parent)}
    python = [sys.executable, "-c"]

    def pack(argv: list[str]) -> Callable[[int], Sample]:
        return lambda _: run(argv, env)

    def unpack(argv: list[str], name: str) -> Callable[[int], Sample]:
        # Into a new directory each time: a tree removed just before makes the file system
        # slow at giving out inodes, for whichever program comes next.
        def go(number: int) -> Sample:
            target = base / f"{name}-{number}"
            target.mkdir()
            return run([word.replace("TARGET", str(target)) for word in argv], env)

        return go

    out = str(base / "out.tar")
    rows = []
    ours_pack = [*python, PACK, str(source), out]
    ours_unpack = [*python, UNPACK, str(archive), "TARGET"]
    for name, pack_argv, unpack_argv, bar in (
        ("GNU tar", ["tar", "-C", str(source), "-cf", out, "."],
         ["tar", "-C", "TARGET", "-xpf", str(archive)], 1.5),
        ("tarfile", [*python, TARFILE_PACK, str(source), out],
         [*python, TARFILE_UNPACK, str(archive), "TARGET"], 1 / 3),
    ):  # fmt: skip
        rows.append(
            compare("tar", "pack 15,000 files",
                    *alternate(count, pack(ours_pack), pack(pack_argv)),
                    bar=bar, peer_name=name)
        )  # fmt: skip
        rows.append(
            compare("tar", "unpack 15,000 files",
                    *alternate(count, unpack(ours_unpack, f"ours-{name}"),
                               unpack(unpack_argv, f"peer-{name}")),
                    bar=bar, peer_name=name)
        )  # fmt: skip
    return rows


def gzip(rig: Rig, count: int) -> list[Row]:
    """Compress one uncompressed layer: processor time, and size, beside skopeo's pgzip.

    Both programs copy a dir: image to a dir: image and compress on the way; a copy that
    does not compress is taken off each, so that the compressor alone is compared.
    """
    base = rig.directory("gzip")
    tree = images.tree(base / "tree", 12_000, seed=2)
    layer = base / "layer.tar"
    subprocess.run(["tar", "-C", tree, "-cf", layer, "."], check=True)
    source = _directory_image(base / "image", layer)
    env = rig.environment("ours")

    def copy(argv0: list[str], name: str, *flags: str) -> Callable[[int], Sample]:
        def go(_: int) -> Sample:
            out = base / name
            shutil.rmtree(out, ignore_errors=True)
            return run([*argv0, "copy", "-q", *flags, f"dir:{source}", f"dir:{out}"], env)

        return go

    skopeo = ["skopeo", "--insecure-policy"]
    plain_ours, plain_peer = alternate(count, copy([OURS], "a"), copy(skopeo, "b"))
    ours, peer = alternate(
        count, copy([OURS], "a", "--dest-compress"), copy(skopeo, "b", "--dest-compress")
    )
    sizes = [max(f.stat().st_size for f in (base / n).iterdir()) for n in ("a", "b")]
    less = [_less(a, b) for a, b in zip(ours, plain_ours, strict=True)]
    peer_less = [_less(a, b) for a, b in zip(peer, plain_peer, strict=True)]
    notes = {
        "layer_mb": round(layer.stat().st_size / 1e6, 1),
        "size_ratio": round(sizes[0] / sizes[1], 3),
    }
    return [
        compare("gzip", "processor time of one layer", less, peer_less, bar=1 / 3, of="cpu",
                peer_name="skopeo (pgzip)", notes=notes)
    ]  # fmt: skip


def _less(a: Sample, b: Sample) -> Sample:
    return Sample(wall=max(a.wall - b.wall, 1e-9), cpu=max(a.cpu - b.cpu, 1e-9), rss=a.rss)


def _directory_image(directory: Path, layer: Path) -> Path:
    """A dir: image with one uncompressed layer."""
    import hashlib
    import json

    directory.mkdir()
    tar = layer.read_bytes()
    digest = hashlib.sha256(tar).hexdigest()
    (directory / digest).write_bytes(tar)
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
        }
    ).encode()
    config_digest = hashlib.sha256(config).hexdigest()
    (directory / config_digest).write_bytes(config)
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{images.OCI}.manifest.v1+json",
        "config": {
            "mediaType": f"{images.OCI}.config.v1+json",
            "digest": f"sha256:{config_digest}",
            "size": len(config),
        },
        "layers": [
            {
                "mediaType": f"{images.OCI}.layer.v1.tar",
                "digest": f"sha256:{digest}",
                "size": len(tar),
            }
        ],
    }
    (directory / "manifest.json").write_text(json.dumps(manifest))
    (directory / "version").write_text("Directory Transport Version: 1.1\n")
    return directory
