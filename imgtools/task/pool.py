"""One bounded pool of threads per operation: the first error stops the rest, all threads
are joined before the block ends, and every error is reported.

Threads suffice because hashing, compression and sockets release the interpreter lock.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Generic, TypeVar

from imgtools.errors import Cancelled, Error, SeveralErrors
from imgtools.task.task import Task

T = TypeVar("T")
A = TypeVar("A")


class Result(Generic[T]):
    """What a job gave; `get` waits for it."""

    __slots__ = ("_done", "_error", "_value")

    def __init__(self) -> None:
        self._done = threading.Event()
        self._value: T | None = None
        self._error: BaseException | None = None

    def _finish(self, value: T | None, error: BaseException | None) -> None:
        self._value, self._error = value, error
        self._done.set()

    def get(self) -> T:
        """The job's value; raises the job's own error, or Cancelled when it never ran."""
        self._done.wait()
        if self._error is not None:
            raise self._error
        return self._value  # type: ignore[return-value]  # set together with _error None


class WorkerPool:
    """A context manager that runs jobs in at most `task.jobs` threads.

    Jobs are started in the order of `submit`; a job may submit further jobs but must not
    wait for them. Leaving the block waits for all jobs and raises what they raised: one
    error as itself, several as SeveralErrors. An error in the block cancels what is left.
    """

    def __init__(self, task: Task) -> None:
        self.task = task.child()
        self._jobs = max(1, task.jobs)
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._queue: deque[Callable[[], None]] = deque()
        self._threads: list[threading.Thread] = []
        self._idle = 0
        self._running = 0
        self._closed = False
        self._errors: list[BaseException] = []

    def __enter__(self) -> WorkerPool:
        return self

    def submit(self, job: Callable[[], T]) -> Result[T]:
        """Queue `job`; its error, if any, is raised when the block ends (and by `get`)."""
        result: Result[T] = Result()

        def run() -> None:
            try:
                self.task.cancel.check()
                value = job()
            except BaseException as e:  # noqa: BLE001 - carried to the waiting thread
                self._failed(e)
                result._finish(None, e)
            else:
                result._finish(value, None)

        with self._changed:
            self._queue.append(run)
            if self._idle < len(self._queue) and len(self._threads) < self._jobs:
                thread = threading.Thread(target=self._work, daemon=True)
                self._threads.append(thread)
                thread.start()
            self._changed.notify()
        return result

    def map(self, job: Callable[[A], T], items: Iterable[A]) -> list[T]:
        """`job` of every item, in their order, run in parallel; raises the first error."""
        results = [self.submit(lambda item=item: job(item)) for item in items]  # type: ignore[misc]
        return [result.get() for result in results]

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:
            self.task.cancel.cancel()
        try:
            self._join()
        except BaseException:
            self.task.cancel.cancel()
            self._join()
            raise
        if error is not None and not isinstance(error, Cancelled):
            return
        real = [e for e in self._errors if not isinstance(e, Cancelled)]
        for e in real:
            if not isinstance(e, Error):
                raise e
        expected = [e for e in real if isinstance(e, Error)]
        if len(expected) == 1:
            raise expected[0]
        if expected:
            raise SeveralErrors(expected) from expected[0]
        if error is None and self._errors:
            raise self._errors[0]

    def _failed(self, error: BaseException) -> None:
        with self._lock:
            self._errors.append(error)
        self.task.cancel.cancel()

    def _join(self) -> None:
        with self._changed:
            while self._queue or self._running:
                self._changed.wait()
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while True:
            with self._changed:
                self._idle += 1
                while not self._queue and not self._closed:
                    self._changed.wait()
                self._idle -= 1
                if not self._queue:
                    return
                run = self._queue.popleft()
                self._running += 1
            try:
                run()
            finally:
                with self._changed:
                    self._running -= 1
                    self._changed.notify_all()
