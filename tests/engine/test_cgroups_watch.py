"""The host's cgroups are looked at again when mounts have changed, and only then."""

from __future__ import annotations

import subprocess
import sys

from tests.rig import REPOSITORY

LINES = """
import sys
sys.path.insert(0, sys.argv[1])
from engine.runtime.cgroups import watch
from engine.runtime.kernel.mounting import mount
calls = []
survey = watch.survey
watch.survey = lambda: calls.append(1) or survey()
seen = watch.CgroupWatch()
first = seen.survey()
assert seen.survey() is seen.survey(), "nothing has changed"
before = len(calls)
mount(b"tmpfs", b"/mnt", b"tmpfs", 0, None)
second = seen.survey()
again = len(calls)
assert seen.survey() is second
assert second == survey() == first
print(before, again, len(calls))
"""


def test_mounts_that_change_are_noticed() -> None:
    said = subprocess.check_output(
        ["unshare", "-m", "--propagation", "private", sys.executable, "-c", LINES, REPOSITORY],
        text=True,
    )
    # The first look may be repeated: the kernel counts from when the table is opened.
    before, again, end = map(int, said.split())
    assert before in (1, 2)
    assert (again, end) == (before + 1, before + 1)
