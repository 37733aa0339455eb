"""The cases with registries: start-up, inspect and every kind of copy, beside skopeo."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from bench import images
from bench.measure import OURS, Row, Sample, alternate, compare, run
from bench.rig import Pair, Rig

LATENCY = 0.05


def start(rig: Rig, count: int) -> list[Row]:
    """Process start beside the interpreter's own: the bar is 60 ms more."""
    rows = []
    env = rig.environment("ours")
    for flag in ("--version", "--help"):
        ours, bare = alternate(
            max(count, 15),
            lambda _, flag=flag: run([OURS, flag], env),  # type: ignore[misc]
            lambda _: run([sys.executable, "-c", "pass"], env),
        )
        base = sorted(s.wall for s in bare)[len(bare) // 2]
        bar = (base + 0.060) / base
        rows.append(compare("start", flag, ours, bare, bar=bar, peer_name="python -c pass"))
    return rows


def inspect(rig: Rig, count: int) -> list[Row]:
    """inspect of a single image at 50 ms per request with bearer tokens."""
    with rig.pair(latency=LATENCY, bearer=True) as pair:
        layout = images.layout(rig.directory("inspect"), "t", layers=4, size=10_000)
        _prepare(rig, pair, layout, "inspect/image:t")
        flags = [flag.replace("--src-", "--") for flag in pair.source_flags]
        name = f"docker://{pair.source}/inspect/image:t"
        args = ["inspect", *flags, name]
        rows = []
        for what, fresh in (("first contact", True), ("challenge known", False)):
            ours, peer = _alternate(rig, count, args, args, fresh=fresh)
            notes = _requests(rig, pair, args, fresh=fresh)
            rows.append(compare("inspect 50 ms", what, ours, peer, bar=0.8, notes=notes))
    return rows


def throughput(rig: Rig, count: int) -> list[Row]:
    """4 blobs of 200 MB from registry to registry on loopback."""
    layout = images.layout(rig.directory("large"), "t", layers=4, size=200_000_000)
    with rig.pair() as pair:
        _prepare(rig, pair, layout, "large/image:t")
        ours, peer = _copies(rig, min(count, 5), pair, "docker", "large/image:t")
    return [compare("throughput", "4 x 200 MB, registry to registry", ours, peer, bar=1.0)]


def cold(rig: Rig, count: int) -> list[Row]:
    """A copy of 10 layers at 50 ms per request."""
    return _ten_layers(rig, count, "cold copy 50 ms", source="docker", bar=0.6)


def push(rig: Rig, count: int) -> list[Row]:
    """oci: to a registry, 10 layers, at 50 ms per request."""
    return _ten_layers(rig, count, "oci: push 50 ms", source="oci", bar=0.3)


def warm(rig: Rig, count: int) -> list[Row]:
    """A copy whose destination is identical already, at 50 ms per request."""
    with rig.pair(latency=LATENCY, bearer=True) as pair:
        layout = images.layout(rig.directory("warm"), "t", layers=10, size=100_000)
        for name, host, flags in (
            ("a/image:t", pair.source, pair.source_flags),
            ("b/image:t", pair.destination, pair.destination_flags),
        ):
            rig.push(layout, "t", host, name, tuple(f.replace("--src", "--dest") for f in flags))
        args = _copy_args(pair, f"docker://{pair.source}/a/image:t", "b/image:t")
        rows = []
        for what, fresh in (("first contact", True), ("challenge known", False)):
            ours, peer = _alternate(rig, count, args, args, fresh=fresh)
            notes = _requests(rig, pair, args, fresh=fresh)
            rows.append(compare("warm copy 50 ms", what, ours, peer, bar=0.35, notes=notes))
    return rows


def same_registry(rig: Rig, count: int) -> list[Row]:
    """A copy within one registry: 10 layers, nothing may move."""
    with rig.pair(latency=LATENCY, bearer=True) as pair:
        layout = images.layout(rig.directory("same"), "t", layers=10, size=400_000)
        _prepare(rig, pair, layout, "same/image:t")

        def args(program: str, number: int) -> list[str]:
            flags = [*pair.source_flags, *(f.replace("--src", "--dest") for f in pair.source_flags)]
            source = f"docker://{pair.source}/same/image:t"
            return ["copy", "-q", *flags, source, f"docker://{pair.source}/{program}/{number}:t"]

        def program(name: str, argv0: list[str]) -> Callable[[int], Sample]:
            return lambda number: run(
                [*argv0, *args(name, number)], rig.environment(name, fresh=True)
            )

        ours, peer = alternate(
            count, program("ours", [OURS]), program("peer", ["skopeo", "--insecure-policy"])
        )
        notes = {}
        for who, argv0 in (("", [OURS]), ("peer_", ["skopeo", "--insecure-policy"])):
            pair.proxies[0].take()
            run([*argv0, *args("count", len(who))], rig.environment("count", fresh=True))
            taken = pair.proxies[0].take()
            notes[f"{who}requests"] = len(taken)
            blobs = [e for e in taken if "/blobs/" in e.path]
            notes[f"{who}blob_bytes"] = sum(e.request_bytes + e.response_bytes for e in blobs)
    return [compare("same registry 50 ms", "10 layers", ours, peer, notes=notes)]


def _ten_layers(rig: Rig, count: int, case: str, *, source: str, bar: float) -> list[Row]:
    with rig.pair(latency=LATENCY, bearer=True) as pair:
        layout = images.layout(rig.directory("ten"), "t", layers=10, size=400_000)
        _prepare(rig, pair, layout, "ten/image:t")
        name = "ten/image:t" if source == "docker" else str(layout) + ":t"
        ours, peer = _copies(rig, count, pair, source, name)
        args = _copy_args(pair, _source(pair, source, name), "count/image:t")
        notes = _requests(rig, pair, args, fresh=True)
    return [compare(case, "10 layers of 400 kB", ours, peer, bar=bar, notes=notes)]


def _prepare(rig: Rig, pair: Pair, layout: Path, name: str) -> None:
    flags = tuple(flag.replace("--src-", "--dest-") for flag in pair.source_flags)
    rig.push(layout, "t", pair.source, name, flags)


def _source(pair: Pair, transport: str, name: str) -> str:
    return f"docker://{pair.source}/{name}" if transport == "docker" else f"oci:{name}"


def _copy_args(pair: Pair, source: str, destination: str) -> list[str]:
    flags = [*pair.source_flags, *pair.destination_flags]
    return ["copy", "-q", *flags, source, f"docker://{pair.destination}/{destination}"]


def _copies(
    rig: Rig, count: int, pair: Pair, transport: str, name: str
) -> tuple[list[Sample], list[Sample]]:
    """Cold copies: every run has a new destination and an empty home."""

    def program(who: str, argv0: Sequence[str]) -> Callable[[int], Sample]:
        def go(number: int) -> Sample:
            args = _copy_args(pair, _source(pair, transport, name), f"{who}/{number}:t")
            env = rig.environment(who, fresh=True)
            return run([*argv0, *args], env)

        return go

    return alternate(
        count, program("ours", [OURS]), program("peer", ["skopeo", "--insecure-policy"])
    )


def _alternate(
    rig: Rig, count: int, ours: Sequence[str], peer: Sequence[str], *, fresh: bool
) -> tuple[list[Sample], list[Sample]]:
    return alternate(
        count,
        lambda _: run([OURS, *ours], rig.environment("ours", fresh=fresh)),
        lambda _: run(["skopeo", "--insecure-policy", *peer], rig.environment("peer", fresh=fresh)),
    )


def _requests(rig: Rig, pair: Pair, args: Sequence[str], *, fresh: bool) -> dict[str, int]:
    """The number of requests one run of each makes (token requests not counted)."""
    counts = {}
    for who, argv0 in (("ours", [OURS]), ("peer", ["skopeo", "--insecure-policy"])):
        env = rig.environment(who, fresh=fresh)
        for proxy in pair.proxies:
            proxy.take()
        words = [word.replace("/count/", f"/count-{who}/") for word in args]
        run([*argv0, *words], env)
        counts["requests" if who == "ours" else "peer_requests"] = sum(
            len(proxy.take()) for proxy in pair.proxies
        )
    return counts
