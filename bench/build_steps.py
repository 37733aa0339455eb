"""What steps cost, measured where the process is: as root, or as a user (`python -m` this in an
environment of tests.engine.ladder_rig prints the rows as JSON)."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path

from bench.builders import BASE, Builders
from bench.measure import Row, alternate, compare

STEPS = 20
START = "import sys; from imgtools.cli.main import main; sys.exit(main())"


def compared(builders: Builders, count: int, whose: str = "root") -> list[Row]:
    """20 x RUN true anew, with a network of its own and with the host's; and 20 steps of all
    kinds that are remembered."""
    runs = [f"RUN true # {number}" for number in range(STEPS)]
    anew = builders.context("\n".join([f"FROM {BASE}", *runs]) + "\n")
    kinds = []
    for number in range(STEPS // 4):
        kinds += [f"ENV N{number}={number}", f"RUN true # {number}", f"COPY file /{number}",
                  f"LABEL n{number}={number}"]  # fmt: skip
    known = builders.context("\n".join([f"FROM {BASE}", *kinds]) + "\n", file="content\n")
    rows = []
    for what, context, bar, words in (
        (f"{STEPS} x RUN true", anew, 0.1, ("--no-cache",)),
        (f"{STEPS} x RUN true, host's network", anew, None, ("--no-cache", "--network=host")),
        (f"{STEPS} steps remembered", known, 0.5, ()),
    ):
        mine, theirs = alternate(
            count,
            lambda _, context=context, words=words: builders.build(context, *words),  # type: ignore[misc]
            lambda _, context=context, words=words: builders.peer(context, *words),  # type: ignore[misc]
        )
        rows.append(
            compare("build", f"{what}, {whose}", mine, theirs, bar=bar,
                    peer_name=builders.peer_name)
        )  # fmt: skip
    return rows


def main() -> None:
    """As a user: directory and number of runs are the arguments."""
    directory, count = Path(sys.argv[1]), int(sys.argv[2])
    settings = directory / "home/.config/containers"
    settings.mkdir(parents=True)
    policy = {"default": [{"type": "insecureAcceptAnything"}]}
    (settings / "policy.json").write_text(json.dumps(policy))
    env = {**os.environ, "HOME": str(directory / "home"), "TMPDIR": str(directory)}
    with Builders(directory, [sys.executable, "-c", START], env) as builders:
        builders.settle()
        rows = compared(builders, count, "user")
    print(json.dumps([asdict(row) for row in rows]))


if __name__ == "__main__":
    main()
