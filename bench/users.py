"""Cases as an unprivileged user with subordinate ids, in namespaces that have such a user."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from bench.measure import Row
from tests.engine.ladder_rig import GRANTED, INTERPRETER, PATH, Ladder
from tests.rig import REPOSITORY


def as_user(count: int) -> list[Row]:
    """The rows of `bench.build_steps`, measured as the user."""
    with tempfile.TemporaryDirectory(prefix="imgtools-bench-", dir="/var/tmp") as name:
        Path(name).chmod(0o755)
        home = Ladder(Path(name)).home(GRANTED)
        variables = {
            "PATH": PATH,
            "LC_ALL": "C.UTF-8",
            "PYTHONPATH": "/etc/application",
            "HOME": str(home),
            "XDG_RUNTIME_DIR": str(home / "run"),
            "TMPDIR": str(home / "tmp"),
        }
        order = {"where": asdict(GRANTED), "home": str(home), "variables": variables}
        done = subprocess.run(
            [sys.executable, "-m", "tests.engine.ladder_rig", json.dumps(order),
             f"{INTERPRETER}/bin/python", "-m", "bench.build_steps", str(home), str(count)],
            cwd=REPOSITORY, stdin=subprocess.DEVNULL, capture_output=True, check=False,
        )  # fmt: skip
        if done.returncode:
            raise SystemExit(f"as a user: {done.stderr.decode(errors='replace')}")
        return [Row(**values) for values in json.loads(done.stdout)]
