"""What a running copy shows: bars on a terminal, JSON lines for programs, else warnings only.

Each is a listener for the events of a task, safe to call from several threads. Bars are
drawn at most ten times a second and are gone when the context manager ends, whatever ended
it; what scrolls past are notes.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TextIO

from imgtools.cli.text import escaped
from imgtools.copy.render import size_text
from imgtools.task import Advanced, Event, Finished, Note, Started
from imgtools.transport.closing import Closing

log = logging.getLogger(__name__)

_INTERVAL = 0.1
_WINDOW = 5.0
_MOST_BARS = 8
_BAR = 24


def printable(text: str) -> str:
    """One line without control characters, so that no name can steer the terminal."""
    return escaped(re.sub("[\r\n\t]", " ", text))


class Quiet(Closing):
    """Shows notes as lines on `stream`: warnings always, others unless `quiet`."""

    def __init__(self, stream: TextIO, *, quiet: bool = False) -> None:
        self._stream = stream
        self._quiet = quiet

    def __call__(self, event: Event) -> None:
        """Take an event."""
        if isinstance(event, Note) and (event.level == "warning" or not self._quiet):
            self._say(f"imgtools: {event.level}: {printable(event.text)}")

    def expect(self, items: int, size: int) -> None:
        """How many items of how many bytes in all are to come."""

    def tell(self, value: dict[str, Any]) -> None:
        """Something that programs may want to know, as an object of plain values."""

    def _say(self, line: str) -> None:
        self._put(line + "\n")

    def _put(self, text: str) -> None:
        """Write to a terminal or log; where that fails the work goes on, unless a reader went
        away."""
        try:
            self._stream.write(text)
            self._stream.flush()
        except BrokenPipeError:
            raise
        except OSError as e:
            log.debug("progress cannot be shown: %s", e)

    def close(self) -> None:
        """Leave nothing behind; safe to call twice."""


@dataclass(slots=True)
class _Bar:
    item: str
    what: str
    total: int | None
    done: int = 0


class Bars(Quiet):
    """One bar for each blob on its way, below them the total with rate and time left."""

    def __init__(self, stream: TextIO, *, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(stream)
        self._clock = clock
        self._lock = threading.Lock()
        self._bars: dict[str, _Bar] = {}
        self._drawn = 0
        self._last = -_INTERVAL
        self._items = self._finished = 0
        self._size = self._done = self._kept = 0
        self._history: deque[tuple[float, int]] = deque()
        self._closed = False

    def __call__(self, event: Event) -> None:
        """Take an event; draws when the last drawing is old enough."""
        with self._lock:
            if self._closed:
                return
            match event:
                case Started(item, what, total):
                    self._bars[item] = _Bar(item, what, total)
                case Advanced(item, amount):
                    self._done += amount
                    if event.kept:
                        self._kept += amount
                    if item in self._bars:
                        self._bars[item].done += amount
                case Finished(item, outcome):
                    bar = self._bars.pop(item, None)
                    self._finished += 1
                    if bar is not None and bar.total and outcome in ("present", "mounted"):
                        # Nothing was moved, so the total is that much smaller.
                        self._size -= bar.total
                case Note():
                    self._erase()
                    super().__call__(event)
            now = self._clock()
            if now - self._last >= _INTERVAL:
                self._last = now
                self._draw(now)

    def expect(self, items: int, size: int) -> None:
        """See Quiet; `size` in bytes."""
        with self._lock:
            self._items, self._size = items, size

    def close(self) -> None:
        """Erase the bars."""
        with self._lock:
            self._closed = True
            self._erase()

    def _erase(self) -> None:
        if self._drawn:
            self._put(f"\x1b[{self._drawn}A\r\x1b[J")
            self._drawn = 0

    def _draw(self, now: float) -> None:
        columns, rows = self._terminal()
        bars = list(self._bars.values())[: max(1, min(_MOST_BARS, rows - 2))]
        lines = [_bar_line(bar) for bar in bars]
        lines.append(self._total_line(now))
        # A line as wide as the terminal would wrap, and then we would erase too few.
        shown = [line[: columns - 1] for line in lines]
        up = f"\x1b[{self._drawn}A\r" if self._drawn else ""
        self._put(up + "\x1b[J" + "\n".join(shown) + "\n")
        self._drawn = len(shown)

    def _terminal(self) -> tuple[int, int]:
        try:
            size = os.get_terminal_size(self._stream.fileno())
        except (OSError, ValueError):
            return 80, 24
        return max(20, size.columns), max(4, size.lines)

    def _total_line(self, now: float) -> str:
        moved = self._done - self._kept
        self._history.append((now, moved))
        while len(self._history) > 2 and now - self._history[0][0] > _WINDOW:
            self._history.popleft()
        parts = []
        if self._items:
            parts.append(f"{min(self._finished, self._items)}/{self._items}")
        total = max(self._size, self._done)
        parts.append(f"{size_text(max(0, self._done))} of {size_text(total)}")
        then, before = self._history[0]
        rate = (moved - before) / (now - then) if now > then else 0.0
        if rate > 0:
            parts.append(f"{size_text(int(rate))}/s")
            parts.append(f"{_time_text((total - self._done) / rate)} left")
        return "  ".join(parts)


def _bar_line(bar: _Bar) -> str:
    algorithm, _, encoded = bar.item.partition(":")
    name = f"{algorithm}:{encoded[:12]}" if encoded else bar.item
    if not bar.total:
        return printable(f"{name}  {bar.what}  {size_text(max(0, bar.done))}")
    share = min(1.0, max(0.0, bar.done / bar.total))
    full = int(share * _BAR)
    drawing = "#" * full + "-" * (_BAR - full)
    return printable(f"{name}  [{drawing}] {share:4.0%}  {size_text(bar.total)}  {bar.what}")


def _time_text(seconds: float) -> str:
    whole = int(seconds + 0.5)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02}m"


class JsonLines(Quiet):
    """One JSON object per event on `stream`; progress of an item at most ten times a second."""

    def __init__(self, stream: TextIO, *, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(stream)
        self._clock = clock
        self._lock = threading.Lock()
        self._waiting: dict[str, int] = {}
        self._said: dict[str, float] = {}

    def __call__(self, event: Event) -> None:
        """Take an event."""
        with self._lock:
            match event:
                case Started(item, what, total):
                    self._said[item] = self._clock()
                    self.write({"event": "started", "item": item, "what": what, "total": total})
                case Advanced(item, amount):
                    self._waiting[item] = self._waiting.get(item, 0) + amount
                    now = self._clock()
                    if now - self._said.get(item, 0.0) >= _INTERVAL:
                        self._said[item] = now
                        self._advance(item)
                case Finished(item, outcome):
                    self._advance(item)
                    self._said.pop(item, None)
                    self.write({"event": "finished", "item": item, "outcome": outcome})
                case Note(level, text):
                    self.write({"event": "note", "level": level, "text": text})

    def tell(self, value: dict[str, Any]) -> None:
        """One more line, from any thread; raises OSError."""
        with self._lock:
            self.write(value)

    def write(self, value: dict[str, Any]) -> None:
        """One more line; from the thread that owns this, or under the lock. Raises OSError,
        because who asked for the lines wants them all."""
        self._stream.write(json.dumps(value) + "\n")
        self._stream.flush()

    def _advance(self, item: str) -> None:
        amount = self._waiting.pop(item, 0)
        if amount:
            self.write({"event": "advanced", "item": item, "amount": amount})


def listener(*, quiet: bool, as_json: bool) -> Quiet:
    """The listener that suits the options and the terminal."""
    if as_json:
        return JsonLines(sys.stdout)
    if not quiet and sys.stderr.isatty():
        return Bars(sys.stderr)
    return Quiet(sys.stderr, quiet=quiet)
