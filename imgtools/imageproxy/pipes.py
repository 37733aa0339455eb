"""Pipes to the client: filled by threads, and never waited for when nobody reads them.

The writing end does not block; a thread waits for room, for the client to close its end, or
for the proxy to end.
"""

from __future__ import annotations

import fcntl
import logging
import os
import select
import threading
import time
from collections.abc import Callable

from imgtools.blob.files import storage_errors
from imgtools.errors import Cancelled, Error
from imgtools.imageproxy.message import ClientGone
from imgtools.task import CancelToken
from imgtools.transport.closing import Closing

log = logging.getLogger(__name__)

_CAPACITY = 1024 * 1024
_TICK = 0.5
"""Seconds after which a thread that waits for a reader looks whether it still should."""
_GONE = select.POLLERR | select.POLLHUP | select.POLLNVAL


class Alarm(Closing):
    """Wakes everybody who polls `fd`, once and for all, when the token is cancelled."""

    def __init__(self, cancel: CancelToken) -> None:
        with storage_errors("pipe"):
            self.fd, self._writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._lock = threading.Lock()
        self._calls = cancel.calls(self.ring)
        self._calls.__enter__()

    def ring(self) -> None:
        """Wake them; safe from any thread and at any time."""
        with self._lock:
            writing, self._writing = self._writing, -1
            if writing >= 0:
                os.close(writing)

    def close(self) -> None:
        """Release the descriptors, when nobody polls any more; safe to call twice."""
        self._calls.__exit__(None, None, None)
        self.ring()
        with self._lock:
            fd, self.fd = self.fd, -1
            if fd >= 0:
                os.close(fd)


class PipeWriter(Closing):
    """The writing end of a pipe to the client; for one thread at a time.

    `written` counts bytes, and `waits` says that there is no room for more.
    """

    def __init__(self, fd: int, alarm: Alarm) -> None:
        """Takes over `fd`."""
        self._fd = fd
        self._alarm = alarm
        self._given_up = False
        self.waits = False
        self.written = 0
        os.set_blocking(fd, False)

    def write(self, data: bytes) -> None:
        """Write all of `data`; raises ClientGone, or Cancelled when the alarm rings."""
        view = memoryview(data)
        while view:
            try:
                done = os.write(self._fd, view)
                self.written += done
                view = view[done:]
            except BlockingIOError:
                self.waits = True
                self._wait()
                self.waits = False
            except BrokenPipeError as e:
                raise ClientGone("the client has closed the pipe") from e

    def write_now(self, data: bytes) -> None:
        """Write `data`, which an empty pipe has room for, if there is still a reader."""
        try:
            os.write(self._fd, data)
        except (BlockingIOError, BrokenPipeError) as e:
            log.debug("nobody was told of an error: %s", e)

    def give_up(self) -> None:
        """Let whoever is writing stop waiting for a reader; safe from any thread."""
        self._given_up = True

    def close(self) -> None:
        """Let the reader see the end; safe to call twice."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def _wait(self) -> None:
        poll = select.poll()
        poll.register(self._fd, select.POLLOUT)
        poll.register(self._alarm.fd, select.POLLIN)
        found = dict(poll.poll(_TICK * 1000))
        if self._alarm.fd in found:
            raise Cancelled("the proxy ends")
        if found.get(self._fd, 0) & _GONE:
            raise ClientGone("the client has closed the pipe")
        if self._given_up:
            raise ClientGone("the client does not read the pipe")


def open_pipe(alarm: Alarm) -> tuple[int, PipeWriter]:
    """The reading end of a new pipe, and its writer; raises StorageError."""
    with storage_errors("pipe"):
        reading, writing = os.pipe2(os.O_CLOEXEC)
    try:
        fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, _CAPACITY)
    except OSError as e:
        log.debug("small pipes only: %s", e)
    return reading, PipeWriter(writing, alarm)


class Transfer:
    """Work that fills a pipe in a thread of its own.

    `fill` is called once and closes what it reads from; `finished` is called at its very
    end with the error it raised, or None.
    """

    def __init__(
        self, fill: Callable[[], None], finished: Callable[[Error | None], None] | None = None
    ) -> None:
        self._fill = fill
        self._finished = finished
        self.error: Error | None = None
        self.done = False
        self._thread = threading.Thread(target=self._run, name="image proxy pipe", daemon=True)
        self._thread.start()

    def join(self, seconds: float | None = None) -> bool:
        """Wait for the end, at most `seconds`; whether it came."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def join_while_read(self, writer: PipeWriter, patience: float) -> None:
        """Wait for the end as long as `writer` finds a reader: without one for `patience`
        seconds, the work is ended."""
        before, since = writer.written, time.monotonic()
        while not self.join(min(patience, _TICK)):
            if writer.written != before:
                before, since = writer.written, time.monotonic()
            elif writer.waits and time.monotonic() - since >= patience:
                writer.give_up()

    def _run(self) -> None:
        try:
            self._fill()
            self.done = True
        except Error as e:
            log.debug("pipe to the client: %s", e.message)
            self.error = e
        finally:
            if not self.done and self.error is None:
                self.error = Error("the transfer ended before its time")
            if self._finished is not None:
                self._finished(self.error)
