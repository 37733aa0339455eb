"""Files with thousands of stages, steps and variables: no recursion, no thread for each, and
memory that grows with the file."""

from __future__ import annotations

import threading
import tracemalloc
from pathlib import Path

import pytest

from imgtools.build.execute.together import MOST_THREADS, together
from imgtools.errors import Cancelled, InvalidInput
from imgtools.task import Task
from tests.build.build_rig import BuildRig
from tests.build.planned import planned, settings_of


def test_stages_that_stand_on_each_other_are_no_recursion(tmp_path: Path) -> None:
    rig = BuildRig(tmp_path)
    rig.base("base")
    rig.write(a="1")
    text = "FROM base AS s0\nCOPY a /\n" + "".join(
        f"FROM s{number} AS s{number + 1}\nMAINTAINER m{number}\n" for number in range(1100)
    )
    image = rig.build(text)
    assert [step.author for step in image.config.history[-2:]] == ["m1098", "m1099"]
    assert rig.files(image) == {"a": "1"}


def test_no_more_threads_than_are_of_use() -> None:
    before = threading.active_count()
    most = [0]
    lock = threading.Lock()
    done = [threading.Event() for _ in range(500)]

    def job(number: int, task: Task) -> None:
        with lock:
            most[0] = max(most[0], threading.active_count() - before)
        # As a stage waits for the one below it, and for the first one.
        for other in {0, number - 1} - {number, -1}:
            assert done[other].wait(30)
        done[number].set()

    jobs = [lambda task, number=number: job(number, task) for number in range(500)]
    together(jobs, Task())
    assert all(event.is_set() for event in done)
    assert most[0] <= MOST_THREADS


def test_jobs_that_were_not_begun_never_are_once_one_has_failed() -> None:
    begun: list[int] = []

    def fail(task: Task) -> None:
        begun.append(0)
        raise InvalidInput("it failed")

    def wait(task: Task) -> None:
        begun.append(1)
        with pytest.raises(Cancelled):
            task.cancel.wait(30)
        task.cancel.check()

    with pytest.raises(InvalidInput, match="it failed"):
        together([wait, fail, *[wait] * 50], Task(), most=2)
    assert sorted(begun) == [0, 1]


def test_steps_do_not_keep_all_variables() -> None:
    text = "FROM base\n" + "".join(f"ENV A{number}=x\n" for number in range(1500))
    tracemalloc.start()
    try:
        plan = planned(text)[0]
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(plan.end.variables) == 1501
    assert held < 16 << 20


@pytest.mark.parametrize("keyword", ["ARG", "ENV", "LABEL"])
def test_values_that_double_have_an_end(keyword: str) -> None:
    lines = [f"ENV A0={'x' * 1000}", *(f"ENV A{n}=$A{n - 1}$A{n - 1}" for n in range(1, 12))]
    text = "FROM base\n" + "\n".join(lines) + "\n"
    assert len(settings_of(text)["Env"]) == 13
    with pytest.raises(InvalidInput, match="characters"):
        settings_of(text + "".join(f"{keyword} B{n}=$A11\n" for n in range(10)))
