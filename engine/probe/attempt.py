"""Fork, try, look: an attempt happens in a child that is thrown away, so that nothing it does
(namespaces entered, roots changed, filters loaded, limits reached) can reach this process.

The child has a bounded time, dies with this process, and tells its result over a pipe.
"""

from __future__ import annotations

import errno
import json
import math
import os
import select
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import Any

from engine.probe.model import Probe
from engine.runtime.errors import Failure
from engine.runtime.kernel.processes import PR_SET_PDEATHSIG, prctl
from imgtools.errors import Error

MAX_ANSWER = 1 << 20

Trial = tuple[str, Callable[[], str]]


class Refused(Exception):
    """A step of an attempt failed, with `number` as its errno."""

    def __init__(self, step: str, number: int, *, why: str = "", remedy: str = "") -> None:
        super().__init__(step)
        self.step, self.number, self.why, self.remedy = step, number, why, remedy


@contextmanager
def step(name: str, *, remedy: str = "") -> Iterator[None]:
    """Name what is being done, for an OSError that comes of it."""
    try:
        yield
    except OSError as e:
        raise Refused(name, e.errno or errno.EIO, remedy=remedy) from e


def attempt(name: str, trial: Callable[[], str], *, seconds: float) -> Probe:
    """Whether `trial` works: it returns a detail, or raises Refused, OSError or an Error."""
    answer = in_child(lambda: asdict(_judge(name, trial)), seconds=seconds)
    return _probe(name, answer)


def attempt_inside(
    enter: Callable[[], None], trials: Sequence[Trial], *, seconds: float
) -> tuple[Probe, ...]:
    """As `attempt` for each of `trials`, all from a child that `enter` has moved somewhere.
    If entering fails, so do they all."""

    def inside() -> Any:
        enter()
        return [asdict(attempt(name, trial, seconds=seconds)) for name, trial in trials]

    answer = in_child(inside, seconds=seconds * (len(trials) + 1))
    if isinstance(answer, list) and len(answer) == len(trials):
        return tuple(_probe(name, a) for (name, _), a in zip(trials, answer, strict=True))
    entering = _probe("", answer)
    return tuple(replace(entering, name=name, works=False) for name, _ in trials)


def _judge(name: str, trial: Callable[[], str]) -> Probe:
    try:
        return Probe(name=name, works=True, detail=trial())
    except Refused as e:
        number = errno.errorcode.get(e.number, str(e.number))
        why = e.why or f"{e.step}: {number}"
        return Probe(name=name, works=False, step=e.step, errno=number, why=why, remedy=e.remedy)
    except (Error, Failure) as e:
        return Probe(name=name, works=False, why=e.message, remedy=e.hint or "")
    except OSError as e:
        number = errno.errorcode.get(e.errno or 0, str(e.errno))
        return Probe(name=name, works=False, errno=number, why=f"{name}: {number}")


def _probe(name: str, answer: Any) -> Probe:
    """The Probe a child told of, or one that says how the child ended."""
    if isinstance(answer, dict):
        try:
            return Probe(**answer)
        except TypeError:
            answer = "gave no sensible answer"
    return Probe(name=name, works=False, why=f"the attempt {answer}")


def in_child(work: Callable[[], Any], *, seconds: float) -> Any:
    """What `work` returns, computed in a child; JSON values only. A text says how the child
    ended where it gave no answer. A Refused or an Error of `work` is told as a failed Probe."""
    reading, writing = os.pipe()
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        _child(work, writing, parent, seconds)
    os.close(writing)
    try:
        content = _read(reading, pid, seconds)
    finally:
        os.close(reading)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    try:
        return json.loads(content)
    except ValueError:
        if status in (-signal.SIGALRM, -signal.SIGKILL):
            return f"took longer than {seconds:g} s or was killed"
        return f"ended with status {status}"


def _child(work: Callable[[], Any], writing: int, parent: int, seconds: float) -> None:
    """Never returns. What `work` raises unforeseen ends the child without an answer."""
    code = 3
    try:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(4)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(max(1, math.ceil(seconds)))
        null = os.open("/dev/null", os.O_RDWR)
        for number in (0, 1, 2):
            os.dup2(null, number)
        try:
            answer = work()
        except (Refused, Error, Failure, OSError) as e:
            answer = asdict(_judge("", _raiser(e)))
        os.write(writing, json.dumps(answer).encode())
        code = 0
    finally:
        os._exit(code)


def _raiser(error: Exception) -> Callable[[], str]:
    def fail() -> str:
        raise error

    return fail


def _read(fd: int, pid: int, seconds: float) -> bytes:
    """Everything the child writes; it is killed when its time is over."""
    end = time.monotonic() + seconds + 1
    poller = select.poll()
    poller.register(fd, select.POLLIN)
    parts: list[bytes] = []
    while sum(map(len, parts)) < MAX_ANSWER:
        left = end - time.monotonic()
        if left <= 0 or not poller.poll(left * 1000):
            os.kill(pid, signal.SIGKILL)
            break
        part = os.read(fd, 1 << 16)
        if not part:
            break
        parts.append(part)
    return b"".join(parts)
