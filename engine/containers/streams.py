"""Standard input, output and error of a container, moved through pipes.

A container never gets the caller's own files: what is /proc/self/fd/1 can be opened again for
reading, or cut. Buffers are bounded: a caller who does not read holds the container up, one
who is gone gives it SIGPIPE, as in any pipeline.
"""

from __future__ import annotations

import os
import select
import stat
from collections.abc import Callable

from imgtools.transport.closing import Closing

CHUNK = 64 << 10
ATOMIC = 4096
"""What a pipe that polls writable takes without blocking (pipe(7), PIPE_BUF)."""
IN, OUT = select.POLLIN, select.POLLOUT


class Pump:
    """One direction: at most one chunk is on its way. Closes its ends of pipes itself."""

    def __init__(self, source: int, sink: int, *, own_source: bool) -> None:
        """`own_source` says which end is a pipe of ours; the other is the caller's file."""
        self._source, self._sink = source, sink
        self._own = source if own_source else sink
        self._waiting = b""
        # A regular file takes all there is, whatever poll says.
        self._most = CHUNK if own_source and stat.S_ISREG(os.fstat(sink).st_mode) else ATOMIC

    @property
    def done(self) -> bool:
        """Whether nothing more will be moved."""
        return self._own < 0

    def wants(self) -> tuple[int, int]:
        """The descriptor to poll and the events to wait for."""
        return (self._sink, OUT) if self._waiting else (self._source, IN)

    def step(self) -> None:
        """Move what can be moved now: called when what is wanted is ready."""
        try:
            if self._waiting:
                self._waiting = self._waiting[os.write(self._sink, self._waiting[: self._most]) :]
            else:
                self._waiting = os.read(self._source, CHUNK)
                if not self._waiting:
                    self.close()
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            # A reader that is gone, or a terminal that was closed: this direction is over.
            self.close()

    def close(self) -> None:
        """End this direction; safe to call twice."""
        if self._own >= 0:
            os.close(self._own)
            self._own = -1


class Streams(Closing):
    """The three streams of one container: `theirs` are its ends, to be closed once it has them."""

    def __init__(self, *, interactive: bool) -> None:
        """Without `interactive` the container reads /dev/null."""
        self._pumps: list[Pump] = []
        theirs: list[int] = []
        if interactive:
            read_end, write_end = os.pipe2(os.O_CLOEXEC)
            # A container that does not read must not stop us from reading its output.
            os.set_blocking(write_end, False)
            theirs.append(read_end)
            self._pumps.append(Pump(0, write_end, own_source=False))
        else:
            theirs.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
        self._input = tuple(self._pumps)
        for number in (1, 2):
            if number == 2 and one_file(1, 2):
                # Through two pipes what is written in turns would come in another order.
                theirs.append(os.dup(theirs[1]))
                continue
            read_end, write_end = os.pipe2(os.O_CLOEXEC)
            theirs.append(write_end)
            self._pumps.append(Pump(read_end, number, own_source=True))
        self.theirs: tuple[int, int, int] = (theirs[0], theirs[1], theirs[2])

    def register(self, poll: select.poll) -> dict[int, Pump]:
        """Poll for what each direction waits for; those that are done are left out."""
        found = {}
        for pump in self._pumps:
            if not pump.done:
                fd, events = pump.wants()
                poll.register(fd, events)
                found[fd] = pump
        return found

    def release(self) -> None:
        """Close the container's ends here; safe to call twice."""
        for fd in self.theirs if self.theirs[0] >= 0 else ():
            os.close(fd)
        self.theirs = (-1, -1, -1)

    def finish(self, stop: Callable[[], bool], stop_fd: int) -> None:
        """After the container's end: pass on all that it has written. While a slow reader is
        waited for, `stop_fd` polls readable when `stop` shall be asked whether to give up."""
        for pump in self._input:
            pump.close()
        poll = select.poll()
        poll.register(stop_fd, IN)
        while pumps := self.register(poll):
            # What is in a pipe is ready at once; a writer that escaped is not waited for.
            idle = any(pump.wants()[1] == IN for pump in pumps.values())
            events = dict(poll.poll(0 if idle else None))
            for fd, pump in pumps.items():
                poll.unregister(fd)
                if fd in events:
                    pump.step()
                elif pump.wants()[1] == IN:
                    pump.close()
            if stop_fd in events and stop():
                return

    def close(self) -> None:
        """Close everything; safe to call twice."""
        self.release()
        for pump in self._pumps:
            pump.close()


def one_file(first: int, second: int) -> bool:
    """Whether what is written to two descriptors comes in the order of writing: they are one
    pipe or terminal, or a regular file opened once, or for appending only."""
    one, other = os.fstat(first), os.fstat(second)
    if (one.st_dev, one.st_ino) != (other.st_dev, other.st_ino):
        return False
    if not stat.S_ISREG(one.st_mode):
        return True
    import fcntl

    flags = [fcntl.fcntl(fd, fcntl.F_GETFL) for fd in (first, second)]
    if all(flag & os.O_APPEND for flag in flags):
        return True
    return flags[0] == flags[1] and _share_position(first, second)


def _share_position(first: int, second: int) -> bool:
    """Whether moving in one file moves in the other, because both are one opened file."""
    here = os.lseek(first, 0, os.SEEK_CUR)
    if os.lseek(second, 0, os.SEEK_CUR) != here:
        return False
    moved = os.lseek(first, here + 1, os.SEEK_SET)
    try:
        return os.lseek(second, 0, os.SEEK_CUR) == moved
    finally:
        os.lseek(first, here, os.SEEK_SET)
