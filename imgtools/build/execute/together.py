"""Jobs that wait for each other, each in a thread of its own: the first error cancels the rest,
all threads have ended before the call does."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from imgtools.errors import Cancelled, Error, SeveralErrors
from imgtools.task import Task


def together(jobs: Sequence[Callable[[Task], None]], task: Task) -> None:
    """Run all jobs; a job gets a task that is cancelled when another fails. Raises what the
    first one that failed raised, with others that failed by themselves."""
    child = task.child()
    errors: list[BaseException] = []
    lock = threading.Lock()

    def run(job: Callable[[Task], None], ended: threading.Event) -> None:
        try:
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
        for job in jobs:
            ended = threading.Event()
            threading.Thread(target=run, args=(job, ended), daemon=True).start()
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
