"""The pool: order, first error stops the rest, all threads joined, nothing swallowed."""

from __future__ import annotations

import threading

import pytest

from imgtools.errors import Cancelled, Error, NotFound, SeveralErrors
from imgtools.task import CancelToken, Task, WorkerPool


def test_map_keeps_order_and_uses_threads() -> None:
    barrier = threading.Barrier(3, timeout=10)

    def job(n: int) -> int:
        if n < 3:
            barrier.wait()
        return n * n

    with WorkerPool(Task(jobs=3)) as pool:
        assert pool.map(job, range(8)) == [n * n for n in range(8)]


def test_never_more_threads_than_jobs() -> None:
    lock = threading.Lock()
    running = most = 0

    def job(n: int) -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        threading.Event().wait(0.002)
        with lock:
            running -= 1

    with WorkerPool(Task(jobs=4)) as pool:
        pool.map(job, range(40))
    assert 1 < most <= 4


def test_first_error_stops_the_rest() -> None:
    ran = []

    def job(n: int) -> None:
        ran.append(n)
        if n == 2:
            raise NotFound("two")

    with pytest.raises(NotFound, match="two"), WorkerPool(Task(jobs=1)) as pool:
        for n in range(50):
            pool.submit(lambda n=n: job(n))  # type: ignore[misc]
    assert ran == [0, 1, 2]


def test_several_errors_are_all_reported() -> None:
    barrier = threading.Barrier(2, timeout=10)

    def job(n: int) -> None:
        barrier.wait()
        raise Error(f"error {n}")

    with pytest.raises(SeveralErrors) as caught, WorkerPool(Task(jobs=2)) as pool:
        for n in range(2):
            pool.submit(lambda n=n: job(n))  # type: ignore[misc]
    assert sorted(e.message for e in caught.value.errors) == ["error 0", "error 1"]


def test_programming_errors_are_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError), WorkerPool(Task(jobs=2)) as pool:
        pool.submit(lambda: 1 // 0)


def test_jobs_may_submit_jobs() -> None:
    found = []

    def walk(n: int) -> None:
        found.append(n)
        if n < 5:
            pool.submit(lambda: walk(n + 1))

    with WorkerPool(Task(jobs=2)) as pool:
        pool.submit(lambda: walk(0))
    assert found == [0, 1, 2, 3, 4, 5]


def test_an_error_in_the_block_cancels_the_jobs() -> None:
    started, cancelled = threading.Event(), threading.Event()

    def job() -> None:
        started.set()
        try:
            pool.task.cancel.wait(30)
        except Cancelled:
            cancelled.set()
            raise

    with pytest.raises(KeyError), WorkerPool(Task(jobs=1)) as pool:
        pool.submit(job)
        assert started.wait(10)
        raise KeyError("x")
    assert cancelled.is_set()


def test_cancelling_the_caller_cancels_the_pool() -> None:
    task = Task(jobs=1)
    started = threading.Event()
    with pytest.raises(Cancelled), WorkerPool(task) as pool:

        def job() -> None:
            started.set()
            pool.task.cancel.wait(30)

        pool.submit(job)
        started.wait(10)
        task.cancel.cancel()


def test_pool_does_not_cancel_its_caller() -> None:
    task = Task(jobs=1)
    with pytest.raises(NotFound), WorkerPool(task) as pool:
        pool.submit(_missing)
    task.cancel.check()


def _missing() -> None:
    raise NotFound("x")


@pytest.mark.parametrize("canceller", ["self", "parent"])
def test_callbacks_run_on_cancel_of_self_or_parent(canceller: str) -> None:
    parent = CancelToken()
    child = CancelToken(parent)
    calls: list[int] = []
    with child.calls(lambda: calls.append(1)):
        (child if canceller == "self" else parent).cancel()
    assert calls == [1]
    with child.calls(lambda: calls.append(2)):
        assert calls == [1, 2]


def test_no_threads_are_left() -> None:
    before = threading.active_count()
    with WorkerPool(Task(jobs=8)) as pool:
        pool.map(abs, range(30))
    assert threading.active_count() == before


def test_cancelling_in_a_signal_handler_waits_for_no_lock() -> None:
    """What the handler interrupted may hold the lock that a callback needs."""
    token, lock, called = CancelToken(), threading.Lock(), threading.Event()

    def wake() -> None:
        with lock:
            called.set()

    with token.calls(wake):
        with lock:
            token.cancel_from_handler("enough")
        assert called.wait(10)
    with pytest.raises(Cancelled, match="enough"):
        token.check()


def test_cancelling_without_a_thread_to_spare(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("_thread.start_new_thread", refuse)
    token = CancelToken()
    token.cancel_from_handler()
    assert token.cancelled
