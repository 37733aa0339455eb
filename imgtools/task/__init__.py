"""How long work is run: jobs, cancellation and progress, passed as one `Task`.

A `Task` is the only ambient argument and always a keyword. Nothing here knows what the work
is; a command line listens to the events, a library caller may ignore them.
"""

from imgtools.task.cancel import CancelToken
from imgtools.task.events import Advanced, Event, Finished, Note, Progress, Started, ignore
from imgtools.task.pool import WorkerPool
from imgtools.task.tally import Tally
from imgtools.task.task import Task

__all__ = [
    "Advanced",
    "CancelToken",
    "Event",
    "Finished",
    "Note",
    "Progress",
    "Started",
    "Tally",
    "Task",
    "WorkerPool",
    "ignore",
]
