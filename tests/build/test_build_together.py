"""Jobs in threads that wait for each other, and what steps gave remembered among them."""

from __future__ import annotations

import threading

import pytest

from imgtools.build.execute.memory import Memory
from imgtools.build.execute.together import together
from imgtools.build.protocols import CacheRecord
from imgtools.errors import Cancelled, Error, SeveralErrors
from imgtools.spec.digest import Digest
from imgtools.task import Task

CHAIN = Digest.of(b"chain")


def _record(key: str, created: float = 0.0) -> CacheRecord:
    return CacheRecord(key=key, parent=None, chain_id=CHAIN, diff_id=CHAIN, created=created)


class _Kept:
    """A cache that remembers and says what it was asked for."""

    def __init__(self, *records: CacheRecord) -> None:
        self.records = {record.key: record for record in records}
        self.asked: list[str] = []
        self.obtained: list[str] = []

    def find(self, key: str, *, task: Task) -> CacheRecord | None:
        self.asked.append(key)
        return self.records.get(key)

    def remember(self, record: CacheRecord, *, task: Task) -> None:
        self.records[record.key] = record

    def obtain(self, record: CacheRecord, *, task: Task) -> None:
        self.obtained.append(record.key)


def test_jobs_may_wait_for_each_other_in_any_order() -> None:
    done = threading.Event()
    order: list[str] = []

    def first(task: Task) -> None:
        assert done.wait(10)
        order.append("first")

    def second(task: Task) -> None:
        order.append("second")
        done.set()

    together([first, second], Task())
    assert order == ["second", "first"]


def test_the_first_error_cancels_the_rest_and_comes_out() -> None:
    ended = threading.Event()

    def fails(task: Task) -> None:
        raise Error("broken")

    def waits(task: Task) -> None:
        try:
            task.cancel.wait(30)
        finally:
            ended.set()

    task = Task()
    with pytest.raises(Error, match="broken") as caught:
        together([waits, fails], task)
    assert not isinstance(caught.value, Cancelled | SeveralErrors)
    assert ended.is_set()
    assert not task.cancel.cancelled, "whoever called may go on"


def test_errors_that_have_nothing_to_do_with_each_other_are_all_told() -> None:
    barrier = threading.Barrier(2)

    def fails(task: Task) -> None:
        barrier.wait(10)
        raise Error("broken")

    with pytest.raises(SeveralErrors) as caught:
        together([fails, fails], Task())
    assert len(caught.value.errors) == 2


def test_a_fault_of_the_program_is_not_hidden_by_errors() -> None:
    def fails(task: Task) -> None:
        raise KeyError("ours")

    with pytest.raises(KeyError):
        together([fails], Task())


def test_whoever_cancels_gets_cancelled() -> None:
    task = Task()

    def cancels(inner: Task) -> None:
        task.cancel.cancel("enough")
        inner.cancel.wait(30)

    with pytest.raises(Cancelled, match="enough"):
        together([cancels], task)


def test_what_was_made_in_this_build_counts_without_the_cache() -> None:
    kept = _Kept(_record("old"))
    memory = Memory(kept, recall=False, oldest=None)
    assert memory.find("old", Task()) is None
    memory.remember(_record("new"), "new", Task(), made=True)
    assert memory.find("new", Task()) == _record("new")
    assert "new" in kept.records, "the next build may use it"
    memory.obtain(_record("new"), Task())
    assert kept.obtained == [], "it was made here"


def test_records_that_are_too_old_do_not_count() -> None:
    kept = _Kept(_record("old", 10.0), _record("young", 30.0))
    memory = Memory(kept, recall=True, oldest=20.0)
    assert memory.find("old", Task()) is None
    assert memory.find("young", Task()) == _record("young", 30.0)


def test_a_second_name_of_a_step_keeps_where_its_layer_is() -> None:
    """The layer of a record found in a registry is there under the first name alone."""
    kept = _Kept(_record("first"))
    memory = Memory(kept, recall=True, oldest=None)
    found = memory.find("first", Task())
    assert found is not None
    memory.remember(found, "second", Task())
    again = memory.find("second", Task())
    assert again is not None
    memory.obtain(again, Task())
    assert kept.obtained == ["first"]
    assert kept.records["second"].key == "second"


def test_one_thread_at_a_time_has_a_key() -> None:
    memory = Memory(None, recall=True, oldest=None)
    inside: list[str] = []
    executed: list[str] = []

    def step(task: Task) -> None:
        with memory.alone("key", task):
            inside.append("in")
            assert len(inside) == 1
            if memory.find("key", task) is None:
                executed.append("once")
                memory.remember(_record("key"), "key", task, made=True)
            inside.pop()

    together([step] * 8, Task())
    assert executed == ["once"]


def test_who_waits_for_a_key_can_be_cancelled() -> None:
    memory = Memory(None, recall=True, oldest=None)
    task = Task()
    with memory.alone("key", Task()):

        def waits(inner: Task) -> None:
            threading.Timer(0.05, lambda: task.cancel.cancel("stop")).start()
            with memory.alone("key", inner):
                pytest.fail("another has it")

        with pytest.raises(Cancelled, match="stop"):
            together([waits], task)
    with memory.alone("key", Task()):
        pass
