"""Jobs that wait for each other, each in a thread of its own as far as that goes: the first error
cancels the rest, all threads have ended before the call does."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence

from imgtools.errors import Cancelled, Error, SeveralErrors
from imgtools.task import Task

MOST_THREADS = 64
"""More than there are steps at a time; a file may have thousands of stages."""


def together(
    jobs: Sequence[Callable[[Task], None]], task: Task, *, most: int = MOST_THREADS
) -> None:
    """Run all jobs, in at most so many threads; a job gets a task that is cancelled when another
    fails. Jobs are begun in their order, so a job may wait for those in front of it. Raises what
    the first one that failed raised, with others that failed by themselves."""
    child = task.child()
    errors: list[BaseException] = []
    lock = threading.Lock()
    waiting = deque(jobs)

    def work(ended: threading.Event) -> None:
        try:
            while waiting and not child.cancel.cancelled:
                with lock:
                    job = waiting.popleft() if waiting else None
                if job is not None:
                    job(child)
        except BaseException as e:  # noqa: BLE001 - carried to the waiting thread
            with lock:
                errors.append(e)
            child.cancel.cancel("another step failed")
        finally:
            ended.set()

    # Events, because a Thread whose join was interrupted counts as ended (Python 3.11): a second
    # join would not wait for it, and what it cleans up would be left.
    waits: list[threading.Event] = []
    try:
        for _ in jobs[:most]:
            ended = threading.Event()
            threading.Thread(target=work, args=(ended,), daemon=True).start()
            waits.append(ended)
        for ended in waits:
            ended.wait()
    except BaseException:
        child.cancel.cancel("interrupted")
        for ended in waits:
            ended.wait()
        raise
    task.cancel.check()
    _raise(errors)


def _raise(errors: Sequence[BaseException]) -> None:
    own = [e for e in errors if not isinstance(e, Cancelled)]
    if not own:
        if errors:
            raise errors[0]
        return
    faults = [e for e in own if isinstance(e, Error)]
    if len(faults) < len(own):
        raise next(e for e in own if not isinstance(e, Error))
    raise faults[0] if len(faults) == 1 else SeveralErrors(faults)
