"""Images and trees for measuring, made on the spot: incompressible layers, realistic trees."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import random
import tarfile
from pathlib import Path

OCI = "application/vnd.oci.image"


def layout(directory: Path, tag: str, *, layers: int, size: int, plain: bool = False) -> Path:
    """An OCI layout with one image of `layers` layers of `size` bytes each.

    Layers are tars of random bytes, gzipped without compressing (so that they are what a
    registry holds and cost nothing to make), or left as tars with `plain`.
    """
    blobs = directory / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    descriptors, diff_ids = [], []
    for number in range(layers):
        tar = _tar(number, size)
        diff_ids.append("sha256:" + hashlib.sha256(tar).hexdigest())
        data = tar if plain else gzip.compress(tar, 0, mtime=0)
        kind = f"{OCI}.layer.v1.tar" + ("" if plain else "+gzip")
        descriptors.append(_put(blobs, data, kind))
    config = {
        "architecture": "amd64",
        "os": "linux",
        "created": "2024-01-01T00:00:00Z",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
        "history": [{"created_by": f"layer {n}"} for n in range(layers)],
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{OCI}.manifest.v1+json",
        "config": _put(blobs, json.dumps(config).encode(), f"{OCI}.config.v1+json"),
        "layers": descriptors,
    }
    entry = _put(blobs, json.dumps(manifest).encode(), f"{OCI}.manifest.v1+json")
    entry["annotations"] = {"org.opencontainers.image.ref.name": tag}
    (directory / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    (directory / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    return directory


def _tar(number: int, size: int) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        member = tarfile.TarInfo(f"data/{number}")
        member.size = size
        archive.addfile(member, io.BytesIO(os.urandom(size)))
    return out.getvalue()


def _put(blobs: Path, data: bytes, media_type: str) -> dict[str, object]:
    name = hashlib.sha256(data).hexdigest()
    (blobs / name).write_bytes(data)
    return {"mediaType": media_type, "digest": f"sha256:{name}", "size": len(data)}


def tree(directory: Path, files: int, *, seed: int = 1) -> Path:
    """A tree shaped like a distribution's: many small files, few large ones, some links.

    Directories are at most six deep, so that names beyond 100 bytes are as rare as they are
    in a distribution.
    """
    rng = random.Random(seed)
    words = bytes(rng.choices(b"etaoin shrdlu\n(){};=_abcdefgh", k=1 << 20))
    folders = [directory]
    directory.mkdir(parents=True)
    for number in range(files // 12):
        parent = rng.choice(folders[-40:])
        while len(parent.relative_to(directory).parts) > 5:
            parent = parent.parent.parent
        folder = parent / f"dir{number}"
        folder.mkdir()
        folders.append(folder)
    made: list[Path] = []
    for number in range(files - len(folders)):
        path = rng.choice(folders) / f"file-{number}.py"
        kind = rng.random()
        if kind < 0.05 and made:
            path.symlink_to(rng.choice(made).name)
        elif kind < 0.06 and made:
            path.hardlink_to(rng.choice(made))
        else:
            size = min(int(rng.lognormvariate(7.6, 1.7)), 1 << 20)
            start = rng.randrange(len(words) - size + 1)
            path.write_bytes(words[start : start + size])
            path.chmod(rng.choice((0o644, 0o644, 0o755)))
            made.append(path)
    return directory
