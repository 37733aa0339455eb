"""The sync cases: many tags of which nothing has changed, beside skopeo and crane."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from bench.images import OCI
from bench.measure import OURS, Row, Sample, alternate, compare, run
from bench.rig import Pair, Rig
from tests.rig import RegistryServer

LATENCY = 0.02
TAGS = 100
MANIFEST = f"{OCI}.manifest.v1+json"


def sync(rig: Rig, count: int) -> list[Row]:
    """100 tags, each an image of its own, that the destination has already, at 20 ms."""
    with rig.pair(latency=LATENCY, bearer=True) as pair:
        for registry, name in zip(pair.registries, ("source/image", "mirror/image"), strict=True):
            _fill(registry, name)
        source, mirror = f"{pair.source}/source/image", f"{pair.destination}/mirror"
        flags = [*pair.source_flags, *pair.destination_flags]
        args = ["sync", "--src", "docker", "--dest", "docker", *flags, source, mirror]
        ours = [OURS, *args]
        skopeo = ["skopeo", "--insecure-policy", *args]
        rows = []
        for what, fresh in (("first contact", True), ("challenge known", False)):
            mine, peer = alternate(
                count,
                _program(rig, "ours", ours, fresh=fresh),
                # It takes half a minute and what it needs does not vary.
                _first_of(_program(rig, "peer", skopeo, fresh=fresh), 2),
            )
            notes = {
                "requests": _requests(rig, pair, ours),
                "peer_requests": _requests(rig, pair, skopeo),
            }
            rows.append(
                compare("sync 20 ms", f"{TAGS} unchanged tags, {what}", mine, peer,
                        bar=0.05, notes=notes)
            )  # fmt: skip
    return rows + _beside_crane(rig, count)


def _beside_crane(rig: Rig, count: int) -> list[Row]:
    """The same without tokens, because crane takes none from a server on a private address."""
    crane = _crane()
    if crane is None:
        print("crane is not there (scripts/interop builds it): not compared", file=sys.stderr)
        return []
    with rig.pair(latency=LATENCY) as pair:
        for registry, name in zip(pair.registries, ("source/image", "mirror/image"), strict=True):
            _fill(registry, name)
        source, mirror = f"{pair.source}/source/image", f"{pair.destination}/mirror"
        flags = [*pair.source_flags, *pair.destination_flags]
        ours = [OURS, "sync", "--src", "docker", "--dest", "docker", *flags, source, mirror]
        copy = [crane, "copy", "--all-tags", source, f"{mirror}/image"]
        mine, peer = alternate(
            count,
            _program(rig, "ours", ours, fresh=True),
            _program(rig, "crane", copy, fresh=True),
        )
        notes = {
            "requests": _requests(rig, pair, ours),
            "peer_requests": _requests(rig, pair, copy),
        }
        what = f"{TAGS} unchanged tags, no tokens"
        return [
            compare("sync 20 ms", what, mine, peer, bar=1.0, peer_name="crane cp -a", notes=notes)
        ]


def _program(rig: Rig, who: str, argv: list[str], *, fresh: bool) -> Callable[[int], Sample]:
    return lambda _: run(argv, rig.environment(who, fresh=fresh))


def _first_of(program: Callable[[int], Sample], runs: int) -> Callable[[int], Sample]:
    """The program, which after some runs is not run again: its last figures stand."""
    done: list[Sample] = []

    def go(number: int) -> Sample:
        if len(done) <= runs:
            done.append(program(number))
        return done[-1]

    return go


def _fill(registry: RegistryServer, name: str) -> None:
    """Put images of one small layer under the tags into a registry."""
    layer = b"layer of all\n" * 100
    described = {
        "mediaType": f"{OCI}.layer.v1.tar",
        "digest": registry.put_blob(name, layer),
        "size": len(layer),
    }
    for number in range(TAGS):
        config = json.dumps(
            {
                "architecture": "amd64",
                "os": "linux",
                "config": {"Labels": {"number": str(number)}},
                "rootfs": {
                    "type": "layers",
                    "diff_ids": ["sha256:" + hashlib.sha256(layer).hexdigest()],
                },
            }
        ).encode()
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {
                "mediaType": f"{OCI}.config.v1+json",
                "digest": registry.put_blob(name, config),
                "size": len(config),
            },
            "layers": [described],
        }
        registry.put_manifest(name, f"v{number}", json.dumps(manifest).encode(), MANIFEST)


def _requests(rig: Rig, pair: Pair, argv: list[str]) -> int:
    """The number of requests of one run, token requests not counted."""
    for proxy in pair.proxies:
        proxy.take()
    run(argv, rig.environment("count", fresh=True))
    return sum(len(proxy.take()) for proxy in pair.proxies)


def _crane() -> str | None:
    built = Path(sys.prefix) / "interop" / "bin" / "crane"
    return str(built) if built.exists() else shutil.which("crane")
