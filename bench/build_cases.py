"""Builds beside buildah: what RUN and remembered steps cost, as root and as a user, and copies,
stages and large layers as root."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bench import images
from bench.build_steps import compared
from bench.builders import BASE, Builders
from bench.measure import OURS, Row, Sample, alternate, compare
from bench.memory import peak
from bench.rig import Rig

COPIED, HASHED = 20_000, 50_000
LARGE = 1_000_000_000
LIMIT = 100_000_000
"""What all processes of a build may have of memory together, however large its layers are."""
STAGES, SLEEP = 4, 1.0


def steps(rig: Rig, count: int) -> list[Row]:
    """20 x RUN true, and 20 steps that are remembered, as root and as a user with subuids."""
    from bench.users import as_user

    with _builders(rig) as builders:
        rows = compared(builders, count)
        return [*rows, *(as_user(count) if os.geteuid() == 0 else ())]


@contextmanager
def _builders(rig: Rig) -> Iterator[Builders]:
    env = {**rig.environment("builds"), "TMPDIR": str(rig.directory("tmp"))}
    # buildah takes itself for a user's by it.
    env.pop("_CONTAINERS_ROOTLESS_UID")
    with Builders(rig.directory("build"), [OURS], env) as builders:
        builders.settle()
        yield builders


def files(rig: Rig, count: int) -> list[Row]:
    """COPY of 20,000 files, the whole build."""
    with _builders(rig) as builders:
        context = _context(images.tree(builders.directory / "tree", COPIED))
        return [_copy_row(builders, context, f"COPY of {COPIED:,} files", 1.0, count, "--no-cache")]


def hashes(rig: Rig, count: int) -> list[Row]:
    """COPY of 50,000 files: a build anew, one that is remembered, and one with a file touched;
    the second reads no file again, the third one.

    buildah copies all of them to find out whether it has the layer, touched or not, which takes
    it half a minute each time: it is asked once for each of the first two, and the third is
    beside our own first.
    """
    with _builders(rig) as builders:
        tree = images.tree(builders.directory / "tree", HASHED)
        context = _context(tree)
        found = next(p for p in sorted(tree.rglob("*.py")) if not p.is_symlink())

        def ours(often: int, *words: str, change: Callable[[], object] = os.sync) -> list[Sample]:
            mine = []
            for _ in range(often):
                change()
                mine.append(builders.build(context, *words))
            return mine

        name = f"{builders.peer_name}, once"
        anew = ours(min(count, 2), "--no-cache")
        first = [builders.peer(context, "--no-cache")] * len(anew)
        again = ours(count)
        second = [builders.peer(context)] * len(again)
        touched = ours(count, change=found.touch)
        mine = [anew[-1]] * len(touched)
        what = f"{HASHED:,} files"
        return [
            compare("build", f"{what}, anew", anew, first, peer_name=name),
            compare("build", f"{what}, remembered", again, second, peer_name=name),
            compare("build", f"{what}, one touched", touched, mine, peer_name="ours, anew"),
        ]


def _context(tree: Path) -> Path:
    (tree / "Containerfile").write_text(f"FROM {BASE}\nCOPY . /app/\n")
    return tree


def _copy_row(
    builders: Builders, context: Path, what: str, bar: float, count: int, *words: str
) -> Row:
    def ours(_: int) -> Sample:
        os.sync()
        return builders.build(context, *words)

    def peer(_: int) -> Sample:
        os.sync()
        return builders.peer(context, *words)

    mine, theirs = alternate(count, ours, peer)
    return compare("build", what, mine, theirs, bar=bar, peer_name=builders.peer_name)


def stages(rig: Rig, count: int) -> list[Row]:
    """Four stages that each sleep for a second, joined by a fifth."""
    with _builders(rig) as builders:
        lines = []
        for number in range(STAGES):
            lines += [f"FROM {BASE} AS s{number}", f"RUN sleep {SLEEP} && touch /{number}"]
        lines.append(f"FROM {BASE}")
        lines += [f"COPY --from=s{number} /{number} /{number}" for number in range(STAGES)]
        context = builders.context("\n".join(lines) + "\n")
        mine, theirs = alternate(
            min(count, 5),
            lambda _: builders.build(context, "--no-cache"),
            lambda _: builders.peer(context, "--no-cache", f"--jobs={STAGES}"),
        )
        what = f"{STAGES} stages of {SLEEP:.0f} s"
        return [
            compare(
                "build", what, mine, theirs, bar=1.0, peer_name=f"{builders.peer_name} --jobs=4"
            )
        ]


def large(rig: Rig, _: int) -> list[Row]:
    """Layers of 1 GB by COPY, RUN and ADD, and one that is pushed: peak memory of all
    processes together, beside what they may have."""
    with _builders(rig) as builders:
        context = builders.context("")
        with open(context / "large", "wb") as file:
            for _ in range(LARGE // 1_000_000):
                file.write(os.urandom(1_000_000))
        subprocess.run(["tar", "-C", context, "-cf", context / "large.tar", "large"], check=True)
        rows = []
        for what, line in (
            ("COPY of 1 GB", "COPY large /"),
            ("RUN that writes 1 GB", "RUN dd if=/dev/zero of=/zero bs=1M count=1000"),
            ("ADD of a tar of 1 GB", "ADD large.tar /"),
        ):
            (context / "Containerfile").write_text(f"FROM {BASE}\n{line}\n")
            rows.append(
                _peak_row(what, builders.our_words("build", "-q", "--no-cache", str(context)))
            )
        with rig.pair() as pair:
            (context / "Containerfile").write_text("FROM scratch\nCOPY large /\n")
            words = ["build", "-q", "--no-cache", "--push", "--tls-verify=false"]
            words += ["-t", f"{pair.destination}/bench/large:latest", str(context)]
            rows.append(_peak_row("COPY of 1 GB, pushed", builders.our_words(*words)))
        return rows


def _peak_row(what: str, argv: list[str]) -> Row:
    seconds, memory = peak(argv, dict(os.environ))
    return Row(
        case="build", what=what, ours=memory / 1e6, peer=LIMIT / 1e6, unit="MB",
        ratio=memory / LIMIT, bar=1.0, peer_name="limit", notes={"wall_s": round(seconds, 2)},
    )  # fmt: skip


def push(rig: Rig, count: int) -> list[Row]:
    """Ten layers of 10 MB made and pushed: beside buildah's build and push."""
    with _builders(rig) as builders:
        lines = [f"RUN dd if=/dev/urandom of=/{n} bs=1M count=10" for n in range(10)]
        context = builders.context("\n".join([f"FROM {BASE}", *lines]) + "\n")
        with rig.pair() as pair:

            def ours(number: int) -> Sample:
                name = f"{pair.destination}/ours/image:{number}"
                words = ("--no-cache", "--push", "--tls-verify=false", "-t", name)
                return builders.build(context, *words)

            def peer(number: int) -> Sample:
                name = f"{pair.destination}/peer/image:{number}"
                return _joined(
                    builders.peer(context, "--no-cache", "-t", name),
                    builders.peer_push(name),
                )

            mine, theirs = alternate(min(count, 5), ours, peer)
        return [
            compare("build", "10 layers of 10 MB, pushed", mine, theirs, bar=1.0,
                    peer_name=builders.peer_name)
        ]  # fmt: skip


