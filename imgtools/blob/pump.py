"""The one copy loop: chunks from a reader to a writer, cancellable, with progress."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from imgtools.blob.reader import CHUNK, Readable
from imgtools.task import Advanced, Task


def pump(reader: Readable, write: Callable[[bytes], object], *, task: Task, item: str = "") -> int:
    """Write everything `reader` yields; returns the bytes moved.

    `item` names the work in progress events ("" reports nothing). Raises Cancelled, what
    the reader raises and what `write` raises.
    """
    total = 0
    for data in chunks(reader, task=task, item=item):
        write(data)
        total += len(data)
    return total


def chunks(reader: Readable, *, task: Task, item: str = "") -> Iterator[bytes]:
    """The chunks of `reader`, checking for cancellation and reporting progress in between."""
    while True:
        task.cancel.check()
        data = reader.read(CHUNK)
        if not data:
            return
        yield data
        if item:
            task.progress(Advanced(item, len(data)))
