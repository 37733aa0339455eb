"""Draws the picture of a running build on a terminal, ten times a second, and takes it away.

Every drawing is one write that goes over the last one line by line, so nothing flickers. The
cursor stays visible and below the picture: whatever ends the process, the terminal is in order.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from typing import TextIO

from imgtools.build.events import BuildEvent, StepStarted
from imgtools.cli.build_frame import Picture, Shown, coloured, fitted, width
from imgtools.cli.text import one_line
from imgtools.task import Event, Note

log = logging.getLogger(__name__)

_INTERVAL = 0.1


class Live:
    """The live view: a listener for the events of a build, and of transfers; safe to call from
    several threads. To be closed."""

    def __init__(
        self,
        stream: TextIO,
        *,
        colour: bool = True,
        clock: Callable[[], float] = time.monotonic,
        ticking: bool = True,
    ) -> None:
        self._stream, self._colour, self._clock = stream, colour, clock
        self._lock = threading.Lock()
        self._picture = Picture(clock())
        self._drawn: list[int] = []
        self._last = -_INTERVAL
        self._above: list[Shown] = []
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        if ticking:
            self._thread = threading.Thread(target=self._tick, name="live view", daemon=True)
            self._thread.start()

    def report(self, event: BuildEvent) -> None:
        """Take an event of the build; the first step is shown at once."""
        with self._lock:
            now = self._clock()
            self._above += self._picture.take(event, now)
            if isinstance(event, StepStarted) and now - self._last >= _INTERVAL:
                self._draw(now)

    def progress(self, event: Event) -> None:
        """Take an event of a transfer."""
        with self._lock:
            if isinstance(event, Note):
                self._above.append(
                    Shown(kind=event.level, text=one_line(f"imgtools: {event.text}"))
                )
            else:
                self._picture.move(event)

    def draw(self) -> None:
        """Draw now."""
        with self._lock:
            self._draw(self._clock())

    def close(self) -> None:
        """Take the picture away; what scrolled stays."""
        self._stop.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()
        with self._lock:
            columns, _ = self._terminal()
            self._write([], columns)

    def __enter__(self) -> Live:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _tick(self) -> None:
        while not self._stop.wait(_INTERVAL):
            self.draw()

    def _draw(self, now: float) -> None:
        self._last = now
        columns, rows = self._terminal()
        self._write(self._picture.frame(now, rows), columns)

    def _write(self, frame: list[Shown], columns: int) -> None:
        """Write over the last picture: lines that scroll away, then the new picture."""
        if not (frame or self._above or self._drawn):
            return
        # A terminal that became narrower has broken the old lines into several.
        up = sum(max(1, -(-length // columns)) for length in self._drawn)
        parts = ["\x1b[?2026h", f"\x1b[{up}A" if up else "", "\r"]
        # What scrolls away keeps its whole text: it is what people read afterwards.
        parts += [self._painted(shown, shown.text) for shown in self._above]
        fit = [(shown, fitted(shown, columns)) for shown in frame]
        parts += [self._painted(shown, text) for shown, text in fit]
        self._drawn = [width(text) for _, text in fit]
        self._above = []
        parts.append("\x1b[J\x1b[?2026l")
        try:
            self._stream.write("".join(parts))
            self._stream.flush()
        except OSError as e:
            # A terminal that is gone is no reason to stop building.
            log.debug("the live view cannot be drawn: %s", e)

    def _painted(self, shown: Shown, text: str) -> str:
        line = coloured(shown.kind, text) if self._colour else text
        return f"{line}\x1b[K\n"

    def _terminal(self) -> tuple[int, int]:
        try:
            size = os.get_terminal_size(self._stream.fileno())
        except (OSError, ValueError):
            return 80, 24
        # Some terminals do not know their size and say 0.
        return max(20, size.columns or 80), max(4, size.lines or 24)
