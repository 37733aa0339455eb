"""What `imgtools sync` keeps and shows while it runs: sums, events for programs, digests."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from imgtools.cli.progress import Quiet
    from imgtools.copy import CopyPlan
    from imgtools.sync import Outcome, SyncPlan


class Record:
    """Takes what a sync tells on its way, from any thread."""

    def __init__(self, show: Quiet | None = None) -> None:
        """`show` is told how much there is to move, and of each image in its turn."""
        self._show = show
        self._lock = threading.Lock()
        self._items = self._size = 0
        self._outcomes: dict[str, Outcome] = {}

    def planned(self, plan: CopyPlan) -> None:
        """Add what the plan of one copy expects to move."""
        from imgtools.copy.actions import Reuse, Skip

        moved = [action for action in plan.blobs if not isinstance(action, Reuse | Skip)]
        with self._lock:
            self._items += len(moved)
            self._size += sum(max(0, action.blob.size) for action in moved)
            if self._show is not None:
                self._show.expect(self._items, self._size)

    def done(self, outcome: Outcome) -> None:
        """Keep what became of an image or referrer, and tell it."""
        from imgtools.sync.render import outcome_json

        with self._lock:
            self._outcomes[outcome.destination] = outcome
        if self._show is not None:
            self._show.tell({"event": "image", **outcome_json(outcome)})

    def outcomes(self, plan: SyncPlan) -> list[Outcome]:
        """What became of the images of `plan` until now, in its order."""
        from imgtools.sync.plan import shown

        with self._lock:
            known = dict(self._outcomes)
        names = (shown(action.image.destination) for action in plan.images)
        return [known[name] for name in names if name in known]


class DigestFile:
    """--digestfile: emptied before anything is copied, so that a bad name costs nothing and
    no older digests are taken for those of this run."""

    def __init__(self, path: str | None) -> None:
        """Empty the file, if there is to be one; raises StorageError."""
        self._path = path
        self.write(())

    def write(self, outcomes: Iterable[Outcome]) -> None:
        """One line for each image that is at the destination: digest and name.

        A file is replaced at once; a device or pipe is written to. Raises StorageError.
        """
        if self._path:
            lines = [
                f"{outcome.digest} {outcome.destination}\n"
                for outcome in outcomes
                if outcome.digest is not None and not outcome.attached
            ]
            _put(self._path, "".join(lines).encode())


def _put(path: str, content: bytes) -> None:
    """Replace a file, or write to what is none; raises StorageError."""
    from imgtools.blob.files import storage_errors, write_file
    from imgtools.errors import StorageError

    with storage_errors(path):
        there = os.stat(path).st_mode if os.path.exists(path) else stat.S_IFREG | 0o644
    if stat.S_ISREG(there):
        try:
            # What a link points at is replaced, not the link.
            write_file(os.path.realpath(path), content, mode=stat.S_IMODE(there))
            return
        except StorageError:
            # It may be writable where its directory is not, as a file that is mounted.
            pass
    elif not content:
        # Opening a pipe and closing it again would be the end of it for its reader.
        return
    with storage_errors(path), open(path, "wb") as file:
        file.write(content)
