"""Work that nobody has to wait for: done in the background, and over when this is closed.

Removing a directory can take a millisecond where the file system tells its disk at once what
is free again, as ext4 does without a journal; a build that removes many goes on meanwhile.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from imgtools.errors import Error

THREADS = 4
"""They wait for the disk, not for a processor."""
MOST = 256
"""Jobs that may wait; who brings more does its own."""


class Later:
    """Threads, started when they are needed, and the jobs that wait for them."""

    def __init__(self) -> None:
        self._jobs: deque[Callable[[], object]] = deque()
        self._changed = threading.Condition()
        self._threads: list[threading.Thread] = []
        self._closed = False
        self._idle = 0

    def take(self, job: Callable[[], object]) -> bool:
        """Have `job` done soon; False where it is the caller's to do. What it raises of Error
        and OSError is nobody's to hear."""
        with self._changed:
            if self._closed or len(self._jobs) >= MOST:
                return False
            self._jobs.append(job)
            if self._idle >= len(self._jobs):
                self._changed.notify()
            elif len(self._threads) < THREADS:
                self._start()
            if not self._threads:
                self._jobs.pop()
                return False
        return True

    def close(self) -> None:
        """Wait until all is done, and take no more; safe to call twice."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _start(self) -> None:
        thread = threading.Thread(target=self._work, name="later", daemon=True)
        # Where there can be no further thread, those that are there, or the caller, do it.
        with suppress(RuntimeError):
            thread.start()
            self._threads.append(thread)

    def _work(self) -> None:
        while (job := self._next()) is not None:
            with suppress(Error, OSError):
                job()

    def _next(self) -> Callable[[], object] | None:
        with self._changed:
            while not self._jobs:
                if self._closed:
                    return None
                self._idle += 1
                self._changed.wait()
                self._idle -= 1
            return self._jobs.popleft()
