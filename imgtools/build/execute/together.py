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

    def run(job: Callable[[Task], None]) -> None:
        try:
            job(child)
        except BaseException as e:  # noqa: BLE001 - carried to the waiting thread
            with lock:
                errors.append(e)
            child.cancel.cancel("another step failed")

    threads = [threading.Thread(target=run, args=(job,), daemon=True) for job in jobs]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    except BaseException:
        child.cancel.cancel("interrupted")
        for thread in threads:
            if thread.ident is not None:
                thread.join()
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