def _joined(first: Sample, second: Sample) -> Sample:
    return Sample(
        wall=first.wall + second.wall,
        cpu=first.cpu + second.cpu,
        rss=max(first.rss, second.rss),
    )


def apt(rig: Rig, count: int) -> list[Row]:
    """apt-get install in a Debian that mmdebstrap makes of a mirror, on the host's network."""
    if shutil.which("mmdebstrap") is None:
        print("mmdebstrap is not there: apt is not compared", file=sys.stderr)
        return []
    with _builders(rig) as builders:
        archive = builders.directory / "debian.tar"
        argv = ["mmdebstrap", "--quiet", "--variant=apt", "bookworm", str(archive)]
        if subprocess.run(argv, check=False, stderr=subprocess.DEVNULL).returncode:
            print("mmdebstrap finds no mirror: apt is not compared", file=sys.stderr)
            return []
        base = builders.context("FROM scratch\nADD debian.tar /\n")
        archive.rename(base / "debian.tar")
        for build in (builders.build, builders.peer):
            build(base, "-t", "localhost/bench/debian:latest")
        context = builders.context(
            "FROM localhost/bench/debian:latest\n"
            "RUN apt-get update && apt-get install -y --no-install-recommends jq\n"
        )
        mine, theirs = alternate(
            min(count, 5),
            lambda _: builders.build(context, "--no-cache", "--network=host"),
            lambda _: builders.peer(context, "--no-cache", "--network=host"),
        )
        return [compare("build", "apt-get install jq", mine, theirs, bar=1.0,
                        peer_name=builders.peer_name)]  # fmt: skip
