"""Runs a command and tells the most memory it had.

The kernel counts what a process had before it became another program, so a child of the test
runner would be charged for the test runner. A small process stands between them.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence

_BETWEEN = """
import json, os, sys
pid = os.posix_spawnp(sys.argv[1], sys.argv[1:], os.environ)
_, status, usage = os.wait4(pid, 0)
print(json.dumps([os.waitstatus_to_exitcode(status), usage.ru_maxrss]))
"""


def peak_memory(command: Sequence[str], env: Mapping[str, str]) -> float:
    """Run `command`, which must succeed and print nothing; its peak resident size in MiB."""
    done = subprocess.run(
        [sys.executable, "-S", "-E", "-c", _BETWEEN, *command],
        env=dict(env),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    code, kilobytes = json.loads(done.stdout)
    assert code == 0, done.stderr
    return float(kilobytes) / 1024
