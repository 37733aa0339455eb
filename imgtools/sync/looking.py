"""Questions asked in parallel, whose errors are answers.

An image that cannot be looked at is that image's failure, not the end of the survey; only
being cancelled ends it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

from imgtools.errors import Cancelled, Error
from imgtools.task import Task, WorkerPool

T = TypeVar("T")
A = TypeVar("A")

Attempt = Callable[[Callable[[], Any]], Any]
"""Runs an action, again after trouble that may pass."""


def once(action: Callable[[], Any]) -> Any:
    """The attempt that does not try again."""
    return action()


AT_ONCE = 32
"""Requests on their way: a registry's sixteen connections, times both sides."""


def answer(question: Callable[[], T]) -> T | Error:
    """The answer, or the error instead; raises Cancelled."""
    try:
        return question()
    except Cancelled:
        raise
    except Error as e:
        return e


def ask_all(
    question: Callable[[A], T], about: Iterable[A], *, attempt: Attempt = once, task: Task
) -> dict[A, T | Error]:
    """The answer about each, asked in parallel, each by `attempt`; raises Cancelled."""

    def ask(each: A) -> T | Error:
        return answer(partial(attempt, partial(question, each)))

    subjects = list(dict.fromkeys(about))
    if len(subjects) == 1:
        # No thread is worth one question.
        task.cancel.check()
        return {subjects[0]: ask(subjects[0])}
    with WorkerPool(replace(task, jobs=AT_ONCE)) as pool:
        answers = pool.map(ask, subjects)
    return dict(zip(subjects, answers, strict=True))
