"""`Task`: what every long operation is given besides its own arguments."""

from __future__ import annotations

from dataclasses import field, replace

from imgtools.frozen import dataclass
from imgtools.task.cancel import CancelToken
from imgtools.task.events import Note, Progress, ignore


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """Degree of parallelism, cancellation and progress of one operation."""

    jobs: int = 6
    cancel: CancelToken = field(default_factory=CancelToken)
    progress: Progress = ignore

    def child(self) -> Task:
        """A task that can be cancelled without cancelling this one."""
        return replace(self, cancel=CancelToken(self.cancel))

    def warn(self, text: str) -> None:
        """Report something the user should know but that is no failure."""
        self.progress(Note("warning", text))
