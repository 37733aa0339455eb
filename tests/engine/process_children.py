"""Children that execute a program, and what became of them."""

from __future__ import annotations

import os
import signal
import traceback
from collections.abc import Callable
from dataclasses import dataclass

from engine.runtime.errors import Failure
from tests.engine.rootfs_driver import LIMIT_SECONDS, fork


@dataclass(frozen=True)
class Ended:
    """A wait status as os.waitstatus_to_exitcode gives it, and what was written."""

    code: int
    out: bytes
    err: bytes


def executed(work: Callable[[], object]) -> Ended:
    """Run `work`, which is to execute a program, in a child with pipes for output.

    What `work` raises goes to the child's standard error, with 99 as its exit code.
    """
    out_read, out_write = os.pipe()
    err_read, err_write = os.pipe()
    pid = fork()
    if pid == 0:
        _become(work, out_write, err_write)
    os.close(out_write)
    os.close(err_write)
    with os.fdopen(out_read, "rb") as out, os.fdopen(err_read, "rb") as err:
        text, errors = out.read(), err.read()
    return Ended(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), text, errors)


def _become(work: Callable[[], object], out: int, err: int) -> None:
    try:
        signal.alarm(LIMIT_SECONDS)
        null = os.open(os.devnull, os.O_RDONLY)
        for target, fd in ((0, null), (1, out), (2, err)):
            os.dup2(fd, target)
        work()
    except Failure as e:
        os.write(2, f"{type(e).__name__}: {e.message}".encode())
    except (Exception, SystemExit):  # noqa: BLE001
        os.write(2, traceback.format_exc().encode())
    os._exit(99)
