"""Counts what is said of progress, so that it can be taken back when it was for nothing."""

from __future__ import annotations

from dataclasses import replace

from imgtools.task.events import Advanced, Event
from imgtools.task.task import Task


class Tally:
    """`task` is another one's, of whose bytes it is known how many are done."""

    def __init__(self, task: Task) -> None:
        self.task = replace(task, progress=self._tell)
        self.moved = 0
        """Bytes that this run moved."""
        self.kept = 0
        """Bytes that an earlier run had moved."""
        self._progress = task.progress

    def take_back(self, item: str) -> None:
        """Say that nothing of `item` is done, of which alone there were events."""
        if self.moved:
            self._progress(Advanced(item, -self.moved))
        if self.kept:
            self._progress(Advanced(item, -self.kept, kept=True))
        self.moved = self.kept = 0

    def _tell(self, event: Event) -> None:
        if isinstance(event, Advanced):
            if event.kept:
                self.kept += event.amount
            else:
                self.moved += event.amount
        self._progress(event)
