"""Standard input, output and error of a container, moved through pipes.

A container never gets the caller's own files: what is /proc/self/fd/1 can be opened again for
reading, or cut. Buffers are bounded: a caller who does not read holds the container up, one
who is gone gives it SIGPIPE, as in any pipeline.
"""

from __future__ import annotations

import os
import select
from types import TracebackType
from typing import Self

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
                self._waiting = self._waiting[os.write(self._sink, self._waiting[:ATOMIC]) :]
            else:
                self._waiting = os.read(self._source, CHUNK)
                if not self._waiting:
                    self.close()
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            # A reader that is gone, or a terminal that was closed: this direction is over.
            self.close()

    def drain(self) -> None:
        """Move what is left in a pipe that nobody is to write to any more."""
        while not self.done:
            fd, events = self.wants()
            poll = select.poll()
            poll.register(fd, events)
            # What is in the pipe is ready at once; a writer that escaped is not waited for.
            if not poll.poll(None if events == OUT else 0):
                self.close()
            else:
                self.step()

    def close(self) -> None:
        """End this direction; safe to call twice."""
        if self._own >= 0:
            os.close(self._own)
            self._own = -1


class Streams:
    """The three streams of one container: `theirs` are its ends, to be closed once it has them."""

    def __init__(self, *, interactive: bool) -> None:
        """Without `interactive` the container reads /dev/null."""
        self.pumps: list[Pump] = []
        self._output: list[Pump] = []
        theirs: list[int] = []
        if interactive:
            read_end, write_end = os.pipe2(os.O_CLOEXEC)
            # A container that does not read must not stop us from reading its output.
            os.set_blocking(write_end, False)
            theirs.append(read_end)
            self.pumps.append(Pump(0, write_end, own_source=False))
        else:
            theirs.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
        for number in (1, 2):
            read_end, write_end = os.pipe2(os.O_CLOEXEC)
            theirs.append(write_end)
            self._output.append(Pump(read_end, number, own_source=True))
        self.pumps += self._output
        self.theirs: tuple[int, int, int] = (theirs[0], theirs[1], theirs[2])

    def release(self) -> None:
        """Close the container's ends here; safe to call twice."""
        for fd in self.theirs if self.theirs[0] >= 0 else ():
            os.close(fd)
        self.theirs = (-1, -1, -1)

    def finish(self) -> None:
        """After the container's end: pass on all that it has written."""
        for pump in self._output:
            pump.drain()
        self.close()

    def close(self) -> None:
        """Close everything; safe to call twice."""
        self.release()
        for pump in self.pumps:
            pump.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
