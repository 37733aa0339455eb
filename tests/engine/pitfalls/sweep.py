"""Run as a prologue of the runtime: counts its steps, in the runtime and in the processes it
becomes, and kills the one that gets to a chosen number.

`IMGTOOLS_SWEEP` is ROLE:NUMBER. The role "runtime" is the command itself, "init" any process
that it forked. Without a number the steps are only counted, and written to standard error's
place of the file that `IMGTOOLS_SWEEP_COUNT` names.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

from engine.runtime.kernel import calls

NAMES = (
    "open", "close", "mkdir", "rmdir", "rename", "unlink", "write", "read", "fork", "waitpid",
    "pipe2", "symlink", "mknod", "fchdir", "chdir", "chroot", "setsid", "stat", "fstat",
)  # fmt: skip
SIGKILL = 9


def install() -> None:
    """Count from now on."""
    role, _, limit = os.environ.pop("IMGTOOLS_SWEEP").partition(":")
    count = os.environ.pop("IMGTOOLS_SWEEP_COUNT", "")
    runtime = os.getpid()
    steps = 0
    getpid, write, kill = os.getpid, os.write, os.kill
    log = os.open(count, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600) if count else -1
    if log >= 0:
        # Where the runtime does not close it before the program begins.
        os.dup2(log, 2, inheritable=True)

    def step() -> None:
        nonlocal steps
        mine = "runtime" if getpid() == runtime else "init"
        if mine != role:
            return
        steps += 1
        if log >= 0:
            write(2, b".")
        elif steps == int(limit):
            kill(getpid(), SIGKILL)

    def counted(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            step()
            return function(*arguments, **named)

        return call

    for name in NAMES:
        setattr(os, name, counted(getattr(os, name)))
    for holder in (calls, *(m for n, m in sys.modules.items() if n.startswith("engine."))):
        for name in ("syscall", "checked"):
            found = getattr(holder, name, None)
            if found is not None and not getattr(found, "counted", False):
                wrapped = counted(found)
                wrapped.counted = True  # type: ignore[attr-defined]
                setattr(holder, name, wrapped)


install()
